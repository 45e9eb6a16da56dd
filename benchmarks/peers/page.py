"""The page and its figure, out of the results: who is how good when, and who wins by how much."""

import math
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fewstep.files import whole_file
from fewstep.plots import style

from . import registry
from .method import SHAPE
from .running import Plan, finished

AT = (0.2, 0.5, 1.0)
"""Shares of the budget in the table: 2, 5 and 10 minutes."""

CLOCK = {
    "wall": "the wall's",
    "processor": "the processor's, which stands still while other work has the core; what that costs by sharing\n"
    "  memory and caches is in the spread of the steps a second",
}


class Value(NamedTuple):
    """Mean and standard deviation over the seeds."""

    mean: float
    spread: float

    def __str__(self) -> str:
        digits = 0 if self.mean >= 100 else 1 if self.mean >= 10 else 2
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"


def value(numbers: Sequence[float]) -> Value:
    if not all(map(math.isfinite, numbers)):
        return Value(math.inf, math.nan)
    return Value(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else math.nan)


class Results:
    """All runs of one method."""

    def __init__(self, runs: list[dict]):
        self.runs, first = runs, runs[0]
        self.name, self.title, self.own, self.budget = (first[key] for key in ("name", "title", "own", "budget"))

    def at(self, seconds: float, steps: int, score: str = "fd") -> Value | None:
        """A score at a mark, or None where the clock did not stop there."""
        numbers = []
        for run in self.runs:
            clock = run["plan"]["clock"]
            mark = next((m for m in run["marks"] if abs(m["share"] * self.budget - seconds) < 1e-6 * seconds), None)
            if mark is None or clock not in mark:
                return None
            numbers.append(mark["scores"][str(steps)].get(score, math.inf))
        return value(numbers)

    def final(self, steps: int, score: str = "fd") -> Value:
        found = self.at(self.budget, steps, score)
        assert found is not None
        return found

    @property
    def second(self) -> Value | None:
        """The distance in two steps, the second at the time that was found to be best; None before the search."""
        found = [run["second"]["fd"] for run in self.runs if "second" in run]
        return value(found) if len(found) == len(self.runs) else None

    @property
    def seconds(self) -> str:
        """Those times."""
        times = sorted({run["second"]["time"] for run in self.runs if "second" in run})
        return "" if not times else f"{times[0]:g}" if len(times) == 1 else f"{times[0]:g} to {times[-1]:g}"

    def best(self, steps: int) -> Value:
        """In one step, or in two with the better of its own second time and the one that was searched."""
        own, found = self.final(steps), self.second
        return found if steps == 2 and found is not None and found.mean < own.mean else own

    @property
    def pace(self) -> Value:
        """Steps a second of training."""
        return value([run["steps"] / run["marks"][-1][run["plan"]["clock"]] for run in self.runs])

    @property
    def ways(self) -> str:
        """How pictures were drawn at the end; of several seeds, in one way or another."""
        return " or ".join(dict.fromkeys(run["marks"][-1]["way"] for run in self.runs))


def write(page: Path, folder: Path, plan: Plan, absent: dict[str, str]) -> Path:
    """The page, and the figure beside it in images/."""
    every = [Results(runs) for name in registry.ENTRIES if (runs := _runs(folder, name, plan))]
    found = [r for r in every if not registry.ENTRIES[r.name].trial]
    if not found:
        return page
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.parent / "images" / f"{page.stem}.png"
    picture.parent.mkdir(exist_ok=True)
    draw(found, picture)
    shown = f"![Fréchet distance against time](images/{picture.name})"
    parts = [head(found, plan), table(found, plan), shown, verdict(found, plan), half(found, plan), taught(every),
             left_out(found, absent), how(found, plan)]  # fmt: skip
    with whole_file(page) as aside:
        aside.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return page


def _runs(folder: Path, name: str, plan: Plan) -> list[dict]:
    seeds = sorted(int(path.stem.rpartition("seed")[2]) for path in folder.glob(f"{name}-seed*.json"))
    return [found for seed in seeds if (found := finished(folder, name, seed, plan))]


# -- words -------------------------------------------------------------------------------------------------------------


def head(found: list[Results], plan: Plan) -> str:
    counts = sorted({len(r.runs) for r in found})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seed{'s' * (counts[0] > 1)}"
    return (
        "# Beside other implementations, at equal cost\n\n"
        f"Consistency training *from nothing* on MNIST at {SHAPE[1]}×{SHAPE[2]}, without labels: the same pictures, "
        "the same network (`CompactShape`, 0.6 million parameters) with the same first weights, batches of "
        f"{plan.batch} in the same order, "
        f"{_time(plan.budget)} of training on one core, {seeds}. At each mark the clock stops, "
        f"{plan.samples:,} pictures are drawn in one and in two steps with the implementation's own sampler and times, "
        "and `fewstep.evaluation` scores them against the test set. Lower is better, but for precision and recall."
    )


def table(found: list[Results], plan: Plan) -> str:
    times = [share * plan.budget for share in AT]
    head = ["implementation", "steps a second", *(f"FD, 1 step, {_time(t)}" for t in times), "FD, 2 steps",
            "2 steps, time searched", "precision", "recall", "energy", "drawn from"]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for r in sorted(found, key=lambda r: (not r.own, r.final(1).mean)):
        cells = [r.at(t, 1) for t in times]
        lines.append([
            f"**{r.title}**" if r.own else r.title, str(r.pace), *("–" if c is None else str(c) for c in cells),
            str(r.final(2)), "–" if r.second is None else f"{r.second} (at {r.seconds})",
            *(str(r.final(1, "precision")), str(r.final(1, "recall"))),
            str(r.final(1, "energy")), r.ways,
        ])  # fmt: skip
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines)
        + "\n\nMean ± standard deviation over the seeds. FD: Fréchet distance in the features `mnist`. Precision, "
        "recall and energy (features `simple`): one step, at the end. *2 steps* are at the end too: at the "
        "implementation's own second time, and at the best of six, searched for everyone with 1,000 pictures against "
        "those of training. An untrained network's grey is at about 3,080 (energy 4.07), and the Fréchet distance "
        "rises before it falls: a number near that is nothing learned."
    )


def verdict(found: list[Results], plan: Plan) -> str:
    lines = ["## Who wins", ""]
    whole = [r for r in found if r.budget == plan.budget]
    own, peers = [r for r in whole if r.own], [r for r in whole if not r.own]
    if not own or not peers:
        return ""
    lines += [f"- **{_steps(steps)}**: {_ahead(own, peers, steps)}." for steps in (1, 2)]
    plain = [r for r in own if not coupled(r)]
    if 0 < len(plain) < len(own):
        told = "; ".join(f"in {_steps(steps)} {_ahead(plain, peers, steps)}" for steps in (1, 2))
        lines.append(f"- **Without the coupling** of noise and pictures, which none of the others has: {told}.")
    return "\n".join(lines)


def coupled(found: Results) -> bool:
    """Whether noise and pictures were coupled."""
    return "-ot" in found.name


def _steps(steps: int) -> str:
    return f"{steps} step{'s' * (steps > 1)}"


def _ahead(own: list[Results], peers: list[Results], steps: int) -> str:
    """The best of ours beside the best of the others."""
    a, b = (min(group, key=lambda r: r.best(steps).mean) for group in (own, peers))
    x, y = a.best(steps), b.best(steps)
    beyond = "within" if abs(x.mean - y.mean) <= math.hypot(x.spread, y.spread) else "beyond"
    told = "" if math.isnan(math.hypot(x.spread, y.spread)) else f", {beyond} the spread of the seeds"
    better, share = ("ahead", 1 - x.mean / y.mean) if x.mean <= y.mean else ("behind", x.mean / y.mean - 1)
    return f"{a.title} {x}, the best of the others ({b.title}) {y}: fewstep is {better} by {share:.0%}{told}"


def half(found: list[Results], plan: Plan) -> str:
    """Whether ours is, in half the time, where each of the others ends."""
    own = [r for r in found if r.own and r.budget == plan.budget]
    planned = {r.name.removesuffix("-half"): r for r in found if r.own and r.budget != plan.budget}
    peers = [r for r in found if not r.own]
    if not own or not peers:
        return ""
    best = min(own, key=lambda r: r.final(1).mean)
    short = planned.get(best.name)
    lines = [["the other", "its end, 1 step", "its end, 2 steps", "ours at half, 1 step", "2 steps", "reached?"]]
    lines.append(["---"] * len(lines[0]))
    for r in sorted(peers, key=lambda r: r.final(1).mean):
        theirs = [r.best(steps) for steps in (1, 2)]
        ours = [_half(best, short, steps, plan) for steps in (1, 2)]
        reached = ["yes" if a.mean <= b.mean else "no" for a, b in zip(ours, theirs, strict=True)]
        lines.append([r.title, *map(str, theirs), *map(str, ours), ", ".join(reached)])
    how = (
        "a run planned for half the time"
        if short
        else "the mark at half of the whole run, whose rate has not decayed yet"
    )
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    said = (
        f"{best.title} ({how}) beside where the others end (FD; in two steps at the better of the times; reached in 1, "
        "in 2 steps):"
    )
    plain = [r for r in own if coupled(best) and not coupled(r) and r.name in planned]
    return "\n\n".join(["## In half the time", said, rows, *(_uncoupled(planned[r.name], peers) for r in plain)])


def _uncoupled(short: Results, peers: list[Results]) -> str:
    """How many of the others' ends a run without the coupling reaches in half the time."""
    counts = [sum(short.best(steps).mean <= r.best(steps).mean for r in peers) for steps in (1, 2)]
    ahead = {r.title for r in peers for steps in (1, 2) if short.best(steps).mean > r.best(steps).mean}
    missed = f" (not {'; '.join(sorted(ahead))})" if ahead else ""
    return (
        f"Without the coupling ({short.title}: {short.best(1)}, {short.best(2)}) the end of {counts[0]} of the "
        f"{len(peers)} is reached in one step, of {counts[1]} in two{missed}."
    )


def _half(best: Results, short: Results | None, steps: int, plan: Plan) -> Value:
    if short:
        return short.best(steps)
    return best.at(0.5 * plan.budget, steps) or Value(math.inf, math.nan)


def taught(found: list[Results]) -> str:
    """What fewstep's recipes have learned from the others, by the runs with and without it."""
    by_name = {r.name: r for r in found}
    trials = [name for name, entry in registry.ENTRIES.items() if entry.trial and name in by_name]
    if not trials or not {"fewstep-ct", "fewstep-ect"} <= set(by_name):
        return ""
    titles = {"fewstep-ct": "CT: Huber of each value", "fewstep-ect": "ECT: Huber of each value, weight 1/(t − s)"}
    titles |= {name: registry.ENTRIES[name].title for name in trials}
    lines = [["fewstep with", "1 step", "2 steps"], ["---"] * 3]
    for name, title in sorted(titles.items(), key=lambda item: item[0].split("-")[1]):
        scores = by_name[name].runs[0]["marks"][-1]["scores"]
        lines.append([title, *(str(value([scores[steps]["fd"]])) for steps in ("1", "2"))])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return (
        "## What it taught us\n\n"
        "fewstep's own recipes first compared two estimates by the norm of the whole picture, those of ECT and iCT "
        "with the weight 1 for all pairs. The iCT of diffusers' script and Kinyugo's, and OpenAI's CT with ℓ1, were "
        "ahead of them at the same optimizer. What they do otherwise is to compare each value by itself, and iCT to "
        "weigh by 1/(t − s). `mnist-ct`, `mnist-ict` and `mnist-ect` do so now. FD at the end, of seed 0 alone:\n\n"
        f"{table}"
    )


def left_out(found: list[Results], absent: dict[str, str]) -> str:
    there = {r.name for r in found} | set(absent)
    waiting = [entry.title for name, entry in registry.ENTRIES.items() if name not in there and not entry.trial]
    lines = [f"- **Not yet run**: {'; '.join(waiting)}."] if waiting else []
    lines += [f"- **{what}**: {why}." for what, why in registry.LEFT_OUT.items()]
    lines += [f"- **{registry.ENTRIES[name].title}**: {why}" for name, why in absent.items()]
    return "## What did not run, and why\n\n" + "\n".join(lines)


def how(found: list[Results], plan: Plan) -> str:
    versions = dict.fromkeys(run["version"] for r in found for run in r.runs)
    sources = {e.source.name: e.source for e in registry.ENTRIES.values() if e.source}
    gets = "\n".join(
        f"    git clone https://github.com/{s.name} peers/{s.folder} && git -C peers/{s.folder} checkout {s.commit}"
        for s in sources.values()
    )
    clock = "" if plan.clock == Plan.clock else f" --clock {plan.clock}"
    return f"""## How it was run

{gets}
    python -m benchmarks.peers --peers peers --data mnist-train.zip{clock}

- **What each run found**: `benchmarks/peers/results/`, one JSON a run; with `--report --out benchmarks/peers/results`
  the last command writes this page from them, and without `--report` it does what is missing.
- **What is whose**: adapters (`benchmarks/peers/`) call each implementation's loss, averages, schedules and sampler in
  the order of its own loop; the head of each adapter says what its published settings are and what had to differ. None
  of the peers' code is in this repository.
- **Our settings**: the optimizer of recipe `mnist-ict` (RAdam, 1e-3 with cosine decay, betas 0.9 and 0.99, clipping at
  1), average 0.998, and of its objective, wherever the implementation has such a knob, the few, far neighbours, the
  noise levels, the Huber loss of each value and the weight 1/(t - s).
- **Schedules** that need to know how long training is are told the share of the time that is gone, fewstep's too.
  Published settings are for 100,000 steps and more on GPUs: they are run as they are but for that.
- **The benefit of the doubt**: pictures are drawn from live and from averaged weights, at every mark the better counts,
  for everyone. Averages of 0.9999 have hardly left the random start after a few thousand steps.
- **The clock**: {CLOCK[plan.clock]};
  it stands still while pictures are drawn and scored.
- **Versions**: {"; ".join(versions)}; torch {found[0].runs[0]["torch"]}, Python {platform.python_version()},
  {os.cpu_count()} cores, one a run."""


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


# -- figure ------------------------------------------------------------------------------------------------------------


def draw(found: list[Results], path: Path) -> None:
    """FD against time: ours, and each peer at the better of its settings."""
    whole = max(r.budget for r in found)
    shown = [r for r in found if r.own and r.budget == whole]
    for source in dict.fromkeys(registry.ENTRIES[r.name].kind for r in found if not r.own):
        shown.append(min((r for r in found if registry.ENTRIES[r.name].kind is source), key=lambda r: r.final(1).mean))
    minute, unit = (60, "minutes") if whole >= 60 else (1, "seconds")
    with style.style():
        fig, axes = style.figure(1, 2, height=4.6, sharey=True)
        for steps, ax in enumerate(axes[0], start=1):
            for i, r in enumerate(shown):
                _curve(ax, r, steps, minute, style.colours(len(shown))[i], style.DASHES[i % len(style.DASHES)])
            style.logarithmic(ax)
            style.label(ax, f"{unit} of training on one core", "Fréchet distance" if steps == 1 else "",
                        f"{steps} step{'s' * (steps > 1)}")  # fmt: skip
        handles = axes[0, 0].get_legend_handles_labels()[0]
        if len(handles) > 1:
            fig.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8, handlelength=4.5)
        style.save(fig, path)


def _curve(ax, r: Results, steps: int, unit: float, colour: str, dashes) -> None:
    times = [mark["share"] * r.budget for mark in r.runs[0]["marks"]]
    values = [r.at(t, steps) for t in times]
    kept = [(t / unit, v) for t, v in zip(times, values, strict=True) if v is not None and math.isfinite(v.mean)]
    if not kept:
        return
    x, mean = [t for t, _ in kept], [v.mean for _, v in kept]
    spread = [0.0 if math.isnan(v.spread) else v.spread for _, v in kept]
    low = [max(m - s, m / 3) for m, s in zip(mean, spread, strict=True)]
    high = [m + s for m, s in zip(mean, spread, strict=True)]
    style.interval(ax, x, mean, low, high, r.title, color=colour, linestyle=dashes, linewidth=2.6 if r.own else 1.4)
