"""`fewstep times`: searches for good sampling times of a consistency model."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from fewstep.cli import sources
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.model import Model
    from fewstep.times import Search

Score = Callable[["Tensor", "Tensor | None"], float]
"""Pictures (n, C, H, W) in [-1, 1] and their labels (n,) → a number to make small."""


@dataclass(frozen=True)
class Times:
    """Search for the times at which a consistency model is best called.

    Each call's time is found after the ones before it, with the same noise for every try. The score compares the
    pictures with data in simple features, unless others are named, or a judge of your own as a Python function:

      fewstep times mnist --data mnist-test.zip --steps 3
      fewstep times mnist --data mnist-test.zip --by fd --features mnist
      fewstep times mnist --score my_judge:score        # score(x, labels) -> float, smaller is better"""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """A run's folder, a saved model or a bundled name."""
    data: Annotated[str | None, arg(metavar="PATH")] = None
    """Real pictures to compare with, held out from training if possible."""
    score: Annotated[str | None, arg(metavar="MODULE:FUNCTION")] = None
    """A score of your own, in the place of --data."""
    by: Annotated[str, arg(metavar="NAME")] = "energy"
    """Which score against the data: energy, fd, kid, precision, … (see: fewstep evaluate)."""
    features: Annotated[str, arg(metavar="NAME|FILE")] = "simple"
    """Whose features: simple, mnist, digits, inception, or a file."""
    steps: int = 2
    """Times up to this many calls."""
    n: Annotated[int, arg(aliases=["-n"])] = 1000
    """Pictures a try."""
    points: int = 7
    """Tries spread over the range before the search narrows."""
    tolerance: float = 0.02
    """When a time is narrow enough, as a share of the range."""
    seed: int = 0
    """The source of all randomness."""
    save: bool = False
    """Keep the found times in the model's folder, where sample --steps finds them."""
    batch: int = 256
    """Pictures at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""


def main(args: Sequence[str]) -> int:
    options = parse(Times, args, "fewstep times")
    if (options.data is None) == (options.score is None):
        raise ValueError("A score is needed: give real pictures with --data, or your own --score MODULE:FUNCTION.")
    if options.n < 2:
        raise ValueError("-n is at least 2.")
    import fewstep

    model = fewstep.load(options.source, device=options.device)
    if not model.consistent:
        raise ValueError(f"{options.source} is a diffusion model: it has no sampling times to search, only --steps.")
    if model.latent:
        raise ValueError(f"{options.source} works in latents, on the levels that it was distilled on: it has no times "
                         "to search, only --steps.")  # fmt: skip
    if options.save:
        folder_of(options.source)  # refused before the search, not after it
    found = search(options, model)
    print_table(found)
    if options.save:
        save(options.source, found, options.steps)
    return 0


def search(options: Times, model: "Model") -> "Search":
    from fewstep.times import search_times

    score, labels = judge(options, model)

    def tried(times: tuple[float, ...]) -> float:
        x = model.sample(options.n, times=times, seed=options.seed, labels=labels, batch=options.batch)
        return float(score(x, labels))

    def report(times: tuple[float, ...], value: float) -> None:
        print(f"  {' '.join(f'{t:g}' for t in times)}: {value:.5g}", file=sys.stderr, flush=True)

    return search_times(
        tried, model.schedule, options.steps, points=options.points, tolerance=options.tolerance, report=report
    )


def judge(options: Times, model: "Model") -> "tuple[Score, Tensor | None]":
    """The score, and the labels to draw: those of the data, or each class in turn."""
    import torch

    if options.score is not None:
        labels = torch.arange(options.n) % model.num_classes if model.num_classes else None
        return own_score(options.score), labels
    from fewstep.evaluation import SCORES, Yardstick
    from fewstep.evaluation.opening import Asking
    from fewstep.evaluation.scores import chosen
    from fewstep.evaluation.telling import class_words
    from fewstep.images import Data

    chosen([options.by])
    channels, size, _ = model.shape
    data = Data(str(options.data), size=size, channels=channels)
    measure = Yardstick(data, features=options.features, scores=options.by, at_most=options.n, seed=options.seed,
                        device=str(model.device))  # fmt: skip
    real, better = measure.pictures, SCORES[options.by].better

    def score(x: "Tensor", labels: "Tensor | None") -> float:
        asked = None if labels is None else class_words(model, labels)
        value = measure(x, Asking(labels=asked, seed=options.seed, device=str(model.device)))[options.by]
        return value if better == "lower" else -value if better == "higher" else abs(value - 1)

    if not model.num_classes:
        return score, None
    if real.labels is None or real.num_classes != model.num_classes:
        return score, torch.arange(options.n) % model.num_classes
    return score, torch.tensor([int(real.labels[i % len(real)]) for i in range(options.n)])


def own_score(name: str) -> Any:
    """The function `module:function`; ValueError, in one sentence, where there is none."""
    from importlib import import_module

    module, _, function = name.partition(":")
    sys.path.insert(0, "")
    try:
        score = getattr(import_module(module), function, None)
    except ImportError as error:
        raise ValueError(f"--score {name}: {error}.") from None
    finally:
        sys.path.remove("")
    if not callable(score):
        raise ValueError(f"--score {name}: {module} has no function '{function}'.")
    return score


def print_table(found: "Search") -> None:
    best = {found.best(len(times)) for times in found.tried}
    print("  score      times")
    for times, value in found.table():
        print(f"{'*' if times in best else ' '} {value:<10.5g} {' '.join(f'{t:g}' for t in times)}")
    print(f"best: --times {' '.join(f'{t:g}' for t in found.times)}")


def folder_of(source: str):
    """The folder of a saved model; ValueError for an unfinished run, a checkpoint, another form."""
    path = sources.weights_file(source)
    if path.name != "weights.safetensors":
        raise ValueError(
            f"{source} keeps no times: --save needs a finished run or a saved model, which "
            "`fewstep convert SOURCE --to fewstep` makes of any other."
        )
    return path.parent


def save(source: str, found: "Search", steps: int) -> None:
    from fewstep.design import from_json, to_json
    from fewstep.files import read_json, whole_file, write_json
    from fewstep.saving import card

    folder = folder_of(source)
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    new = {str(k): found.best(k) for k in range(1, steps + 1)}
    design = replace(design, times={**design.times, **new})
    write_json(folder / "model.json", to_json(design))
    with whole_file(folder / "README.md") as aside:
        aside.write_text(card(design), encoding="utf-8")
    print(f"kept in {folder / 'model.json'}")
