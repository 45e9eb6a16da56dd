"""What a training run left in its folder, read without touching it: a run in progress and a broken one as well.

    recipe.json     all settings             previews/step-….png   a row of data, then rows of samples
    metrics.jsonl   a line a step            made.json             versions, hardware, the number of pictures

Numbers that were not finite stand as null in the lines, and as NaN here.
"""

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewstep.files import read_json
from fewstep.training.recipe import Recipe, from_json

MODEL = ("model.json", "model_index.json", "config.json")
"""A folder with one of these, and without a recipe, is a model."""

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Record:
    """A run, to look at."""

    folder: Path
    """Where it is."""
    recipe: Recipe
    """All its settings."""
    lines: list[dict[str, Any]]
    """Of metrics.jsonl, in the order of the steps; at least one."""
    previews: dict[int, Path]
    """Step -> picture."""
    made: list[dict[str, Any]]
    """Of made.json; empty for runs of older versions."""

    @property
    def name(self) -> str:
        """The folder's own name, without where it is."""
        return self.folder.resolve().name

    @property
    def done(self) -> int:
        """Steps done."""
        return int(self.lines[-1]["step"])

    @cached_property
    def steps(self) -> Column:
        return self.column("step")

    @cached_property
    def hours(self) -> Column:
        """Time spent in steps up to each, without what lies between them (data, previews, checkpoints)."""
        return np.nancumsum(self.column("seconds")) / 3600

    def column(self, name: str) -> Column:
        """A number of every line; NaN where there is none."""
        return np.array([_number(line.get(name)) for line in self.lines])

    @cached_property
    def levels(self) -> dict[str, Column]:
        """Loss by noise level, lowest first."""
        names = {name for line in self.lines for name in line.get("levels") or {}}
        return {name: np.array([_number((line.get("levels") or {}).get(name)) for line in self.lines])
                for name in sorted(names, key=lowest)}  # fmt: skip

    @cached_property
    def scores(self) -> dict[str, tuple[NDArray[np.int64], Column]]:
        """Name of a score -> indices of its lines, values."""
        found: dict[str, list[tuple[int, float]]] = {}
        for i, line in enumerate(self.lines):
            if math.isfinite(value := _number(line.get("score"))):
                found.setdefault(str(line.get("score_name") or "score"), []).append((i, value))
        return {name: (np.array([i for i, _ in rows]), np.array([v for _, v in rows])) for name, rows in found.items()}


def read(folder: str | Path) -> Record:
    """The run in a folder. Raises ValueError, with what to give instead, where there is none or no step of it."""
    folder = Path(folder).expanduser()
    path = folder / "recipe.json"
    if not path.is_file():
        raise ValueError(_no_run(folder))
    recipe, lines = from_json(read_json(path), str(path)), _lines(folder / "metrics.jsonl")
    if not lines:
        raise ValueError(f"{folder} holds a run without a line in metrics.jsonl: wait for its first step, or train "
                         "with `fewstep train` or `fewstep.training.track.watch`, which write it.")  # fmt: skip
    found = ((re.fullmatch(r"step-(\d+)\.png", p.name), p) for p in (folder / "previews").glob("step-*.png"))
    previews = dict(sorted((int(m[1]), p) for m, p in found if m))
    made = read_json(folder / "made.json") if (folder / "made.json").is_file() else []
    return Record(folder, recipe, lines, previews, made)


def lowest(level: str) -> float:
    """Where the range of noise levels named "<0.03", "0.1-0.3" or ">30" begins."""
    return -math.inf if level.startswith("<") else float(level.lstrip(">").partition("-")[0])


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines, each step once; one that is cut, by a kill or because it is being written, is left out."""
    found: dict[int, dict[str, Any]] = {}
    for text in path.read_bytes().split(b"\n") if path.is_file() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            found[line["step"]] = line
    return [found[step] for step in sorted(found)]


def _no_run(folder: Path) -> str:
    give = "give the folder of a run, which `fewstep train --out FOLDER` made: it holds recipe.json and metrics.jsonl."
    if not folder.is_dir():
        return f"There is no folder {folder}: {give}"
    if run := next((up for up in list(folder.resolve().parents)[:2] if (up / "recipe.json").is_file()), None):
        return f"{folder} is a part of a run: give the run's own folder, {run}."
    if any((folder / name).is_file() for name in MODEL):
        return f"{folder} is a model, without the numbers of its training: {give}"
    return f"{folder} holds no run: {give}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
