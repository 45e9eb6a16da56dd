"""Strips of previews: what the same noise became at the first, the middle and the last preview of a run.

A preview is a sheet of rows of eight square pictures, 2 pixels apart: data first, then samples. The data are the same
every time, so they are shown once.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from fewstep.plots.record import Record
from fewstep.plots.style import WIDTH, figure

PAD, COLUMNS = 2, 8


def strips(records: Sequence[Record], names: Sequence[str], dark: bool) -> Figure | None:
    """First, middle and last preview of one run; the last ones of several."""
    if len(records) == 1:
        kept = [(f"step {step}", records[0].previews[step]) for step in chosen(list(records[0].previews))]
    else:
        kept = [(n, list(r.previews.values())[-1]) for r, n in zip(records, names, strict=True) if r.previews]
    sheets = [(called, *parts(pixels(path))) for called, path in kept]
    if not sheets:
        return None
    shown = [("data", sheets[0][1])] if len(records) == 1 else []
    shown = [(n, p) for n, p in shown if len(p)] + [(called, samples) for called, _, samples in sheets]
    heights = [part.shape[0] / part.shape[1] * WIDTH + 0.35 for _, part in shown]
    fig, axes = figure(len(shown), 1, height=sum(heights) / len(shown), dark=dark, height_ratios=heights)
    for ax, (called, part) in zip(axes[:, 0], shown, strict=True):
        ax.imshow(part)
        ax.set_axis_off()
        ax.set_title(called)
    return fig


def chosen(steps: list[int]) -> list[int]:
    """The first, the middle and the last, as far as there are so many."""
    return sorted({steps[0], steps[(len(steps) - 1) // 2], steps[-1]}) if steps else []


def pixels(path) -> np.ndarray:
    """(H, W, 3), 0 to 255."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def parts(sheet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row of data and the rows of samples; the whole sheet is samples where it is none of ours."""
    side, rest = divmod(sheet.shape[1] - PAD, COLUMNS)
    if rest or side <= PAD or (sheet.shape[0] - PAD) % side or sheet.shape[0] < 2 * side + PAD:
        return sheet[:0], sheet
    return sheet[: side + PAD], sheet[side:]
