"""A run in words: its settings, what they differ in from the named recipe, and the command that makes it again.

What the data or the model to start from decide (channels, classes, the network of a teacher) is no difference: the same
command meets the same data. Places are private: of one that is absolute, only the last part is told unless asked for.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fewstep.codec import encode
from fewstep.plots.record import Record
from fewstep.recipes import RECIPES, recipe
from fewstep.training.recipe import Recipe

Leaf = tuple[str, Any]

FROM_DATA = (
    "architecture.image_channels",
    "architecture.image_size",
    "architecture.num_classes",
    "architecture.config",
)
"""Settings that the data decide."""

FROM_START = ("architecture", "sigma_data", "noise_scale")
"""Settings that the model to start from decides."""

FROM_LATENTS = ("architecture", "schedule", "sigma_data", "noise_scale", "latent.prediction", "latent.told")
"""Settings that the models of a latent run decide."""


def leaves(value: Any, path: str = "") -> Iterator[Leaf]:
    """Every setting with its path; a part's own path leads to the name of its class."""
    for field in fields(value):
        part, here = getattr(value, field.name), f"{path}.{field.name}".lstrip(".")
        if is_dataclass(part):
            yield here, type(part).__name__
            yield from leaves(part, here)
        else:
            yield here, part


def settings(run: Recipe) -> dict[str, Any]:
    """All settings but the name."""
    return {path: value for path, value in leaves(run) if path != "name"}


def changed(run: Recipe) -> dict[str, Any] | None:
    """The settings that differ from the recipe of the same name; None where there is no such recipe."""
    if run.name not in RECIPES:
        return None
    named = settings(recipe(run.name))
    decided = FROM_LATENTS if run.latent else FROM_START if run.start not in (None, "random") or (
        run.teacher and run.start is None) else FROM_DATA  # fmt: skip
    return {
        path: value
        for path, value in settings(run).items()
        if (path not in named or encode(value) != encode(named[path])) and not _below(path, decided)
    }


def differing(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of several runs, the recipe and the settings other than in it, as far as they are not the same in all."""
    own = [changed(r.recipe) for r in records]
    all_settings = [
        {"recipe": r.recipe.name} | (settings(r.recipe) if told is None else told)
        for r, told in zip(records, own, strict=True)
    ]
    paths = dict.fromkeys(path for found in all_settings for path in found)
    told = [p for p in paths if len({repr(found.get(p)) for found in all_settings}) > 1]
    told = [p for p in told if not _below(p, ("name", "workers", "keep", "checkpoint_every", "preview_every"))]
    whole = [settings(r.recipe) | found for r, found in zip(records, all_settings, strict=True)]
    return [{path: found[path] for path in told if path in found} for found in whole]


def command(run: Recipe, *, paths: bool = False) -> str:
    """What to type to train the same again."""
    words = ["fewstep", "train", run.name if run.name in RECIPES else f"{run.name}.py"]
    for path, value in (changed(run) or {}).items():
        words += said(path, value, paths=paths)
    return shlex.join(words)


def said(path: str, value: Any, *, paths: bool = False) -> list[str]:
    """A setting as words of a command line."""
    flag = "--" + path.replace("_", "-")
    if isinstance(value, bool):
        head, _, leaf = flag.rpartition(".")
        return [flag] if value else [f"{head}.no-{leaf}" if head else f"--no-{leaf.removeprefix('--')}"]
    values = value if isinstance(value, tuple | list) else (value,)
    return [{"--data.path": "--data"}.get(flag, flag), *(shown(part, paths=paths) for part in values)]


def shown(value: Any, *, paths: bool = False) -> str:
    """A setting's value in words; of a private place its last part."""
    if isinstance(value, tuple | list):
        return ", ".join(shown(part, paths=paths) for part in value) or "none"
    if not isinstance(value, str):
        return f"{value:g}" if isinstance(value, float) else str(value)
    return value if paths else public(value)


def public(text: str) -> str:
    """A place without what is nobody's business: where it lies, and an address's user, password and question."""
    if "://" in text and not text.startswith("file:"):
        parts = urlsplit(text)
        return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
    private = text.startswith(("/", "~", "file:", "pipe:")) or ".." in text or PureWindowsPath(text).is_absolute()
    if not private:
        return text
    return PureWindowsPath(text).name if "\\" in text else PurePosixPath(text).name


def facts(record: Record, *, paths: bool = False) -> dict[str, str]:
    """The run in words: title -> what there is to say."""
    run, made = record.recipe, record.made[-1] if record.made else {}
    told = {"recipe": f"{run.name} ({type(run.objective).__name__})", "progress": progress(record)}
    for name, (where, values) in record.scores.items():
        told[name] = f"{values[-1]:.4g} at step {int(record.steps[where[-1]])} (best {values.min():.4g}, worst "
        told[name] += f"{values.max():.4g}, of {len(values)})"
    told["data"] = shown(run.data.path, paths=paths)
    if made:
        c, h, w = made["shape"]
        classes = f", {made['classes']} classes" if made["classes"] else ""
        told["data"] += f": {made['pictures']:,} pictures {h}×{w}×{c}{classes}"
        told["parameters"] = f"{made['parameters']:,}"
    told["batch"], told["seed"] = f"{run.batch} pictures a step", str(run.seed)
    told["duration"] = f"{duration(float(record.hours[-1]) * 3600)} in steps, {_pace(record)}"
    hardware = dict.fromkeys(f"{m['hardware']}" + f", {m['processes']} processes" * (m["processes"] > 1)
                             for m in record.made)  # fmt: skip
    told["hardware"] = "; then ".join(hardware) or "not recorded"
    told["versions"] = ", ".join(f"{k} {v}" for k, v in made.get("versions", {}).items()) or "not recorded"
    told["folder"] = str(record.folder.resolve()) if paths else record.name
    return told


def progress(record: Record) -> str:
    """How far it is."""
    steps, skipped = record.recipe.steps, int(np.nanmax(np.append(record.column("skipped"), 0)))
    done = (
        f"finished, {steps} steps" if record.done >= steps else f"step {record.done} of {steps}: stopped or under way"
    )
    return done + (f"; {skipped} skipped, their numbers were not finite" if skipped else "")


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _pace(record: Record) -> str:
    pace = record.column("images_per_second")
    return f"{np.nanmedian(pace):.4g} pictures a second" if np.isfinite(pace).any() else "pace not recorded"


def _below(path: str, parts: Sequence[str]) -> bool:
    return any(path == part or path.startswith(part + ".") for part in parts)
