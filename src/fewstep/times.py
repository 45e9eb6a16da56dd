"""A search for the times of multistep sampling, over any score (Song et al. 2023, section 3).

The paper adds one time after another, each by a ternary search that minimises the FID of samples. So does this search,
with positions instead of grid indices (u = 0 at t_max, 1 at t_min, even in t^(1/ρ)), and safer against a score with
several valleys or with noise:

    scan     `points` positions, evenly over all that is free
    narrow   golden section between the neighbours of the best, one new score a step, down to `tolerance`
    compare  all that was tried: the best is taken, wherever it lies

A score is a number to make small, such as a Fréchet distance. Scores of one noise seed compare best: what differs
between them is then due to the times.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from fewstep.discretizations import karras_position
from fewstep.schedules import Karras, Schedule

Times = tuple[float, ...]
"""Decreasing times, as `fewstep.sampling.sample` takes them."""
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Search:
    """What was found: the best times of each number of steps, and every score on the way."""

    tried: dict[Times, float] = field(default_factory=dict)
    """Score by times, in the order in which they were asked for."""

    @property
    def times(self) -> Times:
        """The best of the longest times."""
        return self.best(max(len(times) for times in self.tried))

    @property
    def score(self) -> float:
        """The score of `times`."""
        return self.tried[self.times]

    def best(self, steps: int) -> Times:
        """The best times of this many steps; raises ValueError where none were tried."""
        of_this_length = [times for times in self.tried if len(times) == steps]
        if not of_this_length:
            raise ValueError(f"No times of {steps} steps were tried.")
        return min(of_this_length, key=self.tried.__getitem__)

    def table(self) -> list[tuple[Times, float]]:
        """(times, score) by number of steps, then from noise to picture."""
        return sorted(self.tried.items(), key=lambda item: (len(item[0]), [-t for t in item[0]]))


def search_times(
    score: Callable[[Times], float],
    schedule: Schedule,
    steps: int = 2,
    *,
    first: float | None = None,
    points: int = 7,
    tolerance: float = 0.02,
    cache: dict[Times, float] | None = None,
    report: Callable[[Times, float], None] | None = None,
) -> Search:
    """The best `steps` times that begin with `first` (t_max where it is left out), one added after another.

    `score` takes decreasing times and returns a number to make small. `tolerance` is the width in position at which a
    time is narrow enough. `cache` is read before a score is computed and written after, so a search that was cut off
    goes on where it stopped when it is given the same dict again. `report(times, score)` is called after each new
    score. A time takes about `points + 2 + log(2/(tolerance (points + 1)))/log 1.618` scores. Raises ValueError for
    settings of no use.
    """
    check_settings(schedule, steps, first, points, tolerance)
    search, cache = Search(), {} if cache is None else cache

    def tried(times: Times) -> float:
        if times not in cache:
            cache[times] = float(score(times))
            if report:
                report(times, cache[times])
        return search.tried.setdefault(times, cache[times])

    times: Times = (schedule.t_max if first is None else first,)
    tried(times)
    while len(times) < steps:
        add_one(tried, schedule, times, points, tolerance)
        times = search.best(len(times) + 1)
    return search


def add_one(tried: Callable[[Times], float], schedule: Schedule, times: Times, points: int, tolerance: float) -> None:
    """Scan and narrow the position of one more time, anywhere below the first."""

    def at(u: float) -> float:
        with_it = insert(times, time_at(schedule, u))
        return tried(with_it) if with_it else float("inf")

    low = position(schedule, times[0])
    grid = [low + (1 - low) * i / (points + 1) for i in range(points + 2)]
    inner = min(grid[1:-1], key=at)
    i = grid.index(inner)
    for _ in golden_section(at, grid[i - 1], grid[i + 1], tolerance):
        pass


def golden_section(f: Callable[[float], float], a: float, b: float, tolerance: float) -> Iterator[tuple[float, float]]:
    """The shrinking brackets around a minimum of f between a and b; one new value of f each."""
    c, d = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
    at_c, at_d = f(c), f(d)
    while b - a > tolerance:
        if at_c < at_d:
            b, d, at_d = d, c, at_c
            c = b - GOLDEN * (b - a)
            at_c = f(c)
        else:
            a, c, at_c = c, d, at_d
            d = a + GOLDEN * (b - a)
            at_d = f(d)
        yield a, b


def insert(times: Times, t: float) -> Times | None:
    """The times with t at its place; None where t is there already or lies outside."""
    inside = t < times[0] and t not in times
    return tuple(sorted((*times, t), reverse=True)) if inside else None


def position(schedule: Schedule, t: float) -> float:
    """Where t lies between t_max (0) and t_min (1): even in t^(1/ρ) on a Karras schedule, else even in t."""
    if isinstance(schedule, Karras):
        return karras_position(schedule, torch.tensor(t, dtype=torch.float64)).item()
    return (schedule.t_max - t) / (schedule.t_max - schedule.t_min)


def time_at(schedule: Schedule, u: float) -> float:
    """The time at position u, to four digits (readable, the same key again); an index where times are indices."""
    if isinstance(schedule, Karras):
        return float(f"{schedule.at(torch.tensor(u, dtype=torch.float64)).item():.4g}")
    return float(round(schedule.t_max - u * (schedule.t_max - schedule.t_min)))


def check_settings(schedule: Schedule, steps: int, first: float | None, points: int, tolerance: float) -> None:
    """Raises ValueError, in one sentence, for a search that cannot be made."""
    if steps < 1 or points < 1 or not 0 < tolerance < 1:
        raise ValueError(
            "A search needs steps and points of at least 1 and a tolerance between 0 and 1, "
            f"not steps={steps}, points={points}, tolerance={tolerance}."
        )
    if first is not None and not schedule.t_min < first <= schedule.t_max:
        raise ValueError(f"The first time lies above {schedule.t_min:g}, up to {schedule.t_max:g}, not at {first:g}.")
