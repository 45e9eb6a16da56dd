"""Pictures as one array in an .npz: `images` and perhaps `labels`, or OpenAI's `arr_0` and `arr_1`; `captions` too."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from .captions import Captions, caption, column
from .decoding import Header
from .sources import Source

_KEYS = ("images", "labels", "arr_0", "arr_1", "class_names")


class Arrays(Source):
    """uint8 (n, H, W, C), (n, C, H, W) or grey (n, H, W), C 1 or 3; `class_names` is optional."""

    def __init__(self, path: Path, asked: str | None = None) -> None:
        present, content = read_arrays(path, _KEYS)
        key, label_key = ("images", "labels") if "images" in content else ("arr_0", "arr_1")
        if key not in content:
            raise ValueError(f"{path} holds {', '.join(present) or 'nothing'}, but neither images nor arr_0")
        self.array = as_nhwc(content[key], f"{key} in {path}")
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
        yield f"{self.array.shape} {hashlib.blake2b(np.ascontiguousarray(self.array).data).hexdigest()}"

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
    try:
        with np.load(path, allow_pickle=False) as file:
            return list(file.files), {key: file[key] for key in keys if key in file.files}
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
