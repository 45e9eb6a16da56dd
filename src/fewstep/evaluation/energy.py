"""How alike two sets of pictures are, without any download: an energy distance between simple features.

    E(X, Y) = 2 E|x − y| − E|x − x'| − E|y − y'|  ≥ 0,   0 for equal distributions

(Székely & Rizzo 2013), the last two over pairs of different pictures; so by chance two sets of one distribution may
score a little below 0. Features that are put together from parts (the simple features: small pictures, and edges) are
scaled so that the variances of the reference add up to 1 in each part. A judge that knows what the pictures show is
better.
"""

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluation.blocks import Floats, Points, between, mean, within


def energy_distance(x: NDArray, y: NDArray, parts: tuple[int, ...] = ()) -> float:
    """Of features x (n, d) from those of a reference y (m, d); n, m ≥ 2.

    `parts` are the widths that add up to d; without any, all of d is one part.
    """
    centre = mean(y)
    scale = scales(y, parts or (y.shape[1],))
    ours, theirs = Points(x, centre, scale), Points(y, centre, scale)
    cross = sum(np.sqrt(block).sum() for _, _, block in between(ours, theirs)) / (len(x) * len(y))
    return float(2 * cross - spread(ours) - spread(theirs))


def spread(points: Points) -> float:
    """E|x − x'| over pairs of different points."""
    n = len(points.features)
    if n < 2:
        raise ValueError("An energy distance compares pairs of pictures of a set; it needs two or more in each.")
    total = sum(np.sqrt(block).sum() * (1 if rows == columns else 2) for rows, columns, block in within(points))
    return float(total / (n * (n - 1)))


def scales(features: NDArray, parts: tuple[int, ...]) -> Floats:
    """For every column of features (n, d) the root of the sum of the variances of its part: (d,)."""
    if sum(parts) != features.shape[1]:
        raise ValueError(f"Parts of {parts} numbers do not make up features of {features.shape[1]}.")
    total = np.zeros(features.shape[1])
    for _, block in Points(features, mean(features)).blocks():
        total += (block * block).sum(0)
    variances = total / max(1, len(features) - 1)
    roots = [np.sqrt(part.sum()) for part in np.split(variances, np.cumsum(parts)[:-1])]
    return np.maximum(np.repeat(roots, parts), 1e-6)
