"""One training step: draw, losses, gradients, update.

    g = Σ_j ∇ L_j / batch       over the rows of all micro-batches and processes
    g ← g min(1, clip / ‖g‖);   θ ← optimizer(θ, g);   θ⁻ and the averages follow θ

Every draw of sample j of step k is a function of (seed, k, j): of its row in the global batch, not of the process or
micro-batch that happens to hold it. Dropout alone depends on (seed, k, rank, micro-batch), and a coupling by optimal
transport on the rows of the process.

Gradients are summed over processes once a step, after the last micro-batch, and the bare networks are never wrapped:
two forward passes a step and a halved micro-batch after a lack of memory then need no exception.
"""

import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fewstep.denoiser import Guided
from fewstep.objectives import Draw
from fewstep.schedules import Discrete, Schedule
from fewstep.tensors import DROPOUT, GUIDANCE, LABEL, TIMES, TRAIN, noise, rng, uniforms
from fewstep.training.building import Parts
from fewstep.training.coupling import coupled
from fewstep.training.processes import Processes

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
    """Mean weighted loss of the global batch; not finite for a skipped step."""
    levels: dict[str, float]
    """Mean loss by noise level, of the rows of this process; an autoencoder has none."""
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


class Stepper:
    """Does the steps of a run, one a call."""

    def __init__(self, parts: Parts, processes: Processes):
        self.recipe, self.design, self.state, self.student, self.target, self.teacher, self.condition = parts
        self.processes, self.device = processes, processes.device
        self.micro_batch = self.recipe.micro_batch or self.recipe.batch
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.recipe.precision == "fp16")
        self.good = True
        self.in_a_row = 0
        self._noise = Ahead(self.recipe.seed, self.rows)

    @property
    def rows(self) -> range:
        """The rows of the global batch that are this process's."""
        rank, world, batch = self.processes.rank, self.processes.world, self.recipe.batch
        return range(rank * batch // world, (rank + 1) * batch // world)

    def __call__(self, images: Tensor, labels: Tensor) -> Step:
        """Trains on this process's rows of the batch of step `state.step`, which then is one more."""
        began, k, recipe = time.perf_counter(), self.state.step, self.recipe
        if (stage := recipe.objective.stage(recipe.progress(k))) > self.state.stage:
            self.state.promote(stage)
        losses, times = self._gradients(k, images, labels)
        loss = float(self.processes.sum(losses.sum())) / recipe.batch
        norm, lr = self._update(k, loss)
        self.state.step = k + 1
        seconds = time.perf_counter() - began
        levels = _by_level(losses, times, recipe.schedule) if recipe.objective.denoises else {}
        pace, skipped = recipe.batch / seconds, self.state.skipped
        return Step(k + 1, recipe.steps, loss, levels, norm, lr, seconds, pace, skipped, k + 1 == recipe.steps)

    # -- gradients --------------------------------------------------------------------------------------------------

    def _gradients(self, k: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and times of this process's rows; leaves the sum over all processes in the parameters' gradients."""
        while True:
            result, short = None, ""
            try:
                result = self._accumulate(k, images, labels)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                short = str(error)  # the error itself would keep the memory of the failed step
            if not self.processes.anywhere(result is None):
                break
            self._halve(short)
        self.processes.sum_in_place([p.grad for p in self.state.network.parameters() if p.grad is not None])
        assert result is not None
        return result

    def _accumulate(self, k: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        self.state.optimizer.zero_grad(set_to_none=True)
        rows, rank = self.rows, self.processes.rank
        z = coupled(self.recipe.coupling, images, self._noise(k, images.shape[1:]), labels)
        losses, times = [], []
        for i, start in enumerate(range(0, len(rows), self.micro_batch)):
            part = slice(start, start + self.micro_batch)
            torch.manual_seed(int(rng(self.recipe.seed, DROPOUT, k, (rank << 20) + i).integers(1 << 62)))
            draw = self._draw(k, rows[part], images[part], labels[part], z[part])
            loss = self.recipe.objective.loss(self.student, self.target, draw, teacher=self._asked)
            self.scaler.scale(loss.sum() / self.recipe.batch).backward()
            losses.append(loss.detach().float())
            times.append(draw.t)
        return torch.cat(losses), torch.cat(times)

    @property
    def _asked(self) -> nn.Module | None:
        """The teacher; one that was the student of an earlier stage has learned the guidance, so it is not guided."""
        once = self.state.stage > 0 and isinstance(self.teacher, Guided)
        return self.teacher.denoiser if once else self.teacher  # type: ignore[union-attr]

    def _draw(self, k: int, rows: range, images: Tensor, labels: Tensor, z: Tensor) -> Draw:
        """All that is random for these rows of step k: pure functions of (seed, k, row)."""
        seed, recipe, to = self.recipe.seed, self.recipe, self.device
        t, s = recipe.objective.times(uniforms(seed, TIMES, k, rows), recipe.schedule, recipe.progress(k))
        if recipe.label_drop:
            hidden = torch.tensor([rng(seed, LABEL, k + 1, row).random() < recipe.label_drop for row in rows])
            labels = torch.where(hidden, -1, labels)
        cond = self.condition(labels.to(to))
        if recipe.latent and recipe.latent.w is not None:
            low, high = recipe.latent.w
            w = torch.tensor([low + (high - low) * rng(seed, GUIDANCE, k, row).random() for row in rows])
            cond = {**cond, "guidance": w.float().to(to)}
        x_0 = images.to(to, non_blocking=True)
        return Draw(recipe.schedule, x_0, z.to(to), t.float().to(to), s.float().to(to), cond)

    def _halve(self, why: str) -> None:
        if self.micro_batch <= 1:
            raise Stopped(f"Out of memory with one picture at a time: choose a smaller network or pictures. ({why})")
        share = -(-self.recipe.batch // self.processes.world)
        self.micro_batch = max(1, min(self.micro_batch, share) // 2)
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()
        warnings.warn(
            f"Out of memory: going on with --micro-batch {self.micro_batch}; the batch stays {self.recipe.batch}.",
            stacklevel=2,
        )

    # -- update -----------------------------------------------------------------------------------------------------

    def _update(self, k: int, loss: float) -> tuple[float, float]:
        """Clips, steps, moves the averages; skips a step whose numbers are not finite."""
        state, recipe = self.state, self.recipe
        self.scaler.unscale_(state.optimizer)
        norm = float(nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip or float("inf"), foreach=True))
        lr = recipe.optimizer.rate(k, recipe.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        self.good = _finite(norm) and _finite(loss)
        if self.good:
            self.scaler.step(state.optimizer)
            state.follow(recipe.objective.target_rate(recipe.progress(k)))
        self._count()
        self.scaler.update()
        return norm, lr

    def _count(self) -> None:
        # A gradient scaler overflows now and then until it has found its scale; only at its smallest is that a fault.
        finding = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        self.state.skipped += not self.good
        self.in_a_row = 0 if self.good or finding else self.in_a_row + 1
        if self.in_a_row >= PATIENCE:
            raise Stopped(
                f"{PATIENCE} steps in a row, up to step {self.state.step + 1}, had a loss or gradient that is not "
                "finite: try a lower --optimizer.lr, a smaller --clip, or --precision fp32."
            )


class Ahead:
    """The noise of a step, drawn in a thread while the step before it computes; NumPy draws outside Python's lock."""

    def __init__(self, seed: int, rows: range):
        self.seed, self.rows = seed, rows
        self._pool: ThreadPoolExecutor | None = None
        self._next: dict[int, Future[Tensor]] = {}

    def __call__(self, k: int, shape: torch.Size) -> Tensor:
        """z (rows, *shape) of step k."""
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="noise")
        now = self._next.get(k) or self._pool.submit(self._draw, k, shape)
        z = now.result()
        self._next = {k: now, k + 1: self._next.get(k + 1) or self._pool.submit(self._draw, k + 1, shape)}
        return z

    def _draw(self, k: int, shape: torch.Size) -> Tensor:
        return noise(self.seed, self.rows, shape, purpose=TRAIN, a=k)


EDGES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Between the noise levels whose losses are told apart: about half a decade of t each."""


def _by_level(losses: Tensor, t: Tensor, schedule: Schedule) -> dict[str, float]:
    """Mean loss of the samples whose time is below 0.03, 0.03 to 0.1, …, above 30; of a DDPM's levels by eighths."""
    edges = list(EDGES)
    names = [f"<{edges[0]:g}", *(f"{a:g}-{b:g}" for a, b in pairwise(edges)), f">{edges[-1]:g}"]
    if isinstance(schedule, Discrete):
        starts = [schedule.steps * i // 8 for i in range(9)]
        names, edges = [f"{a}-{b - 1}" for a, b in pairwise(starts)], [a - 0.5 for a in starts[1:-1]]
    bins = torch.bucketize(t, torch.tensor(edges, device=t.device))
    counts = torch.bincount(bins, minlength=8)
    sums = torch.zeros(8, device=t.device).index_add_(0, bins, losses)
    pairs = zip(names, sums.tolist(), counts.tolist(), strict=True)
    return {name: total / count for name, total, count in pairs if count}


def _finite(value: float) -> bool:
    return value - value == 0


def _out_of_memory(error: Exception) -> bool:
    words = ("out of memory", "can't allocate memory", "_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)
