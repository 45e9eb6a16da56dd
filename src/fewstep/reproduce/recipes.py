"""The runs of the studies as recipes: one network, one batch, one optimizer; what a study is about differs.

    teacher            EDM's denoising
    heun-18 …          CD from the teacher's weights: L2, EMA target with μ = 0.9, N = 18, unless the name says more
    pd                 progressive distillation from 16 steps to one, as long as CD
    ct ct-small …      consistency training from the teacher's weights, as OpenAI's commands have it
    cd-continuous …    both in continuous time, with a learning rate of their own
    ct-nothing ict ect from random weights, all with the same number of steps: two passes forward, one back

A run's folder is named after all that decides what it produces, the data and its teacher included: studies that need
the same run share it, and a changed recipe is another run.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fewstep.discretizations import Grid, Growing
from fewstep.distances import L1, Distance, LearnedFilters, PseudoHuber, RandomFilters, Squared
from fewstep.networks import CompactShape
from fewstep.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    Continuous,
    ContinuousDistillation,
    ContinuousTraining,
    Diffusion,
    Objective,
    ProgressiveDistillation,
)
from fewstep.recipes import parts
from fewstep.reproduce.perceiving import stored
from fewstep.reproduce.setting import Lengths, Pictures, Setting
from fewstep.solvers import Euler, Heun, Solver
from fewstep.targets import AdaptiveEma, Ema, Same, StopGradient, Target
from fewstep.training.optimizers import AdamW, Optimizer, RAdam
from fewstep.training.recipe import FREE, Recipe, to_json
from fewstep.weightings import Uniform

GRIDS = (9, 18, 36, 72)
"""N of the studies of solvers and grids."""

SEARCHED = ("heun-18", "ct", "ect")
"""Consistency models that are drawn in 2 and 4 calls too, at times that are searched for each (`working.py`)."""

POINTS = 6
"""So often a run is scored on its way, evenly spread."""

FIRST_STEPS = 16
"""Of progressive distillation: its first student's, of two of the teacher's each."""

MU = 0.9
"""Of the target's moving average in distillation."""

SMALL, LARGE = 6, 36
"""N of consistency training on a fixed grid; the growing one ends with LARGE + 1."""

MU_SMALL, MU_LARGE, MU_0 = 0.5, 0.9, 0.5
"""μ with a small and a large fixed N, and where the growing μ begins: runs are short, so targets follow fast."""


def distilled(distance: Distance, n: int = 18, solver: Solver | None = None, target: Target | None = None) -> Objective:
    """Consistency distillation as the studies have it."""
    return ConsistencyDistillation(Grid(n), distance, Uniform(), target or Ema(MU), solver or Heun())


def trained(grid: Grid | Growing, target: Target) -> Objective:
    """Consistency training as the studies have it; with ℓ2 it learns hardly anything in so short a time."""
    return ConsistencyTraining(grid, PseudoHuber(0.03), Uniform(), target)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "teacher": lambda: Diffusion(p_mean=-0.4, p_std=1.4),
    **{f"heun-{n}": lambda n=n: distilled(Squared(), n) for n in GRIDS},
    **{f"euler-{n}": lambda n=n: distilled(Squared(), n, Euler()) for n in GRIDS},
    "l1": lambda: distilled(L1()),
    "huber": lambda: distilled(PseudoHuber(0.03)),
    "random-filters": lambda: distilled(RandomFilters()),
    "learned-filters": lambda: distilled(LearnedFilters("")),  # the file is the study's: see `perceiving.py`
    "stop-gradient": lambda: distilled(Squared(), target=StopGradient()),
    "both-sides": lambda: distilled(Squared(), target=Same()),
    "cd-continuous": lambda: ContinuousDistillation(Squared()),
    "cd-continuous-both-sides": lambda: ContinuousDistillation(Squared(), stop_gradient=False),
    "ct-continuous": lambda: ContinuousTraining(Squared()),
    "pd": lambda: ProgressiveDistillation(FIRST_STEPS),
    "ct": lambda: trained(Growing(2, LARGE), AdaptiveEma(MU_0)),
    "ct-small": lambda: trained(Grid(SMALL), Ema(MU_SMALL)),
    "ct-large": lambda: trained(Grid(LARGE), Ema(MU_LARGE)),
    "ct-both-sides": lambda: trained(Growing(2, LARGE), Same()),
    "ct-nothing": lambda: trained(Growing(2, LARGE), AdaptiveEma(MU_0)),
    "ict": lambda: parts.ict(s_0=10, s_1=40, p_mean=-0.4, p_std=1.6, c=0.03),
    "ect": lambda: parts.ect(stages=4, p_mean=-0.4, p_std=1.6, c=0.03),
}
"""What each run minimises, by the run's name."""

LEARNER = AdamW(lr=4e-3, betas=(0.9, 0.99), warmup=30, decay="cosine")
"""Moves the weights of what learns from data."""

DISTILLER = RAdam(lr=1e-3, betas=(0.9, 0.99), decay="cosine")
"""Of what follows a teacher."""

CAREFUL = RAdam(lr=1.5e-4, betas=(0.9, 0.99), decay="cosine")
"""Of what takes the change along a trajectory as a constant: with twice this rate it diverged."""

NOTHING = ("ct-nothing", "ict", "ect")
"""The runs that begin at random weights."""


@dataclass(frozen=True)
class Job:
    """A run of one seed, and where it lies."""

    name: str
    """As in OBJECTIVES."""
    seed: int
    recipe: Recipe
    folder: Path
    samples: int
    """Pictures that are drawn of it at every point."""
    classes: int
    """Of the pictures; 0 where they have no labels."""
    teacher: "Job | None" = None
    """The teacher of its seed: for all but teachers, since all are compared with it."""


def jobs(names: list[str], setting: Setting, pictures: Pictures, folder: Path) -> list[Job]:
    """The runs of these names for all seeds, seed by seed; each seed's teacher comes first."""
    made: list[Job] = []
    for seed in range(setting.seeds):
        base = _base(pictures, seed)
        teacher = _job(_teacher(base, setting.lengths), setting, pictures, folder, None)
        rest = [name for name in OBJECTIVES if name in names and name != "teacher"]
        made += [teacher, *(_student(name, base, setting, pictures, folder, teacher) for name in rest)]
    return made


def _base(pictures: Pictures, seed: int) -> Recipe:
    return Recipe(
        objective=OBJECTIVES["teacher"](),
        data=pictures.data,
        architecture=CompactShape(widths=(48, 64), blocks=1, skips="level"),
        sigma_data=pictures.deviation,
        optimizer=LEARNER,
        batch=64,
        ema=(0.99,),
        seed=seed,
        preview_every=1_000_000_000,
    )


def _teacher(base: Recipe, lengths: Lengths) -> Recipe:
    return replace(base, name="teacher", steps=lengths.teacher)


def _student(name: str, base: Recipe, setting: Setting, pictures: Pictures, folder: Path, teacher: Job) -> Job:
    objective, lengths = OBJECTIVES[name](), setting.lengths
    needs = name not in NOTHING
    recipe = replace(
        base,
        name=name,
        objective=objective,
        teacher=str(teacher.folder) if needs else None,
        steps=lengths.distilled if needs else lengths.nothing,
        optimizer=_optimizer(objective),
    )
    return _job(recipe, setting, pictures, folder, teacher)


def _optimizer(objective: Objective) -> Optimizer:
    if isinstance(objective, Continuous) and objective.stop_gradient:
        return CAREFUL
    return DISTILLER if objective.needs_teacher else LEARNER


def _job(recipe: Recipe, setting: Setting, pictures: Pictures, folder: Path, teacher: Job | None) -> Job:
    recipe = replace(recipe, checkpoint_every=max(1, recipe.steps // POINTS))
    above = teacher.folder.name if teacher else ""
    known = {"recipe": _deciding(recipe), "data": pictures.digest, "teacher": above, "samples": setting.samples}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:10]
    place = folder / "runs" / f"{recipe.name}-{recipe.seed}-{digest}"
    recipe, classes = _located(recipe, stored(folder, pictures.digest)), pictures.images.num_classes
    return Job(recipe.name, recipe.seed, recipe, place, setting.samples, classes, teacher)


def _located(recipe: Recipe, filters: Path) -> Recipe:
    """Says where learned filters lie. What they are is decided by the data; their place decides nothing."""
    objective = recipe.objective
    if not isinstance(objective, ConsistencyDistillation) or not isinstance(objective.distance, LearnedFilters):
        return recipe
    return replace(recipe, objective=replace(objective, distance=LearnedFilters(str(filters))))


def _deciding(recipe: Recipe) -> dict:
    """What decides a run's result but data and teacher, without what is left as it is by default: so a setting that is
    new to recipes changes no name."""
    usual = to_json(Recipe(objective=recipe.objective))
    kept = {name: value for name, value in to_json(recipe).items() if value != usual[name] or name == "objective"}
    return {name: value for name, value in kept.items() if name not in ("data", "teacher", *FREE)}
