"""`fewstep demo`: the guided tour, which lives in `fewstep.demo`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from fewstep.cli.parsing import parse


@dataclass(frozen=True)
class Demo:
    """Pictures and edits by the bundled model, and a model trained on the spot, all on one contact sheet.

    About two minutes on two cores. The same command goes on with a training that was stopped."""

    out: Annotated[str, arg(aliases=["-o"], metavar="FOLDER")] = "fewstep-demo"
    """Where the contact sheet and the run are kept."""
    model: Annotated[str, arg(metavar="SOURCE")] = "mnist"
    """A class-conditional model of digits: a bundled name, a saved model or a run's folder."""
    seed: int = 0
    """The source of all randomness."""
    quick: bool = False
    """Train a few steps only, as a test."""


def main(args: Sequence[str]) -> int:
    options = parse(Demo, args, "fewstep demo")
    from fewstep.demo import main as tour

    return tour(options.out, options.seed, model=options.model, quick=options.quick)
