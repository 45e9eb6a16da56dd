"""Consistency training from nothing by public implementations and by fewstep, at equal cost: score against time.

    python -m benchmarks.peers --peers DIR --data mnist-train.zip           three seeds, ten minutes each; goes on
    python -m benchmarks.peers --peers DIR --data mnist-train.zip --quick   one seed, 20 seconds a run: a look
    python -m benchmarks.peers --peers DIR --data mnist-train.zip --check   a few steps of each: do the adapters fit?

DIR holds the checkouts as owner+name (docs/peers.md has the commands). Results, one JSON and weights a run, are in
--out; the page and its figure are written from them.
"""

import argparse
import contextlib
import fnmatch
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import registry
from .checkouts import place
from .conducting import Job, conduct
from .method import SHAPE
from .running import CLOCKS, Plan

QUICK = {"budget": 20.0, "marks": (0.2, 0.5, 1.0), "samples": 500}
OFF = 0.02
"""How far f(x, t_min) may be from x: some peers reach it at 0 only."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "benchmarks.peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--peers", type=Path, help="folder with the checkouts, as owner+name")
    made.add_argument("--data", required=True, help="pictures to train on: mnist-train.zip")
    made.add_argument("--reference", help="pictures to compare with (the same name with test in the place of train)")
    made.add_argument("--out", type=Path, help="where results are kept (runs/peers; with --quick runs/peers-quick)")
    made.add_argument("--page", type=Path, help="the page to write (docs/peers.md; with --quick in --out)")
    made.add_argument("--only", nargs="+", default=["*"], metavar="NAME", help="names of methods, * and ? allowed")
    made.add_argument("--without", nargs="+", default=[], metavar="NAME", help="the same, of those to leave out")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--budget", type=float, default=Plan.budget, help="seconds of training a run")
    made.add_argument("--batch", type=int, default=Plan.batch)
    made.add_argument("--samples", type=int, default=Plan.samples, help="pictures that are scored")
    made.add_argument("--clock", choices=CLOCKS, default=Plan.clock,
                      help="what the budget counts: the wall's seconds, or the processor's, which other work on the\n"
                      "machine hardly touches")  # fmt: skip
    made.add_argument("--workers", type=int, default=2, help="runs side by side, each with a core; 0: in this process")
    made.add_argument("--quick", action="store_true", help="a look: 20 seconds a run, one seed")
    made.add_argument("--check", action="store_true", help="no study: a few steps of each, and is f(x, t_min) x?")
    made.add_argument("--report", action="store_true", help="no study: the page, from the runs that are there")
    made.add_argument("--list", action="store_true", help="no study: the names")
    made.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    made.add_argument("--core", type=int, help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(arguments)
    plan, folder = planned(options)
    if options.run:
        return child(options, plan, folder)
    names = [name for name in registry.ENTRIES if _named(name, options.only) and not _named(name, options.without)]
    if not names:
        print(f"No method is called {' '.join(options.only)}: they are {', '.join(registry.ENTRIES)}.")
        return 1
    if options.list:
        print("\n".join(f"{name:24} {registry.ENTRIES[name].title}" for name in names))
        return 0
    names, absent = available(names, options.peers)
    for reason in dict.fromkeys(absent.values()):
        print(reason)
    folder.mkdir(parents=True, exist_ok=True)
    seeds = 1 if options.quick or options.check else options.seeds
    jobs = [] if options.report else [Job(name, seed) for seed in range(seeds) for name in names
                                      if seed == 0 or not registry.ENTRIES[name].trial]  # fmt: skip
    try:
        failed = conduct(jobs, plan, folder, options.peers, arguments, options.workers)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.")
        return 130
    for job, reason in failed:
        print(f"{job.name}, seed {job.seed}, failed: {reason}")
    if options.check and not failed:
        print(f"{len(names)} fit.")
    if not options.check:
        from .page import write

        page = options.page or (folder / "peers.md" if options.quick else Path("docs/peers.md"))
        print(f"Written: {write(page, folder, plan, absent | {job.name: reason for job, reason in failed})}")
    return 1 if failed else 0


def planned(options: argparse.Namespace) -> tuple[Plan, Path]:
    """What all runs share, and where they are kept."""
    reference = options.reference or str(Path(options.data).with_name(Path(options.data).name.replace("train", "test")))
    plan = {"budget": options.budget, "samples": options.samples, **(QUICK if options.quick else {})}
    if options.check:
        plan = {"budget": 1.0, "samples": 2, "marks": (1.0,)}
    kind = "runs/peers-check" if options.check else "runs/peers-quick" if options.quick else "runs/peers"
    return Plan(options.data, reference, batch=options.batch, clock=options.clock, **plan), options.out or Path(kind)


def available(names: Sequence[str], peers: Path | None) -> tuple[list[str], dict[str, str]]:
    """The methods whose code is there; why others are not."""
    there, absent = [], {}
    for name in names:
        source = registry.ENTRIES[name].source
        try:
            if source is not None:
                place(peers, source)
            there.append(name)
        except FileNotFoundError as error:
            absent[name] = str(error)
    return there, absent


def child(options: argparse.Namespace, plan: Plan, folder: Path) -> int:
    """One run, in this process; prints the seconds of training now and then, and nothing else."""
    import torch

    from . import running

    if options.core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    out, last = sys.stdout, [0.0]

    def tell(seconds: float) -> None:
        if time.monotonic() - last[0] > 0.5:
            last[0] = time.monotonic()
            print(seconds, file=out, flush=True)

    with contextlib.redirect_stdout(sys.stderr):  # peers print
        name, seed = options.run[0], int(options.run[1])
        if options.check:
            check(name, plan, folder, options.peers)
        else:
            running.run(name, seed, plan, folder, options.peers, tell)
    return 0


def check(name: str, plan: Plan, folder: Path, peers: Path | None) -> None:
    """A few steps: losses and pictures are finite, f(x, t_min) is x. RuntimeError where not."""
    from . import running

    found = running.pictures(plan, folder)
    method, stream = registry.method(name, 0, peers), running.batches(found, 0, 16)
    losses = [method.step(next(stream), share) for share in (0.0, 0.3, 0.6)]
    for called, way in method.ways().items():
        off = running.boundary(way, found)
        shapes = [tuple(way.sample(steps, 3).shape) for steps in (1, 2)]
        if not off <= OFF or shapes != [(3, *SHAPE)] * 2:
            raise RuntimeError(f"{name}, {called}: |f(x, t_min) − x| is {off}, pictures are {shapes}.")
    losses.append(method.step(next(stream), 0.9))  # drawing has left it as it was
    if not all(map(math.isfinite, losses)):
        raise RuntimeError(f"{name}: its losses are {losses}.")


def _named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    sys.exit(main())
