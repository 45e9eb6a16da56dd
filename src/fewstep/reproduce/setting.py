"""What a study is made on: the pictures, how long a run is, how many seeds. Everything else follows from it.

Without data of your own it is the 1,797 digits of 8×8 pixels that come with the package. Other pictures are made small
once (MNIST to 8×8) and kept in the study's folder, so that no run decodes them again. A minute is enough for a good
teacher of 8×8 pixels, not of 12×12.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewstep.files import whole_file
from fewstep.images import Data, open_images
from fewstep.images.sources import source

REFERENCE = 10_000
"""At most so many pictures are what samples are compared with, evenly spread over the data."""


@dataclass(frozen=True)
class Lengths:
    """Training steps of the kinds of runs. They are fixed before anything is measured."""

    teacher: int
    """The diffusion model."""
    distilled: int
    """A student that begins with the teacher's weights."""
    nothing: int
    """A model that begins at random weights."""


FULL = Lengths(teacher=2000, distilled=1000, nothing=1300)
"""At most a minute of one slow core each, on 8×8 pixels."""

QUICK = Lengths(teacher=500, distilled=150, nothing=300)
"""A quarter of that."""


@dataclass(frozen=True)
class Setting:
    """What every run of a study shares."""

    data: str = "digits"
    """Pictures to learn from, as in `fewstep train --data`."""
    size: int | None = None
    """Side to which pictures are made small; None is 8."""
    seeds: int = 3
    """Every run is done with so many seeds, its teacher's included."""
    quick: bool = False
    """Short runs."""
    features: str | None = None
    """What the Fréchet distance is taken from; None is a reader that learns from the pictures (`reading.py`)."""
    samples: int = 2000
    """Pictures that a score is taken of."""
    longer: float = 1.0
    """So many times the steps for all but the teachers: is a result one of short runs?"""

    def __post_init__(self):
        if not 0 < self.longer < math.inf:
            raise ValueError(f"longer is a number above 0, 4 for four times the steps, not {self.longer}.")
        if self.seeds < 1 or self.samples < 20:
            raise ValueError(f"seeds is at least 1 and samples at least 20, not {self.seeds} and {self.samples}.")
        if self.size is not None and (self.size < 4 or self.size % 4):
            raise ValueError(f"size is a multiple of 4, such as 8 or 12, not {self.size}: the network halves it twice.")

    @property
    def lengths(self) -> Lengths:
        usual = QUICK if self.quick else FULL
        return replace(usual, distilled=self._times(usual.distilled), nothing=self._times(usual.nothing))

    def _times(self, steps: int) -> int:
        return max(1, round(self.longer * steps))

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return 8 if self.size is None else self.size

    def opened(self, folder: Path) -> "Pictures":
        """The small pictures, from the study's folder or made for it. Raises what `open_images` does."""
        if self.data == "digits" and self.side == 8:
            return Pictures(Data("digits"))
        stored = folder / f"data-{Path(self.data).stem}-{_content(self.data)}-{self.side}.npz"
        if not stored.is_file():
            images = open_images(Data(self.data, size=self.side))
            with whole_file(stored) as aside:
                arrays = {"images": np.stack([images.picture(i) for i in range(len(images))])}
                if images.num_classes:
                    arrays["labels"] = images.labels
                np.savez(aside, **arrays)  # type: ignore[arg-type]
        return Pictures(Data(str(stored)))


class Pictures:
    """The pictures that all runs of a study learn from."""

    def __init__(self, data: Data):
        self.data, self.images = data, open_images(data)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the pictures and their labels: part of every run's name."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images.labels.astype(np.int64)).tobytes())
        for start in range(0, len(self.images), 1000):
            digest.update(np.ascontiguousarray(self.some(range(start, min(start + 1000, len(self.images))))).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def deviation(self) -> float:
        """The standard deviation of the pictures' values in [-1, 1], for the preconditioning."""
        return round(float(self.reference.std() / 127.5), 2)

    @property
    def reference(self) -> NDArray[np.uint8]:
        """uint8 (n, C, H, W), what samples are compared with."""
        n = len(self.images)
        return self.some(np.linspace(0, n - 1, min(n, REFERENCE)).round().astype(int).tolist())

    def some(self, rows) -> NDArray[np.uint8]:
        return np.stack([self.images.picture(i).transpose(2, 0, 1) for i in rows])


def _content(data: str) -> str:
    """8 hex digits that change when pictures or labels of the data do, without a look into the pictures."""
    found = source(Data(data))
    labels = b"" if found.labels is None else found.labels.tobytes()
    return hashlib.sha256("\n".join(found.stamp()).encode() + labels).hexdigest()[:8]
