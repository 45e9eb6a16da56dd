"""How every figure looks: one place for sizes, colours and how a curve with its uncertainty is drawn.

A panel is 5.6 × 3.6 inches: its letters can be read when it is 360 pixels wide, as on a phone, and when two stand side
by side in 800. Colours are Okabe and Ito's, which people who see red and green alike can tell apart, in an order in
which neighbours also differ in lightness; curves differ in their dashes too, so that a print in grey is enough.

    with style():
        fig, axes = figure(1, 2)
        interval(axes[0, 0], k, mean, low, high, "CD")
        label(axes[0, 0], "training step k", "loss")
        legend(axes[0, 0])
        save(fig, "loss.png")
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from fewstep.files import whole_file

try:
    import matplotlib
except ImportError:
    raise ImportError("Plots need the matplotlib package: pip install 'fewstep[plot]'.") from None

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

WIDTH, HEIGHT, DPI = 5.6, 3.6, 160
"""Inches of a panel, dots an inch."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
"""Okabe and Ito (2008), on white; their yellow is too light for a line."""

DARK_COLOURS = ("#56B4E9", "#E69F00", "#2FC79B", "#F0793A", "#8FA8FF", "#E39AC6", "#FFFFFF")
"""The same hues, on black."""

DASHES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (3, 1)))
"""Of the curves in the order of their colours."""

MARKS = "os^Dvph"
"""Likewise, for points."""

MAP, DARK_MAP = "cividis_r", "cividis"
"""Colours of a value: much stands out from the background. The same to all eyes."""

MADE_BY = "fewstep plot"
"""Stands in every file, so that no other file is ever replaced."""


def _settings(dark: bool) -> dict[Any, Any]:
    ink, soft, paper = ("#e8e8e8", "#4a4f57", "#16181c") if dark else ("#1a1a1a", "#d5d5d5", "#ffffff")
    from cycler import cycler

    lines = cycler(color=colours(len(COLOURS), dark=dark)) + cycler(linestyle=DASHES)
    return {
        "font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 11, "axes.labelsize": 11,
        "legend.fontsize": 10,
        "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": ink, "xtick.color": ink, "ytick.color": ink,
        "figure.facecolor": paper, "axes.facecolor": paper, "savefig.facecolor": "auto", "legend.facecolor": paper,
        "grid.color": soft, "grid.linewidth": 0.6, "axes.grid": True, "axes.axisbelow": True, "legend.edgecolor": soft,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.prop_cycle": lines,
        "lines.linewidth": 1.8, "lines.markersize": 5, "legend.framealpha": 0.85, "axes.formatter.useoffset": False,
        "image.cmap": DARK_MAP if dark else MAP, "figure.dpi": DPI, "savefig.dpi": DPI,
        "text.parse_math": False,  # a folder may be called a$b$
    }  # fmt: skip


@contextmanager
def style(*, dark: bool = False) -> Iterator[None]:
    """Figures made within look like this, on white or on black; settings outside stay as they are."""
    with matplotlib.rc_context(_settings(dark)):
        yield


def colours(n: int, *, dark: bool = False) -> list[str]:
    """n colours, for n curves; from the eighth on they come again, with other dashes."""
    return list(islice(cycle(DARK_COLOURS if dark else COLOURS), n))


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = WIDTH,
    height: float = HEIGHT,
    dark: bool = False,
    **subplots: Any,
) -> tuple[Figure, Any]:
    """A figure and its axes, always an array (rows, columns); `width` and `height` are those of one panel.

    It belongs to no window and to no pyplot: nothing has to be closed. `subplots` goes to matplotlib (`sharex`, …).
    """
    with style(dark=dark):
        fig = Figure(figsize=(columns * width, rows * height), layout="constrained")
        return fig, fig.subplots(rows, columns, squeeze=False, **subplots)


def label(ax: Axes, x: str, y: str, title: str = "") -> None:
    """What the axes show, with their units."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if title:
        ax.set_title(title)


def interval(ax: Axes, x: Any, mean: Any, low: Any, high: Any, label: str | None = None, **line: Any) -> None:
    """A curve with its interval as a band; a single point is a mark with a bar. `line` goes to matplotlib (`color`)."""
    if len(x) == 1:
        bars = [[max(0.0, mean[0] - low[0])], [max(0.0, high[0] - mean[0])]]
        ax.errorbar(x, mean, bars, label=label, capsize=3, **{"marker": "o", **line})
        return
    (curve,) = ax.plot(x, mean, label=label, **line)
    ax.fill_between(x, low, high, color=curve.get_color(), alpha=0.2, linewidth=0)


def legend(ax: Axes, handles: Sequence[Any] | None = None, *, least: int = 2, **options: Any) -> None:
    """Names the curves above the axes, where it hides none of them; nothing where there are fewer than `least`."""
    handles = list(handles) if handles is not None else ax.get_legend_handles_labels()[0]
    if len(handles) >= least:
        above = {"loc": "lower left", "bbox_to_anchor": (0, 1.02), "borderaxespad": 0, "frameon": False}
        ax.legend(handles=handles, **(above | options))


def logarithmic(ax: Axes) -> None:
    """y in powers of ten, for what is drawn already."""
    ax.set_yscale("log")
    places, words = decades(*ax.get_ylim())
    ax.yaxis.set_major_locator(places)
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(words)


def decades(low: float, high: float) -> tuple[LogLocator, FuncFormatter]:
    """Where a logarithmic axis from low to high has its ticks, and how they are written: as plain numbers, at 1, 2 and
    5 of a decade, at more where there is hardly one."""
    subs = (1.0, 2.0, 5.0) if high > 10 * low else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    return LogLocator(subs=subs), FuncFormatter(lambda value, _: f"{value:g}")


def save(fig: Figure, path: str | Path) -> Path:
    """Writes the figure, whole or not at all; the ending of `path` says the form: png, svg, pdf."""
    path = Path(path)
    form = path.suffix.lstrip(".").lower() or "png"
    by = {"Creator" if form in ("svg", "pdf") else "Software": MADE_BY}
    with whole_file(path) as aside:
        fig.savefig(aside, format=form, metadata=by | ({"Date": None} if form == "svg" else {}))
    return path
