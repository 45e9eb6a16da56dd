"""Pictures as one array in an .npz: `images` and perhaps `labels`, or OpenAI's `arr_0` and `arr_1`; `captions` too."""

import hashlib
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from PIL import Image

from .captions import Captions, caption, column
from .decoding import Header
from .sources import Source

_SMALL = 1 << 28  # bytes of a compressed array that is unpacked in memory


class Arrays(Source):
    """uint8 (n, H, W, C), (n, C, H, W) or grey (n, H, W), C 1 or 3; `class_names` is optional."""

    def __init__(self, path: Path, asked: str | None = None) -> None:
        present, content = read_arrays(path, ("labels", "arr_1", "class_names"))
        key, label_key = ("images", "labels") if "images" in present else ("arr_0", "arr_1")
        if key not in present:
            raise ValueError(f"{path} holds {', '.join(present) or 'nothing'}, but neither images nor arr_0")
        self.array = as_nhwc(on_disk(path, key), f"{key} in {path}")
        self.names = [f"{key}[{i}]" for i in range(len(self.array))]
        self.labels = _as_labels(content.get(label_key), len(self.array), f"{label_key} in {path}")
        self.class_names = _names(self.labels, content.get("class_names"))
        self._path, self._texts = path, asked or "captions"
        if asked is not None:
            column(present, asked, str(path))

    @cached_property
    def captions(self) -> Captions | None:
        texts = read_arrays(self._path, (self._texts,))[1].get(self._texts)
        if texts is None:
            return None
        where = f"{self._texts} in {self._path}"
        if texts.shape != (len(self),) or texts.dtype.kind not in "US":
            raise ValueError(f"{where} is {texts.dtype} {texts.shape}: captions must be {len(self)} texts")
        return [caption(text, where) for text in texts.tolist()]

    def stamp(self) -> Iterable[str]:
        found = hashlib.blake2b()
        for pixels in self.array:
            found.update(np.ascontiguousarray(pixels).data)
        yield f"{self.array.shape} {found.hexdigest()}"

    def content(self, i: int) -> str:
        pixels = np.ascontiguousarray(self.array[i])
        return f"{pixels.shape} {hashlib.blake2b(pixels.data, digest_size=16).hexdigest()}"

    def header(self, i: int) -> Header:
        height, width, channels = self.array.shape[1:]
        return Header(width, height, "L" if channels == 1 else "RGB")

    def picture(self, i: int) -> Image.Image:
        pixels = self.array[i]
        return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))

    def whole(self) -> np.ndarray | None:
        return self.array


def read_arrays(path: Path, keys: tuple[str, ...]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays in the file, and those of `keys` that are there."""
    with _reading(path), np.load(path, allow_pickle=False) as file:
        return list(file.files), {key: file[key] for key in keys if key in file.files}


def on_disk(path: Path, key: str) -> np.ndarray:
    """One array of an .npz, its checksum verified, read from the disk as it is needed.

    A large compressed one is unpacked into a temporary file, which is gone with the array.
    """
    with _reading(path), zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{key}.npy")
    stored = entry.compress_type == zipfile.ZIP_STORED
    if not stored and entry.file_size < _SMALL:
        return read_arrays(path, (key,))[1][key]
    with _reading(path), zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        unpacked = None if stored else tempfile.TemporaryFile()  # noqa: SIM115 (the array keeps it)
        with archive.open(entry) as member:  # the whole of it, since the end verifies the checksum
            while block := member.read(1 << 20):
                if unpacked is not None:
                    unpacked.write(block)
        at = unpacked or file
        at.seek(0 if unpacked else _begins(file, entry))
        version = np.lib.format.read_magic(at)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(at)
        if dtype.hasobject:
            raise ValueError("it holds objects")
        if 0 in shape:
            return np.empty(shape, dtype)
        order = "F" if fortran else "C"
        return np.memmap(at, dtype, "c", at.tell(), shape, order)  # "c": torch wants arrays that can be written to


def _begins(file: BufferedIOBase, entry: zipfile.ZipInfo) -> int:
    """Where the bytes of an entry begin: behind its header, a name and an extra field."""
    file.seek(entry.header_offset)
    header = file.read(30)
    name, extra = struct.unpack("<HH", header[26:30])
    return entry.header_offset + len(header) + name + extra


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as an .npz of plain arrays ({error})") from error


def as_nhwc(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype != np.uint8:
        raise ValueError(f"{what} is {array.dtype}: pictures must be uint8, 0 to 255")
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return array.transpose(0, 2, 3, 1)
    raise ValueError(
        f"{what} has the shape {array.shape}: pictures are (n, H, W, C), (n, C, H, W) or (n, H, W), C 1 or 3"
    )


def _as_labels(labels: np.ndarray | None, n: int, what: str) -> np.ndarray | None:
    if labels is None:
        return None
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise ValueError(f"{what} is {labels.dtype} {labels.shape}: labels must be {n} whole numbers")
    return labels.astype(np.int64)


def _names(labels: np.ndarray | None, names: np.ndarray | None) -> tuple[str, ...]:
    if labels is None:
        return ()
    return tuple(map(str, range(int(labels.max(initial=-1)) + 1) if names is None else names))
