"""The closed forms beside the studies: curves by name, for data N(0, s²), from `gaussian.py`."""

from functools import cache

from fewstep.discretizations import Grid, Growing
from fewstep.reproduce import gaussian
from fewstep.reproduce.recipes import FIRST_STEPS, GRIDS, LARGE, SMALL
from fewstep.solvers import Euler, Heun
from fewstep.targets import Same

Curve = list[tuple[float, float]]
"""(x, relative error)."""

REST = 18
"""N of the study of targets."""


@cache
def closed_form(study: str) -> dict[str, Curve]:
    """Named curves of a study; empty where there is no closed form."""
    return FORMS[study]() if study in FORMS else {}


def _solvers() -> dict[str, Curve]:
    return {
        "Heun": [(float(n), gaussian.solver_error(Heun(), n)) for n in GRIDS],
        "Euler": [(float(n), gaussian.solver_error(Euler(), n)) for n in GRIDS],
    }


def _heun() -> dict[str, Curve]:
    return {"Heun": [(float(n), gaussian.solver_error(Heun(), n)) for n in (9, 12, 18, 36, 72)]}


def _schedules() -> dict[str, Curve]:
    learned = {"small N": Grid(SMALL), "large N": Grid(LARGE), "growing N": Growing(2, LARGE)}
    each = {name: gaussian.learning(grid) for name, grid in learned.items()}
    return {name: [(k + 1.0, error) for k, error in enumerate(errors)][::5] for name, errors in each.items()}


def _targets() -> dict[str, Curve]:
    distilled, trained = gaussian.distillation, gaussian.training
    rests = {
        "CD, EMA": distilled(REST, Heun()),
        "CD, stop-gradient": distilled(REST, Heun()),
        "CD, both sides": distilled(REST, Heun(), Same()),
        "CT, EMA": trained(REST),
        "CT, both sides": trained(REST, Same()),
    }
    return {name: [(float(i), gaussian.error(objective, REST))] for i, (name, objective) in enumerate(rests.items())}


def _steps() -> dict[str, Curve]:
    errors = gaussian.step_errors(Heun(), REST, 4)
    return {"CD": [(float(calls), errors[calls - 1]) for calls in (1, 2, 4)]}


def _progressive() -> dict[str, Curve]:
    error = gaussian.progressive_error(FIRST_STEPS)  # that of the walk it began with, in however few steps
    return {**_steps(), "PD": [(float(calls), error) for calls in (1, 2, 4)]}


FORMS = {
    "heun-vs-euler": _solvers,
    "n": _heun,
    "schedules": _schedules,
    "target": _targets,
    "progressive": _progressive,
    "steps": _steps,
}
