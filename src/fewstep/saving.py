"""A model as a folder: `model.json` (its design), `weights.safetensors` (its network) and `README.md` (its card)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.design import Design, from_json, to_json
from fewstep.files import read_json, whole_folder, write_json


def write_model(
    folder: str | Path, design: Design, weights: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Writes a model; `dtype` (such as torch.float16) makes the file smaller. The old one stays until then.

    Raises FileExistsError for a folder that holds other files: it would lose them.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "model.json").is_file():
        raise FileExistsError(f"{folder} holds other files, and no model: choose another folder.")
    kept = {name: _as(w.detach(), dtype).cpu().contiguous() for name, w in weights.items()}
    with whole_folder(folder) as aside:
        save_file(kept, str(aside / "weights.safetensors"))
        write_json(aside / "model.json", to_json(design))
        (aside / "README.md").write_text(card(design), encoding="utf-8")


def read_model(folder: str | Path) -> tuple[Design, dict[str, Tensor]]:
    """The design and the float32 weights in a folder.

    Raises FileNotFoundError where there is no model, ValueError, naming the file, for a damaged one.
    """
    folder = Path(folder)
    for name in ("model.json", "weights.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} holds no model: {name} is missing.")
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    return design, read_weights(folder / "weights.safetensors")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, floating ones in float32; ValueError for a file that is cut off or no such
    file."""
    try:
        weights = load_file(str(path))
    except (SafetensorError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged or no safetensors file: {error}.") from None
    return {name: w.float() if w.is_floating_point() and w.dtype != torch.float64 else w for name, w in weights.items()}


def _as(w: Tensor, dtype: torch.dtype | None) -> Tensor:
    return w.to(dtype) if w.is_floating_point() else w


def card(design: Design) -> str:
    """The model card: front matter for the Hub, then what is known of the model."""
    about, a = design.about, design.architecture
    kind = "consistency model" if design.parameterization.consistent else "diffusion model"
    asked = f"{a.num_classes} classes" if a.num_classes else "unconditional"
    lines = [
        "---",
        "library_name: fewstep",
        "pipeline_tag: unconditional-image-generation",
        "tags: [consistency-models]",
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
        "",
        "```python",
        "import fewstep",
        'model = fewstep.load("this folder")',
        "x = model.sample(16, seed=0)",
        "```",
        "",
    ]
    return "\n".join(lines)
