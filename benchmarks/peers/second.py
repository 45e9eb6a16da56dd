"""The time of a second step, searched for everyone alike.

Implementations come with a second time of their own, found for other pictures and longer training, and how good two
steps are hangs on it. So each run is also drawn, at its end, with the best of TIMES:

    x = f(80 z, 80);   f(x + √(t² − t_min²) z', t),   t with the smallest distance to the pictures it was trained on
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from . import registry
from .method import SHAPE, Way

TIMES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
FIRST = 80.0
TRIED = 1000
"""At most so many pictures a time is judged by."""

Score = Callable[[Tensor], dict[str, float]]


def searched(way: Way, seed: int, n: int, trained: Score, tested: Score) -> dict:
    """The best time by n pictures at most TRIED (`trained`), all that was tried, and n pictures' scores (`tested`)."""
    tried = {t: trained(drawn(way, t, min(n, TRIED), seed + 1000))["fd"] for t in TIMES}
    best = min(tried, key=lambda t: tried[t])
    return {"time": best, "tried": tried, **tested(drawn(way, best, n, seed))}


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


def stored(run: dict, weights: Path, peers: Path | None) -> Way:
    """The way that was best at the end of a finished run, with the weights that it kept."""
    called = run["marks"][-1]["way"]
    way = registry.method(run["name"], run["seed"], peers).ways()[called]
    mine = {key: w for key, w in load_file(weights).items() if key.startswith(f"{called}/")}
    way.network.load_state_dict({key.removeprefix(f"{called}/"): w for key, w in mine.items()})
    return way
