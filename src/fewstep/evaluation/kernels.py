"""Maximum mean discrepancies: how far apart two sets lie for a kernel k.

    MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y)

KID (Bińkowski et al. 2018): k(x, y) = (x·y / d + 1)³, expectations over pairs of different pictures, so without bias
at any n. The mean over 100 subsets of 1,000, the numbers of torch-fidelity and torchmetrics; papers often print it
times 1,000. Sets of 1,000 or fewer are taken whole. The standard error is that of a U-statistic (Hoeffding 1948).

CMMD (Jayasumana et al. 2024): k(x, y) = exp(−|x − y|² / 2σ²) of CLIP's embeddings at length 1, σ = 10, times 1,000,
over all pairs with a picture's pair with itself among them, as published: two sets of one distribution score a little
above 0.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluation.blocks import Floats, Points, between, within
from fewstep.evaluation.types import Value
from fewstep.tensors import EVALUATE, rng

SUBSETS, SUBSET = 100, 1000
FEW = 20
"""Pictures below which an error says nothing."""
SIGMA, SCALE = 10, 1000


def kid(x: NDArray, y: NDArray, seed: int = 0, subsets: int = SUBSETS, size: int = SUBSET) -> Value:
    """The mean KID of x (n, d) and y (m, d) over random subsets of `size`, with its standard error.

    The error tells how far the value may lie from that of endlessly many pictures; it is None below 20 pictures.
    ValueError for fewer than two.
    """
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"KID compares pairs of pictures of a set; it needs two or more in each, not {min(n, m)}.")
    if max(n, m) <= size:
        draws = [_Draw.of(np.asarray(x, np.float64), np.asarray(y, np.float64))]
    else:
        size = min(size, n, m)
        streams = (rng(seed, EVALUATE, 1, subset) for subset in range(subsets))
        draws = [_Draw.of(_drawn(x, size, stream), _drawn(y, size, stream)) for stream in streams]
    values = [draw.value for draw in draws]
    error = _standard_error(draws, n, m) if min(n, m) >= FEW else None
    return Value(float(np.mean(values)), error)


def _cubic(x: Floats, y: Floats) -> Floats:
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner


def _drawn(points: NDArray, size: int, stream: np.random.Generator) -> Floats:
    rows = np.sort(stream.choice(len(points), size, replace=False))  # in the order of the file, which may be a memmap
    return np.asarray(points[rows], dtype=np.float64)


class _Draw(NamedTuple):
    """The MMD² of two subsets, and how it varies: in Hoeffding's decomposition each picture adds a part of its own, of
    variance σ²/4, and each pair of pictures another, of variance ζ."""

    value: float
    own: NDArray[np.float64]
    """(σ_x², σ_y²)."""
    pairs: NDArray[np.float64]
    """(ζ_xx, ζ_yy, ζ_xy)."""

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "_Draw":
        xx, yy, xy = _apart(_cubic(x, x)), _apart(_cubic(y, y)), _cubic(x, y)
        pairs = np.array([_interaction(xx), _interaction(yy), _interaction(xy)])
        own = [_own_part(xx, xy, pairs[0], pairs[2]), _own_part(yy, xy.T, pairs[1], pairs[2])]
        return cls(float(xx.mean() + yy.mean() - 2 * xy.mean()), 4 * np.array(own), pairs)


def _apart(kernel: Floats) -> Floats:
    """The kernel (n, n) with each picture's value with itself replaced by the mean of its row without it."""
    n = len(kernel)
    np.fill_diagonal(kernel, (kernel.sum(1) - np.diagonal(kernel)) / (n - 1))
    return kernel


def _interaction(kernel: Floats) -> float:
    """The mean square of what is left of a kernel (n, m) without the means of its rows and columns."""
    left = kernel - kernel.mean(1, keepdims=True)
    left -= left.mean(0)
    return float((left * left).mean())


def _own_part(own: Floats, cross: Floats, zeta: float, zeta_cross: float) -> float:
    """The variance over pictures of E k(x, x') − E k(x, y), without what comes of taking means over few others."""
    seen = own.mean(1) - cross.mean(1)
    return max(0.0, float(seen.var(ddof=1) - zeta / own.shape[1] - zeta_cross / cross.shape[1]))


def _standard_error(draws: list[_Draw], n: int, m: int) -> float:
    """Of the mean of draws from n and m pictures: the variance of the MMD² of all of them, and that of having drawn."""
    (x, y), (xx, yy, xy) = np.mean([draw.own for draw in draws], 0), np.mean([draw.pairs for draw in draws], 0)
    whole = x / n + y / m + 2 * xx / (n * (n - 1)) + 2 * yy / (m * (m - 1)) + 4 * xy / (n * m)
    drawing = np.var([draw.value for draw in draws], ddof=1) / len(draws) if len(draws) > 1 else 0.0
    return float(np.sqrt(whole + drawing))


def cmmd(x: NDArray, y: NDArray) -> float:
    """CMMD of CLIP's embeddings x (n, d) and y (m, d) of any length, ≥ 0; n, m ≥ 1."""
    first, second = Points(x, unit=True), Points(y, unit=True)
    cross = sum(_rbf(block).sum() for _, _, block in between(first, second)) / (len(x) * len(y))
    return max(0.0, SCALE * float(_own(first) + _own(second) - 2 * cross))


def _own(points: Points) -> float:
    """The mean of the kernel over all pairs of a set."""
    total = 0.0
    for rows, columns, block in within(points):
        total += _rbf(block).sum() * (1 if rows == columns else 2)
    return total / len(points.features) ** 2


def _rbf(squared: Floats) -> Floats:
    return np.exp(squared / (-2 * SIGMA**2))
