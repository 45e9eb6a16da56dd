"""One run: seconds of training, marks at which the clock stops and pictures are scored, one JSON and the weights.

Pictures are drawn in every way that a method has (live and averaged weights, …); of these the best by the Fréchet
distance in one step counts at a mark, for everyone alike. At the end the time of a second step is searched
(`second.py`). Both clocks are kept: the wall's and the processor's.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from fewstep.evaluation import Yardstick
from fewstep.files import read_json, whole_file, write_json
from fewstep.images import Data, open_images, to_uint8
from fewstep.images.order import Order

from . import registry, second
from .method import SHAPE, Method, Way

MARKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
"""Shares of the budget at which the clock stops."""

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass(frozen=True)
class Plan:
    """What all runs of a study share."""

    data: str
    reference: str
    budget: float = 600.0
    marks: tuple[float, ...] = MARKS
    batch: int = 128
    samples: int = 2000
    clock: str = "wall"


class Scores:
    """The reference, seen once; calling it scores pictures."""

    def __init__(self, plan: Plan):
        same: dict[str, Any] = {"size": SHAPE[1], "channels": SHAPE[0], "device": "cpu"}
        self.sharp = Yardstick(plan.reference, features="mnist", scores=["fd", "precision", "recall"], **same)
        self.plain = Yardstick(plan.reference, features="simple", scores=["energy"], at_most=plan.samples, **same)

    def __call__(self, pictures: Tensor) -> dict[str, float]:
        """Fréchet distance, precision and recall; infinitely far where pictures are not finite."""
        if not bool(pictures.isfinite().all()):
            return {"fd": math.inf}
        report = self.sharp(to_uint8(pictures))
        return {name: report[name] for name in ("fd", "precision", "recall")}

    def energy(self, pictures: Tensor) -> dict[str, float]:
        """The energy distance, which takes longer."""
        return {"energy": self.plain(to_uint8(pictures))["energy"]} if bool(pictures.isfinite().all()) else {}


def pictures(plan: Plan, folder: Path) -> np.ndarray:
    """uint8 (n, C, H, W); decoded once for a study."""
    path = folder / f"pictures-{hashlib.sha256(plan.data.encode()).hexdigest()[:8]}.npy"
    if not path.is_file():
        images = open_images(Data(plan.data, size=SHAPE[1], channels=SHAPE[0]))
        found, _ = images.rows(np.arange(len(images)), np.zeros((len(images), 3)))
        with whole_file(path) as aside, open(aside, "wb") as file:
            np.save(file, found)
    return np.load(path, mmap_mode=None)


def batches(found: np.ndarray, seed: int, batch: int) -> Iterator[Tensor]:
    """x_0 in [−1, 1]: the same for everyone with this seed."""
    order, k = Order(seed, len(found)), 0
    while True:
        yield torch.from_numpy(found[order.rows(k, batch)]).float() / 127.5 - 1
        k += 1


def place(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}-seed{seed}.json"


def finished(folder: Path, name: str, seed: int, plan: Plan) -> dict | None:
    """What the run found, if it is finished; ValueError where it was of another plan."""
    path = place(folder, name, seed)
    if not path.is_file():
        return None
    found = read_json(path)
    if found["plan"] != _plain(plan):
        raise ValueError(
            f"{path} is of a study with other settings ({found['plan']}): choose another folder with --out."
        )
    return found


def complete(folder: Path, name: str, seed: int, plan: Plan) -> bool:
    """Whether nothing is left to do: a finished run whose weights are gone cannot be searched for a second time."""
    found = finished(folder, name, seed, plan)
    return found is not None and ("second" in found or not _weights(place(folder, name, seed)).is_file())


def run(
    name: str,
    seed: int,
    plan: Plan,
    folder: Path,
    peers: Path | None,
    tell: Callable[[float], object],
    scores: Scores | None = None,
) -> dict:
    """Trains, scores and keeps it; `tell` is called with the seconds of training so far.

    Of a run that is finished but for its second time, this alone is searched.
    """
    scores, path = scores or Scores(plan), place(folder, name, seed)
    if kept := finished(folder, name, seed, plan):
        return _with_second(path, kept, second.stored(kept, _weights(path), peers), plan, scores)
    entry, method, found = registry.ENTRIES[name], registry.method(name, seed, peers), pictures(plan, folder)
    first = digest(method.network)
    marks, losses = [], []
    clocks, used, budget = CLOCKS, dict.fromkeys(CLOCKS, 0.0), plan.budget * entry.share
    stream, due = batches(found, seed, plan.batch), [share * budget for share in plan.marks]
    while due:
        before = {clock: now() for clock, now in clocks.items()}
        losses.append(method.step(next(stream), min(used[plan.clock] / budget, 1 - 1e-9)))
        for clock, now in clocks.items():
            used[clock] += now() - before[clock]
        if used[plan.clock] >= due[0]:
            marks.append({"share": plan.marks[len(marks)], "steps": len(losses), "loss": _mean(losses[-50:]), **used,
                          **scored(method, scores, plan.samples, seed)})  # fmt: skip
            del due[0]
        tell(used[plan.clock])
    ways = method.ways()
    result = {
        "name": name, "title": entry.title, "own": entry.own, "seed": seed, "plan": _plain(plan), "budget": budget,
        "settings": asdict(entry.settings), "version": registry.version(name, peers), "torch": torch.__version__,
        "first weights": first, "steps": len(losses), "finite": all(map(math.isfinite, losses)),
        "boundary": {way: boundary(w, found) for way, w in ways.items()}, "marks": marks,
    }  # fmt: skip
    _keep(path, result, ways)
    return _with_second(path, result, ways[marks[-1]["way"]], plan, scores)


def _with_second(path: Path, result: dict, way: Way, plan: Plan, scores: Scores) -> dict:
    trained = Scores(replace(plan, reference=plan.data))
    result = {**result, "second": second.searched(way, result["seed"], plan.samples, trained, scores)}
    write_json(path, result)
    return result


def scored(method: Method, scores: Scores, n: int, seed: int) -> dict:
    """The scores of the best way to draw, and the Fréchet distances of all; torch's generator goes on as if nothing
    had happened."""
    state, by_way, drawn = torch.get_rng_state(), {}, {}
    for name, way in method.ways().items():
        for steps in (1, 2):
            torch.manual_seed(seed)
            with torch.no_grad():
                drawn[name, steps] = way.sample(steps, n).detach().float().clamp(-1, 1)
        by_way[name] = {str(steps): scores(drawn[name, steps]) for steps in (1, 2)}
    best = min(by_way, key=lambda name: by_way[name]["1"]["fd"])
    found = {str(steps): by_way[best][str(steps)] | scores.energy(drawn[best, steps]) for steps in (1, 2)}
    torch.set_rng_state(state)
    return {
        "way": best,
        "scores": found,
        "ways": {name: {k: s["fd"] for k, s in by_way[name].items()} for name in by_way},
    }


@torch.no_grad()
def boundary(way: Way, found: np.ndarray) -> float:
    """max |f(x, t_min) − x| over some pictures."""
    x = torch.from_numpy(found[:16]).float() / 127.5 - 1
    return float((way.function(x, way.t_min) - x).abs().max())


def digest(network: torch.nn.Module) -> str:
    """16 hex digits over the weights."""
    found = hashlib.sha256()
    for tensor in network.state_dict().values():
        found.update(tensor.detach().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _keep(path: Path, result: dict, ways: dict[str, Way]) -> None:
    """The weights first: where the JSON is, the run is whole."""
    tensors = {f"{name}/{key}": t.detach().contiguous().clone()
               for name, way in ways.items() for key, t in way.network.state_dict().items()}  # fmt: skip
    with whole_file(_weights(path)) as aside:
        save_file(tensors, aside)
    write_json(path, result)


def _weights(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def _plain(plan: Plan) -> dict:
    return {
        **asdict(plan),
        "data": Path(plan.data).name,
        "reference": Path(plan.reference).name,
        "marks": list(plan.marks),
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
