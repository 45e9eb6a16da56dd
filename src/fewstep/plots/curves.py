"""The plots by name; each draws one run, or several over one another, and is left out where a run has no such number.

A curve of many steps is shown by at most 200 groups of steps: the mean of each, and the range from its 10th to its 90th
percentile as a band (of one run only).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fewstep.plots.record import Record
from fewstep.plots.strips import strips
from fewstep.plots.style import MARKS, decades, figure, interval, label, legend, logarithmic

Draw = Callable[[Sequence[Record], Sequence[str], bool], Figure | None]
"""Runs, their names in a legend, dark -> the figure; None where there is nothing to show."""

STEP = "training step k"
GROUPS = 200


@dataclass(frozen=True)
class Plot:
    """A picture of the process."""

    title: str
    """What it is called in a report."""
    text: str
    """What it shows, in a sentence or two."""
    draw: Draw
    """Draws it."""


def grouped(x: NDArray[Any], y: NDArray[Any], groups: int = GROUPS) -> tuple[NDArray[Any], ...]:
    """x, mean, 10th and 90th percentile of groups of neighbours; those without a finite number are left out."""
    edges = np.linspace(0, len(x), min(groups, len(x)) + 1).round().astype(int)
    rows = []
    for a, b in pairwise(edges):
        if (part := y[a:b][np.isfinite(y[a:b])]).size:
            rows.append((x[a:b].mean(), part.mean(), *np.percentile(part, (10, 90))))
    return tuple(np.array(rows, float).reshape(-1, 4).T)


def curve(name: str, y: str, *, log: bool = False, stairs: bool = False) -> Draw:
    """A number of metrics.jsonl against the steps."""

    def draw(records: Sequence[Record], names: Sequence[str], dark: bool) -> Figure | None:
        found = [record.column(name) for record in records]
        if not any(np.nan_to_num(values).any() for values in found):
            return None
        fig, axes = figure(dark=dark)
        ax = axes[0, 0]
        for record, called, values in zip(records, names, found, strict=True):
            if not np.isfinite(values).any():
                ax.plot([], [])  # so that a run keeps its colour from plot to plot
            elif stairs:
                ax.plot(record.steps, values, drawstyle="steps-post", label=called)
            else:
                x, mean, low, high = grouped(record.steps, values)
                interval(ax, x, mean, *((low, high) if len(records) == 1 else (mean, mean)), label=called)
        if log and _positive(found):
            logarithmic(ax)
        if stairs:
            ax.set_ylim(*_room(ax))
            ax.yaxis.set_major_locator(MaxNLocator(integer=name in ("n", "skipped"), nbins=7))
        label(ax, STEP, y)
        legend(ax, least=1 if len(records) > 1 else 2)
        return fig

    return draw


def score(against: str) -> Draw:
    """Every score that was taken, against the steps or the time; a panel for each kind of score."""

    def draw(records: Sequence[Record], names: Sequence[str], dark: bool) -> Figure | None:
        kinds = list(dict.fromkeys(kind for record in records for kind in record.scores))
        if not kinds:
            return None
        unit, factor = time_unit(max(float(record.hours[-1]) for record in records))
        fig, axes = figure(len(kinds), 1, dark=dark)
        for ax, kind in zip(axes[:, 0], kinds, strict=True):
            for i, (record, called) in enumerate(zip(records, names, strict=True)):
                where, values = record.scores.get(kind, (np.array([], int), np.array([])))
                x = record.steps[where] if against == "step" else record.hours[where] * factor
                ax.plot(x, values, marker=MARKS[i % len(MARKS)], label=called if len(where) else None)
            label(ax, STEP if against == "step" else f"training time ({unit})", kind)
            legend(ax, least=1 if len(records) > 1 else 2)
        return fig

    return draw


def heat(records: Sequence[Record], names: Sequence[str], dark: bool) -> Figure | None:
    """Loss by noise level over training, a panel for each run; one scale of colours for all."""
    records, names = _with_levels(records, names)
    maps = [np.array([_means(column, min(60, len(r.steps))) for column in r.levels.values()]) for r in records]
    if not maps or not any((m > 0).any() for m in maps):
        return None
    positive = np.concatenate([m[m > 0] for m in maps])
    low, high = float(positive.min()), float(positive.max())
    high = high if high > low else low * 1.1
    norm, (places, words) = LogNorm(low, high), decades(low, high)
    fig, axes = figure(len(records), 1, dark=dark)
    for ax, record, called, values in zip(axes[:, 0], records, names, maps, strict=True):
        ends = (record.steps[0] - 0.5, record.steps[-1] + 0.5, -0.5, len(values) - 0.5)
        image = ax.imshow(np.ma.masked_invalid(values), aspect="auto", origin="lower", norm=norm, extent=ends,
                          interpolation="nearest")  # fmt: skip
        ax.grid(False)
        ax.set_yticks(range(len(values)), [_range(name) for name in record.levels])
        label(ax, STEP, "noise level t", called if len(records) > 1 else "")
        bar = fig.colorbar(image, ax=ax, label="loss", ticks=places, format=words)
        bar.minorticks_off()
        bar.outline.set_visible(False)  # type: ignore[operator]
    return fig


def ends(records: Sequence[Record], names: Sequence[str], dark: bool) -> Figure | None:
    """Loss by noise level in the last tenth of the steps done."""
    records, names = _with_levels(records, names)
    ticks = list(dict.fromkeys(level for record in records for level in record.levels))
    if not records or len({len(record.levels) for record in records}) > 1 or len(ticks) > len(records[0].levels):
        return None  # levels of different schedules share no axis
    fig, axes = figure(dark=dark)
    ax = axes[0, 0]
    for i, (record, called) in enumerate(zip(records, names, strict=True)):
        last = max(1, len(record.steps) // 10)
        values = [_means(column[-last:], 1)[0] for column in record.levels.values()]
        ax.plot(range(len(values)), values, marker=MARKS[i % len(MARKS)], label=called)
    ax.set_xticks(range(len(ticks)), [_range(level) for level in ticks], rotation=30, ha="right")
    if _positive([np.concatenate(list(record.levels.values())) for record in records]):
        logarithmic(ax)
    label(ax, "noise level t", "loss, last tenth of the steps")
    legend(ax, least=1 if len(records) > 1 else 2)
    return fig


def time_unit(hours: float) -> tuple[str, float]:
    """The unit in which a time is read best, and how many of it an hour has."""
    return ("h", 1.0) if hours > 2 else ("min", 60.0) if hours > 1 / 30 else ("s", 3600.0)


def _with_levels(records: Sequence[Record], names: Sequence[str]) -> tuple[list[Record], list[str]]:
    kept = [(r, n) for r, n in zip(records, names, strict=True) if len(r.levels) > 1]
    return [r for r, _ in kept], [n for _, n in kept]


def _means(column: NDArray[Any], groups: int) -> NDArray[Any]:
    """Means of groups of neighbours, NaN where none is finite."""
    parts = (part[np.isfinite(part)] for part in np.array_split(column, groups))
    return np.array([part.mean() if part.size else np.nan for part in parts])


def _positive(columns: Sequence[NDArray[Any]]) -> bool:
    """Whether logarithms can be taken, and a range of values is wide enough to be better seen in them."""
    values = np.concatenate(columns)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 4 * values.min())


def _room(ax: Axes) -> tuple[float, float]:
    """Limits of y with room around stairs, which otherwise hide in the frame when they are level."""
    low, high = ax.dataLim.intervaly
    pad = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return low - pad, high + pad


def _range(level: str) -> str:
    return level.replace("-", "–").replace("<", "< ").replace(">", "> ")


PLOTS = {
    "loss": Plot("Loss", "The weighted loss of a step. In consistency training it may rise while the pictures get "
                 "better: the neighbours that are compared change with N.", curve("loss", "loss", log=True)),
    "levels": Plot("Loss by noise level", "Where along the noise levels the loss lies, and when it falls. "
                   "Blank: no sample there, as on a coarse grid.", heat),
    "levels-end": Plot("Loss by noise level, at the end", "The same over the last tenth of the steps done.", ends),
    "score": Plot("Score over steps", "How far the pictures are from the data.", score("step")),
    "score-time": Plot("Score over time", "The same against the time spent in training steps.", score("time")),
    "gradient": Plot("Gradient", "The norm of the gradient before it is clipped.",
                     curve("gradient", "gradient norm ‖∇L‖", log=True)),
    "n": Plot("Discretization", "N, the number of noise levels of the grid on which neighbours are taken.",
              curve("n", "N", stairs=True)),
    "mu": Plot("Target", "μ, the rate of the moving average that is the target network.",
               curve("mu", "EMA rate μ", stairs=True)),
    "lr": Plot("Learning rate", "η of the optimizer.", curve("lr", "learning rate η", stairs=True)),
    "pace": Plot("Pace", "Pictures of the whole batch that a step trained on in a second.",
                 curve("images_per_second", "pictures / second")),
    "previews": Plot("Previews", "The same noise at the first, the middle and the last preview; a row of data first, "
                     "then rows of samples, such as in one and in two calls.", strips),
    "skipped": Plot("Skipped steps", "Steps left out so far because their loss or gradient was not finite.",
                    curve("skipped", "skipped steps", stairs=True)),
}  # fmt: skip
"""Every plot by its name, in the order of a report."""
