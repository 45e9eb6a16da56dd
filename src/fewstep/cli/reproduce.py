"""`fewstep reproduce`: the paper's claims in miniature, as tables and plots; see `fewstep.reproduce`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from fewstep.cli import Misuse
from fewstep.cli.parsing import parse


@dataclass(frozen=True)
class Reproduce:
    """Check the claims of the consistency models paper on small pictures: tables, plots and samples in one folder.

    The same command goes on with a study that was stopped, and takes finished runs as they are, whichever study made
    them. A page NAME.md and a plot NAME.png for each study, samples.png and trajectories.png for all."""

    studies: Annotated[Positional[tuple[str, ...]], arg(metavar="NAME")] = ()
    """Studies, or all; --list shows their names."""
    list: bool = False
    """Show the studies and what each would still train."""
    data: Annotated[str, arg(metavar="PATH")] = "digits"
    """Pictures to learn from, with labels, such as mnist-train.zip. Default: the package's 8×8 digits."""
    size: Annotated[int | None, arg(metavar="INT")] = None
    """Make the pictures this small. Default: 8."""
    seeds: Annotated[int, arg(metavar="INT")] = 3
    """Do every run with so many seeds."""
    quick: bool = False
    """Short runs: minutes in all, with --seeds 1 or 2."""
    longer: Annotated[float, arg(metavar="FLOAT")] = 1.0
    """So many times the steps, for all but the teachers: is a result one of short runs?"""
    out: Annotated[str, arg(aliases=["-o"], metavar="FOLDER")] = "reproduction"
    """Where everything is kept."""
    workers: Annotated[int, arg(metavar="INT")] = 1
    """Runs side by side, each on one core. It changes no result."""
    features: Annotated[str | None, arg(metavar="NAME")] = None
    """What the Fréchet distance is taken from, as in fewstep evaluate. Default: a reader that learns
    from the pictures."""
    samples: Annotated[int, arg(metavar="INT")] = 2000
    """Pictures that a score is taken of."""


def main(args: Sequence[str]) -> int:
    options = parse(Reproduce, args, "fewstep reproduce")
    from rich.console import Console

    from fewstep.reproduce import STUDIES, Setting, chosen

    console = Console(highlight=False)
    if options.list and not options.studies:
        for name, study in STUDIES.items():
            console.print(f"  {name:14} {study.title}", markup=False)
        return 0
    if not options.studies:
        raise Misuse(f"say which studies: all, or of {', '.join(STUDIES)}")
    if options.workers < 1:
        raise Misuse(f"--workers is at least 1, not {options.workers}")
    setting = Setting(
        data=options.data,
        size=options.size,
        seeds=options.seeds,
        quick=options.quick,
        features=options.features,
        samples=options.samples,
        longer=options.longer,
    )
    if options.list:
        return show(options, setting, console)
    chosen(options.studies)
    return run(options, setting, console, shlex.join(["fewstep", "reproduce", *args]))


def show(options: Reproduce, setting, console) -> int:
    """The runs of the chosen studies, and which of them are finished."""
    from pathlib import Path

    from fewstep.reproduce.reproducing import chosen, planned
    from fewstep.reproduce.working import finished

    for job in planned(setting, Path(options.out), chosen(options.studies)):
        state = "finished" if finished(job) else f"{job.recipe.steps} steps"
        console.print(f"  {job.name:14} seed {job.seed}  {state}", markup=False)
    return 0


def run(options: Reproduce, setting, console, command: str) -> int:
    from fewstep.reproduce.reproducing import Stopped, reproduce

    try:
        written = reproduce(
            setting, options.out, options.studies, workers=options.workers, console=console, command=command
        )
    except Stopped:
        console.print(f"Stopped; everything is kept. To go on: {command}", markup=False, soft_wrap=True)
        return 130
    for path in written:
        console.print(str(path), markup=False, soft_wrap=True)
    return 0
