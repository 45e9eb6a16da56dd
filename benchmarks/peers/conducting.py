"""The runs of a study, two or so side by side: each in a process of its own, with one thread, on a core of its own.

Peers have modules of the same names, so no process imports two of them. A run that is finished is not done again; one
that was stopped begins anew.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import registry, running
from .running import Plan


class Job(NamedTuple):
    """A run to do."""

    name: str
    seed: int


def conduct(
    jobs: Sequence[Job], plan: Plan, folder: Path, peers: Path | None, arguments: list[str], workers: int
) -> list:
    """Does the jobs that are not finished; the ones that failed, each with its reason.

    `arguments` are the command line of the study, which a child takes up; no `workers` at all does them here.
    """
    left = [job for job in jobs if not running.complete(folder, job.name, job.seed, plan)]
    total = sum(plan.budget * registry.ENTRIES[job.name].share for job in left)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    if not left:
        return []
    running.pictures(plan, folder)  # decoded once, before anyone needs them
    with Progress(*columns) as bar:
        task = bar.add_task(f"{len(jobs) - len(left)} of {len(jobs)} runs are there", total=total)
        if not workers:
            scores = running.Scores(plan)
            for job in left:
                _here(job, plan, folder, peers, scores, lambda seconds: bar.advance(task, seconds))
            return []
        children = _Children(plan, arguments, folder, bar, task)
        pool = ThreadPoolExecutor(workers)
        try:
            return [failed for failed in pool.map(children.do, left) if failed]
        except KeyboardInterrupt:
            children.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _here(job: Job, plan: Plan, folder: Path, peers: Path | None, scores: running.Scores, advance) -> None:
    before = 0.0

    def tell(seconds: float) -> None:
        nonlocal before
        advance(seconds - before)
        before = seconds

    running.run(job.name, job.seed, plan, folder, peers, tell, scores)


class _Children:
    """The processes that work now, each on one of the cores this process may use."""

    def __init__(self, plan: Plan, arguments: list[str], folder: Path, bar: Progress, task):
        self.plan, self.arguments, self.folder, self.bar, self.task = plan, arguments, folder, bar, task
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
        self.lock, self.there, self.stopped = threading.Lock(), {}, False

    def do(self, job: Job) -> tuple[Job, str] | None:
        if self.stopped:
            return None
        with self.lock:
            core = min(self.cores, key=lambda core: sum(core == other for other, _ in self.there.values()))
            child = self._begun(job, core)
            self.there[job] = (core, child)
        before = 0.0
        for line in child.stdout:
            seconds = float(line)
            self.bar.update(self.task, advance=seconds - before, description=f"{job.name}, seed {job.seed}")
            before = seconds
        code = child.wait()
        with self.lock:
            del self.there[job]
        log = self._log(job)
        if code == 0:
            log.unlink(missing_ok=True)
            return None
        return (
            None if self.stopped else (job, f"{(log.read_text().strip().splitlines() or ['nothing'])[-1]} (see {log})")
        )

    def stop(self) -> None:
        self.stopped = True
        with self.lock:
            for _, child in self.there.values():
                child.terminate()

    def _log(self, job: Job) -> Path:
        return running.place(self.folder, job.name, job.seed).with_suffix(".log")

    def _begun(self, job: Job, core: int) -> subprocess.Popen:
        command = [sys.executable, "-m", __package__, *self.arguments,
                   "--run", job.name, str(job.seed), "--core", str(core)]  # fmt: skip
        path = os.pathsep.join([str(Path(__file__).parents[len(__package__.split("."))]), *sys.path])
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": path}
        with open(self._log(job), "w") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
