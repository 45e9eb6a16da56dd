"""Finding a model: a bundled name, a saved model's folder, a training run's folder (finished or not), a
checkpoint."""

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

    Of an unfinished run it is the averaged model of the last checkpoint. Raises FileNotFoundError, with the nearest
    bundled
    name, for what is not there, ValueError for a damaged file.
    """
    names, path = bundled(), Path(source)
    if str(source) in names and not path.exists():
        return build(*read_model(names[str(source)]), device)
    kept = sorted(path.glob("state.safetensors")) or sorted(path.glob("checkpoints/step-*/state.safetensors"))
    if kept and not (path / "model").is_dir():
        return build(*read_checkpoint(kept[-1].parent), device)
    if (path / "model.json").is_file():
        return build(*read_model(path), device)
    if (path / "model" / "model.json").is_file():
        return build(*read_model(path / "model"), device)
    if (path / "recipe.json").is_file():
        raise FileNotFoundError(f"The run in {path} has no checkpoint yet: let it train a little longer.")
    raise FileNotFoundError(
        f"There is no model '{source}': it is no model's or run's folder{nearest(str(source), names)}"
    )


def read_checkpoint(folder: Path) -> tuple[Design, dict[str, Tensor]]:
    """The design and the averaged weights in a training checkpoint."""
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    rate = read_json(folder / "state.json")["ema"][0]
    named = read_weights(folder / "state.safetensors")
    student = {name.removeprefix("student/"): w for name, w in named.items() if name.startswith("student/")}
    averaged = {name: named.get(f"ema/{rate!r}/{name}", w) for name, w in student.items()}
    return design, averaged
