"""Pictures that are judged: numbered, read in blocks, uint8 (C, H, W), of one size or of several.

    Stored    a data set as in training (`fewstep.images`), or an array in memory
    Drawn     by a model on the way: picture i depends on (seed, i) alone

Sizes and channels may be mixed here, unlike in training, because most features resize every picture for themselves.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import PurePath
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewstep.conditions import Asked
from fewstep.evaluation.telling import asked_labels, in_turn, shortly
from fewstep.images import Damaged, Data, to_uint8
from fewstep.images.arrays import Arrays, as_nhwc
from fewstep.images.decoding import fitted
from fewstep.images.parallel import cores
from fewstep.images.refusals import too_many
from fewstep.images.sources import Source, source
from fewstep.model import Model
from fewstep.tensors import EVALUATE, rng


class Pictures(ABC):
    """n pictures in an order. A damaged one is None where it is read, and named in `reasons`."""

    name: str
    """How a message calls them."""
    labels: NDArray[np.int64] | None = None
    """(n,), or None without labels."""
    class_names: tuple[str, ...] = ()
    """What the labels count: label k is class k of these."""
    reasons: dict[str, str]
    """Damaged files found so far, and why."""

    @property
    def num_classes(self) -> int:
        """How many classes the labels count; 0 without."""
        return len(self.class_names)

    @property
    def captions(self) -> list[str] | None:
        """What is said of each, or was asked for; None without."""
        return None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, rows: range) -> list[Tensor | None]:
        """These pictures, uint8 (C, H, W) each. Raises ValueError where too many are damaged."""

    def contents(self) -> Iterable[str]:
        """A line a picture that changes exactly when it does, whatever holds it; nothing where that is not known."""
        return ()

    @cached_property
    def digest(self) -> str:
        """16 hex digits over `contents`; "" where they are not known. Files are read once more for it."""
        found, lines = hashlib.blake2b(digest_size=8), 0
        for lines, line in enumerate(self.contents(), 1):  # noqa: B007
            found.update(f"{line}\n".encode())
        return found.hexdigest() if lines else ""

    def names(self) -> Iterable[str]:
        """Of the files, as they are told where one is damaged; nothing where there are no files."""
        return ()

    def notes(self) -> list[str]:
        """What a reader of their scores should know."""
        return []

    def how(self) -> dict[str, Any]:
        """How they were made, where that is known."""
        return {}

    def first(self) -> Tensor:
        """The first sound one."""
        for i in range(len(self)):
            if (picture := self.read(range(i, i + 1))[0]) is not None:
                return picture
        raise ValueError(f"{self.name} holds no picture that can be read.")


@final
class Stored(Pictures):
    """Pictures that are there: all of them, or n drawn at random from the seed."""

    def __init__(self, data: Data, n: int | None = None, seed: int = 0, origin: Source | None = None,
                 at_most: int | None = None, labels: Asked = None, prompts: Sequence[str] | None = None):  # fmt: skip
        """`labels` (classes by number or name) and `prompts` say what was asked for: one for each, or in turn; left out
        they are those that the pictures come with."""
        self.name, self.data, self.reasons = data.path, data, {}
        self._source = source(data) if origin is None else origin
        n = min(at_most, len(self._source)) if n is None and at_most is not None else n
        self._rows = chosen(len(self._source), n, seed, data.path)
        known, self.class_names = self._source.labels, tuple(self._source.class_names)
        if labels is not None:
            known, self.class_names = asked_labels(labels, self.class_names, len(self._source), self.name)
        self.labels = None if known is None else known[self._rows]
        holds = f"prompts, and {self.name} holds {len(self._source)} pictures"
        self._prompts = None if prompts is None else in_turn(prompts, len(self._source), holds)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def captions(self) -> list[str] | None:
        said = self._prompts or (None if self.data.captions is False else self._source.captions)
        return None if said is None else [said[i] or "" for i in self._rows]

    def read(self, rows: range) -> list[Tensor | None]:
        numbers = self._rows[rows.start : rows.stop].tolist()
        with ThreadPoolExecutor(min(cores(), max(1, len(numbers)))) as pool:
            found = list(pool.map(self._one, numbers))
        self.require_sound(self.reasons)
        return found

    def _one(self, i: int) -> Tensor | None:
        try:
            pixels = fitted(self._source.picture(i), self.data.size, self.data.channels)
        except Damaged as damage:
            self.reasons[damage.name] = damage.reason
            return None
        return torch.from_numpy(np.require(pixels.transpose(2, 0, 1), requirements=["C", "W"]))

    def require_sound(self, reasons: dict[str, str]) -> None:
        """Raises ValueError where more than 1% of the files are damaged, as training does.

        Of n that were chosen three deviations more, so that few damaged among many are not refused by bad luck.
        """
        expected = 0.01 * len(self)
        if len(reasons) > expected + (3 * expected**0.5 if len(self) < len(self._source) else 0):
            raise ValueError(too_many(self.data, reasons, len(self)))

    def contents(self) -> Iterable[str]:
        yield f"size {self.data.size} channels {self.data.channels}"
        for i in self._rows.tolist():
            yield self._source.content(i)

    def notes(self) -> list[str]:
        jpeg = sum(PurePath(str(name).split(" in ")[0]).suffix.lower() in (".jpg", ".jpeg") for name in self.names())
        cut = f"{self.name}: resized and cropped to {self.data.size}×{self.data.size} before the features saw them."
        lossy = f"{self.name}: {jpeg} of {len(self)} are JPEG, whose compression moves Fréchet distances; use PNG."
        return [cut] * (self.data.size is not None) + [lossy] * bool(jpeg)

    def names(self) -> Iterable[str]:
        return (self._source.names[int(i)] for i in self._rows)


@final
class Given(Arrays):
    """An array in memory as a source: uint8 (n, H, W, C), (n, C, H, W) or (n, H, W); float (n, C, H, W) in [−1, 1]."""

    captions = None  # type: ignore[assignment]

    def __init__(self, values: Tensor | NDArray, name: str):
        tensor = isinstance(values, Tensor)
        values = values.detach().cpu() if tensor else values
        values = values.float() if isinstance(values, Tensor) and values.is_floating_point() else values
        array = np.asarray(values)
        if array.dtype.kind == "f":
            array = _from_signed(array, name)
        elif tensor and array.ndim == 4:
            array = array.transpose(0, 2, 3, 1)
        self.array = as_nhwc(array, name)
        self.names, self.labels, self.class_names = [f"{name}[{i}]" for i in range(len(self.array))], None, ()


@final
class Drawn(Pictures):
    """n pictures of a model, drawn when they are read, in blocks of consecutive ones."""

    def __init__(
        self,
        model: Model,
        name: str,
        n: int,
        *,
        seed: int = 0,
        first: int = 0,
        labels: NDArray[np.int64] | None = None,
        prompts: Sequence[str] | None = None,
        how: Mapping[str, Any] | None = None,
    ):
        """`labels` and `prompts` are one for each; `how` the other keywords of `Model.sample`."""
        self.name, self.reasons, self.labels = name, {}, labels
        names = model.design.class_names
        self.class_names = tuple(names) if names else tuple(map(str, range(model.num_classes)))
        self._prompts = None if prompts is None else list(prompts)
        self._model, self._n, self._seed, self._first, self._how = model, n, seed, first, dict(how or {})

    def __len__(self) -> int:
        return self._n

    @property
    def captions(self) -> list[str] | None:
        return self._prompts

    def read(self, rows: range) -> list[Tensor | None]:
        part = slice(rows.start, rows.stop)
        asked: dict[str, Any] = {} if self.labels is None else {"labels": self.labels[part].tolist()}
        asked |= {} if self._prompts is None else {"prompts": self._prompts[part]}
        x = self._model.sample(len(rows), first=self._first + rows.start, seed=self._seed, batch=len(rows), **asked,
                               **self._how)  # fmt: skip
        return list(torch.from_numpy(to_uint8(x)).permute(0, 3, 1, 2))

    def how(self) -> dict[str, Any]:
        sampler = self._how.get("sampler") or ("consistency" if self._model.consistent else None)
        levels = {} if sampler != "consistency" else {
            "times": tuple(self._model.times(self._how.get("steps"), self._how.get("times")))}  # fmt: skip
        first = {"first": self._first} if self._first else {}
        return {"seed": self._seed, **first, **{k: v for k, v in self._how.items() if v is not None}, **levels,
                **self._asked()}  # fmt: skip

    def _asked(self) -> dict[str, Any]:
        """The labels, where not every class is drawn in turn, and the prompts, in short."""
        found: dict[str, Any] = {}
        if self.labels is not None and not np.array_equal(self.labels, np.arange(self._n) % len(self.class_names)):
            found["labels"] = shortly(self.labels.tolist())
        if self._prompts is not None:
            found["prompts"] = shortly(self._prompts)
        return found


def chosen(total: int, n: int | None, seed: int, name: str) -> NDArray[np.int64]:
    """The rows that are looked at: all, or n of them at random, in order. ValueError for more than there are."""
    if n is None or n == total:
        return np.arange(total)
    if not 1 <= n < total:
        raise ValueError(f"{n} pictures are asked for, and {name} holds {total}.")
    return np.sort(rng(seed, EVALUATE).permutation(total)[:n])


def resized(data: Data, size: int | None, channels: int | None) -> Data:
    """The data in this size and these channels, where they are given."""
    return replace(data, size=size or data.size, channels=channels or data.channels)


def _from_signed(array: NDArray, name: str) -> NDArray[np.uint8]:
    bounded = array.min(initial=0) >= -1.001 and array.max(initial=0) <= 1.001
    if array.ndim != 4 or array.shape[1] not in (1, 3) or not bounded:
        raise ValueError(
            f"{name} is {array.dtype} {array.shape}: pictures are uint8, or float (n, C, H, W) in [-1, 1]."
        )
    return to_uint8(torch.from_numpy(array))
