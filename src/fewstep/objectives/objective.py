"""What all objectives share: the draw of a step, and the three questions that a training loop asks."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from fewstep.schedules import Schedule


class Draw(NamedTuple):
    """All that is random in a training step, and the data."""

    schedule: Schedule
    x_0: Tensor
    """Data (n, C, H, W) in [-1, 1]."""
    z: Tensor
    """Unit noise, as x_0."""
    t: Tensor
    """Times (n,), float32 or better."""
    s: Tensor
    """Earlier times (n,), s < t (s = t where an objective has one time only)."""
    cond: dict[str, Any]
    """The network's keywords: they reach student, target and teacher alike."""


class Objective(ABC):
    """A training objective."""

    needs_teacher: bool = False
    """Whether `loss` calls a teacher."""
    consistent: bool = True
    """Whether it trains a consistency function (a network that meets the boundary condition)."""
    denoises: bool = True
    """Whether the student is a denoiser; an autoencoder is none."""

    @abstractmethod
    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        """(t, s), float64 (n,), from float64 uniforms u (n,) in [0, 1): a pure function."""

    @abstractmethod
    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        """The weighted loss of each sample (n,). `target` is the student itself where no separate one is kept."""

    def target_rate(self, progress: float) -> float | None:
        """μ of the target network's moving average; None where there is no separate target network."""
        return None

    def stage(self, progress: float) -> int:
        """The stage of a staged objective: where it grows, the student becomes the teacher."""
        return 0
