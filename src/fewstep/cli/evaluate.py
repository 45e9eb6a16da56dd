"""`fewstep evaluate`: scores of samples against a reference, and reports side by side."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, UseAppendAction, arg

from fewstep.cli import Misuse, sources
from fewstep.cli.crew import Crew, crew, own_device
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from fewstep.evaluation.opening import Asking
    from fewstep.evaluation.report import Report


@dataclass(frozen=True)
class Evaluate:
    """Put a number on samples: Fréchet distances, KID, precision, recall and others.

    SAMPLES and REFERENCE are pictures (a folder, .zip, .npz, .parquet, .tar, a data set), statistics (an .npz with mu
    and sigma) or a model, which is drawn from on the way. Several SAMPLES make a table:

      fewstep evaluate mnist mnist-test.zip -n 2000 --steps 1
      fewstep evaluate one.npz two.npz mnist-test.zip --out scores.json
      fewstep evaluate samples.npz --score is --features inception
      fewstep evaluate runs/lcm photos/ --steps 4 --features clip
      fewstep evaluate --compare monday.json tuesday.json
      torchrun --nproc-per-node 2 -m fewstep.cli evaluate mnist mnist-test.zip

    docs/evaluation.md says how to get an honest number."""

    sets: Annotated[Positional[tuple[str, ...]], arg(metavar="SAMPLES ... REFERENCE", help_behavior_hint="")] = ()
    """What is judged, and last what it is compared with. One alone: scores that need no reference."""
    reference: Annotated[str | None, arg(metavar="REFERENCE")] = None
    """The reference, in the place of the last of them."""
    features: Annotated[str, arg(metavar="NAME|FILE")] = "auto"
    """What sees the pictures: inception, dinov2, clip, vgg, mnist, digits, simple, or a file of weights. Default: the
    bundled readers of digits for 28×28 and 8×8 grey pictures, else inception."""
    score: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME", aliases=["--scores"])] = ()
    """A score, or several with commas: fd, sfd, kid, is, precision, recall, density, coverage, cmmd, clip, agreement,
    spread, energy. Default: all that can be had."""
    n: Annotated[int | None, arg(aliases=["-n"], metavar="INT")] = None
    """How many samples: drawn by a model, or chosen at random among those there are. Default: as many as the reference
    has, at most 10,000; all there are."""
    reference_n: Annotated[int | None, arg(metavar="INT")] = None
    """The same of the reference. Default: all."""
    reference_steps: Annotated[int | None, arg(metavar="INT")] = None
    """Network calls a picture of a model that is the reference. Default as for sample."""
    size: Annotated[int | None, arg(metavar="INT")] = None
    """Resize the shorter side of stored pictures and crop to a square. Default: the features see each as it is."""
    channels: Annotated[int | None, arg(metavar="INT")] = None
    """Make stored pictures grey (1) or RGB (3)."""
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Network calls a picture of a model. Default as for sample."""
    times: Annotated[tuple[float, ...], arg(metavar="TIME ...")] = ()
    """Noise levels of the calls, in the place of --steps."""
    sampler: Annotated[str | None, arg(metavar="NAME")] = None
    """How a model draws, as for sample."""
    labels: Annotated[tuple[str, ...], arg(metavar="LABEL ...", aliases=["--label"])] = ()
    """Classes, taken in turn: for a model (default: all; reference: as often as the reference has them), or those that
    stored samples were asked for."""
    prompts: Annotated[str | None, arg(metavar="FILE")] = None
    """Prompts, one a line: for a text-to-image model (default: the reference's captions), or those that stored samples
    were asked for."""
    guidance: Annotated[float | None, arg(metavar="SCALE")] = None
    """How closely prompts (or classes) are followed. Default as for sample."""
    seed: int = 0
    """The source of all randomness: of noise, and of choices."""
    batch: int = 64
    """Pictures at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    no_cache: bool = False
    """See the reference anew, and keep nothing of it on disk."""
    out: Annotated[str | None, arg(aliases=["-o"], metavar="FILE")] = None
    """Also write the report as JSON; of several SAMPLES a list."""
    compare: bool = False
    """Put reports written by --out side by side; with --out also into one file."""


def main(args: Sequence[str]) -> int:
    options = parse(Evaluate, args, "fewstep evaluate")
    if not options.sets:
        raise Misuse("say what to evaluate: fewstep evaluate SAMPLES REFERENCE; see fewstep evaluate --help")
    if options.out and Path(options.out).suffix != ".json":
        raise ValueError(f"--out is a .json file, not {options.out}.")
    if options.compare:
        return compare(options)
    if (options.n is not None and options.n < 1) or (options.reference_n is not None and options.reference_n < 1):
        raise ValueError("-n and --reference-n are whole numbers from 1.")
    if options.steps is not None and options.times:
        raise ValueError("--steps and --times contradict each other: give one of the two.")
    with crew() as us:
        reports = evaluated(options, us)
        if us.main:
            from fewstep.evaluation import report

            print(reports[0] if len(reports) == 1 else report.compare(reports))
            if options.out:
                report.write(options.out, reports)
                print(f"\nwritten to {options.out}")
    return 0


def compare(options: Evaluate) -> int:
    from fewstep.evaluation import report

    given = [field.name for field in fields(options) if getattr(options, field.name) != field.default]
    if idle := [name for name in given if name not in ("sets", "compare", "out")]:
        raise ValueError(
            f"--compare reads reports that are there; --{idle[0].replace('_', '-')} belongs to an evaluation."
        )
    reports = [found for path in options.sets for found in report.read(path)]
    print(report.compare(reports))
    if options.out:
        report.write(options.out, reports)
        print(f"\nwritten to {options.out}")
    return 0


def evaluated(options: Evaluate, us: Crew) -> "list[Report]":
    from fewstep.evaluation import Yardstick

    samples, reference = sides(options)
    device, ask = own_device(options.device), asking(options)
    names = [name for word in options.score for name in word.split(",") if name]
    with bar(us) as progress:
        measure = Yardstick(
            reference,
            features=options.features,
            scores=names or None,
            n=options.reference_n,
            size=options.size,
            channels=options.channels,
            steps=options.reference_steps,
            prompts=ask.prompts,
            seed=options.seed,
            batch=options.batch,
            device=device,
            cache=not options.no_cache,
            split=us.world > 1,
            progress=progress,
        )
        return [measure(each, ask) for each in samples]


def sides(options: Evaluate) -> tuple[tuple[str, ...], str | None]:
    """The samples and the reference."""
    if options.reference is not None:
        return options.sets, options.reference
    return (options.sets, None) if len(options.sets) == 1 else (options.sets[:-1], options.sets[-1])


def asking(options: Evaluate) -> "Asking":
    from fewstep.evaluation.opening import Asking

    how = {"steps": options.steps, "times": options.times or None, "sampler": options.sampler,
           "guidance": options.guidance}  # fmt: skip
    labels = options.labels[0] if options.labels in (("all",), ("reference",)) else options.labels or None
    prompts = None if options.prompts is None else sources.prompts_in(options.prompts)
    how = {k: v for k, v in how.items() if v is not None}
    return Asking(options.n, options.size, options.channels, options.seed, labels, prompts, how,
                  own_device(options.device))  # fmt: skip


@contextmanager
def bar(us: Crew) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each set, with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn()
    silent = not (us.main and console.is_terminal)
    with Progress(*columns, TextColumn("left"), console=console, transient=True, disable=silent) as progress:
        tasks = {}

        def advance(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done)

        yield advance
