"""Files of tensors that torch.save wrote (.pt, .pth): zip archives of one pickle and the bytes of every tensor.

A pickle is a program. Only `weights_only` reads it here, which runs nothing that a file may bring along, and on the
meta device, so that the bytes stay in the file until they are asked for. Files from before PyTorch 1.6 are read at
once.
"""

import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.ondisk import OnDisk


def open_tensors(path: str | Path) -> Mapping[str, Tensor]:
    """The state dict in a file, in the file's own dtypes.

    It may be nested in an entry `state_dict`, and all its names may begin with `module.` (torch's DataParallel).
    ValueError, naming the file, for one that is no checkpoint, is cut off, carries code or holds no network.
    """
    path = Path(path)
    if _plain(path):
        found = _network(_opened(path, "meta"), path)
        offsets = {name: _offset(w) for name, w in found.items()}
        if None not in offsets.values():
            return OnDisk(path, found, {name: start for name, start in offsets.items() if start is not None})
    return _network(_opened(path, "cpu"), path)


def _plain(path: Path) -> bool:
    """Whether the bytes of the tensors lie in the file as they would in memory."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        orders = [archive.read(r) for r in records if r.filename.endswith("/byteorder") and r.file_size < 16]
    ours = all(order.decode("ascii", "replace") == sys.byteorder for order in orders)
    return ours and all(record.compress_type == zipfile.ZIP_STORED for record in records)


def _opened(path: Path, device: str) -> Any:
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # bytes that are no checkpoint raise whatever they happen to meet
        if code := re.search(r"GLOBAL ([\w.]+\w) ", str(error)):
            raise ValueError(
                f"{path} holds more than tensors, the Python object {code[1]}: it is refused, and none of it was run."
            ) from None
        raise ValueError(f"{path} is no checkpoint of tensors, or it is cut off.") from None


def _network(found: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds no state dict, but a {type(found).__name__}.")
    others = [name for name, w in found.items() if not isinstance(w, Tensor) or w.layout != torch.strided]
    if others or not found:
        raise ValueError(f"{path} holds no network's weights: its entries are {', '.join(map(str, list(found)[:5]))}.")
    prefix = "module." if all(str(name).startswith("module.") for name in found) else ""
    return {str(name).removeprefix(prefix): w.detach() for name, w in found.items()}


def _offset(w: Tensor) -> int | None:
    """Where the tensor's first byte is; None where this version of torch does not say it."""
    start = getattr(w.untyped_storage(), "_checkpoint_offset", None)
    return None if start is None else start + w.storage_offset() * w.element_size()
