"""The demo's training run: the 8×8 digits, learned from nothing while one watches."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from fewstep.demo.pictures import TEN, tiles
from fewstep.demo.sheet import Row
from fewstep.images.opening import Images, signed
from fewstep.model import Model
from fewstep.recipes import recipe
from fewstep.training.fit import fit
from fewstep.training.recipe import Recipe
from fewstep.training.track import read_metrics, watch

RECIPE = "digits-ect"


@dataclass(frozen=True)
class Trained:
    """What a finished run left."""

    model: Model
    seconds: float
    """How long the steps took, in all the sittings together."""
    images: Images
    """What it learned from."""


def trained(folder: Path, seed: int, console: Console, *, quick: bool = False) -> Trained | None:
    """Trains in `folder`, or goes on there, or takes what is finished there; None when it was told to stop.

    Raises ValueError where the folder holds a run of another recipe.
    """
    run = fit(settled(seed, quick), folder)
    if run.state.step < run.recipe.steps:
        for _ in watch(run, console=console):
            pass
    if run.state.step < run.recipe.steps:
        return None
    seconds = sum(line["seconds"] for line in read_metrics(folder / "metrics.jsonl"))
    return Trained(run.model(), seconds, run.images)


def settled(seed: int, quick: bool) -> Recipe:
    """The recipe, with a checkpoint now and then and no previews on the way."""
    chosen = replace(recipe(RECIPE), seed=seed, checkpoint_every=200, preview_every=1_000_000)
    return replace(chosen, steps=3, batch=8) if quick else chosen


def rows(run: Trained, seed: int) -> list[Row]:
    """Data, one step and two steps, a digit a column."""
    one, two = (run.model.sample(10, steps=steps, seed=seed, labels=TEN) for steps in (1, 2))
    seen = tiles(examples(run.images), [str(digit) for digit in TEN])
    return [
        Row("Data", f"Ten of the {len(run.images):,} pictures it learned from.", seen),
        Row("One step", "What it draws in one network call.", tiles(one)),
        Row("Two steps", "The same noise, two network calls.", tiles(two)),
    ]


def examples(images: Images) -> torch.Tensor:
    """The first picture of each class (10, C, H, W)."""
    firsts = [int((images.labels == digit).argmax()) for digit in TEN]
    return signed(np.stack([images.picture(i).transpose(2, 0, 1) for i in firsts]))
