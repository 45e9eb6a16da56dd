"""Small runs on the bundled digits, and processes that train and are killed."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from fewstep.discretizations import Doubling, Grid, Growing, Shrinking
from fewstep.distances import PseudoHuber
from fewstep.images import Data
from fewstep.networks import CompactShape
from fewstep.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousDistillation,
    ContinuousTraining,
    Diffusion,
    Objective,
    ProgressiveDistillation,
)
from fewstep.targets import AdaptiveEma, Ema, StopGradient
from fewstep.training.checkpoint import checkpoints
from fewstep.training.fit import Run, fit
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe
from fewstep.weightings import InverseGap

SHAPE = CompactShape(image_channels=1, image_size=8, num_classes=10, widths=(8, 12), blocks=1, embedding=16)

OBJECTIVES = {
    "edm": Diffusion(),
    "cd": ConsistencyDistillation(Grid(6), target=Ema(0.8)),
    "ct": ConsistencyTraining(Growing(2, 12), target=AdaptiveEma(0.9)),
    "ict": ConsistencyTraining(Doubling(4, 16), PseudoHuber(), InverseGap(), StopGradient()),
    "ect": ConsistencyTraining(Shrinking(stages=4), PseudoHuber(0.0), InverseGap(), StopGradient()),
    "pd": ProgressiveDistillation(first_steps=4),
    "ccd": ContinuousDistillation(),
    "cct": ContinuousTraining(stop_gradient=False),
}


def small(objective: str | Objective = "edm", **changes: Any) -> Recipe:
    """A recipe of a few milliseconds a step. Objectives with a teacher want `teacher=`."""
    options: dict[str, Any] = {
        "objective": OBJECTIVES[objective] if isinstance(objective, str) else objective,
        "data": Data("digits"),
        "architecture": SHAPE,
        "optimizer": RAdam(2e-3),
        "steps": 12,
        "batch": 10,
        "ema": (0.9, 0.99),
        "checkpoint_every": 4,
        "preview_every": 1000,
        "score": None,
        "workers": 0,
    }
    return Recipe(**(options | changes))


def everything(objective: str, teacher: Path) -> Recipe:
    """The same with all that is random or has state: dropout, hidden labels, flips, micro-batches, averages."""
    return small(
        objective,
        architecture=CompactShape(1, 8, 10, widths=(8, 12), blocks=1, embedding=16, dropout=0.2),
        data=Data("digits", flip=True),
        label_drop=0.2,
        micro_batch=4,
        optimizer=AdamW(2e-3, warmup=3, decay="cosine") if objective == "ict" else RAdam(2e-3, decay="linear"),
        teacher=str(teacher) if objective in ("cd", "pd", "ect", "ccd") else None,
        guidance=1.5 if objective == "cd" else 1.0,
        checkpoint_every=2,
    )


def train(recipe: Recipe, folder: Path) -> Run:
    """Trains to the end."""
    run = fit(recipe, folder)
    for _ in run:
        pass
    return run


def losses(recipe: Recipe, folder: Path) -> list[float]:
    return [step.loss for step in fit(recipe, folder)]


def state(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint."""
    return _read(checkpoints(folder)[-1].folder / "state.safetensors")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The trained model's."""
    return _read(folder / "model" / "weights.safetensors")


def _read(path: Path) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in load_file(str(path)).items()}  # the file itself may be cut off later


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# -- processes ------------------------------------------------------------------------------------------------------

_here = Path(__file__).parent
os.environ["PYTHONPATH"] = f"{_here.parent / 'src'}{os.pathsep}{_here}"  # the server knows no other way to the modules
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["training_helpers", "fewstep.training.track"])


def start(action: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    """A process of its own, forked from one that has imported everything and trained nothing."""
    process = _context.Process(target=_quietly, args=(action, *arguments))
    process.start()
    return process  # type: ignore[return-value]


def ended(process: multiprocessing.Process, within: float = 300.0) -> int | None:
    """Its exit code, −9 where it was killed."""
    process.join(within)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"a process did not end within {within} seconds")
    return process.exitcode


def _quietly(action: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    action(*arguments)


def fit_and_die(recipe: Recipe, folder: Path, fatal: int | None) -> None:
    """Trains, and dies of SIGKILL at the event number `fatal`: a micro-batch, or a stage of writing a checkpoint."""
    from fewstep import files
    from fewstep.training import checkpoint, stepping

    left = [fatal]

    def mortal(owner: Any, name: str, *, halve: bool = False) -> None:
        healthy = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    if halve:  # half of a file is written
                        healthy(*arguments, **options)
                        os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
                    os.kill(os.getpid(), signal.SIGKILL)
            return healthy(*arguments, **options)

        setattr(owner, name, call)

    mortal(stepping.Stepper, "_draw")
    mortal(checkpoint, "save_file", halve=True)
    mortal(files, "_sync")
    mortal(files.os, "replace")
    mortal(checkpoint.shutil, "rmtree")
    train(recipe, folder)
