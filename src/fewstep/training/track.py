"""What is shown and kept of a training run: a live line, `metrics.jsonl`, `made.json`, preview grids, TensorBoard.

It only looks: `watch` iterates over a run and writes beside it.
"""

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor

from fewstep.files import whole_file
from fewstep.images import grid, save_picture
from fewstep.networks.adapters import AutoencoderShape
from fewstep.training.fit import Run, Step
from fewstep.training.made import note
from fewstep.training.measuring import Measuring
from fewstep.training.previews import examples, how, reconstructions, samples

PREVIEWS = 8
"""Generated pictures in a row of a preview."""


def watch(
    run: Run, *, console: Console | None = None, quiet: bool = False, tensorboard: bool = False
) -> Iterator[Step]:
    """Trains: yields the run's steps, and shows and keeps what they did (in the main process)."""
    console = console or Console(quiet=quiet or not run.main)
    metrics = run.folder / "metrics.jsonl"
    if run.main:
        forget_after(metrics, run.state.step)
        note(run)
        if run.images.damaged:
            names = ", ".join(run.images.damaged[:5])
            console.print(f"[yellow]Skipping {len(run.images.damaged)} damaged pictures: {names}[/]")
    with ExitStack() as stack:
        progress = stack.enter_context(_bar(console, disable=quiet or not run.main))
        bar = progress.add_task(run.recipe.name, total=run.recipe.steps, completed=run.state.step, note="")
        board = stack.enter_context(_tensorboard(run)) if tensorboard and run.main else None
        smooth, measuring = Smooth(), Measuring(run)
        for step in run:
            if run.main:
                due = step.k % run.recipe.preview_every == 0 or step.k == step.of  # not where somebody waits for a stop
                line = as_metrics(run, step) | (measuring() if due else {})
                write_line(metrics, line)
                progress.update(bar, completed=step.k, note=smooth(step, line))
                if board is not None:
                    _log(board, line)
                if due:
                    _shown(run, step, board)
            yield step
    if run.state.step < run.recipe.steps:
        console.print(f"Stopped after step {run.state.step}: the same command goes on from its last checkpoint.")


def _shown(run: Run, step: Step, board) -> None:
    """Writes the preview; what goes wrong is told, and training goes on: a run is worth more than its pictures."""
    try:
        path = preview(run)
        if board is not None:
            board.add_image("preview", _pixels(path), step.k, dataformats="HWC")
    except (OSError, ValueError, RuntimeError) as error:  # a full disk, times that the model does not know, no memory
        warnings.warn(f"No preview after step {step.k}: {error}", stacklevel=2)


class Smooth:
    """The words of the live line, from running means."""

    def __init__(self):
        self.loss, self.seconds, self.score = math.nan, math.nan, ""

    def __call__(self, step: Step, line: dict | None = None) -> str:
        for name, value in (("loss", step.loss), ("seconds", step.seconds)):
            old = getattr(self, name)
            if math.isfinite(value):
                setattr(self, name, value if math.isnan(old) else 0.95 * old + 0.05 * value)
        pace = step.images_per_second * step.seconds / self.seconds
        skipped = f", {step.skipped} skipped" if step.skipped else ""
        if line and line.get("score") is not None:
            self.score = f", {line['score_name'].split(' (')[0]} {line['score']:.3g}"
        return f"loss {self.loss:.4f}, {pace:.0f} img/s{self.score}{skipped}"


def as_metrics(run: Run, step: Step) -> dict:
    """One line of metrics.jsonl; what is not finite becomes null, which JSON can say."""
    objective, progress = run.recipe.objective, run.recipe.progress(step.k - 1)
    line = {
        "step": step.k,
        "loss": _number(step.loss),
        "levels": {name: _number(value) for name, value in step.levels.items()},
        "gradient": _number(step.gradient),
        "lr": step.lr,
        "images_per_second": round(step.images_per_second, 2),
        "seconds": round(step.seconds, 4),
        "skipped": step.skipped,
    }
    discretization = getattr(objective, "discretization", None)
    if discretization is not None and (n := discretization.count(progress)) is not None:
        line["n"] = n
    if (mu := objective.target_rate(progress)) is not None:
        line["mu"] = mu
    if stage := run.state.stage:
        line["stage"] = stage
    return line


def write_line(path: Path, line: dict) -> None:
    """Appends one line; OSError, naming the file, where it cannot."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise OSError(f"{path} could not be written to ({error}); the checkpoints are as they were.") from error


def read_metrics(path: str | Path) -> list[dict]:
    """The lines of a metrics.jsonl; a last line that a kill cut off is left out."""
    lines = []
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def forget_after(path: Path, step: int) -> None:
    """Drops the lines of steps that a resumed run will do again."""
    if path.is_file():
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        with whole_file(path) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")


@torch.no_grad()
def preview(run: Run) -> Path:
    """Writes `previews/step-….png`: data (the first and the last picture of the set in it), then one and two steps.

    The noise and the labels are the same each time. A diffusion model's preview takes Heun with 10 steps, that of a
    progressively distilled one the steps that it has reached. Those of latents are in `previews`.
    """
    n, k = PREVIEWS, run.state.step
    rows = [examples(run, n)]
    if run.recipe.latent:
        rows += samples(run, n)
    elif isinstance(run.design.architecture, AutoencoderShape):
        rows += [reconstructions(run, n)]
    else:
        rows += _pictures(run, n)
    path = run.folder / "previews" / f"step-{k:08d}.png"
    save_picture(grid(torch.cat(rows), columns=n), path)
    return path


def _pictures(run: Run, n: int) -> list[Tensor]:
    """Rows of samples of a model of pictures."""
    model = run.model()
    labels = None if not model.num_classes else torch.arange(n) % model.num_classes
    ways = [how(run, model, steps) for steps in ((1, 2) if model.consistent else (None,))]
    return [model.sample(n, seed=run.recipe.seed, labels=labels, **way) for way in ways]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _bar(console: Console, *, disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=console,
        disable=disable,
        speed_estimate_period=120,  # steps of large models take longer than the usual half minute
    )


def _tensorboard(run: Run):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError("--tensorboard needs the tensorboard package: pip install 'fewstep[tensorboard]'.") from None
    return SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.state.step + 1)


def _log(board, line: dict) -> None:
    for name, value in line.items():
        tag = f"score/{line['score_name']}" if name == "score" else name
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            if name != "step" and isinstance(number, int | float):
                board.add_scalar(f"{tag}/{part}".rstrip("/"), number, line["step"])


def _pixels(path: Path):
    import numpy as np
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))
