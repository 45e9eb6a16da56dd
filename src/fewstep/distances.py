"""Distances d(x, y) ≥ 0 between two batches of estimates, one value a sample.

    L1            mean |x − y|
    Squared       mean (x − y)²
    Huber         mean √((x − y)² + c²) − c,  of each value by itself (Luo et al. 2023's code)
    PseudoHuber   √(‖x − y‖² + c²) − c,  c = 0.00054 √D,  over the whole sample (Song & Dhariwal 2023, eqs. 7-8)

Means are over all axes but the first, as in the published code. LPIPS is in `lpips.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from fewstep.tensors import mean_flat, sum_flat


class Distance(ABC):
    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """d(x, y) (n,) of two batches (n, C, H, W)."""


@dataclass(frozen=True)
class L1(Distance):
    """Mean absolute difference."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return mean_flat((x - y).abs())


@dataclass(frozen=True)
class Squared(Distance):
    """Mean squared difference, the papers' ℓ2."""

    size: int | None = None
    """Compare at this size, after a bilinear resize: 32 is the published code's `l2-32`."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self.size is not None:
            x, y = (F.interpolate(a, size=(self.size, self.size), mode="bilinear") for a in (x, y))
        return mean_flat((x - y) ** 2)


@dataclass(frozen=True)
class Huber(Distance):
    """A smooth absolute difference of each value: quadratic below c, linear above."""

    c: float = 0.001
    """Where it turns from quadratic to linear."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return mean_flat(((x - y) ** 2 + self.c**2).sqrt() - self.c)


@dataclass(frozen=True)
class PseudoHuber(Distance):
    """A smooth norm of the whole difference: quadratic below c, linear above."""

    c: float | None = None
    """Where it turns from quadratic to linear; None takes 0.00054 √D, D the number of values in a sample."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        c = 0.00054 * x[0].numel() ** 0.5 if self.c is None else self.c
        return (sum_flat((x - y) ** 2) + c**2).sqrt() - c
