"""`fewstep sample`: draws pictures into one grid, an .npz or a folder."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from fewstep.cli import sources
from fewstep.cli.crew import Crew, crew, own_device
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from fewstep.cli.outputs import Output
    from fewstep.model import Model


@dataclass(frozen=True)
class Sample:
    """Draw pictures.

    Picture i depends on (seed, i) and its label only, whatever the batch and the number of processes:

      fewstep sample mnist --labels 7
      fewstep sample mnist -n 2000 --labels all --out mnist.npz
      torchrun --nproc-per-node 2 -m fewstep.cli sample runs/mine -n 50000 --out mine.npz

    A run that was interrupted goes on by the same command."""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """A run's folder, a saved model or a bundled name (see: fewstep models)."""
    n: Annotated[int, arg(aliases=["-n"])] = 16
    """How many pictures."""
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Network calls a picture (for a diffusion model's samplers: steps). Default 1 (18)."""
    times: Annotated[tuple[float, ...], arg(metavar="TIME ...")] = ()
    """Noise levels of the calls, decreasing, such as 80 0.82, in the place of --steps."""
    seed: int = 0
    """The source of all randomness."""
    labels: Annotated[tuple[str, ...], arg(metavar="LABEL ...", aliases=["--label"])] = ()
    """Classes by number or name, taken in turn: picture i shows the one at i mod their count. all: every class.
    Default: random, from the seed."""
    sampler: Annotated[
        Literal["consistency", "heun", "euler", "dpm", "ancestral"] | None,
        arg(metavar="{consistency,heun,euler,dpm,ancestral}"),
    ] = None
    """How pictures are drawn. Default: consistency, for a diffusion model heun."""
    out: Annotated[str | None, arg(aliases=["-o"], metavar="PATH")] = None
    """x.png: one grid. x.npz: arr_0 uint8 (n, H, W, C), arr_1 labels. A folder: single PNGs. Default: samples.png."""
    first: int = 0
    """The index of the first picture."""
    batch: int = 256
    """Pictures at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite what was made with other settings."""


def main(args: Sequence[str]) -> int:
    options = parse(Sample, args, "fewstep sample")
    check(options)
    with crew() as us:
        return run(options, us)


def check(options: Sample) -> None:
    if options.n < 1 or options.batch < 1 or options.first < 0:
        raise ValueError("-n and --batch are whole numbers from 1, --first from 0.")
    if options.steps is not None and options.times:
        raise ValueError("--steps and --times contradict each other: give one of the two.")


def run(options: Sample, us: Crew) -> int:
    import fewstep
    from fewstep.cli.outputs import choose

    model = fewstep.load(options.source, device=own_device(options.device))
    asking, origin = sources.asking(options.labels, model), sources.origin(options.source)
    settings = {"n": options.n, "first": options.first, "seed": options.seed, "asked": list(options.labels),
                **walk(options.sampler, options.steps, options.times, model), "sha256": origin["sha256"]}  # fmt: skip
    output = choose(options.out, "samples.png", settings, options.force)
    if not us.first(lambda: output.begin(options.force)):
        if us.main:
            print(f"{output.path} is there already, made with these settings (--force draws it again).")
        return 0
    try:
        seconds = draw(model, output, options, asking, us)
        us.meet()
    except BaseException as stop:
        kept = output.give_up() if us.main else 0
        if not isinstance(stop, KeyboardInterrupt):
            raise
        go_on = f" The same command goes on: {kept} of {options.n} pictures are in {output.parts}." if kept else ""
        raise KeyboardInterrupt("interrupted." + go_on) from None
    if us.main:
        about = {**origin, **sources.versions(), "device": str(model.device), "seconds_per_image": seconds}
        output.finish(about)
        print(f"{output.path}: {options.n} pictures, {per_image(seconds)} (how they were made: {output.sidecar})")
    us.meet()
    return 0


def walk(sampler: str | None, steps: int | None, times: Sequence[float], model: "Model") -> dict[str, Any]:
    """The sampler and its noise levels, written out; those of a diffusion model end in 0."""
    from fewstep.model import TEACHER_STEPS
    from fewstep.sampling import teacher_times

    sampler = sampler or ("consistency" if model.consistent else "heun")
    if sampler == "consistency":
        chosen = model.times(steps, times or None)
        return {"sampler": sampler, "steps": len(chosen), "times": chosen}
    chosen = list(times) or teacher_times(model.schedule, steps or TEACHER_STEPS)
    chosen = chosen if chosen[-1] == 0 else [*chosen, 0.0]
    return {"sampler": sampler, "steps": len(chosen) - 1, "times": chosen}


def draw(model: "Model", output: "Output", options: Sample, asking: sources.Asking, us: Crew) -> float:
    """Draws this process's share of what is missing; seconds a picture."""
    from fewstep.images import to_uint8

    indices = range(options.first, options.first + options.n)
    missing = sum(map(len, output.missing(indices, options.n)))
    size = min(options.batch, max(1, -(-missing // us.world)))
    mine = output.missing(indices, size)[us.rank :: us.world]
    us.meet()  # all have looked before the first part is written
    began, drawn = time.perf_counter(), 0
    with bar(options.n, options.n - missing, us) as advance:
        for rows in mine:
            asked = asking(rows)
            x = model.sample(
                len(rows),
                times=output.settings["times"],
                seed=options.seed,
                labels=asked,
                sampler=output.settings["sampler"],
                first=rows.start,
                batch=options.batch,
            )
            output.add(rows, to_uint8(x), sources.labels_shown(model, asked, options.seed, rows))
            drawn += len(rows)
            advance(len(rows) * us.world)
    return (time.perf_counter() - began) / max(1, drawn)


@contextmanager
def bar(total: int, completed: int, us: Crew) -> Iterator[Callable[[int], None]]:
    """A bar with the time left; the other processes are taken to be as fast as this one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    left = TimeRemainingColumn(), TextColumn("left")
    columns = TextColumn("drawing"), BarColumn(bar_width=24), MofNCompleteColumn(), *left
    console = Console(stderr=True)
    silent = not (us.main and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=silent) as progress:
        task = progress.add_task("", total=total, completed=completed)
        yield lambda more: progress.advance(task, more)


def per_image(seconds: float) -> str:
    return f"{seconds:.2f} s each" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms each"
