"""All distances between many points, a block at a time: a bounded part of the points and of the matrix is in memory.

    |a − b|² = |a|² + |b|² − 2 a·b

loses its digits when the points lie far from 0 and near each other. So points are moved to a common centre first, in
float64, and the distances of a set to itself have exact zeros on the diagonal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 2048
"""Points on one side of a block."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """The points (features − centre) / scale, or these at length 1, (n, d), made in float64 when asked for."""

    features: NDArray
    """(n, d), any float type; may be a memmap."""
    centre: Floats | float = 0.0
    """(d,)."""
    scale: Floats | float = 1.0
    """(d,)."""
    unit: bool = False
    """Whether every point is brought to length 1."""

    def blocks(self, start: int = 0) -> Iterator[tuple[slice, Floats]]:
        """The rows from `start` on: (which, the points themselves)."""
        for first in range(start, len(self.features), BLOCK):
            rows = slice(first, min(first + BLOCK, len(self.features)))
            block = (np.asarray(self.features[rows], dtype=np.float64) - self.centre) / self.scale
            yield rows, unit(block) if self.unit else block


def unit(points: Floats) -> Floats:
    """(n, d) at length 1; zeros stay zeros."""
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def mean(features: NDArray) -> Floats:
    """(n, d) -> (d,), summed in float64."""
    return np.asarray(np.mean(features, axis=0, dtype=np.float64))


def between(a: Points, b: Points) -> Iterator[tuple[slice, slice, Floats]]:
    """Squared distances of all of a (n, d) to all of b (m, d): (rows, columns, block)."""
    for rows, first in a.blocks():
        for columns, second in b.blocks():
            yield rows, columns, squared_distances(first, second)


def within(a: Points) -> Iterator[tuple[slice, slice, Floats]]:
    """The blocks of a's squared distances to itself that lie on and above the diagonal; the others mirror them."""
    for rows, first in a.blocks():
        for columns, second in a.blocks(rows.start):
            block = squared_distances(first, second)
            if rows == columns:
                np.fill_diagonal(block, 0)
            yield rows, columns, block


def squared_distances(a: Floats, b: Floats) -> Floats:
    """(n, d), (m, d) -> (n, m), not below 0."""
    products = a @ b.T
    products *= -2
    products += (a * a).sum(1)[:, None]
    products += (b * b).sum(1)
    return np.maximum(products, 0, out=products)
