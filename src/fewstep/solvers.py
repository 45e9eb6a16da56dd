"""One step of the probability-flow ODE, from time t to an earlier time s.

In the coordinates x̄ = x / α, τ = σ / α every schedule's ODE is the variance-exploding one (Song et al. 2021 DDIM,
eq. 14;
Karras et al. 2022, eq. 1):
    dx̄/dτ = (x̄ − D(x, t)) / τ
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewstep.parameterizations import SMALLEST_ALPHA
from fewstep.schedules import Schedule
from fewstep.tensors import as_times, expand_as

Estimate = Callable[..., Tensor]
"""Anything that maps (x_t, t, **cond) to an estimate of x_0: a Denoiser, a Guided one, a closed form."""


class Solver(ABC):
    """x_t → x_s along the ODE of a denoiser."""

    calls: int
    """Denoiser calls a step."""

    @abstractmethod
    def __call__(self, f: Estimate, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, **cond: Any) -> Tensor:
        """x_s (n, ...) from x_t; t and s scalars or (n,), s < t."""


@dataclass(frozen=True)
class Euler(Solver):
    """First order; the DDIM step. For a variance-exploding schedule x_s = x_t + (s − t) (x_t − D)/t."""

    calls = 1

    def __call__(self, f: Estimate, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, **cond: Any) -> Tensor:
        return toward(schedule, x_t, f(x_t, t, **cond), t, s)


@dataclass(frozen=True)
class Heun(Solver):
    """Second order, the trapezoidal rule (Karras et al. 2022, Algorithm 1); an Euler step where s has no noise."""

    calls = 2

    def __call__(self, f: Estimate, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, **cond: Any) -> Tensor:
        here = f(x_t, t, **cond)
        x_s = toward(schedule, x_t, here, t, s)
        (alpha_t, tau_t), (alpha_s, tau_s) = _scaled(schedule, t, x_t), _scaled(schedule, s, x_t)
        if not bool((tau_s > 0).all()):
            return x_s
        slope_t = (x_t / alpha_t - here) / tau_t
        slope_s = (x_s / alpha_s - f(x_s, s, **cond)) / tau_s
        return alpha_s * (x_t / alpha_t + (tau_s - tau_t) * (slope_t + slope_s) / 2)


@dataclass(frozen=True)
class Midpoint(Solver):
    """Second order, the slope at a midpoint of τ^(1/ρ): with ρ = 3 the `dpm` sampler of the consistency models'
    code."""

    rho: float = 3.0
    """Where the midpoint lies: ((t^(1/ρ) + s^(1/ρ))/2)^ρ."""

    calls = 2

    def __call__(self, f: Estimate, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, **cond: Any) -> Tensor:
        middle = ((t ** (1 / self.rho) + s ** (1 / self.rho)) / 2) ** self.rho
        x_m = toward(schedule, x_t, f(x_t, t, **cond), t, middle)
        (alpha_t, tau_t), (alpha_m, tau_m) = _scaled(schedule, t, x_t), _scaled(schedule, middle, x_t)
        alpha_s, tau_s = _scaled(schedule, s, x_t)
        slope = (x_m / alpha_m - f(x_m, middle, **cond)) / tau_m
        return alpha_s * (x_t / alpha_t + (tau_s - tau_t) * slope)


@dataclass(frozen=True)
class DPMSolver(Solver):
    """Second order in λ = ln(α/σ): DPM-Solver++(2S) (Lu et al. 2022, Algorithm 1); an Euler step where s is clean.

    With h = λ_s − λ_t and a time m between, r = (λ_m − λ_t)/h:
        D = D(x_t, t) + (D(x_m, m) − D(x_t, t))/(2 r),  x_m by an Euler step;  x_s = (σ_s/σ_t) x_t + α_s (1 − e^(−h)) D
    """

    calls = 2

    def __call__(self, f: Estimate, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, **cond: Any) -> Tensor:
        here, m = f(x_t, t, **cond), schedule.middle(as_times(t, x_t), as_times(s, x_t))
        x_m = toward(schedule, x_t, here, t, m)
        (_, tau_t), (_, tau_m), (_, tau_s) = (_scaled(schedule, time, x_t) for time in (t, m, s))
        share = (tau_t / tau_m).log() / (tau_t / tau_s).log()  # r; 0 where s is clean
        second = (f(x_m, m, **cond) - here) / (2 * share)
        return toward(schedule, x_t, here + torch.where(tau_s > 0, second, 0.0), t, s)


def toward(schedule: Schedule, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The straight step to time s for a given estimate of x_0: α_s x_0 + (σ_s/σ_t)(x_t − α_t x_0)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = _levels(schedule, t, x_t), _levels(schedule, s, x_t)
    return alpha_s * x_0 + sigma_s / sigma_t * (x_t - alpha_t * x_0)  # finite also where α_t = 0


def _scaled(schedule: Schedule, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(α_t, τ_t = σ_t/α_t), broadcastable against x and in its dtype; finite also for pure noise."""
    alpha, sigma = _levels(schedule, t, x)
    alpha = alpha.clamp(min=SMALLEST_ALPHA)
    return alpha, sigma / alpha


def _levels(schedule: Schedule, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """(α_t, σ_t), broadcastable against x and in its dtype."""
    alpha, sigma = schedule(as_times(t, x))
    return expand_as(alpha, x).to(x.dtype), expand_as(sigma, x).to(x.dtype)
