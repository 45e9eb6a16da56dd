"""Tensors in a file, each read when it is asked for: a model of 2 GB is then loaded in 2 GB of memory, not in 4.

    name → (its dtype, shape and strides, as a meta tensor; the offset of its first byte)

The file is read, not mapped into memory: pages of a mapped file count as the process's own.
"""

import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""What a safetensors file calls them."""


class OnDisk(Mapping[str, Tensor]):
    """Tensors by name, in the file's own dtypes. The file stays open, so that one that takes its place is not read."""

    def __init__(self, path: str | Path, outline: Mapping[str, Tensor], offsets: Mapping[str, int]):
        self.path, self.outline, self.offsets = Path(path), dict(outline), dict(offsets)
        self._file = open(path, "rb")  # noqa: SIM115 (closed with this object)
        weakref.finalize(self, self._file.close)

    def __getitem__(self, name: str) -> Tensor:
        """A tensor of its own, read anew; ValueError where the file ends too early."""
        like = self.outline[name]
        last = sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True))
        raw = torch.empty(last + 1 if like.numel() else 0, dtype=like.dtype)
        self._file.seek(self.offsets[name])
        if self._file.readinto(raw.view(torch.uint8).numpy().data) != raw.nbytes:
            raise ValueError(f"{self.path} is cut off: it ends within {name}.")
        return raw.as_strided(like.shape, like.stride())

    def __iter__(self) -> Iterator[str]:
        return iter(self.outline)

    def __len__(self) -> int:
        return len(self.outline)

    def renamed(self, names: Mapping[str, str]) -> "OnDisk":
        """The tensors names.values() under the names names.keys()."""
        outline = {new: self.outline[old] for new, old in names.items()}
        return OnDisk(self.path, outline, {new: self.offsets[old] for new, old in names.items()})


class Changed(Mapping[str, Tensor]):
    """The same tensors, each changed by `change(name, w)` once it is read."""

    def __init__(self, weights: Mapping[str, Tensor], change: Callable[[str, Tensor], Tensor]):
        self.weights, self.change = weights, change
        self.outline = {name: change(name, w) for name, w in outline(weights).items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.change(name, self.weights[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def cast(weights: Mapping[str, Tensor], dtype: torch.dtype) -> Changed:
    """The tensors, those of whole numbers apart, in another dtype; ValueError, once one is read, for values beyond its
    range."""

    def change(name: str, w: Tensor) -> Tensor:
        if not w.is_floating_point():
            return w
        new = w.to(dtype)
        if not w.is_meta and bool((new.isinf() & ~w.isinf()).any()):
            kind = str(dtype).removeprefix("torch.")
            raise ValueError(f"{name} has values beyond the range of {kind}: keep float32.")
        return new

    return Changed(weights, change)


def outline(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Dtypes and shapes as meta tensors; nothing is read."""
    if isinstance(weights, OnDisk | Changed):
        return weights.outline
    return {name: w.to("meta") for name, w in weights.items()}


def safetensors(path: str | Path) -> OnDisk:
    """The tensors of a safetensors file; ValueError for a file that is cut off or no such file."""
    path = Path(path)
    try:
        with safe_open(str(path), "pt"):  # it looks whether header and size of the file agree
            pass
    except (SafetensorError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} is damaged or no safetensors file: {error}.") from None
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    if strange := sorted({str(about["dtype"]) for about in header.values()} - DTYPES.keys()):
        raise ValueError(f"{path} holds tensors of a kind that is not known here: {', '.join(strange)}.")
    shapes = {name: (about["shape"], DTYPES[about["dtype"]]) for name, about in header.items()}
    return OnDisk(
        path,
        {name: torch.empty(shape, dtype=dtype, device="meta") for name, (shape, dtype) in shapes.items()},
        {name: 8 + size + about["data_offsets"][0] for name, about in header.items()},
    )


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file of tensors from any device; OSError where it cannot be written, as on a full disk."""
    kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        save_file(kept, str(path), metadata=None if metadata is None else dict(metadata))
    except SafetensorError as error:
        raise OSError(f"{path.name} could not be written ({error}): is the disk full?") from None
