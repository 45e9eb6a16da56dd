"""Denoising on the levels of a DDPM: how the teachers of latent consistency models are trained.

    L = λ(t) ‖D(x_t, t) − x_0‖² / D,   t uniform over the T levels of a Discrete schedule

With λ = 1/c_out(t)² this is the error of what the network itself predicts, noise, velocity or sample: D − x_0 is
c_out times that error (Ho et al. 2020, eq. 14; Salimans & Ho 2022, section 4). With `gamma` it is min(SNR, γ)
(Hang et al. 2023, eq. 8), SNR = α_t²/σ_t², whatever the network predicts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewstep.objectives.objective import Draw, Objective
from fewstep.schedules import Discrete, Schedule
from fewstep.tensors import mean_flat


@dataclass(frozen=True)
class LevelDiffusion(Objective):
    """Denoising on the levels of a Discrete schedule."""

    gamma: float | None = None
    """The largest weight of an estimate of x_0 (min-SNR; 5 in its paper); None weighs what the network predicts."""

    consistent = False

    def __post_init__(self):
        if self.gamma is not None and self.gamma <= 0:
            raise ValueError(f"gamma is larger than 0 (5 is usual), not {self.gamma}; None weighs by no SNR.")

    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        if not isinstance(schedule, Discrete):
            raise TypeError(f"LevelDiffusion counts the levels of a Discrete schedule; {type(schedule).__name__} has "
                            "none: Diffusion is for it.")  # fmt: skip
        t = (u * schedule.steps).floor()
        return t, t

    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        """`student` is a Denoiser: its parameterization says how the estimate follows from the network."""
        x_t = draw.schedule.perturb(draw.x_0, draw.z, draw.t)
        error = mean_flat((student(x_t, draw.t, **draw.cond) - draw.x_0) ** 2)
        return self.weight(student, draw) * error

    def weight(self, student: nn.Module, draw: Draw) -> Tensor:
        """λ (n,)."""
        if self.gamma is None:
            return student.parameterization(draw.schedule, draw.t).out ** -2  # type: ignore[operator]
        alpha, sigma = draw.schedule(draw.t)
        return torch.clamp((alpha / sigma) ** 2, max=self.gamma)
