"""Checkpoints: tensors as safetensors, all else as JSON; a folder `step-00000500` is complete or not there.

No pickle is written or read. A write that fails (a full disk, a read-only folder, a kill) leaves all earlier ones as
they were.
"""

import errno
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.files import read_json, remove_leftovers, whole_folder, write_json

_NAME = re.compile(r"step-(\d{8,})")


class Checkpoint(NamedTuple):
    """Where a run stands after `step` steps."""

    step: int
    folder: Path


def checkpoints(folder: str | Path) -> list[Checkpoint]:
    """The complete checkpoints in a run's folder, oldest first."""
    found = [(m, p) for p in Path(folder, "checkpoints").glob("step-*") if (m := _NAME.fullmatch(p.name))]
    return sorted(Checkpoint(int(m[1]), p) for m, p in found)


def save(
    folder: str | Path,
    step: int,
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    model: Mapping[str, Any],
    keep: int,
) -> Path:
    """Writes the checkpoint of `step`, then removes all but the last `keep`.

    Raises OSError, in one sentence that says what is still there, when it cannot be written.
    """
    path = Path(folder, "checkpoints", f"step-{step:08d}")
    try:
        with whole_folder(path) as aside:
            require_room(aside, sum(t.nbytes for t in tensors.values()))
            kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
            save_file(kept, str(aside / "state.safetensors"))
            write_json(aside / "state.json", {"step": step, **about})
            write_json(aside / "model.json", model)  # so that it can be loaded as a model
    except (OSError, SafetensorError) as error:
        earlier = checkpoints(folder)
        still = f"the one of step {earlier[-1].step} is untouched" if earlier else "there is no earlier one"
        raise OSError(
            f"The checkpoint of step {step} could not be written to {path.parent} ({error}); {still}. "
            "Make room or mend the folder, and give the same command again to go on."
        ) from error
    for old in checkpoints(folder)[: -max(1, keep)]:
        shutil.rmtree(old.folder, ignore_errors=True)
    return path


def load(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the rest; ValueError, naming the file, for a damaged one."""
    path = checkpoint.folder / "state.safetensors"
    try:
        tensors = load_file(str(path))
        path = checkpoint.folder / "state.json"
        return tensors, read_json(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove {checkpoint.folder} to go on from an earlier one."
        ) from None


def require_room(folder: Path, size: int) -> None:
    """OSError, with both numbers, where the disk of `folder` has less room than `size` bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"it needs {size >> 20} MiB, and {free >> 20} MiB are free")


def clean(folder: str | Path) -> None:
    """Removes what a killed process left unfinished."""
    for place in (Path(folder), Path(folder, "checkpoints")):
        if place.is_dir():
            remove_leftovers(place)
