"""Two figures of pictures: what all methods make of the same noise, and where they jump along one trajectory.

samples.png        a method a row, a class a column; the noise is that of the column
trajectories.png   x_t along the teacher's ODE, and every method's estimate of x_0 from there: a consistency function
                   answers the same everywhere
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.formats import load
from fewstep.images.grid import to_uint8
from fewstep.plots.style import figure, save, style
from fewstep.reproduce.recipes import Job
from fewstep.reproduce.working import WALK, drawn, labels
from fewstep.sampling import begin, solve
from fewstep.tensors import noise

ROWS = (
    ("teacher", 2 * WALK - 1, "teacher, 35 calls"),
    ("heun-18", 1, "CD, 1 call"),
    ("heun-18", 2, "CD, 2 calls"),
    ("learned-filters", 1, "CD, learned filters, 1 call"),
    ("pd", 1, "PD, 1 call"),
    ("pd", 2, "PD, 2 calls"),
    ("ct", 1, "CT from the teacher, 1 call"),
    ("ct", 2, "CT from the teacher, 2 calls"),
    ("ct-nothing", 1, "CT from nothing, 1 call"),
    ("ict", 1, "iCT from nothing, 1 call"),
    ("ect", 1, "ECT from nothing, 1 call"),
    ("ect", 2, "ECT from nothing, 2 calls"),
)
"""(run, calls, title)."""

JUMPING = (("heun-18", "CD"), ("ct", "CT"), ("ict", "iCT"), ("ect", "ECT"))
ALONG = (80.0, 30.0, 12.0, 5.0, 2.5, 1.2, 0.6, 0.3, 0.1, 0.002)
"""Where the trajectory is looked at."""
DIGIT = 3
"""Of whose noise the trajectory begins; a digit where there are ten classes."""
ACROSS = 10


def samples(jobs: dict[str, Job], path: Path) -> Path | None:
    """Draws samples.png from the pictures of one seed's runs, by name; None where none of them was made."""
    rows = [
        (title, drawn(jobs[run].folder, _last(jobs[run], calls), calls)[:ACROSS])
        for run, calls, title in ROWS
        if run in jobs
    ]
    if not rows:
        return None
    asked = labels(ACROSS, next(iter(jobs.values())).classes)
    return _sheet(rows, [""] * ACROSS if asked is None else [str(label) for label in asked], path)


def _last(job: Job, calls: int) -> int:
    """After which step so many calls were drawn last."""
    steps = [int(file.stem.split("-")[0]) for file in (job.folder / "drawn").glob(f"*-{calls}.npz")]
    return max(steps)


@torch.no_grad()
def trajectories(jobs: dict[str, Job], path: Path) -> Path | None:
    """Draws trajectories.png from one seed's models; None where no teacher was trained."""
    if "teacher" not in jobs:
        return None
    teacher = load(str(jobs["teacher"].folder), device="cpu")
    asked: dict[str, Any] = {"labels": torch.tensor([DIGIT % teacher.num_classes])} if teacher.num_classes else {}
    x = begin(teacher.schedule, noise(jobs["teacher"].seed, [DIGIT], teacher.shape), ALONG)
    along = [x]
    for t, s in pairwise(ALONG):
        fine = np.geomspace(t, s, 9).tolist()
        along.append(solve(teacher.denoiser, teacher.schedule, along[-1], fine, clip=False, **asked))
    deviation = jobs["teacher"].recipe.sigma_data
    shown = [x / (t**2 + deviation**2) ** 0.5 / 2 for x, t in zip(along, ALONG, strict=True)]
    rows = [("x_t, scaled", _row(shown)), ("teacher's D(x_t, t)", _row(_answers(teacher, along, asked)))]
    for run, title in JUMPING:
        if run in jobs:
            model = load(str(jobs[run].folder), device="cpu")
            rows.append((f"{title}: f(x_t, t)", _row(_answers(model, along, asked))))
    return _sheet(rows, [f"t = {t:g}" for t in ALONG], path)


def _answers(model, along: list[Tensor], asked: dict[str, Tensor]) -> list[Tensor]:
    return [model.denoiser(x, t, **asked) for x, t in zip(along, ALONG, strict=True)]


def _row(pictures: list[Tensor]) -> np.ndarray:
    return to_uint8(torch.cat(pictures))


def _sheet(rows: list[tuple[str, np.ndarray]], heads: list[str], path: Path) -> Path:
    """Pictures uint8 (n, H, W, C) row by row, each row with its title."""
    with style():
        fig, axes = figure(len(rows), len(heads), width=0.72, height=0.74)
        for (title, pictures), line in zip(rows, axes, strict=True):
            for ax, picture in zip(line, pictures, strict=True):
                grey = picture.shape[-1] == 1
                ax.imshow(picture[..., 0] if grey else picture, cmap="gray" if grey else None, vmin=0, vmax=255)
                ax.set_xticks([])
                ax.set_yticks([])
                ax.grid(False)
            line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
        for ax, head in zip(axes[0], heads, strict=True):
            ax.set_title(head, fontsize=8, loc="center")
        return save(fig, path)
