"""Noise schedules: how a picture becomes noise.

    x_t = α_t x_0 + σ_t z,   z ~ N(0, I),   t in [t_min, t_max]

Karras (variance exploding; Karras et al. 2022, table 1; Song et al. 2023, sections 2 and 4):  α_t = 1, σ_t = t.
Discrete (DDPM; Ho et al. 2020):  α_t = √ᾱ_t, σ_t = √(1 − ᾱ_t),  ᾱ_t = Π_{i ≤ t} (1 − β_i),  t an index 0 … T − 1,
and t = −1 the clean data.
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
    clean: float = 0.0
    """The time at which nothing is noise (σ = 0): where a solver's walk ends."""

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α_t, σ_t), each of t's shape, in float32 or better."""

    @abstractmethod
    def grid(self, n: int) -> Tensor:
        """n decreasing times from t_max to t_min, float64 (n,)."""

    @abstractmethod
    def jumps(self, n: int) -> list[float]:
        """Times for n calls of a consistency function (Algorithm 1), decreasing from t_max; ValueError for n < 1."""

    @abstractmethod
    def walk(self, n: int) -> list[float]:
        """n + 1 times of a solver's walk along the ODE: decreasing from t_max, `clean` at last."""

    @abstractmethod
    def middle(self, t: Tensor, s: Tensor) -> Tensor:
        """A time about half of the way from t to s in ln(α/σ): where a second-order step looks."""

    def perturb(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """A training input: α_t x_0 + σ_t z, for t a scalar or (n,)."""
        alpha, sigma = (expand_as(c, x_0).to(x_0.dtype) for c in self(t))
        return alpha * x_0 + sigma * z

    def start(self, z: Tensor, t: float | None = None) -> Tensor:
        """The prior at time t, t_max unless given: where sampling starts from unit noise z."""
        return self(torch.tensor(self.t_max if t is None else t, dtype=torch.float64))[1].item() * z

    def again(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Back to time t from an estimate of x_0 (Song et al. 2023, Algorithm 1, line 4)."""
        return self.perturb(x_0, z, t)


@dataclass(frozen=True)
class Karras(Schedule):
    """Variance exploding: α_t = 1, σ_t = t, times spaced evenly in t^(1/ρ).

    >>> fewstep.Karras().grid(40)[[0, 22]].tolist()
    [80.0, 1.38...]
    """

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

    def jumps(self, n: int) -> list[float]:
        """Karras-spaced; t_min, where the function is the identity, is left out."""
        return self.grid(_at_least_one(n) + 1).tolist()[:-1]

    def walk(self, n: int) -> list[float]:
        first = [self.t_max] if _at_least_one(n) == 1 else self.grid(n).tolist()
        return [*first, self.clean]

    def middle(self, t: Tensor, s: Tensor) -> Tensor:
        return (t * s).sqrt()

    def again(self, x_0: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """x_0 + √(t² − t_min²) z: an estimate at t_min already has variance t_min²."""
        sigma = (at_least_float32(t) ** 2 - self.t_min**2).clamp(min=0).sqrt()
        return x_0 + expand_as(sigma, x_0).to(x_0.dtype) * z


@dataclass(frozen=True)
class Discrete(Schedule):
    """The T noise levels of a DDPM, Stable Diffusion's by default; times are indices, fractions are rounded.

    >>> fewstep.Discrete().jumps(4)
    [999.0, 759.0, 499.0, 259.0]
    """

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
    betas: tuple[float, ...] = ()
    """The T values of β themselves, where no formula gives them."""
    origin: int = 50
    """How many of the levels a consistency model was distilled on; those that `jumps` chooses from (Luo et al. 2023,
    section 4.3: the skipping schedule)."""

    t_min, clean = 0.0, -1.0

    @property
    def t_max(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return float(self.steps - 1)

    def __post_init__(self):
        if self.steps < 2:
            raise ValueError(f"Discrete needs at least 2 noise levels, not steps={self.steps}.")
        if self.betas and len(self.betas) != self.steps:
            raise ValueError(f"Discrete has {self.steps} noise levels, but {len(self.betas)} betas are given.")
        if self.origin < 1:
            raise ValueError(f"origin is at least 1, not {self.origin}.")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(√ᾱ_t, √(1 − ᾱ_t)), and (1, 0) at −1; raises ValueError for an index outside −1 … T − 1."""
        index = t.round().long()
        if index.numel() and not -1 <= int(index.min()) <= int(index.max()) < self.steps:
            raise ValueError(f"Times of this schedule are indices 0 … {self.steps - 1} (−1: clean); these are "
                             f"{t.min():g} … {t.max():g}.")  # fmt: skip
        at = t.device if t.device.type != "mps" else torch.device("cpu")  # which has no float64
        index = index.to(at)
        cumulative = torch.where(index < 0, 1.0, self.alphas_cumprod.to(at)[index.clamp(min=0)])
        dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
        return cumulative.sqrt().to(dtype).to(t.device), (1 - cumulative).sqrt().to(dtype).to(t.device)

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ_t, float64 (T,)."""
        return _alphas_cumprod(self)

    def grid(self, n: int) -> Tensor:
        return torch.linspace(self.t_max, 0, n, dtype=torch.float64).round()

    def origins(self) -> Tensor:
        """The `origin` levels k − 1, 2 k − 1, …, k = ⌊T / origin⌋, increasing, int64: latent distillation's grid."""
        n = min(self.origin, self.steps)
        return torch.arange(1, n + 1) * (self.steps // n) - 1

    def start(self, z: Tensor, t: float | None = None) -> Tensor:
        """z itself: data of unit variance, as scaled latents are, keep it at every time."""
        return z

    def jumps(self, n: int, strength: float = 1.0) -> list[float]:
        """n of the `origins`, evenly spread from the last one on (999, 759, 499, 259 of 1,000 for n = 4).

        With a strength in (0, 1] only the first ⌊strength · origin⌋ of them are there: so much of a picture is redrawn.
        """
        origins = self.origins()[: check_strength(strength, self.origin)].flip(0)
        if _at_least_one(n) > len(origins):
            few = f", {len(origins)} of them at strength {strength:g}" if strength < 1 else ""
            raise ValueError(f"This model was distilled on {len(self.origins())} levels{few}: take at most as many "
                             f"steps, not {n}.")  # fmt: skip
        return origins[torch.arange(n) * len(origins) // n].double().tolist()

    def walk(self, n: int) -> list[float]:
        """Evenly spaced and ending with the last level (Lin et al. 2023, `trailing`)."""
        if _at_least_one(n) > self.steps:
            raise ValueError(f"This schedule has {self.steps} levels: take at most as many steps, not {n}.")
        levels = (torch.arange(n, 0, -1, dtype=torch.float64) * self.steps / n).round() - 1
        return [*levels.tolist(), self.clean]

    def middle(self, t: Tensor, s: Tensor) -> Tensor:
        return ((t + s) / 2).floor()


@lru_cache(maxsize=16)
def _alphas_cumprod(schedule: Discrete) -> Tensor:
    n, first, last = schedule.steps, schedule.beta_start, schedule.beta_end
    if schedule.betas:
        betas = torch.tensor(schedule.betas, dtype=torch.float64)
    elif schedule.spacing == "cosine":
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


def check_strength(strength: float, levels: int) -> int:
    """How many of so many levels a picture is redrawn from; ValueError for a strength that leaves none."""
    left = share(levels, strength)
    if left < 1:
        raise ValueError(f"strength={strength:g} leaves none of {levels} levels: take at least {1 / levels:.3g}.")
    return left


def share(levels: int, strength: float) -> int:
    """⌊strength · levels⌋, without the error of binary fractions (0.58 · 50 is 29); ValueError outside (0, 1]."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength is more than 0 (no change) and at most 1 (from pure noise), not {strength:g}.")
    return int(levels * strength + 1e-6)


def _at_least_one(n: int) -> int:
    if n < 1:
        raise ValueError(f"steps is at least 1, not {n}.")
    return n
