"""Scores of nearest neighbours: is every sample like some real picture, and every real picture like some sample?

Around every picture x of a set lies the ball that reaches to its k-th nearest neighbour in the set.

    precision   the share of samples in a ball of a real picture           (Kynkäänniemi et al. 2019, k = 3)
    recall      the share of real pictures in a ball of a sample
    density     how many real balls a sample lies in, over k: 1 expected   (Naeem et al. 2020, k = 5)
    coverage    the share of real pictures with a sample in their ball

A point on the border is inside, as in the first paper; the code of the second leaves it out, which matters for equal
pictures only. OpenAI's evaluator (k = 3 too) rounds the distances to half precision; here they are those of float64, so
that its third digit may differ, and copies of a picture have distance 0.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluation.blocks import Floats, Points, between, mean, within
from fewstep.evaluation.types import Set

K_MANIFOLD, K_DENSITY = 3, 5

ROUNDING = 1e-12
"""What float64 may lose of a squared distance, over the squared length of the points."""


class Neighbours(NamedTuple):
    """The four scores of samples against a reference."""

    precision: float
    recall: float
    density: float
    coverage: float


_compared: WeakKeyDictionary[Set, WeakKeyDictionary[Set, Neighbours]] = WeakKeyDictionary()
_radii: WeakKeyDictionary[Set, Floats] = WeakKeyDictionary()


def compared(samples: Set, reference: Set) -> Neighbours:
    """The four scores; they share the distances, so the second that is asked for costs nothing.

    n pictures need more than k others: precision and recall 4 in each set, density and coverage 6 in the reference.
    """
    known = _compared.setdefault(samples, WeakKeyDictionary())
    if reference not in known:
        own, theirs = _reach(samples), _reach(reference)
        known[reference] = neighbours(samples.part("features"), reference.part("features"), own, theirs)
    return known[reference]


def _reach(of: Set) -> Floats:
    if of not in _radii:
        _radii[of] = radii(of.part("features"))
    return _radii[of]


def neighbours(samples: NDArray, real: NDArray, own: Floats | None = None, theirs: Floats | None = None) -> Neighbours:
    """The scores of samples (n, d) against real pictures' features (m, d); `own` and `theirs` are their `radii`."""
    own, theirs = radii(samples) if own is None else own, radii(real) if theirs is None else theirs
    points, others = Points(real, centre := mean(real)), Points(samples, centre)
    theirs, own = theirs + _rounding(points), own + _rounding(others)
    near, far, reach = theirs[:, K_MANIFOLD - 1], theirs[:, K_DENSITY - 1], own[:, K_MANIFOLD - 1]
    inside, held, depth = np.zeros(len(samples), bool), np.zeros(len(real), bool), 0
    closest = np.full(len(real), np.inf)
    for rows, columns, squared in between(points, others):
        inside[columns] |= (squared <= near[rows, None]).any(0)
        held[rows] |= (squared <= reach[columns]).any(1)
        depth += int((squared <= far[rows, None]).sum())
        closest[rows] = np.minimum(closest[rows], squared.min(1))
    density = depth / (K_DENSITY * len(samples))
    return Neighbours(float(inside.mean()), float(held.mean()), density, float((closest <= far).mean()))


def radii(features: NDArray, k: int = K_DENSITY) -> Floats:
    """Squared distances (n, k) of points (n, d) to their k nearest others, nearest first; infinite beyond the last."""
    found = np.full((len(features), k), np.inf)
    points = Points(features, mean(features))
    for rows, columns, squared in within(points):
        if rows == columns:
            np.fill_diagonal(squared, np.inf)
        else:
            found[columns] = _nearest(found[columns], squared.T)
        found[rows] = _nearest(found[rows], squared)
    return np.sort(found, axis=1) + _rounding(points)


def _rounding(points: Points) -> Floats:
    """What rounding may take of the squared distances from each point, (n, 1): equal points stay on a border."""
    return ROUNDING * np.concatenate([(block * block).sum(1, keepdims=True) for _, block in points.blocks()])


def _nearest(found: Floats, more: Floats) -> Floats:
    """The smallest of each row (n, k) among those found (n, k) and more (n, m)."""
    k = found.shape[1]
    return np.partition(np.concatenate([found, more], axis=1), k - 1, axis=1)[:, :k]
