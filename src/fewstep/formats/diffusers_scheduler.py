"""`scheduler/scheduler_config.json` of diffusers ↔ noise levels and preconditioning.

CMStochasticIterativeScheduler tells the network 250 ln σ and shifts the preconditioning by sigma_min, so that it fits
consistency functions only. It counts noise levels on a Karras grid of num_train_timesteps: `timesteps=[22, 0]` means
the levels 0 (sigma_max) and 22.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fewstep.design import Design
from fewstep.discretizations import karras_position
from fewstep.formats.diffusers_unet import Config
from fewstep.networks import UNetShape
from fewstep.parameterizations import Boundary
from fewstep.schedules import Karras
from fewstep.spaces import Pixels

SCHEDULER = {
    "num_train_timesteps": 40,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "s_noise": 1.0,
    "rho": 7.0,
    "clip_denoised": True,
}
"""The scheduler's arguments and their defaults."""

NOISE_SCALE = 250.0
"""diffusers tells a network 250 ln σ."""

GRIDS = (40, 151, 201, 1001)
"""Counts of levels: those of the published models, and one so fine that any time is within half a percent of it."""


@dataclass(frozen=True)
class Noise:
    """What a scheduler says."""

    schedule: Karras
    """Its noise levels."""
    sigma_data: float
    """Standard deviation of the data."""
    grid: int
    """How many levels its `timesteps` count."""


def noise_of(plain: Any, where: str) -> Noise:
    """The noise levels of a CMStochasticIterativeScheduler's config.

    Raises ValueError for s_noise and clip_denoised other than the defaults: they change pictures, and are no part of
    a model here.
    """
    config = Config.read(plain, "CMStochasticIterativeScheduler", SCHEDULER, where)
    for key in ("s_noise", "clip_denoised"):
        if config[key] != SCHEDULER[key]:
            config.refuse(key, f"which is no part of a model here: write {SCHEDULER[key]!r} to load it without")
    schedule = Karras(config.number("sigma_min"), config.number("sigma_max"), config.number("rho"))
    return Noise(schedule, config.number("sigma_data"), config.whole("num_train_timesteps"))


def scheduler_of(design: Design, grid: int) -> dict[str, Any]:
    """The scheduler's config of a design whose `timesteps` count a grid of so many levels."""
    schedule, kind = design.schedule, design.parameterization
    assert isinstance(schedule, Karras), schedule
    assert isinstance(kind, Boundary), kind
    return {
        "_class_name": "CMStochasticIterativeScheduler",
        **SCHEDULER,
        "num_train_timesteps": grid,
        "sigma_min": schedule.t_min,
        "sigma_max": schedule.t_max,
        "sigma_data": kind.sigma_data,
        "rho": schedule.rho,
    }


def check(design: Design) -> UNetShape:
    """The network of a design that diffusers can say; ValueError, with the reason, for one that it cannot."""
    shape, kind = design.architecture, design.parameterization
    if not isinstance(shape, UNetShape) or not isinstance(design.space, Pixels):
        raise ValueError(f"diffusers has no {type(shape).__name__.removesuffix('Shape')} network: only models with "
                         "the papers' U-Net in pixels can be written for it.")  # fmt: skip
    if not kind.consistent or not isinstance(kind, Boundary) or not isinstance(design.schedule, Karras):
        raise ValueError(
            "This is a diffusion model, not a consistency model: diffusers has no scheduler with its preconditioning "
            "and its time input, and would draw noise. Distil it first, or write it with --to openai or fewstep."
        )
    if kind.noise_scale != NOISE_SCALE:
        raise ValueError(f"diffusers tells a network 250 ln σ, and this one was trained with {kind.noise_scale:g} ln σ "
                         "(noise_scale): it would draw noise there.")  # fmt: skip
    return shape


# -- levels as `timesteps` -------------------------------------------------------------------------------------------


def levels(schedule: Karras, times: Sequence[float], grid: int) -> list[int]:
    """The nearest levels of a grid, 0 being t_max."""
    positions = karras_position(schedule, torch.tensor(times, dtype=torch.float64))
    return (positions * (grid - 1)).round().long().tolist()


def grid_of(design: Design) -> int:
    """The first grid that holds the model's own times (to a thousandth); the finest where none does."""
    schedule = design.schedule
    assert isinstance(schedule, Karras), schedule
    own = [t for times in design.times.values() for t in times]
    known = design.about.get("levels")
    for grid in (known, *GRIDS) if type(known) is int and known > 1 else GRIDS:
        near = schedule.grid(grid)[levels(schedule, own, grid)].tolist()
        if all(abs(t - there) <= 1e-3 * t for t, there in zip(own, near, strict=True)):
            return grid
    return GRIDS[-1]


def timesteps(design: Design, grid: int, steps: int) -> list[int] | None:
    """The pipeline's `timesteps` for the model's own times; None where it has none, or none that begin at t_max."""
    assert isinstance(design.schedule, Karras), design.schedule
    found = levels(design.schedule, design.times.get(str(steps), ()), grid)
    usable = found and found[0] == 0 and len(set(found)) == len(found)
    return found[::-1] if usable else None
