"""How a model draws: its samplers, their noise levels, and the way from noise, or from a noisy picture, to x_0.

    consistency                            Algorithm 1: a jump at each of the times
    heun euler dpm midpoint dpm++          a walk along a diffusion model's ODE, n steps and the clean end
    progdist                               the same for progressively distilled models, which ends at t_min
    ancestral                              a walk along its SDE

Pixels: consistency in one call, heun in 18 steps. Latents: consistency in four calls (Luo et al. 2023), euler (DDIM) in
50 steps: with guidance no second-order step did better on as many calls.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fewstep.design import Design
from fewstep.sampling import (
    Churn,
    Noise,
    ancestral,
    check_times,
    last,
    solve,
    spaced_times,
    teacher_times,
    trajectory,
)
from fewstep.schedules import Discrete, Schedule, check_strength
from fewstep.solvers import DPMSolver, Estimate, Euler, Heun, Midpoint, Solver

SOLVERS: dict[str, Solver] = {
    "heun": Heun(),
    "euler": Euler(),
    "dpm": Midpoint(rho=3.0),
    "midpoint": Midpoint(rho=1.0),
    "dpm++": DPMSolver(),
    "progdist": Euler(),
}
"""The steps of the samplers that walk a diffusion model's ODE. `progdist` is for progressively distilled models: it
ends at t_min, the others at 0."""

SAMPLERS = ("consistency", *SOLVERS, "ancestral")
"""How pictures are drawn: `consistency` is Algorithm 1, the others walk a diffusion model's ODE or SDE."""

TEACHER_STEPS = 18
"""Steps of a diffusion model unless told otherwise: 35 network calls with Heun."""

LATENT_CALLS = 4
"""Network calls of a latent consistency model unless told otherwise."""

LATENT_STEPS = 50
"""Steps of a latent diffusion model unless told otherwise; half as many where a step has two calls."""


def is_latent(design: Design) -> bool:
    return not design.space.bounded


def chosen_sampler(design: Design, sampler: str | None, churn: Churn | None = None) -> str:
    """The sampler, the model's usual one for None; ValueError for one that it cannot use."""
    walk = "euler" if is_latent(design) else "heun"
    sampler = sampler or ("consistency" if design.parameterization.consistent else walk)
    if sampler not in SAMPLERS:
        raise ValueError(f"There is no sampler '{sampler}'; there are: {', '.join(SAMPLERS)}.")
    if churn and churn.s_churn and sampler not in SOLVERS:
        raise ValueError(f"Churn is for walks along the ODE ({', '.join(SOLVERS)}), not for {sampler}.")
    if isinstance(design.schedule, Discrete) and sampler == "dpm":
        raise ValueError("The sampler dpm halves noise levels of Karras's; for a model on DDPM's there is dpm++.")
    if isinstance(design.schedule, Discrete) and churn and churn.s_churn:
        raise ValueError("Churn adds noise to variance-exploding levels, and this model is on DDPM's: take ancestral.")
    return sampler


def jump_times(design: Design, steps: int | None, times: Sequence[float] | None, strength: float = 1.0) -> list[float]:
    """The noise levels of Algorithm 1: `times` themselves, else those kept with the model, else evenly spread ones."""
    if times is not None:
        if steps is not None and steps != len(times):
            raise ValueError(f"steps={steps} and {len(times)} times contradict each other: give one of the two.")
        check_times(list(times), design.schedule)
        return [float(t) for t in times]
    steps = (LATENT_CALLS if is_latent(design) else 1) if steps is None else steps
    if strength != 1:
        return _of_levels(design).jumps(steps, strength)
    return list(design.times.get(str(steps), ())) or spaced_times(design.schedule, steps)


def walk_times(
    design: Design, sampler: str, steps: int | None, times: Sequence[float] | None, strength: float = 1.0
) -> list[float]:
    """The noise levels of a walk with its end; of its n steps a strength below 1 leaves the last ⌊strength · n⌋."""
    schedule = design.schedule
    clean = [] if sampler == "progdist" else [schedule.clean]
    if times is None:
        steps = _usual_steps(design, sampler) if steps is None else steps
        levels = teacher_times(schedule, steps) if clean else schedule.grid(steps + 1).tolist()
        return levels if strength == 1 else levels[-1 - check_strength(strength, steps) :]
    levels = [float(t) for t in times if t != schedule.clean]
    check_times(levels, schedule)
    walk = [*levels, *clean]
    if len(walk) < 2:
        raise ValueError(f"The sampler {sampler} needs at least two times: where it starts and where it ends.")
    if steps is not None and steps != len(walk) - 1:
        raise ValueError(f"steps={steps} and {len(levels)} times contradict each other: give one of the two.")
    return walk


def run_times(
    design: Design, sampler: str, steps: int | None, times: Sequence[float] | None, strength: float = 1.0
) -> list[float]:
    """Those of a run with this sampler."""
    if times is not None and strength != 1:
        raise ValueError("strength and times contradict each other: the first time is how far a picture is noised.")
    if sampler == "consistency":
        return jump_times(design, steps, times, strength)
    return walk_times(design, sampler, steps, times, strength)


def draw(
    f: Estimate,
    schedule: Schedule,
    sampler: str,
    x: Tensor,
    times: Sequence[float],
    *,
    noise: Noise,
    clip: bool,
    churn: Churn | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
    cond: dict[str, Any],
) -> Tensor:
    """x_0 from x at times[0]; `project` corrects every estimate, after it is clipped."""
    if sampler == "consistency":
        return last(trajectory(f, schedule, x, times, project=project, noise=noise, clip=clip, **cond))
    estimate = _projected(f, project) if project else f
    if sampler == "ancestral":
        return ancestral(estimate, schedule, x, times, noise=noise, clip=clip, **cond)
    x = solve(estimate, schedule, x, times, solver=SOLVERS[sampler], churn=churn, noise=noise, clip=clip, **cond)
    return x.clamp(-1, 1) if clip else x


def noised(schedule: Schedule, x_0: Tensor, z: Tensor, t: float) -> Tensor:
    """x_0 at time t."""
    return schedule.perturb(x_0, z, torch.tensor(t, dtype=torch.float64))


def _projected(f: Estimate, project: Callable[[Tensor], Tensor]) -> Estimate:
    return lambda x, t, **cond: project(f(x, t, **cond))


def _usual_steps(design: Design, sampler: str) -> int:
    if not is_latent(design):
        return TEACHER_STEPS
    return LATENT_STEPS // (SOLVERS[sampler].calls if sampler in SOLVERS else 1)


def _of_levels(design: Design) -> Discrete:
    if not isinstance(design.schedule, Discrete):
        raise ValueError("strength is a share of a latent model's levels; this model redraws from a time: see redraw.")
    return design.schedule
