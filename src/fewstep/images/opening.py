"""Opening data: `open_images(Data(path))` gives pictures of one shape, numbered, with labels.

A small set is decoded once, into one uint8 array (n, C, H, W) in memory; a larger one is decoded when asked, and its
headers are looked at first. Values become x_0 = u / 127.5 − 1 in [−1, 1].
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

import numpy as np
import torch

from .data import Data
from .decoding import Damaged, Header, fitted
from .sources import Source, source

_CHUNK = 256
_HEADERS = 50_000  # how many headers of a large set are read at the start
T = TypeVar("T")


@final
class Images:
    """Pictures of one shape (C, H, W). Made by `open_images`; threads and processes may share it."""

    def __init__(self, data: Data, source: Source, shape: tuple[int, int, int], sound: np.ndarray,
                 array: np.ndarray | None, reasons: dict[str, str]) -> None:  # fmt: skip
        self.data, self.shape, self.reasons = data, shape, reasons
        self.class_names = source.class_names
        self.labels = np.full(len(sound), -1, np.int64) if source.labels is None else source.labels[sound]
        self._source, self._sound, self._array = source, sound, array

    def __len__(self) -> int:
        return len(self._sound)

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
        return self._array is not None

    def name(self, i: int) -> str:
        return self._source.names[int(self._sound[i])]

    def picture(self, i: int) -> np.ndarray:
        """uint8 (H, W, C), cropped in the centre."""
        return np.ascontiguousarray(self._pixels(i, None)[0].transpose(1, 2, 0))

    def example(self, i: int, rng: np.random.Generator) -> tuple[torch.Tensor, int]:
        """float32 (C, H, W) in [−1, 1] and its label (−1 without); crop and flip take three draws of `rng`."""
        pixels, labels = self.rows(np.array([i]), rng.random((1, 3)))
        return signed(pixels)[0], int(labels[0])

    def rows(self, indices: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (b, C, H, W) and int64 (b,) of pictures `indices`; `draws` (b, 3) in [0, 1) are flip, top and left."""
        if self._array is not None:
            pixels, labels = self._array[indices], self.labels[indices]
        else:
            random = self.data.crop == "random"
            found = [self._pixels(int(i), tuple(d[1:]) if random else None) for i, d in zip(indices, draws, strict=True)]
            pixels = np.stack([p for p, _ in found])
            labels = self.labels[[i for _, i in found]]
        if self.data.flip:
            mirrored = draws[:, 0] < 0.5
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        return pixels, labels

    def _pixels(self, i: int, place: tuple[float, float] | None) -> tuple[np.ndarray, int]:
        """uint8 (C, H, W), and the number it has: a file found damaged only now gives way to the next sound one."""
        if self._array is not None:
            return self._array[i], i
        for j in ((i + step) % len(self) for step in range(len(self))):
            try:
                image = self._source.picture(int(self._sound[j]))
                pixels = fitted(image, self.data.size, self.data.channels, place).transpose(2, 0, 1)
            except Damaged as damage:
                self.reasons[damage.name] = damage.reason
                self.require_sound()
                continue
            if pixels.shape != self.shape:
                raise ValueError(_mixed(self.data, {self.shape: 1, pixels.shape: 1}, self.name(j)))
            return pixels, j
        raise ValueError(f"no picture of {self.data.path} can be decoded")

    def require_sound(self, limit: float = 0.01) -> None:
        """Raises ValueError where more than `limit` of the files are damaged."""
        _require_sound(self.data.path, self.reasons, len(self._source), limit)


def signed(pixels: np.ndarray) -> torch.Tensor:
    """uint8 0…255 -> float32 in [−1, 1], u / 127.5 − 1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(127.5).sub_(1)


def open_images(data: Data) -> Images:
    """Opens the data, looks at it, and refuses it where more than 1% of the files are damaged.

    Raises FileNotFoundError for a missing path and ValueError for: no pictures, an unknown kind of file, mixed sizes
    without `size`, grey and RGB mixed without `channels`, a label outside the range, too many damaged files.
    """
    found = source(data)
    whole = found.whole()
    if whole is not None and _fits(data, whole.shape[1:]):
        array = np.ascontiguousarray(whole.transpose(0, 3, 1, 2))
        return Images(data, found, array.shape[1:], np.arange(len(array)), array, {})
    first = _first_shape(data, found)
    small = len(found) * int(np.prod(first)) <= data.memory << 20
    shape, sound, array, reasons = (_decode_all if small and data.crop == "centre" else _look_at_headers)(data, found, first)
    _require_sound(data.path, reasons, len(found), 0.01)
    return Images(data, found, shape, sound, array, reasons)


def _fits(data: Data, shape: tuple[int, ...]) -> bool:
    """Whether stored pictures (H, W, C) are already what is asked for."""
    height, width, channels = shape
    return (data.size is None or height == width == data.size) and data.channels in (None, channels)


def _first_shape(data: Data, found: Source) -> tuple[int, int, int]:
    reasons = {}
    for i in range(len(found)):
        try:
            return _shape(data, found.header(i))
        except Damaged as damage:
            reasons[damage.name] = damage.reason
    raise ValueError(_too_many(data.path, reasons, len(found)))


def _shape(data: Data, header: Header) -> tuple[int, int, int]:
    return data.channels or header.channels, data.size or header.height, data.size or header.width


def _decode_all(data: Data, found: Source, shape: tuple[int, int, int]):
    array = np.empty((len(found), *shape), np.uint8)
    other: dict[tuple, list[int]] = {}
    reasons: dict[int, str] = {}

    def load(i: int) -> None:
        try:
            pixels = fitted(found.picture(i), data.size, data.channels).transpose(2, 0, 1)
        except Damaged as damage:
            reasons[i] = damage.reason
            return
        if pixels.shape == shape:
            array[i] = pixels
        else:
            other.setdefault(pixels.shape, []).append(i)

    each(load, range(len(found)), f"reading {data.path}")
    return _settled(data, found, shape, other, reasons, array)


def _look_at_headers(data: Data, found: Source, shape: tuple[int, int, int]):
    other: dict[tuple, list[int]] = {}
    reasons: dict[int, str] = {}

    def look(i: int) -> None:
        try:
            seen = _shape(data, found.header(i))
        except Damaged as damage:
            reasons[i] = damage.reason
            return
        if seen != shape:
            other.setdefault(seen, []).append(i)

    looked_at = np.unique(np.linspace(0, len(found) - 1, min(len(found), _HEADERS)).round().astype(int))
    each(look, looked_at.tolist(), f"looking at {data.path}")
    return _settled(data, found, shape, other, reasons, None)


def _settled(data, found, shape, other, reasons: dict[int, str], array):
    if other:
        counts = {shape: len(found) - len(reasons) - sum(map(len, other.values()))}
        counts |= {key: len(rows) for key, rows in other.items()}
        example = min(min(rows) for rows in other.values())
        raise ValueError(_mixed(data, counts, found.names[example]))
    sound = np.delete(np.arange(len(found)), sorted(reasons))
    kept = array if array is None or not reasons else array[sound]
    return shape, sound, kept, {found.names[i]: reasons[i] for i in sorted(reasons)}


def _mixed(data: Data, counts: dict[tuple, int], example: str) -> str:
    if len({shape[0] for shape in counts}) > 1 and len({shape[1:] for shape in counts}) == 1:
        return (
            f"{data.path} mixes grey and colour pictures ({example} differs from the first):"
            " choose one with channels=1 or channels=3 (--channels)"
        )
    common = sorted(counts.items(), key=lambda item: -item[1])
    said = ", ".join(f"{width}×{height}: {n}" for (_, height, width), n in common[:4]) + (", …" if len(common) > 4 else "")
    side = min(common[0][0][1:])
    return (
        f"{data.path} holds pictures of different sizes ({said}; {example} is one that differs):"
        f" choose one to resize and crop them to, such as size={side} (--size {side})"
    )


def _require_sound(path: str, reasons: dict[str, str], count: int, limit: float) -> None:
    if len(reasons) > limit * count:
        raise ValueError(_too_many(path, reasons, count))


def _too_many(path: str, reasons: dict[str, str], count: int) -> str:
    first = ", ".join(f"{name} ({reason})" for name, reason in list(reasons.items())[:3])
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"{len(reasons)} of the {count} files in {path} are damaged: {first}{more}."
        f" See them all with: fewstep data check {path}"
    )


def each(work: Callable[[int], None], numbers: Iterable[int], what: str) -> None:
    """Does `work` for each number in parallel threads, with a bar when it takes longer than a second."""
    numbers = list(numbers)
    chunks = [numbers[a : a + _CHUNK] for a in range(0, len(numbers), _CHUNK)]
    stop = threading.Event()

    def run(chunk: list[int]) -> int:
        for i in chunk:
            if stop.is_set():
                break
            work(i)
        return len(chunk)

    with ThreadPoolExecutor(threads()) as pool:
        try:
            for _ in _bar(pool.map(run, chunks), len(numbers), what):
                pass
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


def _bar(done: Iterator[int], total: int, what: str) -> Iterator[int]:
    started, progress, task, count = time.monotonic(), None, None, 0
    try:
        for n in done:
            count += n
            if progress is None and time.monotonic() - started > 1:
                from rich.console import Console
                from rich.progress import Progress

                progress = Progress(console=Console(stderr=True), transient=True)
                task = progress.add_task(what, total=total)
                progress.start()
            if progress is not None and task is not None:
                progress.update(task, completed=count)
            yield n
    finally:
        if progress is not None:
            progress.stop()
