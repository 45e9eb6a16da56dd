"""Denoising: how a diffusion model, the teacher, is trained.

L = λ(t) ‖D(x_0 + t z, t) − x_0‖² / D,   ln t ~ N(P_mean, P_std²)         Karras et al. 2022, eq. 2 and table 1
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from fewstep.discretizations import lognormal, require_spread
from fewstep.distances import Distance, Squared
from fewstep.objectives.objective import Draw, Objective
from fewstep.schedules import Schedule
from fewstep.weightings import KarrasWeighting, Weighting


@dataclass(frozen=True)
class Diffusion(Objective):
    """EDM's denoising objective."""

    p_mean: float = -1.2
    """Mean of ln t."""
    p_std: float = 1.2
    """Standard deviation of ln t."""
    distance: Distance = field(default_factory=Squared)
    """How estimate and data are compared."""
    weighting: Weighting = field(default_factory=KarrasWeighting)
    """How much a noise level counts."""

    consistent = False

    def __post_init__(self):
        require_spread(self.p_std)

    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        t = lognormal(u, self.p_mean, self.p_std, schedule)
        return t, t

    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        x_t = draw.schedule.perturb(draw.x_0, draw.z, draw.t)
        estimate = student(x_t, draw.t, **draw.cond)
        return self.weighting(draw.t, draw.s) * self.distance(estimate, draw.x_0)
