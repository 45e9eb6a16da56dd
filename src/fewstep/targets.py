"""Targets: which network answers at the earlier time s, and whether the gradient flows through it.

Ema          θ⁻ ← μ θ⁻ + (1 − μ) θ after every step, without gradient      Song et al. 2023, eq. 8
AdaptiveEma  the same with μ(k) = exp(s_0 ln μ_0 / N(k))                    Song et al. 2023, appendix C
StopGradient θ⁻ = stopgrad(θ), the same as μ = 0                           iCT, ECT
Same         θ⁻ = θ, with the gradient through both sides                  (the ablation of Song et al. 2023,
section 4)
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from fewstep.discretizations import Discretization


class Target(ABC):
    separate: bool = False
    """Whether the target is a network of its own (a copy in train mode)."""
    gradient: bool = False
    """Whether the gradient flows through the target's side."""

    @abstractmethod
    def rate(self, progress: float, discretization: Discretization) -> float:
        """μ at this progress; 0 where the target is the student itself."""


@dataclass(frozen=True)
class Ema(Target):
    """An exponential moving average of the student with a fixed rate."""

    mu: float = 0.95
    """How much of the old average is kept a step."""

    def __post_init__(self):
        if not 0 <= self.mu < 1:
            raise ValueError(f"The rate mu of a moving average lies in [0, 1), not {self.mu}.")

    separate = True

    def rate(self, progress: float, discretization: Discretization) -> float:
        return self.mu


@dataclass(frozen=True)
class AdaptiveEma(Target):
    """Consistency training's average, whose rate grows with the grid."""

    mu_0: float = 0.9
    """The rate at the start."""
    rule: Literal["paper", "openai"] = "paper"
    """`paper`: μ = exp(s_0 ln μ_0 / N); `openai`: N − 1 in the place of N, as their code has it."""

    def __post_init__(self):
        if not 0 < self.mu_0 < 1:
            raise ValueError(f"The rate mu_0 of a moving average lies between 0 and 1, not {self.mu_0}.")

    separate = True

    def rate(self, progress: float, discretization: Discretization) -> float:
        s_0, n = discretization.count(0.0), discretization.count(progress)
        if s_0 is None or n is None:
            raise ValueError(
                f"{type(discretization).__name__} has no grid, so no N(k): use Ema or StopGradient instead."
            )
        return math.exp(s_0 * math.log(self.mu_0) / (n if self.rule == "paper" else n - 1))


@dataclass(frozen=True)
class StopGradient(Target):
    """The student itself, taken as a constant."""

    def rate(self, progress: float, discretization: Discretization) -> float:
        return 0.0


@dataclass(frozen=True)
class Same(Target):
    """The student itself, with the gradient through both sides."""

    gradient = True

    def rate(self, progress: float, discretization: Discretization) -> float:
        return 0.0
