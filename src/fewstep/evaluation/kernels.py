"""Maximum mean discrepancies: how far apart two sets lie for a kernel k.

    MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y)

KID (Bińkowski et al. 2018): k(x, y) = (x·y / d + 1)³, expectations over pairs of different pictures, so without bias
at any n. The mean over 100 subsets of 1,000, the numbers of torch-fidelity and torchmetrics; papers often print it
times 1,000. Sets of 1,000 or fewer are taken whole; their standard error is the jackknife's, of 20 shares left out.

CMMD (Jayasumana et al. 2024): k(x, y) = exp(−|x − y|² / 2σ²) of CLIP's embeddings at length 1, σ = 10, times 1,000,
over all pairs with a picture's pair with itself among them, as published: two sets of one distribution score a little
above 0.
"""

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluation.blocks import Floats, Points, between, within
from fewstep.evaluation.types import Value
from fewstep.tensors import EVALUATE, rng

SUBSETS, SUBSET = 100, 1000
SHARES = 20
SIGMA, SCALE = 10, 1000


def kid(x: NDArray, y: NDArray, seed: int = 0, subsets: int = SUBSETS, size: int = SUBSET) -> Value:
    """The mean KID of x (n, d) and y (m, d) over random subsets of `size`, with its standard error.

    The error tells how far the value may lie from that of endlessly many pictures; it is None below 20 pictures, and
    where of two sets only one is larger than a subset. ValueError for fewer than two pictures.
    """
    n = min(len(x), len(y))
    if n < 2:
        raise ValueError(f"KID compares pairs of pictures of a set; it needs two or more in each, not {n}.")
    if max(len(x), len(y)) <= size:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        return Value(cubic_mmd(x, y), _jackknife(x, y) if n >= SHARES else None)
    size = min(size, n)
    draws = []
    for subset in range(subsets):
        stream = rng(seed, EVALUATE, 1, subset)
        draws.append(cubic_mmd(_drawn(x, size, stream), _drawn(y, size, stream)))
    return Value(float(np.mean(draws)), _standard_error(draws, size / n))


def cubic_mmd(x: Floats, y: Floats) -> float:
    """The unbiased MMD² of x (n, d) and y (m, d) for the kernel (x·y / d + 1)³."""
    return _mean_of_pairs(_cubic(x, x)) + _mean_of_pairs(_cubic(y, y)) - 2 * float(_cubic(x, y).mean())


def _cubic(x: Floats, y: Floats) -> Floats:
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner


def _mean_of_pairs(kernel: Floats) -> float:
    n = len(kernel)
    return float(kernel.sum() - np.trace(kernel)) / (n * (n - 1))


def _drawn(points: NDArray, size: int, stream: np.random.Generator) -> Floats:
    rows = np.sort(stream.choice(len(points), size, replace=False))  # in the order of the file, which may be a memmap
    return np.asarray(points[rows], dtype=np.float64)


def _standard_error(draws: list[float], share: float) -> float | None:
    """Of the mean of draws that each see a share of the pictures.

    Draws share pictures: their variance is σ² (1 − share), and that of their mean σ² (share + 1 / draws), nearly.
    """
    if share >= 1 or len(draws) < 2:
        return None
    return float(np.std(draws, ddof=1) * np.sqrt(share / (1 - share) + 1 / len(draws)))


def _jackknife(x: Floats, y: Floats) -> float:
    """The standard error from how the value changes as a share of the pictures of both sets is left out."""
    shares = range(SHARES)
    draws = [cubic_mmd(*(points[np.arange(len(points)) % SHARES != i] for points in (x, y))) for i in shares]
    return float(np.std(draws) * np.sqrt(SHARES - 1))


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
