"""A model as a folder: `model.json` (its design), `weights.safetensors` (its network) and `README.md` (its card)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fewstep.design import Design, from_json, to_json
from fewstep.files import read_json, refuse_others, whole_folder, write_json
from fewstep.ondisk import OnDisk, safetensors, write_tensors

FILES = ("model.json", "weights.safetensors", "README.md")
"""What a model's folder holds."""


def write_model(
    folder: str | Path,
    design: Design,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    *,
    name: str = "this folder",
) -> None:
    """Writes a model; `dtype` (such as torch.float16) makes the file smaller. The old one stays until then.

    `name` is what the card's Python loads. Raises FileExistsError for a folder that holds other files: it would lose
    them.
    """
    folder = Path(folder)
    refuse_others(folder, FILES)
    with whole_folder(folder) as aside:
        write_tensors({name: _as(w.detach(), dtype) for name, w in weights.items()}, aside / "weights.safetensors")
        write_json(aside / "model.json", to_json(design))
        (aside / "README.md").write_text(card(design, use=usage(design, name)), encoding="utf-8")


def read_model(folder: str | Path) -> tuple[Design, OnDisk]:
    """The design and the weights in a folder, these in the file's own dtypes and read when they are asked for.

    Raises FileNotFoundError where there is no model, ValueError, naming the file, for a damaged one.
    """
    folder = Path(folder)
    for name in ("model.json", "weights.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no model: {name} is missing.")
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    return design, safetensors(folder / "weights.safetensors")


def _as(w: Tensor, dtype: torch.dtype | None) -> Tensor:
    return w.to(dtype) if w.is_floating_point() else w


def card(design: Design, *, library: str = "fewstep", use: Sequence[str] | None = None) -> str:
    """The model card: front matter for the Hub, what is known of the model, and Python that draws with it.

    `use` are the lines of that Python, unless it is fewstep's. A licence is the author's to add: none is made up.
    """
    about, a = design.about, design.architecture
    kind = "consistency model" if design.parameterization.consistent else "diffusion model"
    asked = f"{a.num_classes} classes" if a.num_classes else "unconditional"
    names = ", ".join(design.class_names)
    lines = [
        "---",
        f"library_name: {library}",
        "pipeline_tag: unconditional-image-generation",
        f"tags: [{kind.replace(' ', '-')}s]",
        "---",
        f"# {about.get('name', 'A ' + kind)}",
        "",
        f"A {kind} for pictures of {a.image_size}×{a.image_size} with {a.image_channels} channel(s), {asked}.",
        "",
        *([str(about["text"]), ""] if "text" in about else []),
        *(f"- {name}: {value}" for name, value in about.items() if name not in ("name", "text")),
        *(
            f"- times for {steps} step(s): {', '.join(f'{t:g}' for t in times)}"
            for steps, times in design.times.items()
        ),
        *([f"- classes: {names}"] if 0 < len(names) <= 1000 else []),
        "",
        "```python",
        *(usage(design, "this folder") if use is None else use),
        "```",
        "",
    ]
    return "\n".join(lines)


def usage(design: Design, name: str) -> list[str]:
    """Python that draws pictures with the model of this name."""
    steps = max((int(steps) for steps in design.times if steps.isdigit()), default=1)
    told = f"steps={steps}, " if design.parameterization.consistent else ""
    told += "labels=0, " if design.architecture.num_classes else ""
    return [
        "import fewstep",
        "",
        f'model = fewstep.load("{name}")',
        f"x = model.sample(16, {told}seed=0)",
        'fewstep.save_grid(x, "grid.png")',
    ]
