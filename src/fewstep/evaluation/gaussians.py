"""Gaussians fitted to features, and the Fréchet distance between two of them (FID, sFID, FD-DINOv2).

    d²(a, b) = ‖μ_a − μ_b‖² + Tr Σ_a + Tr Σ_b − 2 Tr (Σ_a Σ_b)^½

(Dowson & Landau 1982; Heusel et al. 2017). With Σ = L Lᵀ the last trace is the sum of the singular values of L_aᵀ L_b.
That is exact whatever the ranks: a singular value is off by rounding, where the root of an eigenvalue that should be 0
is off by the root of rounding, a thousand times over; and nothing is added to the diagonal, as others do where the root
of the product fails. L has one column for each direction that n points can span, n − 1 at most.

Mean and covariance (over n − 1) are gathered batch by batch in float64 and merged after Chan, Golub & LeVeque (1983),
so that a mean that is large beside the spread costs no digits.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

BATCH = 4096
"""Rows that are turned to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The mean and covariance of n points of dimension d."""

    mean: NDArray[np.float64]
    """(d,)."""
    covariance: NDArray[np.float64]
    """(d, d), over n − 1; zeros for one point."""
    n: int
    """The number of points; 0 where it is not known, as in a file of statistics."""

    @classmethod
    def of(cls, points: NDArray) -> "Gaussian":
        """Fitted to points (n, d) of any float type, maybe a memmap, a part at a time. ValueError for infinities."""
        parts = (points[start : start + BATCH] for start in range(0, len(points), BATCH))
        return cls.over(parts)

    @classmethod
    def over(cls, batches: Iterable[NDArray]) -> "Gaussian":
        """Fitted to the points of all batches (m, d) together, without keeping them. ValueError if there is none."""
        total = None
        for batch in batches:
            if len(batch):
                fitted = cls._of_batch(batch)
                total = total.merged(fitted) if total else fitted
        if total is None:
            raise ValueError("There are no pictures to take a mean and covariance of.")
        return total

    @classmethod
    def _of_batch(cls, points: NDArray) -> "Gaussian":
        if not np.isfinite(points).all():
            raise ValueError("Some features are not finite numbers: the pictures or the features' weights are broken.")
        exact = np.asarray(points, dtype=np.float64)
        mean = exact.mean(0)
        exact = exact - mean
        rest = exact.mean(0)  # what rounding left in the mean
        scatter = exact.T @ exact - len(exact) * np.outer(rest, rest)
        return cls(mean + rest, scatter / max(1, len(exact) - 1), len(exact))

    def merged(self, other: "Gaussian") -> "Gaussian":
        """The Gaussian of both sets of points together."""
        n = self.n + other.n
        gap = other.mean - self.mean
        scatter = max(0, self.n - 1) * self.covariance + max(0, other.n - 1) * other.covariance
        scatter += np.outer(gap, gap) * (self.n * other.n / n)
        return Gaussian(self.mean + gap * (other.n / n), scatter / max(1, n - 1), n)

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """L (d, r) with L Lᵀ = Σ, of the directions that the points span: at most n − 1, and none that is rounding."""
        values, vectors = np.linalg.eigh((self.covariance + self.covariance.T) / 2)
        spanned = values > len(values) * np.finfo(np.float64).eps * max(values[-1], 0)
        if self.n:
            spanned[: max(0, len(values) - (self.n - 1))] = False
        return vectors[:, spanned] * np.sqrt(values[spanned])


def frechet(a: Gaussian, b: Gaussian) -> float:
    """The squared Fréchet distance, ≥ 0: what is called FID of Inception's features.

    Raises ValueError for Gaussians of different dimensions or of a single point. d = 2048 takes some seconds for each
    of two decompositions, kept by the Gaussians, and for the singular values.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"Features of {len(a.mean)} and of {len(b.mean)} numbers cannot be compared; use the same.")
    if 1 in (a.n, b.n):
        raise ValueError("One picture has no covariance; a Fréchet distance needs two or more in each set.")
    gap = a.mean - b.mean
    shared = np.linalg.svd(a.factor.T @ b.factor, compute_uv=False).sum()
    return max(0.0, float(gap @ gap + np.trace(a.covariance) + np.trace(b.covariance) - 2 * shared))
