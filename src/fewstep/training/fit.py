"""The training loop.

    for step in fit(recipe, "runs/mine"):
        print(step.k, step.loss)

A run owns its folder: `recipe.json`, `checkpoints/`, and at the end `model/`. One that was stopped, or killed, and
started again goes on as if nothing had happened, bit for bit on the CPU; more processes give the same losses up to
rounding. What is shown and logged is up to the body of the `for` loop: see `fewstep.training.track`.
"""

import os
import signal
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from pathlib import Path

from fewstep import design
from fewstep.codec import differences
from fewstep.files import hold, read_json, write_json
from fewstep.images import Batches, open_images
from fewstep.model import Model, build
from fewstep.training import building, checkpoint, latents, material, resolving, results
from fewstep.training.processes import Processes
from fewstep.training.recipe import Recipe, from_json, to_json, with_free
from fewstep.training.stepping import Step, Stepper, Stopped

__all__ = ["Run", "Step", "Stopped", "fit"]


def fit(
    recipe: Recipe, folder: str | Path, *, device: str | None = None, given: Collection[Sequence[str]] = ()
) -> "Run":
    """Begins, or goes on with, the training run in `folder`; iterate over it to train.

    What data and start decide takes the place of what the recipe says, but for the settings that are `given`, by their
    paths, such as ("architecture", "embedding"): those must agree.
    Raises ValueError where the folder holds a run of another recipe (the message shows the difference) or where recipe,
    data and teacher do not fit, FileNotFoundError for missing data or a missing teacher, RuntimeError where another
    process trains in the folder, OSError where files cannot be written; while it trains, OSError where a checkpoint
    cannot be written and `Stopped` after ten steps in a row without finite numbers.

    >>> from dataclasses import replace
    >>> from fewstep.recipes import recipe
    >>> run = fewstep.fit(replace(recipe("digits-ect"), steps=2, batch=16), "runs/mine")
    >>> [step.k for step in run]
    [1, 2]
    >>> x = fewstep.load("runs/mine").sample(4)
    """
    return Run(recipe, folder, device=device, given=given)


class Run:
    """A training run: iterate over it to train; look at its parts in between.

    `stop = True` (Ctrl-C and SIGTERM set it too) ends it after the step to come, with a checkpoint. Leaving the loop
    early saves nothing: the run then goes on from its last checkpoint.
    """

    def __init__(
        self, recipe: Recipe, folder: str | Path, *, device: str | None = None, given: Collection[Sequence[str]] = ()
    ):
        self.folder = Path(folder)
        self.processes = Processes(device)
        self.device = self.processes.device
        self.images = open_images(recipe.data)
        if recipe.latent:
            resolved = latents.resolve(recipe, self.images, self.folder, self.device)
        else:
            resolved = resolving.resolve(recipe, self.images, self.device)
        self.recipe = resolved.recipe
        _check_given(given, recipe, self.recipe)
        self._claim()
        made = material.prepare(resolved, self.images, self.folder, self.processes)
        self.rows = made.rows
        parts = building.build(resolved, self.images, made.condition, self.device)
        self.design, self.state = parts.design, parts.state
        self.stepper = Stepper(parts, self.processes)
        self.about: dict[str, int | str] = {"pictures": len(self.images), **made.about}
        if resolved.teacher is not None and self.state.teacher is None:
            self.about["teacher"] = material.digest(resolved.teacher.denoiser.network)
        self.stop = False
        self._resume()

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.processes.main

    def model(self, *, averaged: bool = True) -> Model:
        """The model as it is now: the first average of the weights, or the weights themselves."""
        weights = results.weights(self.recipe, self.state, averaged=averaged)
        return build(self.design, {n: w.clone() for n, w in weights.items()}, self.device)

    def __iter__(self) -> Iterator[Step]:
        batches, began = iter(self._batches()), self.state.step
        with _signals(self):
            while self.state.step < self.recipe.steps:
                try:
                    step = self.stepper(*next(batches))
                except Stopped as error:
                    kept = checkpoint.checkpoints(self.folder)
                    begin = f" A new run may begin there: --start {kept[-1].folder} --out ANOTHER." if kept else ""
                    raise Stopped(f"{error} {self._kept()}{begin}") from None
                stopping, finished = self.processes.anywhere(self.stop), step.last
                yield replace(step, last=stopping or finished)
                due = self.state.step % self.recipe.checkpoint_every == 0
                # a skipped step left the weights as they were: worth keeping where nothing comes after it
                if finished or stopping or (due and self.stepper.good):
                    self.save()
                if stopping and not finished:
                    return
        whole = results.there(self.folder / "model")
        if self.state.step > began or not whole:  # else the model stays, with the times that were found for it
            self.finish()

    def _batches(self) -> Batches:
        r, p = self.recipe, self.processes
        return Batches(self.rows, r.seed, r.batch, start=self.state.step, rank=p.rank, world=p.world, workers=r.workers)

    # -- what is kept -----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint (in the main process).

        Raises OSError where it cannot be written, Stopped where a tensor is not finite; earlier ones are kept.
        """
        if self.main:
            s, stepper, tensors = self.state, self.stepper, self.state.tensors()
            if broken := next((name for name, t in tensors.items() if not bool(t.isfinite().all())), None):
                raise Stopped(
                    f"After step {s.step} the tensor {broken} is not finite: try a lower --optimizer.lr. {self._kept()}"
                )
            about = {"updates": s.updates, "stage": s.stage, "skipped": s.skipped, "in_a_row": stepper.in_a_row,
                     "scaler": stepper.scaler.state_dict(), "ema": list(s.ema), **self.about}  # fmt: skip
            checkpoint.save(self.folder, s.step, tensors, about, design.to_json(self.design), self.recipe.keep)
        self.processes.wait()

    def finish(self) -> None:
        """Writes the trained model to `model/` in the run's folder."""
        if self.main:
            try:
                results.write(self.folder / "model", self.recipe, self.design, self.state, self.images)
            except OSError as error:
                raise OSError(
                    f"The model could not be written to {self.folder / 'model'} ({error}). {self._kept()}"
                ) from error
        self.processes.wait()

    def _kept(self) -> str:
        kept = checkpoint.checkpoints(self.folder)
        return f"The last good state is {kept[-1].folder}." if kept else "There is no checkpoint yet."

    def _claim(self) -> None:
        """Makes the folder this recipe's, or checks that it is."""
        path = self.folder / "recipe.json"
        begun = checkpoint.checkpoints(self.folder) or (self.folder / "metrics.jsonl").is_file()
        if path.is_file() and (begun or results.there(self.folder / "model")):
            kept = from_json(read_json(path), str(path))
            if lines := differences(to_json(with_free(self.recipe, kept)), to_json(kept)):
                raise ValueError(
                    f"{self.folder} holds a run of another recipe:\n  "
                    + "\n  ".join(lines)
                    + "\nGive the same settings to go on with it, or another folder with --out."
                )
        if self.main:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                hold(self.folder)
                checkpoint.clean(self.folder)
                write_json(path, to_json(self.recipe))
            except OSError as error:
                raise OSError(
                    f"{self.folder} cannot be written to ({error}): choose another folder with --out."
                ) from error
        self.processes.wait()

    def _resume(self) -> None:
        kept = checkpoint.checkpoints(self.folder)
        if not kept:
            return
        tensors, about = checkpoint.load(kept[-1])
        for what, now in self.about.items():
            if about.get(what, now) != now:
                raise ValueError(
                    f"The {what} changed since {kept[-1].folder} was written ({now} now, {about[what]} then): "
                    "put the old ones back, or begin anew in another folder with --out."
                )
        s, stepper = self.state, self.stepper
        s.step, s.updates, s.stage, s.skipped = (about[name] for name in ("step", "updates", "stage", "skipped"))
        stepper.in_a_row = about["in_a_row"]
        s.load(tensors)
        if about["scaler"]:
            stepper.scaler.load_state_dict(about["scaler"])


def _check_given(given: Collection[Sequence[str]], asked: Recipe, made: Recipe) -> None:
    """Raises ValueError for a setting that was given, and that another value took the place of."""
    for path in given:
        value, now = (reduce(lambda part, name: getattr(part, name, None), path, recipe) for recipe in (asked, made))
        if now != value:
            source = made.start if made.start not in (None, "random") else made.teacher
            whose = f"the data and {source}, where the weights start," if source else "the data"
            setting = f"--{'.'.join(path)}".replace("_", "-")
            raise ValueError(f"{setting} {value} cannot be: {whose} decide it ({path[-1]} {now}). Leave it out.")


@contextmanager
def _signals(run: Run) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the run to stop after its step; a second Ctrl-C interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        if run.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        if run.main and not run.stop:  # not by print, which a signal may interrupt
            os.write(2, b"\nStopping after this step, with a checkpoint; Ctrl-C again stops at once, without one.\n")
        run.stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
