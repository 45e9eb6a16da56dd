"""Progressive distillation (Salimans & Ho 2022), the paper's baseline: a student takes two teacher steps in one.

With N student steps on the Karras grid, t → s and m halfway between them, all three on the finer teacher's grid:
    x_m, x_s = two DDIM steps of the teacher from x_t
    target   = the x_0 for which one DDIM step from x_t lands on x_s = (x_s − (s/t) x_t) / (1 − s/t)
    L        = λ(t) d(D(x_t, t), target)

N halves from stage to stage; then the student becomes the teacher. The last two stages last twice as long.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fewstep.discretizations import karras_position
from fewstep.distances import Distance, Squared
from fewstep.objectives.objective import Draw, Objective
from fewstep.schedules import Karras, Schedule
from fewstep.solvers import toward
from fewstep.tensors import expand_as
from fewstep.weightings import TruncatedSNR, Weighting


@dataclass(frozen=True)
class ProgressiveDistillation(Objective):
    """Halve the number of sampling steps, stage by stage, down to one."""

    first_steps: int = 64
    """Student steps in the first stage, a power of two."""
    distance: Distance = field(default_factory=Squared)
    """How estimate and target are compared."""
    weighting: Weighting = field(default_factory=TruncatedSNR)
    """How much a noise level counts."""

    needs_teacher = True
    consistent = False

    def __post_init__(self):
        if self.first_steps < 1 or self.first_steps & (self.first_steps - 1):
            raise ValueError(f"first_steps is a power of two, such as 64, not {self.first_steps}.")

    @property
    def stages(self) -> int:
        """log₂(first_steps) + 1: from first_steps down to one step."""
        return self.first_steps.bit_length()

    def stage(self, progress: float) -> int:
        doubled = min(2, self.stages)  # the stages of two steps and of one step
        lengths = [1] * (self.stages - doubled) + [2] * doubled
        passed = progress * sum(lengths)
        ends = torch.tensor(lengths).cumsum(0).tolist()
        return min(sum(passed >= end for end in ends), self.stages - 1)

    def steps(self, progress: float) -> int:
        """N, the student's sampling steps at this progress."""
        return self.first_steps >> self.stage(progress)

    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        n, schedule = self.steps(progress), _karras(schedule)
        i = (u * n).floor()
        return schedule.at(i / n), schedule.at((i + 1) / n)

    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        if teacher is None:
            raise ValueError("Progressive distillation needs a teacher: give one with --teacher.")
        x_t = draw.schedule.perturb(draw.x_0, draw.z, draw.t)
        with torch.no_grad():
            wanted = self.two_steps_in_one(teacher, draw, x_t)
        return self.weighting(draw.t, draw.s) * self.distance(student(x_t, draw.t, **draw.cond), wanted)

    def two_steps_in_one(self, teacher: nn.Module, draw: Draw, x_t: Tensor) -> Tensor:
        """The estimate of x_0 from which one DDIM step t → s lands where two teacher steps land."""
        karras, t, s = _karras(draw.schedule), draw.t, draw.s
        m = karras.at((karras_position(karras, t) + karras_position(karras, s)) / 2).to(t.dtype)
        x_m = toward(karras, x_t, teacher(x_t, t, **draw.cond), t, m)
        x_s = toward(karras, x_m, teacher(x_m, m, **draw.cond), m, s)
        ratio = expand_as(s / t, x_t)
        return (x_s - ratio * x_t) / (1 - ratio)


def _karras(schedule: Schedule) -> Karras:
    if not isinstance(schedule, Karras):
        raise TypeError(f"Progressive distillation works on a Karras schedule, not on {type(schedule).__name__}.")
    return schedule
