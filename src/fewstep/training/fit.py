"""The training loop.

    for step in fit(recipe, "runs/mine"):
        print(step.k, step.loss)

Every draw of sample j of step k is a function of (seed, k, j): of its row in the global batch, not of the process or
micro-batch that happens to hold it. Dropout alone depends on (seed, k, rank, micro-batch). So a run that was stopped, or
killed, and started again goes on as if nothing had happened, and more processes give the same losses up to rounding.

Gradients are summed over processes once a step, after the last micro-batch, and the bare networks are never wrapped: two
forward passes a step and a halved micro-batch after a lack of memory then need no exception.
"""

import copy
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from fewstep import design
from fewstep.codec import differences
from fewstep.conditions import Labels, Nothing
from fewstep.denoiser import Denoiser, Guided
from fewstep.design import Design
from fewstep.files import read_json, write_json
from fewstep.formats import load
from fewstep.images import Batches, open_images
from fewstep.model import Model, build
from fewstep.objectives import Draw
from fewstep.saving import write_model
from fewstep.tensors import DROPOUT, LABEL, TIMES, TRAIN, noise, rng, uniforms
from fewstep.training import checkpoint
from fewstep.training.recipe import Recipe, from_json, to_json, with_free
from fewstep.training.state import State

PATIENCE = 10
"""So many steps without finite numbers, one after another, end a run."""


class Stopped(RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""


@dataclass(frozen=True)
class Step:
    """What one step did."""

    k: int
    """Steps done, this one included."""
    of: int
    """Steps of the whole run."""
    loss: float
    """Mean weighted loss of the global batch; NaN for a skipped step."""
    levels: dict[str, float]
    """Mean loss by noise level, of the rows of this process."""
    gradient: float
    """Norm of the gradient, before clipping."""
    lr: float
    """Learning rate."""
    seconds: float
    """How long the step took."""
    images_per_second: float
    """Pictures of the global batch a second."""
    skipped: int
    """Steps skipped so far because loss or gradient were not finite."""
    last: bool
    """Whether the run ends with this step, at its end or because it was told to stop."""


def fit(recipe: Recipe, folder: str | Path, *, device: str | None = None) -> "Run":
    """Begins, or goes on with, the training run in `folder`; iterate over it to train.

    Raises ValueError where the folder holds a run of another recipe (the message shows the difference), FileNotFoundError
    for missing data or a missing teacher, OSError where a checkpoint cannot be written, `Stopped` after ten steps in a row
    without finite numbers.
    """
    return Run(recipe, folder, device=device)


class Run:
    """A training run: iterate over it to train; look at its parts in between."""

    def __init__(self, recipe: Recipe, folder: str | Path, *, device: str | None = None):
        self.folder = Path(folder)
        self.accelerator = _accelerator(recipe.precision, device)
        self.device = self.accelerator.device
        self.images = open_images(recipe.data)
        self.recipe, beginning, teacher = _resolved(recipe, self.images, self.device)
        self._claim()
        self.design = self._design()
        self.state = self._state(beginning, teacher)
        self.student = self._denoiser(self.state.network)
        self.target = self._denoiser(self.state.target) if self.state.target else self.student
        self.teacher = self._teacher(teacher)
        self.micro_batch = self.recipe.micro_batch or self.recipe.batch
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self.in_a_row = 0
        self.stop = False
        self._resume()

    @property
    def main(self) -> bool:
        """Whether this process writes files."""
        return self.accelerator.is_main_process

    def model(self, *, averaged: bool = True) -> Model:
        """The model as it is now: the first average of the weights, or the weights themselves."""
        weights = self.state.averaged() if averaged else self.state.network.state_dict()
        return build(self.design, {n: w.clone() for n, w in weights.items()}, self.device)

    def __iter__(self) -> Iterator[Step]:
        data = Batches(
            self.images,
            self.recipe.seed,
            self.recipe.batch,
            start=self.state.step,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            workers=self.recipe.workers,
        )
        saved = self.state.step
        with _signals(self):
            for images, labels in data:
                if self.state.step >= self.recipe.steps:
                    break
                step = self._train(images, labels)
                yield step
                if self.stop or step.last or self.state.step % self.recipe.checkpoint_every == 0:
                    self.save()
                    saved = self.state.step
                if self.stop:
                    return
            if saved < self.state.step:
                self.save()
            self.finish()

    # -- one step ---------------------------------------------------------------------------------------------------

    def _train(self, images: Tensor, labels: Tensor) -> Step:
        began, k = time.perf_counter(), self.state.step
        if self.recipe.objective.stage(self.recipe.progress(k)) > self.state.stage:
            self.state.promote(self.recipe.objective.stage(self.recipe.progress(k)))
        losses, times = self._gradients(k, images, labels)
        loss = float(self.accelerator.reduce(losses.sum(), "sum")) / self.recipe.batch  # type: ignore[arg-type]
        norm, lr = self._update(k, loss)
        self.state.step = k + 1
        seconds = time.perf_counter() - began
        return Step(
            k=k + 1,
            of=self.recipe.steps,
            loss=loss,
            levels=_by_level(losses, times),
            gradient=norm,
            lr=lr,
            seconds=seconds,
            images_per_second=self.recipe.batch / seconds,
            skipped=self.state.skipped,
            last=self.stop or k + 1 == self.recipe.steps,
        )

    def _gradients(self, k: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and times of this process's rows; leaves the sum over all processes in the parameters' gradients."""
        while True:
            try:
                result, short = self._accumulate(k, images, labels), None
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                result, short = None, error
            if not self._anywhere(short is not None):
                break
            self._halve(short)
        for p in self.state.network.parameters():
            if p.grad is not None and self.accelerator.num_processes > 1:
                p.grad = self.accelerator.reduce(p.grad, "sum")  # type: ignore[assignment]
        assert result is not None
        return result

    def _accumulate(self, k: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.state.optimizer.zero_grad(set_to_none=True)
        rank, world, batch = self.accelerator.process_index, self.accelerator.num_processes, self.recipe.batch
        rows = range(rank * batch // world, (rank + 1) * batch // world)
        losses, times = [], []
        for i, start in enumerate(range(0, len(rows), self.micro_batch)):
            part = slice(start, start + self.micro_batch)
            torch.manual_seed(int(rng(self.recipe.seed, DROPOUT, k, (rank << 20) + i).integers(1 << 62)))
            draw = self._draw(k, rows[part], images[part], labels[part])
            with self.accelerator.autocast():
                loss = self.recipe.objective.loss(self.student, self.target, draw, teacher=self.teacher)
            self.scaler.scale(loss.sum() / batch).backward()
            losses.append(loss.detach().float())
            times.append(draw.t)
        return torch.cat(losses), torch.cat(times)

    def _draw(self, k: int, rows: range, images: Tensor, labels: Tensor) -> Draw:
        """All that is random for these rows of step k: pure functions of (seed, k, row)."""
        seed, progress = self.recipe.seed, self.recipe.progress(k)
        t, s = self.recipe.objective.times(uniforms(seed, TIMES, k, rows), self.recipe.schedule, progress)
        x_0 = self.design.space.encode(images.to(self.device, non_blocking=True))
        z = noise(seed, rows, x_0.shape[1:], purpose=TRAIN, a=k)
        if self.recipe.label_drop:
            hidden = torch.tensor([rng(seed, LABEL, k + 1, row).random() < self.recipe.label_drop for row in rows])
            labels = torch.where(hidden, -1, labels)
        cond = self.design.condition(labels.to(self.device))
        return Draw(self.recipe.schedule, x_0, z.to(self.device), t.float().to(self.device), s.float().to(self.device), cond)

    def _update(self, k: int, loss: float) -> tuple[float, float]:
        """Clips, steps, moves the averages; skips a step whose numbers are not finite."""
        state, recipe = self.state, self.recipe
        self.scaler.unscale_(state.optimizer)
        norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip or float("inf"), foreach=True))
        lr = recipe.optimizer.rate(k, recipe.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        if finite := _finite(norm) and _finite(loss):
            self.scaler.step(state.optimizer)
            state.follow(recipe.objective.target_rate(recipe.progress(k)))
        self._count(finite)
        self.scaler.update()
        return norm, lr

    def _count(self, finite: bool) -> None:
        # A gradient scaler overflows now and then until it has found its scale; only at its smallest is that a fault.
        finding = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        self.state.skipped += not finite
        self.in_a_row = 0 if finite or finding else self.in_a_row + 1
        if self.in_a_row >= PATIENCE:
            kept = checkpoint.checkpoints(self.folder)
            where = f"The last good state is {kept[-1].folder}" if kept else "There is no checkpoint yet"
            raise Stopped(
                f"{PATIENCE} steps in a row had a loss or gradient that is not finite, up to step {self.state.step + 1}. "
                f"{where}; try a lower --optimizer.lr, a smaller --clip, or --precision fp32."
            )

    def _halve(self, error: Exception | None) -> None:
        if self.micro_batch <= 1:
            raise Stopped("Out of memory with one picture at a time: choose a smaller network or pictures.") from error
        share = -(-self.recipe.batch // self.accelerator.num_processes)
        self.micro_batch = max(1, min(self.micro_batch, share) // 2)
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"Out of memory: going on with --micro-batch {self.micro_batch}; the batch stays {self.recipe.batch}.", stacklevel=2
        )

    def _anywhere(self, here: bool) -> bool:
        """Whether it is so in any process."""
        if self.accelerator.num_processes == 1:
            return here
        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.device), "sum"))

    # -- what is kept -----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint (in the main process)."""
        if self.main:
            s = self.state
            about = {"updates": s.updates, "stage": s.stage, "skipped": s.skipped, "in_a_row": self.in_a_row,
                     "scaler": self.scaler.state_dict(), "ema": list(s.ema)}  # fmt: skip
            checkpoint.save(self.folder, s.step, s.tensors(), about, design.to_json(self.design), self.recipe.keep)
        self.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Writes the trained model to `model/` in the run's folder."""
        if self.main:
            write_model(self.folder / "model", self.design, self.state.averaged())
        self.accelerator.wait_for_everyone()

    def _claim(self) -> None:
        """Makes the folder this recipe's, or checks that it is."""
        path = self.folder / "recipe.json"
        if path.is_file():
            kept = from_json(read_json(path))
            if lines := differences(to_json(with_free(self.recipe, kept)), to_json(kept)):
                raise ValueError(
                    f"{self.folder} holds a run of another recipe:\n  "
                    + "\n  ".join(lines)
                    + "\nGive the same settings to go on with it, or another folder with --out."
                )
        if self.main:
            checkpoint.clean(self.folder)
            write_json(path, to_json(self.recipe))
        self.accelerator.wait_for_everyone()

    def _resume(self) -> None:
        kept = checkpoint.checkpoints(self.folder)
        if not kept:
            return
        tensors, about = checkpoint.load(kept[-1])
        s = self.state
        s.step, s.updates, s.stage, s.skipped = (about[name] for name in ("step", "updates", "stage", "skipped"))
        self.in_a_row = about["in_a_row"]
        s.load(tensors)
        if about["scaler"]:
            self.scaler.load_state_dict(about["scaler"])

    # -- building ---------------------------------------------------------------------------------------------------

    def _design(self) -> Design:
        r = self.recipe
        condition = Labels(r.architecture.num_classes) if r.architecture.num_classes else Nothing()
        return Design(
            architecture=r.architecture,
            parameterization=r.parameterization,
            schedule=r.schedule,
            condition=condition,
            times={str(len(times)): times for times in r.times},
            class_names=self.images.class_names,
            about={"name": r.name, "steps": r.steps, "batch": r.batch, "objective": type(r.objective).__name__},
        )

    def _state(self, beginning: Model | None, teacher: Model | None) -> State:
        r = self.recipe
        torch.manual_seed(int(rng(r.seed, DROPOUT).integers(1 << 62)))
        network = r.architecture.build()
        if beginning is not None:
            network.load_state_dict(beginning.denoiser.network.state_dict())
        network = self._placed(network)
        changing = copy.deepcopy(network) if r.objective.stage(1.0) > 0 else None  # a teacher that will be replaced
        if changing is not None and teacher is not None:
            changing.load_state_dict(teacher.denoiser.network.state_dict())
        separate = r.objective.target_rate(0.0) is not None
        return State(network, r.optimizer, r.ema, target=separate, teacher=changing and changing.eval().requires_grad_(False))

    def _teacher(self, teacher: Model | None) -> nn.Module | None:
        if teacher is None or not self.recipe.objective.needs_teacher:
            return None
        changing = self.state.teacher
        denoiser = teacher.denoiser if changing is None else self._denoiser(changing)
        denoiser.network = self._placed(denoiser.network)
        w = self.recipe.guidance - 1
        return Guided(denoiser, w, self.design.condition.nothing) if w else denoiser

    def _placed(self, network: nn.Module) -> nn.Module:
        layout = torch.channels_last if self.recipe.channels_last else torch.contiguous_format
        return network.to(self.device, memory_format=layout)

    def _denoiser(self, network: nn.Module) -> Denoiser:
        if self.recipe.compile:
            # The compiled code draws its own dropout masks unless told to use torch's generator, which a step rewinds.
            torch._inductor.config.fallback_random = True  # type: ignore[attr-defined]
            network = torch.compile(network)  # type: ignore[assignment]
        return Denoiser(network, self.recipe.schedule, self.recipe.parameterization)


def _accelerator(precision: str, device: str | None) -> Accelerator:
    cpu = device == "cpu" or not torch.accelerator.is_available()
    accelerator = Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision), cpu=cpu)
    kinds = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    if accelerator.distributed_type not in kinds:
        raise ValueError(f"fewstep trains on one or several devices with whole copies, not with {accelerator.distributed_type}.")
    return accelerator


def _resolved(recipe: Recipe, images: Any, device: torch.device) -> tuple[Recipe, Model | None, Model | None]:
    """The recipe with all that data, teacher and start decide; the model to start from; the teacher."""
    teacher = load(recipe.teacher, device=device) if recipe.teacher else None
    if recipe.objective.needs_teacher and teacher is None:
        raise ValueError(f"{type(recipe.objective).__name__} needs a teacher: give one with --teacher.")
    if recipe.start in (None, "random"):
        beginning = teacher if recipe.start is None else None
    else:
        beginning = load(str(recipe.start), device=device)
    channels, height, width = images.shape
    if height != width:
        raise ValueError(f"The pictures are {height}×{width}: make them square with --data.size.")
    about = {"image_channels": channels, "image_size": height, "num_classes": images.num_classes}
    if beginning is None:
        return replace(recipe, architecture=replace(recipe.architecture, **about)), None, teacher
    taken = beginning.design.architecture
    for name, wanted in about.items():
        if getattr(taken, name) != wanted and not (name == "num_classes" and getattr(taken, name) == 0):
            raise ValueError(f"{recipe.start or recipe.teacher} has {name} {getattr(taken, name)}, the data {wanted}.")
    if hasattr(taken, "dropout"):
        taken = replace(taken, dropout=recipe.architecture.dropout)  # type: ignore[call-arg]
    p = beginning.design.parameterization
    ours = replace(recipe, architecture=taken, sigma_data=p.sigma_data, noise_scale=p.noise_scale)  # type: ignore[attr-defined]
    return ours, beginning, teacher


def _by_level(losses: Tensor, t: Tensor) -> dict[str, float]:
    """Mean loss of the samples whose time is below 0.1, 0.1 to 1, 1 to 10, above 10."""
    edges, names = torch.tensor([0.1, 1.0, 10.0], device=t.device), ("<0.1", "0.1-1", "1-10", ">10")
    bins = torch.bucketize(t, edges)
    return {name: float(losses[bins == i].mean()) for i, name in enumerate(names) if bool((bins == i).any())}


def _finite(value: float) -> bool:
    return value - value == 0


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def _signals(run: Run) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the run to stop after its step; a second Ctrl-C interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:
        if run.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        run.stop = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
