"""Previews of latent runs and of autoencoders: rows of pictures (n, C, H, W), data first.

    an autoencoder        data, the same again
    a consistency model   data, then samples in 1, 2 and 4 steps for the captions of these data
    a diffusion model     data, then 20 DDIM steps, guided where empty prompts were trained

The noise is the same each time.
"""

from typing import Any

import torch
from torch import Tensor

from fewstep.conditions import Table
from fewstep.denoiser import Guided
from fewstep.images.opening import signed
from fewstep.model import Model
from fewstep.networks.adapters import AutoencoderShape
from fewstep.objectives import ProgressiveDistillation
from fewstep.sampling import begin, last, solve, spaced_times, trajectory
from fewstep.solvers import Euler
from fewstep.tensors import PREVIEW, noise
from fewstep.training.encoding import Encoded
from fewstep.training.fit import Run
from fewstep.training.results import averaged_autoencoder

STEPS = (1, 2, 4)
"""Of a consistency model."""

WALK = 20
"""DDIM steps of a diffusion model."""

GUIDANCE = 4.0
"""w of a diffusion model's samples."""


def chosen(run: Run, n: int) -> list[int]:
    """n pictures of the data, evenly spread, the first and the last among them."""
    return [round(i * (len(run.images) - 1) / (n - 1)) for i in range(n)]


def examples(run: Run, n: int) -> Tensor:
    """These pictures."""
    return torch.stack([signed(run.images.picture(i)).permute(2, 0, 1) for i in chosen(run, n)])


def reconstructions(run: Run, n: int) -> Tensor:
    """n pictures of the data as the autoencoder gives them back."""
    assert isinstance(run.design.architecture, AutoencoderShape)
    autoencoder = averaged_autoencoder(run.design.architecture, run.state)
    return autoencoder.decode(autoencoder.moments(examples(run, n))[0]).clamp(-1, 1)


def how(run: Run, model: Model, steps: int | None) -> dict[str, Any]:
    """The keywords of `Model.sample` for pixels; `steps` None: one call, 10 steps of a diffusion model."""
    if model.consistent:
        return {"steps": steps or 1}
    if isinstance(objective := run.recipe.objective, ProgressiveDistillation):
        return {"sampler": "euler", "times": spaced_times(model.schedule, objective.first_steps >> run.state.stage)}
    return {"steps": steps or 10}


def samples(run: Run, n: int) -> list[Tensor]:
    """n pictures for the captions of n data, decoded; a row for each number of steps."""
    model = run.model()
    return [drawn(run, model, n, range(n), steps) for steps in (STEPS if model.consistent else (WALK,))]


def drawn(run: Run, model: Model, n: int, rows: range, steps: int) -> Tensor:
    """Those of a run in latents with numbers `rows` of n pictures, for the captions of n data, decoded."""
    f, schedule, cond, z = model.denoiser, model.schedule, _asked(run, n, rows), _noise(run, rows)
    if model.consistent:
        x = _jumps(f, schedule, z, steps, cond)
    else:
        guided = Guided(f, GUIDANCE, run.stepper.condition.nothing) if run.recipe.label_drop else f
        x = begin(schedule, z(0), walk := schedule.walk(steps))
        x = solve(guided, schedule, x, walk, solver=Euler(), clip=False, **cond)
    return run.design.space.decode(x).clamp(-1, 1).cpu()


def _jumps(f: Any, schedule: Any, z: Any, steps: int, cond: dict[str, Any]) -> Tensor:
    times = schedule.jumps(min(steps, len(schedule.origins())))
    start = begin(schedule, z(0), times)
    return last(trajectory(f, schedule, start, times, noise=lambda draw, like: z(draw), clip=False, **cond))


def _asked(run: Run, n: int, rows: range) -> dict[str, Any]:
    """What the network is told: the captions, and guidance in the middle of what it was trained with."""
    assert isinstance(run.rows, Encoded)
    assert isinstance(run.stepper.condition, Table)
    labels = torch.from_numpy(run.rows.labels[chosen(run, n)[rows.start : rows.stop]])
    cond = run.stepper.condition(labels.to(run.device))
    latent = run.recipe.latent
    if latent is not None and latent.w is not None:
        cond["guidance"] = torch.full((len(rows),), sum(latent.w) / 2, device=run.device)
    return cond


def _noise(run: Run, rows: range):
    shape = (run.design.architecture.image_channels, *2 * (run.design.architecture.image_size,))
    return lambda draw: noise(run.recipe.seed, rows, shape, purpose=PREVIEW, a=draw).to(run.device)
