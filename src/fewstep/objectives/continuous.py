"""Consistency in continuous time: what distillation and training become where neighbours meet.

    ḟ = ∂f/∂t + (∂f/∂x) ẋ,   ẋ = (x − D(x, t))/t of the teacher, or the noise z:   0 for a consistency function

With G the second derivative of the distance at f (Song et al. 2023, appendix B, theorems 3 to 6):

    stop-gradient       ∇L = λ ∇ f · G ḟ        the limit of (N − 1) ∇L_CD, and of (N − 1) ∇L_CT
    without             L = λ ½ ḟ · G ḟ         the limit of (N − 1)² L_CD

for t = τ(u) on the schedule's own spacing, u uniform. Here λ holds the powers of dt/du = τ′(u) too.
"""

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fewstep.distances import Distance, Squared
from fewstep.objectives.along import along
from fewstep.objectives.objective import Draw, Objective
from fewstep.schedules import Karras, Schedule
from fewstep.tensors import expand_as, same_randomness, sum_flat
from fewstep.weightings import InverseGap, Uniform, Weighting


@dataclass(frozen=True)
class Continuous(Objective):
    """The one loss of both; subclasses say which way the trajectory goes."""

    distance: Distance = field(default_factory=Squared)
    """How two estimates that have all but met are compared."""
    weighting: Weighting = field(default_factory=Uniform)
    """How much a time counts."""
    stop_gradient: bool = True
    """Whether ḟ is taken as a constant. Without, the gradient flows through it: a derivative of a derivative."""

    def __post_init__(self):
        if isinstance(self.weighting, InverseGap):
            raise ValueError("In continuous time there is no gap t − s to weigh by: take Uniform or a weighting by t.")

    @abstractmethod
    def velocity(self, draw: Draw, x_t: Tensor, teacher: nn.Module | None) -> Tensor:
        """ẋ = dx/dt of the trajectory through x_t."""

    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        """½ ḟ · G ḟ in either case (|ḟ| for a norm): how far f is from a consistency function."""
        x_t = draw.schedule.perturb(draw.x_0, draw.z, draw.t)
        with torch.no_grad():
            v = self.velocity(draw, x_t, teacher)

        def f(x: Tensor, t: Tensor) -> Tensor:
            return student(x, t, **draw.cond)

        if not self.stop_gradient:
            return self.weighting(draw.t, draw.s) * self.distance.limit(*along(f, x_t, draw.t, v))
        with same_randomness(x_t.device):  # one dropout mask for both
            ours = f(x_t, draw.t)
        with torch.no_grad():
            _, change = along(f, x_t, draw.t, v)
        size, pull = self.slope(ours.detach(), change)
        toward = sum_flat(ours * pull)
        return self.weighting(draw.t, draw.s) * (
            size + (toward - toward.detach())
        )  # that value, with ∇f · G ḟ as gradient

    def slope(self, f: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """½ ḟ · G ḟ (n,), and G ḟ: its gradient by ḟ."""
        with torch.enable_grad():
            size = self.distance.limit(f, change.requires_grad_())
            return size.detach(), torch.autograd.grad(size.sum(), change)[0]

    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        if not isinstance(schedule, Karras):
            raise TypeError(f"Continuous time needs a Karras schedule; the times of {type(schedule).__name__} are "
                            "levels with nothing between them.")  # fmt: skip
        t = schedule.at(u)
        return t, t


@dataclass(frozen=True)
class ContinuousTraining(Continuous):
    """CT in continuous time: no teacher; the trajectory's direction is that of the noise which was added."""

    def velocity(self, draw: Draw, x_t: Tensor, teacher: nn.Module | None) -> Tensor:
        return draw.z


@dataclass(frozen=True)
class ContinuousDistillation(Continuous):
    """CD in continuous time: along the teacher's ODE."""

    needs_teacher = True

    def velocity(self, draw: Draw, x_t: Tensor, teacher: nn.Module | None) -> Tensor:
        if teacher is None:
            raise ValueError("Consistency distillation needs a teacher: give one with --teacher.")
        return (x_t - teacher(x_t, draw.t, **draw.cond)) / expand_as(draw.t, x_t)
