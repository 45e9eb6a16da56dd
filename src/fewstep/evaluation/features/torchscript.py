"""The tensors of a TorchScript archive (torch.jit.save), read without running a line of it.

    name/data.pkl      the module as a pickle: __torch__ classes with their attributes, tensors by a storage's number
    name/data/<k>      the bytes of storage k
    name/code/…        programs, never opened here

A pickle may ask for any Python object; this reader knows a handful of names and gives things that can do nothing for
them: an object that keeps its attributes, a dict, a list, a view of a storage. It refuses every other name.
"""

import io
import pickle
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether the file is an archive with programs in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of the module by its dotted name, parameters and buffers, in the file's own dtypes.

    Raises ValueError, naming the file, for an archive that is cut off, damaged or asks for anything but tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name.partition("/")[0] for name in archive.namelist() if name.endswith("/data.pkl"))
            module = _Reader(archive, root).load()
        return dict(_named(module, ""))
    except MemoryError:
        raise
    except _Refused as error:
        raise ValueError(f"{path} asks for {error}, which no module of tensors needs: nothing of it was run.") from None
    except Exception:  # bytes that are no archive raise whatever they happen to meet
        raise ValueError(f"{path} is no TorchScript archive of tensors, or it is damaged.") from None


class _Refused(Exception):
    """A name that the pickle must not have."""


class _Module:
    """Stands for every object of the archive."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Reader(pickle.Unpickler):
    """A pickle's grammar with a vocabulary that is listed below."""

    def __init__(self, archive: zipfile.ZipFile, root: str):
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root
        order = archive.read(f"{root}/byteorder") if f"{root}/byteorder" in archive.namelist() else b"little"
        self.swapped = order.decode("ascii") != sys.byteorder

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module == "torch.jit._pickle" and name.startswith("build_"):  # lists of one type
            return list
        known = {("collections", "OrderedDict"): dict, ("torch._utils", "_rebuild_tensor_v2"): _view}
        if (module, name) not in known:
            raise _Refused(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        data = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return flat.view(torch.uint8).view(-1, flat.itemsize).flip(1).reshape(-1).view(dtype) if self.swapped else flat


def _view(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, _Module) and isinstance(value.attributes, dict):
        for key, part in value.attributes.items():
            yield from _named(part, f"{name}.{key}" if name else str(key))
