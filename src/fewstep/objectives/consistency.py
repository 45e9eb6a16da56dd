"""Consistency objectives: two neighbours of one trajectory must agree about its start.

    L = λ(t, s) d( f_θ(x_t, t), f_θ⁻(x_s, s) )          x_t = x_0 + t z

Distillation (Song et al. 2023, Algorithm 2): x_s is one step of the teacher's ODE from x_t.
Training     (Song et al. 2023, Algorithm 3): x_s = x_0 + s z, the same noise.

iCT and ECT are consistency training with other parts: see `fewstep.recipes.parts`.
"""

from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fewstep.discretizations import Discretization, Grid, Growing
from fewstep.distances import Distance, PseudoHuber
from fewstep.objectives.objective import Draw, Objective
from fewstep.schedules import Schedule
from fewstep.solvers import Heun, Solver
from fewstep.targets import AdaptiveEma, Ema, Target
from fewstep.tensors import same_randomness
from fewstep.weightings import Uniform, Weighting


@dataclass(frozen=True)
class Consistency(Objective):
    """The one loss of every consistency objective; subclasses say how to reach the neighbour."""

    discretization: Discretization = field(default_factory=Growing)
    """Which two times are compared."""
    distance: Distance = field(default_factory=PseudoHuber)
    """How the two estimates are compared."""
    weighting: Weighting = field(default_factory=Uniform)
    """How much a pair of times counts."""
    target: Target = field(default_factory=AdaptiveEma)
    """Which network answers at the earlier time."""

    @abstractmethod
    def neighbour(self, draw: Draw, x_t: Tensor, teacher: nn.Module | None) -> Tensor:
        """x_s on the trajectory through x_t."""

    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        x_t = draw.schedule.perturb(draw.x_0, draw.z, draw.t)
        with torch.no_grad():
            x_s = self.neighbour(draw, x_t, teacher)
        with same_randomness(x_t.device):  # one dropout mask for both sides
            ours = student(x_t, draw.t, **draw.cond)
        with torch.set_grad_enabled(self.target.gradient and torch.is_grad_enabled()):
            theirs = target(x_s, draw.s, **draw.cond)
        return self.weighting(draw.t, draw.s) * self.distance(ours, theirs)

    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        return self.discretization.pairs(u, schedule, progress)

    def target_rate(self, progress: float) -> float | None:
        return self.target.rate(progress, self.discretization) if self.target.separate else None


@dataclass(frozen=True)
class ConsistencyTraining(Consistency):
    """CT, iCT, ECT: no teacher; the neighbour shares data and noise."""

    def neighbour(self, draw: Draw, x_t: Tensor, teacher: nn.Module | None) -> Tensor:
        return draw.schedule.perturb(draw.x_0, draw.z, draw.s)


@dataclass(frozen=True)
class ConsistencyDistillation(Consistency):
    """CD: the neighbour is one solver step of the teacher away."""

    discretization: Discretization = field(default_factory=Grid)
    """Which two times are compared."""
    target: Target = field(default_factory=Ema)
    """Which network answers at the earlier time."""
    solver: Solver = field(default_factory=Heun)
    """The teacher's step from t to s."""

    needs_teacher = True

    def neighbour(self, draw: Draw, x_t: Tensor, teacher: nn.Module | None) -> Tensor:
        if teacher is None:
            raise ValueError("Consistency distillation needs a teacher: give one with --teacher.")
        return self.solver(teacher, draw.schedule, x_t, draw.t, draw.s, **draw.cond)
