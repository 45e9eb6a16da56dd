"""Distances d(x, y) ≥ 0 between two batches of estimates, one value a sample.

    L1            mean |x − y|
    Squared       mean (x − y)²
    Huber         mean √((x − y)² + c²) − c,  of each value by itself (Luo et al. 2023's code)
    PseudoHuber   √(‖x − y‖² + c²) − c,  c = 0.00054 √D,  over the whole sample (Song & Dhariwal 2023, eqs. 7-8)
    RandomFilters Σ_l mean over positions of ‖φ_l(x) − φ_l(y)‖²,  φ_l of unit length: LPIPS's form, with filters never
                  trained

Means are over all axes but the first, as in the published code. LPIPS is in `lpips.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
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


@dataclass(frozen=True)
class RandomFilters(Distance):
    """How different two pictures look to a small convolutional network whose weights are drawn once and never trained.

    LPIPS (see `lpips.py`) for pictures too small for VGG, and without a download: at each of some scales the features
    of every position are brought to unit length and compared. Pictures are at least 2^(len(widths) − 1) pixels wide.
    """

    widths: tuple[int, ...] = (16, 32, 64)
    """Filters a scale; every scale halves the picture of the one before it."""
    seed: int = 0
    """The source of the filters."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(self._features(x), self._features(y), strict=True)
        return sum(((a - b) ** 2).sum(1).mean((1, 2)) for a, b in pairs)  # pyright: ignore[reportReturnType]

    def _features(self, x: Tensor) -> Iterator[Tensor]:
        for i, (weight, bias) in enumerate(_filters(self.widths, x.shape[1], self.seed, x.device, x.dtype)):
            x = F.avg_pool2d(x, 2) if i else x
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            yield x / (x.square().sum(1, keepdim=True) + 1e-6).sqrt()


@lru_cache(maxsize=8)
def _filters(
    widths: tuple[int, ...], channels: int, seed: int, device: torch.device, dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """Weights (C', C, 3, 3) that keep the features' scale (He et al. 2015), biases (C',) of a tenth of it."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for width in widths:
        weight = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
        made.append((weight.to(device, dtype), 0.1 * torch.randn(width, generator=generator).to(device, dtype)))
        channels = width
    return made
