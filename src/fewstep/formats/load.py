"""Finding a model: a bundled name, a saved model's folder, a training run's folder (finished or not), a
checkpoint."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fewstep.codec import nearest
from fewstep.design import Design, from_json
from fewstep.files import read_json
from fewstep.model import Model, build
from fewstep.saving import read_model, read_weights

BUNDLED = Path(__file__).parent.parent / "bundled"
"""Where the models are that come with the package."""


def bundled() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob("*/model.json"))}


def load(source: str | Path, *, device: str | torch.device = "auto") -> Model:
    """The model of a bundled name, a saved model's folder or a run's folder.

    Of an unfinished run it is the averaged model of the last checkpoint. A folder goes before a bundled name. Raises
    FileNotFoundError, with the nearest bundled name, for what is not there, ValueError for a damaged file.
    """
    names, path = bundled(), Path(source)
    if (path / "model" / "model.json").is_file():
        return _built(path / "model", read_model, device)
    if kept := sorted(path.glob("state.safetensors")) or sorted(path.glob("checkpoints/step-*/state.safetensors")):
        return _built(kept[-1].parent, read_checkpoint, device)
    if (path / "model.json").is_file():
        return _built(path, read_model, device)
    if (path / "recipe.json").is_file():
        raise FileNotFoundError(f"The run in {path} has no checkpoint yet: let it train a little longer.")
    if str(source) in names:
        return _built(names[str(source)], read_model, device)
    raise FileNotFoundError(
        f"There is no model '{source}': it is no model's or run's folder{nearest(str(source), names)}"
    )


def _built(folder: Path, read: Callable[[Path], tuple[Design, dict[str, Tensor]]], device: str | torch.device) -> Model:
    try:
        return build(*read(folder), device)
    except ValueError as error:
        raise ValueError(f"The model in {folder} cannot be loaded: {error}") from None


def read_checkpoint(folder: Path) -> tuple[Design, dict[str, Tensor]]:
    """The design and the averaged weights in a training checkpoint."""
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    rate = float(read_json(folder / "state.json")["ema"][0])
    named = read_weights(folder / "state.safetensors")
    student = {name.removeprefix("student/"): w for name, w in named.items() if name.startswith("student/")}
    averaged = {name: named.get(f"ema/{rate!r}/{name}", w) for name, w in student.items()}
    return design, averaged
