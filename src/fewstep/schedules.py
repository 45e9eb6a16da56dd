"""Noise schedules: how a picture becomes noise.

    x_t = α_t x_0 + σ_t z,   z ~ N(0, I),   t in [t_min, t_max]

Karras (variance exploding; Karras et al. 2022, table 1; Song et al. 2023, section 2):  α_t = 1, σ_t = t.
Discrete (DDPM; Ho et al. 2020):  α_t = √ᾱ_t, σ_t = √(1 − ᾱ_t),  ᾱ_t = Π_{i ≤ t} (1 − β_i),  t an index 0 … T − 1.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from fewstep.tensors import at_least_float32, expand_as


class Schedule(ABC):
    """t → (α_t, σ_t), and the three ways in which the library adds noise."""

    t_min: float
    """The smallest time, the paper's ε: there a consistency function is the identity."""
    t_max: float
    """The largest time, the paper's T: there x_t is all but pure noise."""

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t), each of t's shape, in float32 or better."""

    @abstractmethod
    def grid(self, n: int) -> Tensor:
        """n decreasing times from t_max to t_min, float64 (n,)."""

    def perturb(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """A training input: α_t x_0 + σ_t z, for t a scalar or (n,)."""
        alpha, sigma = (expand_as(c, x_0).to(x_0.dtype) for c in self(t))
        return alpha * x_0 + sigma * z

    def start(self, z: Tensor) -> Tensor:
        """The prior: where sampling starts from unit noise z."""
        return self(torch.tensor(self.t_max, dtype=torch.float64))[1].item() * z

    def again(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Back to time t from an estimate of x_0 (Song et al. 2023, Algorithm 1, line 4)."""
        return self.perturb(x_0, z, t)


@dataclass(frozen=True)
class Karras(Schedule):
    """Variance exploding: α_t = 1, σ_t = t, times spaced evenly in t^(1/ρ)."""

    t_min: float = 0.002
    """Smallest noise level (the paper's ε)."""
    t_max: float = 80.0
    """Largest noise level (the paper's T)."""
    rho: float = 7.0
    """Spacing of the grid: larger puts more times near t_min."""

    def __post_init__(self):
        if not 0 < self.t_min < self.t_max or self.rho <= 0:
            raise ValueError(f"Karras needs 0 < t_min < t_max and rho > 0, not {self}.")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = at_least_float32(t)
        return torch.ones_like(t), t

    def at(self, u: Tensor) -> Tensor:
        """The time at position u in [0, 1]: t_max at 0, t_min at 1, both exactly (Karras et al. 2022, eq. 5)."""
        high, low = self.t_max ** (1 / self.rho), self.t_min ** (1 / self.rho)
        t = (high + u * (low - high)) ** self.rho
        return torch.where(u <= 0, self.t_max, torch.where(u >= 1, self.t_min, t)).to(u.dtype)

    def grid(self, n: int) -> Tensor:
        if n < 2:
            raise ValueError(f"A grid has at least 2 times (t_max and t_min), not {n}.")
        return self.at(torch.linspace(0, 1, n, dtype=torch.float64))

    def again(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """x_0 + √(t² − t_min²) z: an estimate at t_min already has variance t_min²."""
        sigma = (at_least_float32(t) ** 2 - self.t_min**2).clamp(min=0).sqrt()
        return x_0 + expand_as(sigma, x_0).to(x_0.dtype) * z


@dataclass(frozen=True)
class Discrete(Schedule):
    """The T noise levels of a DDPM, Stable Diffusion's by default; times are indices, fractions are rounded."""

    steps: int = 1000
    """T, the number of noise levels."""
    beta_start: float = 0.00085
    """β of the first level."""
    beta_end: float = 0.012
    """β of the last level."""
    spacing: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"
    """How β grows: linear in √β, linear in β, or ᾱ_t a squared cosine (Nichol & Dhariwal 2021, eq. 17)."""
    zero_snr: bool = False
    """Rescale so that the last level is pure noise (Lin et al. 2023, Algorithm 1)."""

    t_min = 0.0

    @property
    def t_max(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return float(self.steps - 1)

    def __post_init__(self):
        if self.steps < 2:
            raise ValueError(f"Discrete needs at least 2 noise levels, not steps={self.steps}.")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(√ᾱ_t, √(1 − ᾱ_t)); raises ValueError for an index outside 0 … T − 1."""
        index = t.round().long()
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.steps:
            raise ValueError(f"Times of this schedule are indices 0 … {self.steps - 1}; these reach {t.max():g}.")
        cumulative = self.alphas_cumprod.to(t.device if t.device.type != "mps" else "cpu")[index]
        dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
        return cumulative.sqrt().to(t.device, dtype), (1 - cumulative).sqrt().to(t.device, dtype)

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ_t, float64 (T,)."""
        return _alphas_cumprod(self)

    def grid(self, n: int) -> Tensor:
        return torch.linspace(self.t_max, 0, n, dtype=torch.float64).round()


@lru_cache(maxsize=16)
def _alphas_cumprod(schedule: Discrete) -> Tensor:
    n, first, last = schedule.steps, schedule.beta_start, schedule.beta_end
    if schedule.spacing == "cosine":
        level = torch.cos((torch.linspace(0, 1, n + 1, dtype=torch.float64) + 0.008) / 1.008 * torch.pi / 2) ** 2
        betas = (1 - level[1:] / level[:-1]).clamp(max=0.999)
    elif schedule.spacing == "linear":
        betas = torch.linspace(first, last, n, dtype=torch.float64)
    else:
        betas = torch.linspace(first**0.5, last**0.5, n, dtype=torch.float64) ** 2
    cumulative = torch.cumprod(1 - betas, 0)
    if schedule.zero_snr:
        root = cumulative.sqrt()
        cumulative = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return cumulative
