"""Parameterizations: how a raw network F becomes an estimate of x_0.

    D(x_t, t) = c_skip(t) x_t + c_out(t) F(c_in(t) x_t, c_noise(t))

EDM (Karras et al. 2022, table 1), for a variance-exploding schedule, σ_d the standard deviation of the data:
    c_skip = σ_d² / (t² + σ_d²)            c_out = t σ_d / √(t² + σ_d²)            c_in = 1 / √(t² + σ_d²)
Boundary (Song et al. 2023, eq. 5, appendix C): the same shifted by t_min, so that D(x, t_min) = x:
    c_skip = σ_d² / ((t − t_min)² + σ_d²)  c_out = (t − t_min) σ_d / √(t² + σ_d²)  c_in as above
Epsilon (F predicts z) and Velocity (F predicts α_t z − σ_t x_0; Salimans & Ho 2022), for any schedule:
    D = (x_t − σ_t F) / α_t                D = α_t x_t − σ_t F
Sample: F predicts x_0 itself, D = F.
Latched (Luo et al. 2023, section 4.1): any of these, held to the boundary condition at t = 0, κ the time scaling:
    D' = c_skip x_t + c_out D              c_skip = σ_d² / ((κ t)² + σ_d²)        c_out = κ t / √((κ t)² + σ_d²)
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from fewstep.schedules import Schedule
from fewstep.tensors import at_least_float32

SMALLEST_ALPHA = 2.0**-12
"""What stands for α = 0 where something is divided by it."""


class Coefficients(NamedTuple):
    """c_skip, c_out, c_in, c_noise, each (n,) in float32 or better."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


class Parameterization(ABC):
    """t → the four coefficients."""

    consistent: bool = False
    """Whether D(x, t_min) = x exactly: the mark of a consistency function."""

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        """The coefficients at times t (n,)."""


@dataclass(frozen=True)
class EDM(Parameterization):
    """The preconditioning of a diffusion model (a teacher).

    >>> fewstep.EDM()(fewstep.Karras(), torch.tensor([0.5])).skip
    tensor([0.5000])
    """

    sigma_data: float = 0.5
    """Standard deviation of the data in [-1, 1]."""
    noise_scale: float = 0.25
    """The network is told noise_scale · ln t: 0.25 in EDM, 250 in OpenAI's and diffusers' consistency models."""

    def __post_init__(self):
        _check_positive(sigma_data=self.sigma_data, noise_scale=self.noise_scale)

    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        t, sd = at_least_float32(t), self.sigma_data
        total = t**2 + sd**2
        return Coefficients(sd**2 / total, t * sd / total.sqrt(), total.rsqrt(), _log(t, self.noise_scale))


@dataclass(frozen=True)
class Boundary(Parameterization):
    """The preconditioning of a consistency model: EDM's, shifted so that D(x, t_min) = x exactly in every dtype.

    >>> c = fewstep.Boundary()(fewstep.Karras(), torch.tensor([0.002]))
    >>> (c.skip.item(), c.out.item())
    (1.0, 0.0)
    """

    sigma_data: float = 0.5
    """Standard deviation of the data in [-1, 1]."""
    noise_scale: float = 0.25
    """The network is told noise_scale · ln t: 0.25 in EDM, 250 in OpenAI's and diffusers' consistency models."""

    consistent = True

    def __post_init__(self):
        _check_positive(sigma_data=self.sigma_data, noise_scale=self.noise_scale)

    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        t = t if t.is_floating_point() else t.float()
        # t_min is rounded as t was, so that their difference is an exact zero also for a time kept in bfloat16.
        t_min = torch.tensor(schedule.t_min, dtype=t.dtype, device=t.device)
        gap = at_least_float32(t) - at_least_float32(t_min)
        t, sd = at_least_float32(t), self.sigma_data
        total = t**2 + sd**2
        skip = 1 / (1 + (gap / sd) ** 2)  # exactly 1 at t_min, which σ_d² / (gap² + σ_d²) need not be after rounding
        return Coefficients(skip, gap * sd / total.sqrt(), total.rsqrt(), _log(t, self.noise_scale))


@dataclass(frozen=True)
class Epsilon(Parameterization):
    """The network predicts the noise z; it is told the time itself.

    Pure noise (α = 0) tells nothing of x_0 by its noise: there α is taken as 2⁻¹², which keeps the estimate finite.
    """

    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        alpha, sigma = schedule(t)
        alpha = alpha.clamp(min=SMALLEST_ALPHA)
        return Coefficients(1 / alpha, -sigma / alpha, torch.ones_like(alpha), at_least_float32(t))


@dataclass(frozen=True)
class Velocity(Parameterization):
    """The network predicts v = α_t z − σ_t x_0; it is told the time itself."""

    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        alpha, sigma = schedule(t)
        return Coefficients(alpha, -sigma, torch.ones_like(alpha), at_least_float32(t))


@dataclass(frozen=True)
class Sample(Parameterization):
    """The network predicts x_0; it is told the time itself."""

    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        one = torch.ones_like(at_least_float32(t))
        return Coefficients(0 * one, one, one, at_least_float32(t))


@dataclass(frozen=True)
class Latched(Parameterization):
    """A latent consistency function: another parameterization, held to D(x, 0) = x. Times are indices."""

    inner: Parameterization = field(default_factory=Epsilon)
    """What the network itself predicts."""
    sigma_data: float = 0.5
    """σ_d: how soon the identity gives way."""
    timestep_scaling: float = 10.0
    """κ, the factor before the time."""

    consistent = True

    def __post_init__(self):
        _check_positive(sigma_data=self.sigma_data, timestep_scaling=self.timestep_scaling)

    def __call__(self, schedule: Schedule, t: Tensor) -> Coefficients:
        c, scaled = self.inner(schedule, t), self.timestep_scaling * at_least_float32(t)
        total = scaled**2 + self.sigma_data**2
        skip, out = self.sigma_data**2 / total, scaled / total.sqrt()
        return Coefficients(skip + out * c.skip, out * c.out, c.into, c.noise)


def _check_positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is a number larger than 0, not {number}.")


def _log(t: Tensor, scale: float) -> Tensor:
    """scale · ln t, finite at t = 0 (a sampler's last time), where it takes the smallest float32's logarithm."""
    return scale * t.clamp(min=1e-44).log()
