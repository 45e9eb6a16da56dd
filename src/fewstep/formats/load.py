"""Finding a model and reading it: by the name of a bundled model, as a saved model's folder, a training run's folder
(finished or not), a checkpoint.

`locate` finds the weights file of a source; what it is, is told by the file and what lies beside it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fewstep.codec import nearest
from fewstep.design import Design, from_json
from fewstep.files import read_json
from fewstep.model import Model, build
from fewstep.ondisk import OnDisk, safetensors
from fewstep.parameterizations import Parameterization
from fewstep.saving import read_model

BUNDLED = Path(__file__).parent.parent / "bundled"
"""Where the models are that come with the package."""

Seen = Literal["consistency", "edm"] | Parameterization | None
"""How a network is seen, where its file does not say it."""

Order = Literal["three-head-dim", "head-three-dim"] | None
"""How the channels of queries, keys and values are ordered in a file."""


class Stored(NamedTuple):
    """A model in a file."""

    path: Path
    """The weights file."""
    format: Literal["fewstep", "checkpoint", "openai", "diffusers"]
    """What kind of file it is."""
    design: Design
    """All of the model but its weights."""
    weights: Mapping[str, Tensor]
    """The network's state dict under fewstep's names, in the file's own dtypes, each read when it is asked for."""


def bundled() -> dict[str, Path]:
    """The models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob("*/model.json"))}


def load(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    config: Mapping[str, Any] | None = None,
    parameterization: Seen = None,
    qkv_order: Order = None,
) -> Model:
    """The model of a bundled name, a saved model's folder or a run's folder.

    Of an unfinished run it is the averaged model of the last checkpoint. A folder goes before a bundled name. Raises
    FileNotFoundError, with the nearest known name, for what is not there, ValueError for a damaged file.
    """
    stored = read(source, config=config, parameterization=parameterization, qkv_order=qkv_order)
    try:
        return build(stored.design, stored.weights, device)
    except ValueError as error:
        where = stored.path.parent if stored.format in ("fewstep", "checkpoint") else stored.path
        raise ValueError(f"The model in {where} cannot be loaded: {error}") from None


def read(
    source: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    parameterization: Seen = None,
    qkv_order: Order = None,
) -> Stored:
    """The same, not yet built: its design, and its weights as they are in the file. Raises what `load` raises."""
    path = locate(source)
    if path.name == "state.safetensors":
        return Stored(path, "checkpoint", *read_checkpoint(path.parent))
    return Stored(path, "fewstep", *read_model(path.parent))


def locate(source: str | Path) -> Path:
    """The weights file of a source; FileNotFoundError, with the nearest known name, where there is none."""
    path, name = Path(source).expanduser(), str(source)
    if found := _local(path):
        return found
    if name in bundled():
        return bundled()[name] / "weights.safetensors"
    raise FileNotFoundError(f"There is no model '{source}': it is no model's or run's folder{nearest(name, bundled())}")


def _local(path: Path) -> Path | None:
    """The weights file in a folder, or the file itself."""
    if path.is_file():
        return path
    if (path / "model" / "model.json").is_file():
        return path / "model" / "weights.safetensors"
    if kept := sorted(path.glob("state.safetensors")) or sorted(path.glob("checkpoints/step-*/state.safetensors")):
        return kept[-1]
    if (path / "model.json").is_file():
        return path / "weights.safetensors"
    if (path / "recipe.json").is_file():
        raise FileNotFoundError(f"The run in {path} has no checkpoint yet: let it train a little longer.")
    return None


def read_checkpoint(folder: Path) -> tuple[Design, OnDisk]:
    """The design and the averaged weights in a training checkpoint."""
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    rate = float(read_json(folder / "state.json")["ema"][0])
    tensors = safetensors(folder / "state.safetensors")
    names = {name.removeprefix("student/"): name for name in tensors if name.startswith("student/")}
    averaged = {name: f"ema/{rate!r}/{name}" for name in names}
    return design, tensors.renamed(
        {name: a if (a := averaged[name]) in tensors else old for name, old in names.items()}
    )
