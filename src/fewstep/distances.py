"""Distances d(x, y) ≥ 0 between two batches of estimates, one value a sample.

    L1            mean |x − y|
    Squared       mean (x − y)²
    Huber         mean √((x − y)² + c²) − c,  of each value by itself (Luo et al. 2023's code)
    PseudoHuber   √(‖x − y‖² + c²) − c,  c = 0.00054 √D,  over the whole sample (Song & Dhariwal 2023, eqs. 7-8)
    Filters       Σ_l mean over positions of ‖φ_l(x) − φ_l(y)‖²,  φ_l of unit length: LPIPS's form, with the features φ
                  of a small network, never trained (RandomFilters) or trained on pictures (LearnedFilters)

Means are over all axes but the first, as in the published code. LPIPS is in `lpips.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.tensors import mean_flat, sum_flat


class Distance(ABC):
    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """d(x, y) (n,) of two batches (n, C, H, W)."""

    def limit(self, x: Tensor, v: Tensor) -> Tensor:
        """What d(x, x − h v) tends to for h → 0, divided by h², or by h for a norm (n,): here ½ v · G v, G the second
        derivative of d at x. Differentiable by x and v."""
        with torch.enable_grad():
            y = x + torch.zeros_like(x, requires_grad=True)
            slope = torch.autograd.grad(self(x, y).sum(), y, create_graph=True)[0]
            return sum_flat(v * torch.autograd.grad((slope * v).sum(), y, create_graph=True)[0]) / 2


@dataclass(frozen=True)
class L1(Distance):
    """Mean absolute difference."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return mean_flat((x - y).abs())

    def limit(self, x: Tensor, v: Tensor) -> Tensor:
        return mean_flat(v.abs())


@dataclass(frozen=True)
class Squared(Distance):
    """Mean squared difference, the papers' ℓ2."""

    size: int | None = None
    """Compare at this size, after a bilinear resize: 32 is the published code's `l2-32`."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if self.size is not None:
            x, y = (F.interpolate(a, size=(self.size, self.size), mode="bilinear") for a in (x, y))
        return mean_flat((x - y) ** 2)

    def limit(self, x: Tensor, v: Tensor) -> Tensor:
        return self(v, torch.zeros_like(v))


@dataclass(frozen=True)
class Huber(Distance):
    """A smooth absolute difference of each value: quadratic below c, linear above."""

    c: float = 0.001
    """Where it turns from quadratic to linear; 0: nowhere, the absolute difference."""

    def __post_init__(self):
        _require_turn(self.c)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.c:  # the root has no derivative at 0
            return mean_flat((x - y).abs())
        return mean_flat(((x - y) ** 2 + self.c**2).sqrt() - self.c)

    def limit(self, x: Tensor, v: Tensor) -> Tensor:
        return mean_flat(v**2) / (2 * self.c) if self.c else mean_flat(v.abs())


@dataclass(frozen=True)
class PseudoHuber(Distance):
    """A smooth norm of the whole difference: quadratic below c, linear above."""

    c: float | None = None
    """Where it turns from quadratic to linear; None takes 0.00054 √D, D the values of a sample; 0: the norm."""

    def __post_init__(self):
        _require_turn(self.c)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        c = self.turn(x)
        if not c:
            return torch.linalg.vector_norm((x - y).flatten(1), dim=1)
        return (sum_flat((x - y) ** 2) + c**2).sqrt() - c

    def limit(self, x: Tensor, v: Tensor) -> Tensor:
        c = self.turn(x)
        return sum_flat(v**2) / (2 * c) if c else torch.linalg.vector_norm(v.flatten(1), dim=1)

    def turn(self, x: Tensor) -> float:
        """c for samples such as x's."""
        return 0.00054 * x[0].numel() ** 0.5 if self.c is None else self.c


def _require_turn(c: float | None) -> None:
    if c is not None and c < 0:
        raise ValueError(f"c, where a distance turns from quadratic to linear, is 0 or more, not {c}.")


class Filters(Distance):
    """How different two pictures look to a small convolutional network: at each of some scales the features of every
    position are brought to unit length and compared.

    LPIPS (see `lpips.py`) for pictures too small for VGG, and without a download; every scale halves the picture of the
    one before it.
    """

    @abstractmethod
    def layers(self, x: Tensor) -> "Layers":
        """The network for pictures such as x."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        layers = self.layers(x)
        pairs = zip(features(layers, x), features(layers, y), strict=True)
        return sum(((_unit(a) - _unit(b)) ** 2).sum(1).mean((1, 2)) for a, b in pairs)  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class RandomFilters(Filters):
    """Filters whose weights are drawn once and never trained."""

    widths: tuple[int, ...] = (16, 32, 64)
    """Filters a scale; pictures are at least 2^(len(widths) − 1) pixels wide."""
    seed: int = 0
    """The source of the filters."""

    def layers(self, x: Tensor) -> "Layers":
        return _drawn(self.widths, x.shape[1], self.seed, x.device, x.dtype)


@dataclass(frozen=True)
class LearnedFilters(Filters):
    """Filters that some network has learned, for instance by reading the pictures of a data set.

    Raises FileNotFoundError where the file is missing, ValueError where it holds something else.
    """

    weights: str
    """A .safetensors file with `0.weight` (C', C, 3, 3), `0.bias` (C',), `1.weight`, … from fine to coarse."""

    def layers(self, x: Tensor) -> "Layers":
        return _stored(self.weights, x.device, x.dtype)


Layers = list[tuple[Tensor, Tensor]]
"""Weights (C', C, 3, 3) and biases (C',) by scale."""


def features(layers: Layers, x: Tensor) -> Iterator[Tensor]:
    """What the network sees of x (n, C, H, W) at each scale."""
    for i, (weight, bias) in enumerate(layers):
        x = F.avg_pool2d(x, 2) if i else x
        x = F.relu(F.conv2d(x, weight, bias, padding=1))
        yield x


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + 1e-6).sqrt()


@lru_cache(maxsize=8)
def _drawn(widths: tuple[int, ...], channels: int, seed: int, device: torch.device, dtype: torch.dtype) -> Layers:
    """Weights that keep the features' scale (He et al. 2015), biases of a tenth of it."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for width in widths:
        weight = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
        made.append((weight.to(device, dtype), 0.1 * torch.randn(width, generator=generator).to(device, dtype)))
        channels = width
    return made


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # the weights are kept: a first call for a score must not spoil training
def _stored(weights: str, device: torch.device, dtype: torch.dtype) -> Layers:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(weights).is_file():
        raise FileNotFoundError(f"There are no learned filters at '{weights}': name their .safetensors file (weights).")
    try:
        tensors = load_file(weights)
        return [(tensors[f"{i}.weight"].to(device, dtype), tensors[f"{i}.bias"].to(device, dtype))
                for i in range(max(1, len(tensors) // 2))]  # fmt: skip
    except (SafetensorError, KeyError):
        raise ValueError(f"{weights} holds no filters, which are 0.weight, 0.bias, 1.weight, … of a network.") from None
