"""The studies: which runs each compares, what the paper claims of them, and whether the numbers say so.

    distance        a. CD with a perceptual distance, L2, L1, pseudo-Huber   Song et al. 2023, figure 3a
    heun-vs-euler   b. CD with Heun and Euler steps at N = 9, 18, 36, 72     figure 3b
    n               c. CD with Heun steps, by N                              figure 3c
    schedules       d. CT with a small, a large and a growing N              figure 3d
    target          e. EMA, stop-gradient, gradient through both sides       section 4
    progressive     f. CD and progressive distillation in 1, 2, 4 steps      figure 4
    steps           g. one call, two and more, the same noise                table 1, figure 5
    continuous      h. CD and CT in continuous time                          figure 7
    from-nothing       CT, iCT, ECT from random weights; time against score for all

A claim "X beats Y" holds where the mean over seeds of the difference is beyond its 95% interval; it fails where the
difference is beyond it in the other direction; else the seeds do not decide. The difference is taken seed by seed: both
runs of a pair share data order, noise, times and teacher.
"""

from dataclasses import dataclass
from typing import Literal

from fewstep.reproduce.recipes import GRIDS, LARGE, MU_0, MU_LARGE, MU_SMALL, SMALL


@dataclass(frozen=True)
class Shown:
    """One line of a table: a run, drawn in so many calls."""

    run: str
    """As in `recipes.OBJECTIVES`."""
    calls: int = 1
    title: str = ""
    """How a reader calls it."""
    at: int | None = None
    """Where it stands on the horizontal axis: N, calls; None where that is time."""
    curve: str = ""
    """Which curve it belongs to."""


@dataclass(frozen=True)
class Claim:
    """X beats Y, as the paper has it."""

    better: tuple[str, int]
    """(run, calls) that should have the smaller distance."""
    worse: tuple[str, int]


@dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and how the answer is drawn."""

    name: str
    title: str
    claim: str
    """The paper's words, in ours."""
    shown: tuple[Shown, ...]
    claims: tuple[Claim, ...]
    against: Literal["N", "calls", "seconds", "method"]
    """The horizontal axis of the plot."""
    closed: str = ""
    """What the closed form is, where there is one; `forms.py` has the numbers."""

    followed: bool = False
    """Whether its students should make the teacher's pictures: claims are judged by the difference from them too."""

    @property
    def runs(self) -> list[str]:
        return list(dict.fromkeys(shown.run for shown in self.shown))


def _beats(better: str, *worse: str) -> tuple[Claim, ...]:
    return tuple(Claim((better, 1), (other, 1)) for other in worse)


def _grids(solver: str) -> tuple[Shown, ...]:
    word = solver.capitalize()
    return tuple(Shown(f"{solver}-{n}", 1, f"{word}, N = {n}", n, word) for n in GRIDS)


STUDIES = {
    study.name: study
    for study in (
        Study(
            "distance",
            "Distance of consistency distillation",
            "LPIPS beats ℓ2 and ℓ1, at every moment of training and by far. Here distances in LPIPS's form stand for "
            "it, with filters that have learned to read these pictures (not the judge's), and with random ones.",
            tuple(
                Shown(run, 1, title, curve=title)
                for run, title in (
                    ("learned-filters", "learned filters"),
                    ("random-filters", "random filters"),
                    ("heun-18", "ℓ2"),
                    ("l1", "ℓ1"),
                    ("huber", "pseudo-Huber"),
                )
            ),
            (*_beats("learned-filters", "heun-18", "l1", "random-filters"), *_beats("random-filters", "heun-18", "l1")),
            "seconds",
            followed=True,
        ),
        Study(
            "heun-vs-euler",
            "Heun and Euler steps of the teacher",
            "At every N, distillation with Heun steps beats distillation with Euler steps.",
            (*_grids("heun"), *_grids("euler")),
            tuple(Claim((f"heun-{n}", 1), (f"euler-{n}", 1)) for n in GRIDS),
            "N",
            "relative error of the width of one-step samples, when nothing is lost in training",
            followed=True,
        ),
        Study(
            "n",
            "The number of grid points of distillation",
            "N = 18 is best; fewer points are worse, and many more change little.",
            _grids("heun"),
            _beats("heun-18", "heun-9", "heun-36", "heun-72"),
            "N",
            "relative error of the width of one-step samples, when nothing is lost in training",
            followed=True,
        ),
        Study(
            "schedules",
            "N and μ of consistency training",
            "With a small N training is fast and ends badly, with a large N it is slow and ends better; N and μ that "
            "grow beat every fixed choice. Here all begin with the teacher's weights, as OpenAI's commands do, which "
            "gives a large N the start that it lacks at random weights; and the learning rate falls while N grows.",
            (
                Shown("ct-small", 1, f"N = {SMALL}, μ = {MU_SMALL}", curve="small N"),
                Shown("ct-large", 1, f"N = {LARGE}, μ = {MU_LARGE}", curve="large N"),
                Shown("ct", 1, f"N from 2 to {LARGE + 1}, μ from {MU_0}", curve="growing N"),
            ),
            _beats("ct", "ct-small", "ct-large"),
            "seconds",
            "relative error of the width of one-step samples, by steps of gradient descent on the expected loss",
        ),
        Study(
            "target",
            "Which network answers at the earlier time",
            "A target without gradient, the moving average or the student itself, beats a gradient through both sides.",
            (
                Shown("heun-18", 1, "CD, EMA"),
                Shown("stop-gradient", 1, "CD, stop-gradient"),
                Shown("both-sides", 1, "CD, both sides"),
                Shown("ct", 1, "CT, EMA"),
                Shown("ct-both-sides", 1, "CT, both sides"),
            ),
            (*_beats("heun-18", "both-sides"), *_beats("stop-gradient", "both-sides"), *_beats("ct", "ct-both-sides")),
            "method",
            "relative error of the width of one-step samples, when training has come to rest at N = 18",
            followed=True,
        ),
        Study(
            "progressive",
            "Consistency and progressive distillation",
            "Consistency distillation beats progressive distillation in 1, 2 and 4 steps. Its times for 2 and 4 are "
            "searched for, as the paper's were.",
            tuple(
                Shown(run, calls, f"{word}, {calls} step{'s' * (calls > 1)}", calls, word)
                for run, word in (("heun-18", "CD"), ("pd", "PD"))
                for calls in (1, 2, 4)
            ),
            tuple(Claim(("heun-18", calls), ("pd", calls)) for calls in (1, 2, 4)),
            "calls",
            "relative error of the samples' width after every step, of students that lost nothing: CD with Heun steps, "
            "PD from 32 Euler steps",
            followed=True,
        ),
        Study(
            "steps",
            "One call and more",
            "Two calls beat one, for distillation and for training; the pictures of one noise keep their structure. "
            "The times are searched for, model by model.",
            tuple(
                Shown(run, calls, f"{word}, {calls} call{'s' * (calls > 1)}", calls, word)
                for run, word in (("heun-18", "CD"), ("ct", "CT"), ("ect", "ECT"))
                for calls in (1, 2, 4)
            ),
            tuple(Claim((run, 2), (run, 1)) for run in ("heun-18", "ct", "ect")),
            "calls",
            "relative error of the samples' width after every call, CD with Heun steps that lost nothing",
        ),
        Study(
            "continuous",
            "Continuous time",
            "In continuous time a change along the trajectory that is taken as a constant beats a gradient through it; "
            "distillation on a grid beats distillation in continuous time; training in continuous time beats training "
            "on a grid, where both begin with a diffusion model's weights.",
            (
                Shown("heun-18", 1, "CD, N = 18", curve="CD, N = 18"),
                Shown("cd-continuous", 1, "CD, continuous", curve="CD, continuous"),
                Shown("cd-continuous-both-sides", 1, "CD, continuous, both sides", curve="CD, both sides"),
                Shown("ct", 1, f"CT, N from 2 to {LARGE + 1}", curve="CT, growing N"),
                Shown("ct-continuous", 1, "CT, continuous", curve="CT, continuous"),
            ),
            (
                *_beats("cd-continuous", "cd-continuous-both-sides"),
                *_beats("heun-18", "cd-continuous"),
                *_beats("ct-continuous", "ct"),
            ),
            "seconds",
            followed=True,
        ),
        Study(
            "from-nothing",
            "From random weights, and everything against time",
            "iCT and ECT beat the first paper's CT at equal compute (Song & Dhariwal 2023; Geng et al. 2024). Where "
            "training begins with a teacher, the time includes the teacher's.",
            (
                Shown("ct-nothing", 1, "CT", curve="CT"),
                Shown("ict", 1, "iCT", curve="iCT"),
                Shown("ect", 1, "ECT", curve="ECT"),
                Shown("heun-18", 1, "teacher, then CD", curve="teacher, then CD"),
                Shown("pd", 1, "teacher, then PD", curve="teacher, then PD"),
                Shown("ct", 1, "teacher, then CT", curve="teacher, then CT"),
            ),
            (*_beats("ict", "ct-nothing"), *_beats("ect", "ct-nothing")),
            "seconds",
        ),
    )
}
"""Every study by its name."""
