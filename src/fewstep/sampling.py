"""Sampling: from noise to pictures.

A consistency function f jumps to the start of the trajectory (Song et al. 2023, Algorithm 1). With times τ_1 > τ_2
> …:

    x ← T z;  x_0 ← f(x, τ_1);   then for each further τ:   x ← x_0 + √(τ² − t_min²) z;  x_0 ← f(x, τ)

After the last call nothing is re-noised. A diffusion model (a teacher) walks the ODE instead: `solve` with Euler,
Heun
(with churn, Karras et al. 2022, Algorithm 2) or Midpoint steps, or the stochastic `ancestral` steps.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fewstep.schedules import Karras, Schedule
from fewstep.solvers import Estimate, Heun, Solver

Noise = Callable[[int, Tensor], Tensor]
"""(number of the draw, a tensor like which) → unit noise. Draw 0 is the start; draw i comes before call i."""


def fresh_noise(draw: int, like: Tensor) -> Tensor:
    """Unit noise from torch's global generator."""
    return torch.randn_like(like)


def trajectory(
    f: Estimate,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[float],
    *,
    project: Callable[[Tensor], Tensor] | None = None,
    noise: Noise = fresh_noise,
    clip: bool = True,
    **cond: Any,
) -> Iterator[Tensor]:
    """The estimates of x_0, one a network call (Algorithm 1; with `project`, Algorithm 4).

    x (n, C, H, W) is the noisy start at time times[0]; `times` decrease strictly, within [t_min, t_max]. An estimate
    is clipped to [-1, 1] (unless clip is False), then projected, and never clipped again: what a projection fixes
    stays exact. Raises ValueError for unusable times.

    >>> f, schedule = fewstep.load("mnist", device="cpu").denoiser, fewstep.Karras()
    >>> x = schedule.start(torch.randn(4, 1, 28, 28))
    >>> [x_0.shape[0] for x_0 in fewstep.trajectory(f, schedule, x, [80.0, 0.82], labels=None)]
    [4, 4]
    """
    check_times(times, schedule)
    x_0 = x
    for i, t in enumerate(times):
        if i > 0:
            x = schedule.again(x_0, noise(i, x), torch.tensor(t, dtype=torch.float64))
        x_0 = f(x, t, **cond)
        x_0 = x_0.clamp(-1, 1) if clip else x_0
        x_0 = project(x_0) if project else x_0
        yield x_0


def sample(f: Estimate, schedule: Schedule, z: Tensor, times: Sequence[float], **options: Any) -> Tensor:
    """The last estimate of `trajectory` from unit noise z; one network call a time. Options as in `trajectory`.

    >>> f, z = fewstep.load("mnist", device="cpu").denoiser, torch.randn(4, 1, 28, 28)
    >>> x = fewstep.sample(f, fewstep.Karras(), z, times=[80.0, 0.82], labels=torch.tensor([7, 7, 3, 3]))
    """
    return last(trajectory(f, schedule, begin(schedule, z, times), times, **options))


def begin(schedule: Schedule, z: Tensor, times: Sequence[float]) -> Tensor:
    """The noisy start at times[0], the prior there."""
    return schedule.start(z, times[0] if len(times) and times[0] < schedule.t_max else None)


def last(estimates: Iterator[Tensor]) -> Tensor:
    """The last of an iterator, without keeping the others."""
    return deque(estimates, maxlen=1)[0]


def check_times(times: Sequence[float], schedule: Schedule) -> None:
    """Raises ValueError, in one sentence, for times that no sampler can use."""
    if not len(times):
        raise ValueError("Sampling needs at least one time, such as times=[80.0].")
    if not all(later < earlier for earlier, later in pairwise(times)):
        raise ValueError(f"Times decrease strictly, from noise to picture; these do not: {list(times)}.")
    if times[-1] < schedule.t_min * (1 - 1e-6) or times[0] > schedule.t_max * (1 + 1e-6):
        span = f"{schedule.t_min:g} to {schedule.t_max:g}"
        raise ValueError(f"Times lie within {span} for this model; these do not: {list(times)}.")


@dataclass(frozen=True)
class Churn:
    """Fresh noise during `solve` (Karras et al. 2022, Algorithm 2)."""

    s_churn: float = 0.0
    """How much, over all steps together."""
    s_tmin: float = 0.0
    """Only at times from here …"""
    s_tmax: float = float("inf")
    """… up to here."""
    s_noise: float = 1.0
    """Scale of the fresh noise."""

    def gamma(self, t: float, steps: int) -> float:
        inside = self.s_tmin <= t <= self.s_tmax
        return min(self.s_churn / steps, 2**0.5 - 1) if inside else 0.0


def solve(
    f: Estimate,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[float],
    *,
    solver: Solver | None = None,
    churn: Churn | None = None,
    noise: Noise = fresh_noise,
    clip: bool = True,
    **cond: Any,
) -> Tensor:
    """The end of the teacher's ODE from x at times[0] along decreasing `times` (which may end in 0).

    `solver` is Heun unless given. n times and a final 0 cost 2 n − 1 calls with Heun (35 for n = 18). Estimates are
    clipped to [-1, 1] unless clip is False. Raises TypeError for churn on a schedule that is not variance-exploding.
    """
    solver, churn, steps = solver or Heun(), churn or Churn(), len(times) - 1
    if churn.s_churn and not isinstance(schedule, Karras):
        raise TypeError(f"Churn needs a variance-exploding schedule, not {type(schedule).__name__}.")
    estimate = clipped(f) if clip else f
    for i, (t, s) in enumerate(pairwise(times)):
        if gamma := churn.gamma(t, steps):
            t_hat = t * (1 + gamma)
            x = x + (t_hat**2 - t**2) ** 0.5 * churn.s_noise * noise(i + 1, x)
            t = t_hat
        x = solver(estimate, schedule, x, _time(t, x), _time(s, x), **cond)
    return x


def ancestral(
    f: Estimate,
    schedule: Schedule,
    x: Tensor,
    times: Sequence[float],
    *,
    noise: Noise = fresh_noise,
    clip: bool = True,
    **cond: Any,
) -> Tensor:
    """Euler steps to below the next time, then fresh noise up to it; for a DDPM schedule, DDPM's own sampler.

    From t to s, with τ = σ/α: up² = τ_s² (τ_t² − τ_s²)/τ_t² is drawn anew, down² = τ_s² − up² is reached by the ODE.
    """
    estimate = clipped(f) if clip else f
    for i, (t, s) in enumerate(pairwise(times)):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule(_time(t, x)), schedule(_time(s, x))
        # Written in σ_t and α_s, so that neither pure noise (α_t = 0) nor clean data (σ_s = 0) is divided by.
        up = sigma_s * (1 - (sigma_s * alpha_t / (sigma_t * alpha_s)) ** 2).clamp(min=0).sqrt()
        down = sigma_s**2 * alpha_t / (sigma_t * alpha_s)
        x_0 = estimate(x, t, **cond)
        x = alpha_s * x_0 + down / sigma_t * (x - alpha_t * x_0)
        x = x + up * noise(i + 1, x) if sigma_s > 0 else x
    return x


def clipped(f: Estimate) -> Estimate:
    """f with its estimates clamped to [-1, 1]."""
    return lambda x, t, **cond: f(x, t, **cond).clamp(-1, 1)


def teacher_times(schedule: Schedule, steps: int) -> list[float]:
    """The schedule's times of `steps` steps and the clean end: what `solve` and `ancestral` walk."""
    return schedule.walk(steps)


def spaced_times(schedule: Schedule, steps: int) -> list[float]:
    """The schedule's own choice of `steps` times for `trajectory`, t_max first."""
    return schedule.jumps(steps)


def _time(t: float, x: Tensor) -> Tensor:
    return torch.tensor(t, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32, device=x.device)
