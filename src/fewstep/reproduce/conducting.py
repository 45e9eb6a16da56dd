"""A study from beginning to end: all its runs, one after another or side by side, then the report.

Every run has one thread, in this process or in one of several, so what it produces depends on neither. Ctrl-C ends
runs after the step they are at, with a checkpoint; the same command goes on.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fewstep.reproduce.recipes import Job
from fewstep.reproduce.scoring import Judge
from fewstep.reproduce.working import finished, work
from fewstep.solvers import Solver

Told = Callable[[Job, int], None]


class Stopped(Exception):
    """The study was told to stop; everything is kept."""


def conduct(
    jobs: list[Job], judge: Callable[[], Judge], *, workers: int, console: Console
) -> dict[tuple[str, int], dict]:
    """Does all jobs, a teacher before its students; their results by (name, seed). Raises Stopped on Ctrl-C."""
    with _bar(jobs, console) as told:
        return _alone(jobs, judge, told) if workers == 1 else _together(jobs, judge, told, workers)


def weight(job: Job) -> int:
    """What a step costs, in passes of the network: forward 1, backward 2, the target's and the teacher's 1 each."""
    if job.teacher is None:
        return 3
    objective = job.recipe.objective
    solver: Solver | None = getattr(objective, "solver", None)
    return 4 + (solver.calls if solver else 1 if objective.needs_teacher else 0)


def _alone(jobs: list[Job], judge: Callable[[], Judge], told: Told) -> dict[tuple[str, int], dict]:
    threads, asked, found = torch.get_num_threads(), judge(), {}
    torch.set_num_threads(1)
    try:
        for job in jobs:
            result = work(job, asked, told, lambda: False)
            if result is None:
                raise Stopped
            found[job.name, job.seed] = result
    except KeyboardInterrupt:
        raise Stopped from None
    finally:
        torch.set_num_threads(threads)
    return found


def _together(jobs: list[Job], judge: Callable[[], Judge], told: Told, workers: int) -> dict[tuple[str, int], dict]:
    judge()  # what is wrong with it is told here: a process that cannot begin only says that it ended
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used its threads can hang
    stopping, heard = context.Event(), context.Queue()
    places = {job.folder: job for job in jobs}
    pool = ProcessPoolExecutor(workers, context, _ready, (stopping, heard, judge))
    waiting, running, found = list(jobs), dict[Future, Job](), {}
    try:
        while waiting or running:
            for job in [job for job in waiting if job.teacher is None or (job.teacher.name, job.seed) in found]:
                if len(running) < workers:  # no more than can begin: what is handed over is not taken back
                    waiting.remove(job)
                    running[pool.submit(_worked, job)] = job
            done, _ = wait(running, timeout=0.3, return_when=FIRST_COMPLETED)
            _listen(heard, places, told)
            for future in done:
                job, result = running.pop(future), future.result()
                if result is None:
                    raise Stopped
                found[job.name, job.seed] = result
    except KeyboardInterrupt:
        raise Stopped from None
    finally:
        stopping.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return found


def _listen(heard: Any, places: dict[Path, Job], told: Told) -> None:
    while True:
        try:
            folder, step = heard.get_nowait()
        except Empty:
            return
        told(places[folder], step)


_worker: dict[str, Any] = {}
"""What a worker process keeps from run to run."""


def _ready(stopping: Any, heard: Any, judge: Callable[[], Judge]) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that hears Ctrl-C tells the others
    _worker.update(stopping=stopping, heard=heard, judge=judge())


def _worked(job: Job) -> dict | None:
    def told(job: Job, step: int) -> None:
        _worker["heard"].put((job.folder, step))

    return work(job, _worker["judge"], told, _worker["stopping"].is_set)


@contextmanager
def _bar(jobs: list[Job], console: Console) -> Iterator[Told]:
    """One bar over the whole study, in passes of the network; the time left is what the unfinished ones take."""
    told_in = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    columns = (*told_in, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    left = {job.folder: job for job in jobs if not finished(job)}
    done = dict.fromkeys(left, 0.0)
    with Progress(*columns, console=console, speed_estimate_period=300) as progress:
        total = sum(weight(job) * job.recipe.steps for job in left.values())
        bar = progress.add_task(f"{len(left)} of {len(jobs)} runs to do", total=total or 1, completed=0 if left else 1)

        def told(job: Job, step: int) -> None:
            if job.folder not in left:
                return
            done[job.folder] = weight(job) * step
            over = sum(finished(other) for other in left.values()) + len(jobs) - len(left)
            progress.update(
                bar, completed=sum(done.values()), description=f"{over}/{len(jobs)} runs, {job.name} {job.seed}"
            )

        yield told
