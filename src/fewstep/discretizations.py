"""Discretizations: which two neighbours t > s of a trajectory a training step compares.

Each is a pure function (u, schedule, progress) → (t, s) of uniforms u (n,) in [0, 1) and of progress = k/K in [0, 1],
so a curriculum has no state that a resumed run could lose. With positions p_i = i/(N − 1) on the Karras grid:

    Grid        N fixed                                                        Song et al. 2023, Algorithms 2 and 3
    Growing     N(k) = ⌈√(k/K ((s_1+1)² − s_0²) + s_0²) − 1⌉ + 1               Song et al. 2023, appendix C
    Doubling    N(k) = min(s_0 2^⌊k/K'⌋, s_1) + 1, P(σ_i) a lognormal's mass   Song & Dhariwal 2023 (iCT), eqs. 10-11
    Shrinking   ln t ~ N(P_mean, P_std²), s = max(t (1 − n(t)/q^(a+1)), t_min) Geng et al. 2024 (ECT), section 3
                n(t) = 1 + κ sigmoid(−b t), a the stage
    Skipping    t one of the schedule's origins, s = max(t − k, 0)             Luo et al. 2023, section 4.3
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.schedules import Discrete, Karras, Schedule


class Discretization(ABC):
    """Draws the two times of a training step."""

    @abstractmethod
    def pairs(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        """(t, s) with t > s ≥ t_min, float64 (n,), from float64 uniforms u (n,) in [0, 1)."""

    def count(self, progress: float) -> int | None:
        """N, the number of grid points at this progress; None where there is no grid."""
        return None


class OnGrid(Discretization):
    """Neighbours on a grid of N = count(progress) points, each pair equally often."""

    @abstractmethod
    def count(self, progress: float) -> int: ...

    def pairs(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        grid = schedule.grid(self.count(progress)).to(u.device)
        i = (u * (len(grid) - 1)).long()
        return grid[i], grid[i + 1]


@dataclass(frozen=True)
class Grid(OnGrid):
    """A fixed grid (consistency distillation)."""

    n: int = 18
    """N, the number of grid points; 18 on CIFAR-10 and 40 on ImageNet-64 in the paper."""

    def __post_init__(self):
        if self.n < 2:
            raise ValueError(f"A grid has at least 2 points, not n={self.n}.")

    def count(self, progress: float) -> int:
        return self.n


@dataclass(frozen=True)
class Growing(OnGrid):
    """The grid of consistency training: coarse at first, fine at the end."""

    s_0: int = 2
    """N at the start."""
    s_1: int = 150
    """N − 1 at the end."""

    def __post_init__(self):
        if not 1 <= self.s_0 <= self.s_1 + 1:
            raise ValueError(f"A growing grid begins with 1 point or more and does not shrink: s_0={self.s_0} and "
                             f"s_1={self.s_1} are not 1 ≤ s_0 ≤ s_1 + 1.")  # fmt: skip

    def count(self, progress: float) -> int:
        grown = math.sqrt(progress * ((self.s_1 + 1) ** 2 - self.s_0**2) + self.s_0**2)
        return max(math.ceil(grown - 1), 1) + 1


@dataclass(frozen=True)
class Doubling(Discretization):
    """The grid of improved consistency training: N − 1 doubles at equal intervals, times follow a lognormal."""

    s_0: int = 10
    """N − 1 at the start."""
    s_1: int = 1280
    """N − 1 at the end."""
    p_mean: float = -1.1
    """Mean of ln t."""
    p_std: float = 2.0
    """Standard deviation of ln t."""

    def __post_init__(self):
        if not 1 <= self.s_0 <= self.s_1:
            raise ValueError(f"N − 1 doubles from s_0 to s_1: {self.s_0} and {self.s_1} are not 1 ≤ s_0 ≤ s_1.")
        require_spread(self.p_std)

    def count(self, progress: float) -> int:
        doublings = math.floor(math.log2(self.s_1 // self.s_0))
        return min(self.s_0 * 2 ** math.floor(progress * (doublings + 1)), self.s_1) + 1

    def mass(self, grid: Tensor) -> Tensor:
        """P(pair i), (N − 1,): the lognormal's mass between the two grid points of each pair, normalised."""
        edges = torch.special.erf((grid.log() - self.p_mean) / (math.sqrt(2) * self.p_std))
        mass = edges[:-1] - edges[1:]
        return mass / mass.sum()

    def pairs(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        grid = schedule.grid(self.count(progress)).to(u.device)
        i = torch.searchsorted(self.mass(grid).cumsum(0), u, right=True).clamp(max=len(grid) - 2)
        return grid[i], grid[i + 1]


@dataclass(frozen=True)
class Shrinking(Discretization):
    """The continuous pairs of easy consistency tuning: from a diffusion loss (s = t_min) to ever closer neighbours."""

    q: float = 2.0
    """How much the relative gap shrinks a stage."""
    stages: int = 8
    """Number of stages of equal length; the relative gap ends near q^(−stages)."""
    first: int = 0
    """The stage to begin with; larger skips the stages in which the loss is (almost) a diffusion loss."""
    p_mean: float = -1.1
    """Mean of ln t."""
    p_std: float = 2.0
    """Standard deviation of ln t."""
    kappa: float = 8.0
    """How much wider the relative gap is at small t."""
    b: float = 1.0
    """How fast that widening ends as t grows."""

    def __post_init__(self):
        if self.q <= 1 or self.stages < 1 or self.first < 0 or self.kappa < 0:
            raise ValueError("Pairs that draw together need q above 1, stages from 1, first and kappa from 0.")
        require_spread(self.p_std)

    def stage(self, progress: float) -> int:
        return self.first + min(int(progress * self.stages), self.stages - 1)

    def pairs(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        t = lognormal(u, self.p_mean, self.p_std, schedule)
        wider = 1 + self.kappa * torch.sigmoid(-self.b * t)
        ratio = (1 - wider / self.q ** (self.stage(progress) + 1)).clamp(0, 1 - 1e-5)  # still apart in float32
        return t, (t * ratio).clamp(min=schedule.t_min)


@dataclass(frozen=True)
class Skipping(Discretization):
    """The pairs of latent consistency distillation: k noise levels apart, so that fewer of them span the trajectory."""

    k: int = 20
    """How many of the schedule's levels lie between the two times; 20 of 1,000 in the paper. A multiple of what lies
    between two of the schedule's origins: a target asked at levels that are never trained would teach nothing."""

    def __post_init__(self):
        if self.k < 1:
            raise ValueError(f"Skipping needs at least 1 level between its times, not k={self.k}.")

    def pairs(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        if not isinstance(schedule, Discrete):
            raise TypeError(f"Skipping counts the levels of a Discrete schedule; {type(schedule).__name__} has none.")
        apart = schedule.steps // min(schedule.origin, schedule.steps)
        if self.k % apart:
            raise ValueError(
                f"k = {self.k} leads from the trained levels, {apart} apart, to others that are never trained: take a "
                f"multiple of {apart} or schedule.origin = {schedule.steps // self.k}."
            )
        origins = schedule.origins().to(u.device, torch.float64)
        t = origins[(u * len(origins)).long()]
        return t, (t - self.k).clamp(min=schedule.t_min)


def require_spread(p_std: float) -> None:
    """ValueError for a standard deviation that is none."""
    if not p_std > 0:
        raise ValueError(f"p_std, the standard deviation of ln t, is larger than 0, not {p_std}.")


def lognormal(u: Tensor, mean: float, std: float, schedule: Schedule) -> Tensor:
    """Times with ln t ~ N(mean, std²) from uniforms, kept a little above t_min and at most t_max."""
    t = (mean + std * torch.special.ndtri(u)).exp()
    return t.clamp(schedule.t_min * 1.01, schedule.t_max)


def karras_position(schedule: Karras, t: Tensor) -> Tensor:
    """The inverse of `Karras.at`: the position u in [0, 1] of time t."""
    high, low = schedule.t_max ** (1 / schedule.rho), schedule.t_min ** (1 / schedule.rho)
    return (t.double() ** (1 / schedule.rho) - high) / (low - high)
