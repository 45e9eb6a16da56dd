"""Opening data: `open_images(Data(path))` gives pictures of one shape, numbered, with labels and captions.

A small set is decoded once, into one uint8 array (n, C, H, W) in memory; a larger one is decoded when asked,
after a look at its headers. Values become x_0 = u / 127.5 − 1 in [−1, 1].
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
import torch

from .captions import without
from .data import Data
from .decoding import Damaged, Header, fitted
from .parallel import each
from .refusals import mixed, too_many, uncaptioned
from .sources import Source, source

_HEADERS = 50_000  # how many headers of a large set are read at the start
Shape = tuple[int, int, int]


class Found(NamedTuple):
    """What opening found: the shape (C, H, W), the sound pictures, why others are not, what was decoded."""

    shape: Shape
    sound: np.ndarray
    reasons: dict[str, str]
    array: np.ndarray | None


@final
class Images:
    """Pictures of one shape (C, H, W), made by `open_images`. Threads and processes may share it."""

    def __init__(self, data: Data, source: Source, found: Found) -> None:
        self.data, self.shape, self.reasons = data, found.shape, found.reasons
        self.class_names = source.class_names
        self.labels = np.full(len(found.sound), -1) if source.labels is None else source.labels[found.sound]
        self._source, self._sound, self._array = source, found.sound, found.array

    def __len__(self) -> int:
        return len(self._sound)

    @property
    def origin(self) -> Source:
        """Where they come from, the damaged ones included."""
        return self._source

    @property
    def num_classes(self) -> int:
        """0 without labels."""
        return len(self.class_names)

    @property
    def damaged(self) -> list[str]:
        """The names of the damaged files found so far; `reasons` says why."""
        return list(self.reasons)

    @property
    def in_memory(self) -> bool:
        """Whether everything is decoded already."""
        return self._array is not None

    @cached_property
    def captions(self) -> list[str] | None:
        """What is said of each picture, None without captions; "" is an empty prompt. Read when first asked for.

        Raises ValueError where pictures have none among others that do, unless Data.uncaptioned says "empty".
        """
        if self.data.captions is False or self._source.captions is None:
            return None
        found = [self._source.captions[i] for i in self._sound]
        if self.data.uncaptioned == "refuse" and (lacking := without(found, [self.name(i) for i in range(len(self))])):
            raise ValueError(uncaptioned(self.data, lacking, len(self)))
        return [text or "" for text in found]

    def digest(self) -> str:
        """A hash that changes when pictures are added, removed, changed or found damaged at opening."""
        digest = hashlib.blake2b(digest_size=16)
        for line in self._source.stamp():
            digest.update(f"{line}\n".encode())
        digest.update(self._sound.tobytes())
        return digest.hexdigest()

    def name(self, i: int) -> str:
        """The file of picture i."""
        return self._source.names[int(self._sound[i])]

    def picture(self, i: int) -> np.ndarray:
        """uint8 (H, W, C), cropped in the centre."""
        return np.ascontiguousarray(self.decoded(i)[0].transpose(1, 2, 0))

    def example(self, i: int, rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        """float32 (C, H, W) in [−1, 1] and its label (−1 without); `rng` gives the crop and the flip."""
        pixels, labels = self.rows(np.array([i]), rng.random((1, 3)))
        return signed(pixels)[0], int(labels[0])

    def rows(self, indices: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (b, C, H, W) and labels (b,) of `indices`; `draws` (b, 3) in [0, 1) are flip, top, left."""
        if self._array is not None:
            pixels, labels = self._array[indices], self.labels[indices]
        else:
            random = self.data.crop == "random"
            places = [(top, left) if random else None for _, top, left in draws]
            found = [self.decoded(int(i), place) for i, place in zip(indices, places, strict=True)]
            pixels, labels = np.stack([p for p, _ in found]), self.labels[[i for _, i in found]]
        if self.data.flip:
            mirrored = draws[:, 0] < 0.5
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        return pixels, labels

    def require_sound(self, limit: float = 0.01) -> None:
        """Raises ValueError where more than `limit` of the files are damaged."""
        if len(self.reasons) > limit * len(self._source):
            raise ValueError(too_many(self.data, self.reasons, len(self._source)))

    def decoded(self, i: int, place: tuple[float, float] | None = None) -> tuple[np.ndarray, int]:
        """uint8 (C, H, W), cropped at `place` (None: in the centre), and its number, which is nearly always i.

        A file found damaged only now gives way to the next sound one, and so do its label and its caption.
        """
        if self._array is not None:
            return self._array[i], i
        for j in ((i + step) % len(self) for step in range(len(self))):
            try:
                pixels = _pixels(self.data, self._source, int(self._sound[j]), place)
            except Damaged as damage:
                self.reasons[damage.name] = damage.reason
                self.require_sound()
                continue
            if pixels.shape != self.shape:
                raise ValueError(mixed(self.data, {self.shape: len(self) - 1, pixels.shape: 1}, self.name(j)))
            return pixels, j
        raise ValueError(too_many(self.data, self.reasons, len(self._source)))


def signed(pixels: np.ndarray) -> torch.Tensor:
    """uint8 0…255 -> float32 in [−1, 1]: u / 127.5 − 1."""
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).float().div_(127.5).sub_(1)


def open_images(data: Data) -> Images:
    """Opens the data, looks at it, and refuses it where more than 1% of the files are damaged.

    Raises FileNotFoundError for a missing path and ValueError for no pictures, an unknown kind of file, sizes
    mixed without `size`, grey and RGB without `channels`, a label outside the range, too many damaged files.
    """
    origin = source(data)
    whole = origin.whole()
    if whole is not None and _asked_for(data, whole.shape[1:]):
        array = whole.transpose(0, 3, 1, 2)
        if whole.nbytes <= data.memory << 20:  # a larger one stays where it is, on the disk
            array = np.ascontiguousarray(array)
        return Images(data, origin, Found(array.shape[1:], np.arange(len(array)), {}, array))
    shape = _first_shape(data, origin)
    small = len(origin) * int(np.prod(shape)) <= data.memory << 20
    found = (
        _decode_all(data, origin, shape)
        if small and (data.crop == "centre" or data.size is None)
        else _look(data, origin, shape)
    )
    images = Images(data, origin, found)
    images.require_sound()
    if data.captions:
        images.captions  # noqa: B018 (refuses pictures without one now, not in the middle of a run)
    return images


def _asked_for(data: Data, shape: tuple[int, ...]) -> bool:
    """Whether stored pictures (H, W, C) already are what is asked for."""
    height, width, channels = shape
    return (data.size is None or height == width == data.size) and data.channels in (None, channels)


def _first_shape(data: Data, origin: Source) -> Shape:
    reasons: dict[str, str] = {}
    for i in range(len(origin)):
        try:
            return _shape(data, origin.header(i))
        except Damaged as damage:
            reasons[damage.name] = damage.reason
    raise ValueError(too_many(data, reasons, len(origin)))


def _shape(data: Data, header: Header) -> Shape:
    return data.channels or header.channels, data.size or header.height, data.size or header.width


def _pixels(data: Data, origin: Source, i: int, place: tuple[float, float] | None = None) -> np.ndarray:
    """uint8 (C, H, W). Raises Damaged."""
    return fitted(origin.picture(i), data.size, data.channels, place).transpose(2, 0, 1)


def _decode_all(data: Data, origin: Source, shape: Shape) -> Found:
    array = np.empty((len(origin), *shape), np.uint8)

    def load(i: int) -> Shape:
        pixels = _pixels(data, origin, i)
        if pixels.shape == shape:
            array[i] = pixels
        return pixels.shape

    found = _survey(data, origin, shape, load, range(len(origin)), f"reading {data.path}")
    return found._replace(array=array[found.sound] if found.reasons else array)


def _look(data: Data, origin: Source, shape: Shape) -> Found:
    n = len(origin)
    some = np.unique(np.linspace(0, n - 1, min(n, _HEADERS)).round().astype(int)).tolist()
    return _survey(data, origin, shape, lambda i: _shape(data, origin.header(i)), some, f"looking at {data.path}")


def _survey(
    data: Data, origin: Source, shape: Shape, seen: Callable[[int], Shape], numbers: Sequence[int], what: str
) -> Found:
    """Looks at each picture by `seen`; notes the damaged and refuses a mixture of shapes."""
    others: dict[int, Shape] = {}
    reasons: dict[int, str] = {}

    def look(i: int) -> None:
        try:
            if (other := seen(i)) != shape:
                others[i] = other
        except Damaged as damage:
            reasons[i] = damage.reason

    each(look, numbers, what)
    if others:
        counts = {shape: len(numbers) - len(reasons) - len(others)}
        for other in others.values():
            counts[other] = counts.get(other, 0) + 1
        raise ValueError(mixed(data, counts, origin.names[min(others)]))
    bad = sorted(reasons)
    sound = np.delete(np.arange(len(origin)), bad)
    return Found(shape, sound, {origin.names[i]: reasons[i] for i in bad}, None)
