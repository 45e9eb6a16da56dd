"""Results become plots: score against N, calls or seconds, with intervals; the closed form beside it."""

import math
from pathlib import Path

import numpy as np

from fewstep.plots.style import MARKS, colours, figure, interval, label, legend, logarithmic, save, style
from fewstep.reproduce.forms import closed_form
from fewstep.reproduce.studies import Study
from fewstep.reproduce.tables import SCORES, Interval, Results

AXES = {"N": "N, grid points", "calls": "network calls", "seconds": "seconds of one core", "method": ""}
INSIDE = {
    "loc": "best",
    "bbox_to_anchor": None,
    "borderaxespad": 0.5,
    "frameon": True,
    "framealpha": 0.8,
    "edgecolor": "none",
}
"""Where the names of the curves stand: their place above the axes is the title's."""
CLOSED = {"schedules": "steps of gradient descent"}
"""The horizontal axes of the closed forms, where they differ."""


def plot(study: Study, results: Results, path: Path) -> Path:
    """The study's figure: what was measured, the difference from the teacher where it is known, the closed form."""
    gap = study.against in ("N", "method") and any(results.final(s.run, "gap", s.calls) for s in study.shown)
    scores = ["fd", *(["gap"] if gap else [])]
    forms = closed_form(study.name)
    with style():
        count = len(scores) + bool(forms)
        fig, axes = figure((count + 1) // 2, min(2, count))
        places = list(axes.flat)
        for score in scores:
            _measured(places.pop(0), study, results, score)
        if forms:
            _closed(places.pop(0), study, forms)
        for ax in places:
            ax.set_axis_off()
        return save(fig, path)


def _measured(ax, study: Study, results: Results, score: str) -> None:
    if study.against == "seconds":
        _against_seconds(ax, study, results, score)
    elif study.against == "method":
        _bars(
            ax, [shown.title for shown in study.shown], [Interval.of(results.final(s.run, score)) for s in study.shown]
        )
    else:
        _against(ax, study, results, score)
    label(ax, AXES[study.against], SCORES[score][0], "measured")
    legend(ax, **INSIDE)


def _against(ax, study: Study, results: Results, score: str) -> None:
    for i, (name, points) in enumerate(curves(study).items()):
        there = [shown for shown in points if results.final(shown.run, score, shown.calls)]
        spans = [Interval.of(results.final(shown.run, score, shown.calls)) for shown in there]
        if spans:
            _line(ax, [shown.at for shown in there], spans, name, i)
    _ticks(ax, sorted({shown.at for shown in study.shown if shown.at is not None}))


def _against_seconds(ax, study: Study, results: Results, score: str) -> None:
    whole = study.name == "from-nothing"
    for i, (name, points) in enumerate(curves(study).items()):
        run, many = points[0].run, [results.curve(points[0].run, seed, score) for seed in results.seeds]
        steps = sorted(set.intersection(*(set(curve) for curve in many)))
        times = [np.mean([results.seconds(run, seed, whole=whole)[step] for seed in results.seeds]) for step in steps]
        if steps:
            _line(ax, times, [Interval.of([curve[step] for curve in many]) for step in steps], name, i)
    logarithmic(ax)


def _closed(ax, study: Study, forms) -> None:
    if study.against == "method":
        _bars(ax, list(forms), [Interval(points[0][1], math.nan) for points in forms.values()])
    else:
        for i, (name, points) in enumerate(forms.items()):
            x, y = zip(*points, strict=True)
            mark = "" if len(x) > 12 else MARKS[i]
            ax.plot(x, y, label=name, color=colours(i + 1)[i], marker=mark)
        if study.against != "seconds":
            _ticks(ax, [place for place, _ in next(iter(forms.values()))])
    label(ax, CLOSED.get(study.name, AXES[study.against]), "relative error of the width", "closed form, Gaussian data")
    if study.against in ("N", "seconds"):
        logarithmic(ax)
    legend(ax, **INSIDE)


def _line(ax, x, spans: list[Interval], name: str, i: int) -> None:
    mean, half = np.array([span.mean for span in spans]), np.nan_to_num([span.half for span in spans])
    interval(ax, x, mean, mean - half, mean + half, name, color=colours(i + 1)[i], marker=MARKS[i])


def _bars(ax, names: list[str], spans: list[Interval]) -> None:
    places = range(len(names))
    ax.bar(places, [s.mean for s in spans], yerr=np.nan_to_num([s.half for s in spans]), color=colours(1)[0], capsize=3)
    ax.set_xticks(places, [name.replace(", ", "\n") for name in names], fontsize=9)
    ax.grid(False, axis="x")


def _ticks(ax, places) -> None:
    ax.set_xscale("log")
    ax.set_xticks(places, [f"{place:g}" for place in places])
    ax.minorticks_off()


def curves(study: Study) -> dict[str, list]:
    """The study's lines by the curve that they belong to."""
    found: dict[str, list] = {}
    for shown in study.shown:
        found.setdefault(shown.curve, []).append(shown)
    return found
