"""Results become tables: means with intervals over seeds, and whether the paper's claims hold here.

An interval is Student's t, 95%, over seeds. A claim is judged by the differences seed by seed (see `studies.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fewstep.reproduce.forms import closed_form
from fewstep.reproduce.studies import Claim, Study

SCORES = {
    "fd": ("Fréchet distance", "{:.2f}"),
    "gap": ("difference from the teacher", "{:.3f}"),
    "agreement": ("read as asked, %", "{:.1f}"),
    "energy": ("energy distance", "{:.4f}"),
}
"""What stands in a table, with how it is written. The first decides."""

PARENTS = "teacher"


class Interval(NamedTuple):
    """A mean and half the width of its 95% interval; that is not a number for one seed."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        n, mean = len(values), math.fsum(values) / len(values)
        if n < 2:
            return cls(mean, math.nan)
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
        return cls(mean, quantile(n - 1) * deviation / math.sqrt(n))

    def words(self, form: str) -> str:
        return form.format(self.mean) + ("" if math.isnan(self.half) else f" ± {form.format(self.half)}")


def quantile(freedom: int, inside: float = 0.95) -> float:
    """q with P(|T| < q) = `inside`, T of Student's t with so many degrees of freedom; by halving an angle's bracket."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < inside else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < √freedom tan(angle)): a finite sum (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    sin, cos, odd = math.sin(angle), math.cos(angle), freedom % 2
    term, total = (cos if odd else 1.0), 0.0
    for k in range(freedom // 2):
        total += term
        term *= cos**2 * ((2 * k + 2) / (2 * k + 3) if odd else (2 * k + 1) / (2 * k + 2))
    return 2 / math.pi * (angle + sin * total) if odd else sin * total


@dataclass(frozen=True)
class Results:
    """The content of all result.json, by (run, seed)."""

    found: dict[tuple[str, int], dict]

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, seed in self.found})

    def curve(self, run: str, seed: int, score: str, calls: int = 1) -> dict[int, float]:
        """The score by training step; a run that was not made has none."""
        entries = self.found.get((run, seed), {"scores": []})["scores"]
        return {entry["step"]: entry[score] for entry in entries if entry["calls"] == calls and score in entry}

    def final(self, run: str, score: str, calls: int = 1) -> list[float]:
        """The last score of each seed."""
        curves = [self.curve(run, seed, score, calls) for seed in self.seeds]
        return [curve[max(curve)] for curve in curves if curve]

    def seconds(self, run: str, seed: int, *, whole: bool = False) -> dict[int, float]:
        """Seconds of training by step; `whole` adds those of the teacher that it started from."""
        result = self.found[run, seed]
        before = max(self.seconds(PARENTS, seed).values()) if whole and result["teacher"] else 0.0
        return {int(step): seconds + before for step, seconds in result["costs"].items()}

    def cost(self, run: str, calls: int = 1) -> float:
        """Mean seconds of training up to the last score in so many calls: progressive distillation reaches its student
        of four steps on its way."""
        last = {seed: max(self.curve(run, seed, "fd", calls)) for seed in self.seeds if (run, seed) in self.found}
        return math.fsum(self.seconds(run, seed)[step] for seed, step in last.items()) / len(last)


def follows(run: str, calls: int) -> bool:
    """Whether its pictures should be the teacher's from the same noise: more calls of a consistency model add other
    noise between them, progressive distillation adds none."""
    return calls == 1 or run == "pd"


def verdict(claim: Claim, results: Results, score: str = "fd") -> str:
    """ "holds", "fails" or "undecided", with the mean difference and its interval."""
    ours, theirs = (results.final(run, score, calls) for run, calls in (claim.better, claim.worse))
    gap = Interval.of([b - a for a, b in zip(ours, theirs, strict=True)])
    sure = not math.isnan(gap.half) and abs(gap.mean) > gap.half
    word = "one seed: " + ("smaller" if gap.mean > 0 else "larger") if math.isnan(gap.half) else "undecided"
    sign = "+" if gap.mean >= 0 else ""
    return f"{('holds' if gap.mean > 0 else 'fails') if sure else word} ({sign}{gap.words(SCORES[score][1])})"


def table(study: Study, results: Results) -> list[str]:
    """The study's table in Markdown."""
    there = [name for name in SCORES if any(results.final(shown.run, name, shown.calls) for shown in study.shown)]
    head = ["", *(SCORES[name][0] for name in there), "seconds of training"]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for shown in study.shown:
        own = [name != "gap" or follows(shown.run, shown.calls) for name in there]
        values = [results.final(shown.run, n, shown.calls) if has else [] for n, has in zip(there, own, strict=True)]
        cells = [Interval.of(v).words(SCORES[n][1]) if v else "" for n, v in zip(there, values, strict=True)]
        lines.append(_row([shown.title, *cells, f"{results.cost(shown.run, shown.calls):.0f}"]))
    return lines


def claims(study: Study, results: Results) -> list[str]:
    """A line a claim: whether it holds, by the Fréchet distance, and by the difference from the teacher where students
    should follow one."""
    titles = {(shown.run, shown.calls): shown.title for shown in study.shown}
    scores = ["fd", *(["gap"] if study.followed else [])]
    heads = ["smaller distance", "than", *(SCORES[score][0] for score in scores)]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for claim in study.claims:
        each = {"fd": True, "gap": follows(*claim.better) and follows(*claim.worse)}
        words = [verdict(claim, results, score) if each[score] else "" for score in scores]
        lines.append(_row([titles[claim.better], titles[claim.worse], *words]))
    return lines


def closed(study: Study) -> list[str]:
    """The closed form as a table: a row a curve, at the points where the study has runs."""
    curves = closed_form(study.name)
    if not curves:
        return []
    if len(next(iter(curves.values()))) == 1:  # a number a method
        rows = [[name, f"{points[0][1]:.3f}"] for name, points in curves.items()]
        return [_row(["", "error"]), _row(["---", "---:"]), *map(_row, rows)]
    chosen = {name: points if len(points) <= 6 else points[9::14] for name, points in curves.items()}
    places = [place for place, _ in next(iter(chosen.values()))]
    heads = [f"{place:g}" for place in places]
    rows = [[name, *(f"{error:.3f}" for _, error in points)] for name, points in chosen.items()]
    return [_row(["", *heads]), _row(["---", *["---:"] * len(heads)]), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
