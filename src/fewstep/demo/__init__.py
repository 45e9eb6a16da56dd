"""The guided demo: pictures from the bundled model, then a model trained on the spot, on one contact sheet.

It talks to models only as any user would: `fewstep.load`, `sample`, `edit`, `redraw`, `interpolate`, `fit`.
"""

from pathlib import Path


def main(out: str | Path = "fewstep-demo", seed: int = 0, *, model: str = "mnist", quick: bool = False) -> int:
    """Writes `contact-sheet.png` and the training run into the folder `out`; 0, or 1 where it could not.

    About two minutes on two cores; a finished run in `out` is taken as it is, an unfinished one goes on. `model` is any
    class-conditional model of digits; `quick` trains a few steps only, as a test. Ctrl-C keeps what was trained.
    """
    import torch
    from rich.console import Console

    from fewstep.formats import load

    # The networks are small: on a busy machine more threads mostly wait for each other.
    torch.set_num_threads(min(2, max(1, torch.get_num_threads() // 2)))
    console, folder = Console(highlight=False), Path(out)
    console.print(f"[bold]1[/]  The bundled model '{model}' draws and edits digits.")
    shown = load(model, device="cpu")
    sections = [_section_of_model(shown, seed, folder)]
    console.print("[bold]2[/]  A model learns the 8×8 digits from nothing, in half a minute or so.")
    try:
        made = _section_of_training(folder, seed, console, quick)
    except ValueError as error:
        console.print(f"{error}\nOr remove the folder {folder}.", markup=False)
        return 1
    if made is None:  # Ctrl-C; `watch` has said how to go on
        return 130
    _goodbye(console, _write([*sections, made], folder), folder, model)
    return 0


def _section_of_model(model, seed: int, folder: Path):
    """The bundled model's rows; it also leaves the picture and the mask that the inpainting command takes."""
    from fewstep.demo import pictures
    from fewstep.demo.sheet import Section
    from fewstep.images import save_grid

    side = model.shape[-1]
    save_grid(model.sample(1, steps=2, seed=seed + 1, labels=3), folder / "picture.png", pad=0, scale=1)
    save_grid(2 * pictures.lower_part(side).expand(1, 1, side, side) - 1, folder / "mask.png", pad=0, scale=1)
    title = f"The bundled model: handwritten digits of {side} x {side} pixels, trained on MNIST"
    return Section(title, pictures.rows(model, seed))


def _section_of_training(folder: Path, seed: int, console, quick: bool):
    from fewstep.demo import training
    from fewstep.demo.sheet import Section

    run = training.trained(folder / "run", seed, console, quick=quick)
    if run is None:
        return None
    title = f"Trained here, from nothing, in {run.seconds:.0f} seconds: digits of 8 x 8 pixels"
    return Section(title, training.rows(run, seed))


def _write(sections: list, folder: Path) -> Path:
    from fewstep import __version__
    from fewstep.demo.sheet import sheet
    from fewstep.images import save_picture

    subtitle = "Consistency models: pictures in one or two network calls, and edits without training for them"
    footer = f"fewstep {__version__}. Digits of 8 x 8 pixels: E. Alpaydin and C. Kaynak, UCI, CC BY 4.0."
    return save_picture(sheet("fewstep", subtitle, sections, footer), folder / "contact-sheet.png")


def _goodbye(console, path: Path, folder: Path, model: str) -> None:
    console.print(f"\nEverything on one page: [bold]{path}[/]\n\nTo try next:", soft_wrap=True)
    for command in (
        f"fewstep sample {model} -n 16 --steps 2",
        f"fewstep edit inpaint {model} --image {folder}/picture.png --mask {folder}/mask.png",
        "fewstep train digits-ict",
    ):
        console.print(f"  {command}", soft_wrap=True)
