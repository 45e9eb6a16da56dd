"""The time of a second step, searched for everyone alike.

Implementations come with a second time of their own, found for other pictures and longer training, and how good two
steps are hangs on it. So each finished run is also drawn with the best of TIMES:

    x = f(80 z, 80);   f(x + √(t² − t_min²) z', t),   t with the smallest distance to the pictures it was trained on

What is found (`second`) goes into the run's JSON; the weights beside it are all that is needed.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fewstep.files import write_json

from . import registry
from .method import SHAPE, Way
from .running import Plan, Scores, finished, place

TIMES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
FIRST = 80.0
TRIED = 1000
"""Pictures that a time is judged by."""


def search(names: Sequence[str], plan: Plan, folder: Path, peers: Path | None) -> int:
    """Searches for all finished runs whose weights are there and that have no second time yet; how many they were."""
    left = [(name, seed, run) for name in names for seed in range(100)
            if (run := finished(folder, name, seed, plan)) and "second" not in run
            and place(folder, name, seed).with_suffix(".safetensors").is_file()]  # fmt: skip
    if not left:
        return 0
    trained, tested = Scores(Plan(plan.data, plan.data, samples=plan.samples)), Scores(plan)
    for name, seed, run in left:
        way = stored(name, seed, run, folder, peers)
        tried = {t: trained(drawn(way, t, TRIED, seed + 1000))["fd"] for t in TIMES}
        best = min(tried, key=lambda t: tried[t])
        found = {"time": best, "tried": tried, **tested(drawn(way, best, plan.samples, seed))}
        write_json(place(folder, name, seed), run | {"second": found})
        print(f"{name}, seed {seed}: second step at {best:g}, {found['fd']:.1f}")
    return len(left)


def stored(name: str, seed: int, run: dict, folder: Path, peers: Path | None) -> Way:
    """The way that was best at the end, with its weights."""
    called = run["marks"][-1]["way"]
    way = registry.method(name, seed, peers).ways()[called]
    weights = load_file(place(folder, name, seed).with_suffix(".safetensors"))
    way.network.load_state_dict({key.removeprefix(f"{called}/"): w for key, w in weights.items()
                                 if key.startswith(f"{called}/")})  # fmt: skip
    return way


@torch.no_grad()
def drawn(way: Way, t: float, n: int, seed: int, part: int = 250) -> Tensor:
    """n pictures in two steps, the second at t."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for start in range(0, n, part):
        z, again = (torch.randn(min(part, n - start), *SHAPE, generator=generator) for _ in range(2))
        x = way.function(FIRST * z, FIRST).float().clamp(-1, 1)
        made.append(way.function(x + (t**2 - way.t_min**2) ** 0.5 * again, t).float().clamp(-1, 1))
    return torch.cat(made)
