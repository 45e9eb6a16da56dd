"""One run: train, draw pictures on the way, score them. A run that was stopped goes on; a finished one is only read.

    FOLDER/recipe.json, checkpoints/, model/    as `fewstep train` leaves them
    FOLDER/drawn/STEP-CALLS.npz                 the pictures drawn after STEP steps with so many network calls
    FOLDER/times.json                           the sampling times that were found, and every score of the search
    FOLDER/costs.jsonl                          the processor's seconds of training up to every point and checkpoint
    FOLDER/result.json                          the scores, with the digest of the features they were taken from

Pictures are kept, so other features score a finished study again without training anything. The times of two and four
calls are those with the smallest Fréchet distance of pictures from other noise, found one after another as the paper
found its own.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fewstep.files import read_json, whole_file, write_json
from fewstep.formats import load
from fewstep.images.grid import to_uint8
from fewstep.model import Model
from fewstep.objectives import ProgressiveDistillation
from fewstep.reproduce.recipes import SEARCHED, Job
from fewstep.reproduce.scoring import Judge
from fewstep.times import search_times
from fewstep.training.fit import fit

WALK = 18
"""Steps of the teacher's Heun walk, 35 calls."""

MORE = (2, 4)
"""Calls for which times are searched."""
TRIED, SCAN, TOLERANCE, OTHER = 1000, 7, 0.05, 1_000
"""Of the search: pictures a try, tries before it narrows, the width at which a time is narrow enough, what is added to
the seed of its noise."""

Report = Callable[[Job, int], None]
"""Told a job and how many of its steps are done."""


class Drawing(NamedTuple):
    """Pictures of a run: after which step, in how many calls."""

    step: int
    calls: int

    def path(self, folder: Path) -> Path:
        return folder / "drawn" / f"{self.step}-{self.calls}.npz"


def work(job: Job, judge: Judge, report: Report, stopping: Callable[[], bool]) -> dict | None:
    """Does a job, or what is left of it; the content of its result.json, None where it was told to stop."""
    path = job.folder / "result.json"
    kept = read_json(path) if path.is_file() else None
    if kept and kept["judge"] == judge.about:
        report(job, job.recipe.steps)
        return kept
    if kept is None and not train(job, report, stopping):
        return None
    if job.name in SEARCHED:
        draw_more(job, judge)
    result = {
        "name": job.name,
        "seed": job.seed,
        "judge": judge.about,
        "teacher": job.recipe.teacher is not None,
        "steps": job.recipe.steps,
        "costs": costs(job),
        "scores": scores(job, judge),
    }
    write_json(path, result)
    shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
    report(job, job.recipe.steps)
    return result


def train(job: Job, report: Report, stopping: Callable[[], bool]) -> bool:
    """Trains to the end, unless told to stop; whether the end was reached."""
    run = fit(job.recipe, job.folder, device="cpu")
    before, began = _seconds_until(job.folder, run.state.step), time.process_time()
    due = points(job)
    for step in run:
        calls = due.get(step.k)
        if calls is not None or step.last or step.k % job.recipe.checkpoint_every == 0:  # from here a run may go on
            spent = before + time.process_time() - began
            if calls is not None:
                draw(run.model(), job, Drawing(step.k, calls))
            _note(job.folder, step.k, spent)
            before, began = spent, time.process_time()
        run.stop = run.stop or stopping()
        if step.k % 10 == 0 or step.last:
            report(job, step.k)
    return run.state.step == job.recipe.steps


def points(job: Job) -> dict[int, int]:
    """After which steps of training pictures are drawn, and in how many calls.

    A progressively distilled model takes as many calls as its stage has steps; a teacher walks, at the end only.
    """
    objective, steps, every = job.recipe.objective, job.recipe.steps, job.recipe.checkpoint_every
    if isinstance(objective, ProgressiveDistillation):
        left = [objective.steps(k / steps) for k in range(steps)]
        ends = [k + 1 for k in range(steps) if k + 1 == steps or left[k + 1] < left[k]]
        return {k: left[k - 1] for k in ends if left[k - 1] <= 4}
    if not objective.consistent:
        return {steps: 2 * WALK - 1}
    return dict.fromkeys((*range(every, steps, every), steps), 1)


def draw_more(job: Job, judge: Judge) -> None:
    """Draws the trained model in more calls, at times that this judge likes best."""
    found, model = search(job, judge), load(str(job.folder), device="cpu")
    for calls in MORE:
        draw(model, job, Drawing(job.recipe.steps, calls), found[calls])


def search(job: Job, judge: Judge) -> dict[int, tuple[float, ...]]:
    """The best times by number of calls, from the run's folder or searched for; another judge searches again."""
    path = job.folder / "times.json"
    kept = read_json(path) if path.is_file() else None
    if kept is None or kept["judge"] != judge.about:
        model, n = load(str(job.folder), device="cpu"), min(TRIED, job.samples)

        def score(times: tuple[float, ...]) -> float:
            images = pictures(model, job, len(times), n, job.seed + OTHER, times)
            return judge.fd(to_uint8(images))

        found = search_times(score, model.schedule, max(MORE), points=SCAN, tolerance=TOLERANCE)
        best = {calls: found.best(calls) for calls in MORE}
        write_json(path, {"judge": judge.about, "times": best, "tried": found.table()})
        return best
    return {int(calls): tuple(times) for calls, times in kept["times"].items()}


def drawings(job: Job) -> list[Drawing]:
    """All that is drawn of a run: at its `points`, and in the calls whose times are searched."""
    more = MORE if job.name in SEARCHED else ()
    return [Drawing(*point) for point in (*points(job).items(), *((job.recipe.steps, calls) for calls in more))]


@torch.no_grad()
def draw(model: Model, job: Job, drawing: Drawing, times: tuple[float, ...] | None = None) -> None:
    """Writes pictures of a model: the noise is that of the run's seed, the same for all methods."""
    shown = pictures(model, job, drawing.calls, job.samples, job.seed, times)
    path = drawing.path(job.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as aside:
        np.savez_compressed(aside, images=to_uint8(shown))


def pictures(
    model: Model, job: Job, calls: int, n: int, seed: int, times: tuple[float, ...] | None = None
) -> torch.Tensor:
    """n pictures (n, C, H, W), of all classes in turn, as this run's model draws them in so many network calls."""
    wanted = labels(n, job.classes)
    asked = {} if wanted is None else {"labels": torch.from_numpy(wanted)}
    if model.consistent:
        how = {"times": times or (model.schedule.t_max,)}
    elif job.name == "teacher":
        how = {"sampler": "heun", "steps": WALK}
    else:
        how = {"sampler": "progdist", "steps": calls}
    return model.sample(n, seed=seed, batch=500, **asked, **how)  # type: ignore[arg-type]


def labels(n: int, classes: int) -> np.ndarray | None:
    """The classes (n,) that are asked for, all in turn; None where pictures have none."""
    return np.arange(n) % classes if classes else None


def scores(job: Job, judge: Judge) -> list[dict]:
    """The scores of all pictures that were drawn: step, calls, and the judge's numbers."""
    found = []
    for step, calls in drawings(job):
        images = drawn(job.folder, step, calls)
        asked = labels(len(images), job.classes)
        found.append({"step": step, "calls": calls, **judge(images, asked), **gap(job, images)})
    return found


def gap(job: Job, images: np.ndarray) -> dict[str, float]:
    """How far pictures are from those of the seed's teacher, from the same noise: the root mean square, in [-1, 1]."""
    if job.teacher is None:
        return {}
    theirs = drawn(job.teacher.folder, job.teacher.recipe.steps, 2 * WALK - 1)
    difference = (images.astype(np.float64) - theirs) / 127.5
    return {"gap": round(float(np.sqrt((difference**2).mean())), 6)}


def drawn(folder: Path, step: int, calls: int) -> np.ndarray:
    """The pictures uint8 (n, H, W, C) that a run drew."""
    with np.load(Drawing(step, calls).path(folder), allow_pickle=False) as file:
        return file["images"]


def costs(job: Job) -> dict[str, float]:
    """Seconds of training up to every step after which pictures were drawn."""
    drawn_at = points(job)
    return {str(line["step"]): line["seconds"] for line in _lines(job.folder) if line["step"] in drawn_at}


def _lines(folder: Path) -> Iterator[dict]:
    path = folder / "costs.jsonl"
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text().splitlines())


def _seconds_until(folder: Path, step: int) -> float:
    """What training up to this step has cost; forgets what was noted after it."""
    kept = [line for line in _lines(folder) if line["step"] <= step]
    if folder.is_dir():
        with whole_file(folder / "costs.jsonl") as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
    return kept[-1]["seconds"] if kept else 0.0


def _note(folder: Path, step: int, seconds: float) -> None:
    with (folder / "costs.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "seconds": round(seconds, 3)}) + "\n")


def finished(job: Job) -> bool:
    """Whether there is nothing left to train."""
    return (job.folder / "result.json").is_file()
