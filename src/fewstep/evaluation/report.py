"""What an evaluation found, with everything that its numbers depend on; and reports side by side.

A score means something only together with its features, their resize, the number of pictures and the reference. So a
report carries them, and reports with other features or another reference cannot be put side by side.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewstep.codec import decode, encode, nearest
from fewstep.files import read_json, write_json


@dataclass(frozen=True)
class Told:
    """What a report says of one side."""

    name: str
    """The path or name."""
    n: int | None
    """Pictures that were seen; None for statistics that do not say."""
    kind: str = ""
    """How large the pictures are, such as "28×28 grey"; or that only statistics are known."""
    digest: str = ""
    """16 hex digits over the pictures and statistics (of a model: over its weights); "" where they are not known."""
    damaged: tuple[str, ...] = ()
    """Files that were skipped."""
    how: Mapping[str, Any] = field(default_factory=dict)
    """How a model drew them."""

    def __str__(self) -> str:
        count = "an unknown number of" if self.n is None else f"{self.n:,}"
        drawn = ", ".join(f"{name} {_plain(value)}" for name, value in self.how.items())
        skipped = f", {len(self.damaged)} damaged skipped" if self.damaged else ""
        return f"{self.name}: {count} pictures{f', {self.kind}' if self.kind else ''}{skipped}" + (
            f", drawn ({drawn})" if drawn else "")  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One number."""

    name: str
    """How the score is asked for."""
    title: str
    """What it is called, with its features."""
    value: float | None
    """None where it is not finite."""
    error: float | None = None
    """What goes with it, where there is such a thing …"""
    error_is: str = ""
    """… and which kind it is."""
    better: str = "lower"
    """Which way is better."""

    @property
    def text(self) -> str:
        value = "not finite" if self.value is None else _number(self.value)
        return value + (f" ± {_number(self.error)}" if self.error is not None else "")

    @property
    def meaning(self) -> str:
        """Which way is better, and what the error is."""
        way = f"{self.better} is better" if self.better in ("lower", "higher") else f"{self.better} is best"
        return way + (f"; ± {self.error_is}" if self.error is not None else "")


@dataclass(frozen=True)
class Report:
    """The scores of one set of samples. `report["fd"]` is a number, `str(report)` a text for people."""

    samples: Told
    """What was judged."""
    reference: Told | None
    """What it was compared with."""
    features: str
    """Whose features: their name."""
    features_digest: str
    """16 hex digits over their weights, layer and resize."""
    resize: str
    """How they resize pictures."""
    dimension: int
    """Numbers a picture."""
    scores: tuple[Line, ...]
    """What was computed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Scores that these sets or features do not give, and why."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know."""
    seed: int = 0
    """The source of all randomness."""
    date: str = ""
    """When, in UTC."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of fewstep and torch."""
    device: str = ""
    """Where the features were computed."""
    seconds: float = 0.0
    """How long it took."""

    def __getitem__(self, name: str) -> float:
        """The value of a score; KeyError, with the reason, for one that is not there."""
        for line in self.scores:
            if line.name == name:
                return math.nan if line.value is None else line.value
        why = self.left_out.get(name)
        raise KeyError(f"'{name}' is left out: {why}" if why else f"no score '{name}'{nearest(name, self.names)}")

    @property
    def names(self) -> list[str]:
        """Of the scores that were computed."""
        return [line.name for line in self.scores]

    def __str__(self) -> str:
        width = max((len(line.title) for line in self.scores), default=0)
        numbers = [f"  {line.title:{width}}  {line.text:22} {line.meaning}".rstrip() for line in self.scores]
        reference = [f"reference  {self.reference}"] if self.reference else []
        left_out = [f"left out   {name}: {why}" for name, why in self.left_out.items()]
        made = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return "\n".join([
            f"samples    {self.samples}", *reference, f"features   {self.seen}", "", *numbers, "", *left_out,
            *(f"note       {note}" for note in self.notes), f"made       {self.date}, seed {self.seed}, {made}",
        ])  # fmt: skip

    @property
    def seen(self) -> str:
        """The features in words."""
        return f"{self.features} {self.features_digest}, {self.dimension} numbers, {self.resize}"

    def compare(self, *others: "Report") -> str:
        """This report and others as one table. ValueError where features or reference differ."""
        return compare([self, *others])


def compare(reports: Sequence[Report]) -> str:
    """A table with a row a report. Raises ValueError where they were not taken with one measure."""
    if not reports:
        raise ValueError("There are no reports to compare.")
    first = reports[0]
    for other in reports[1:]:
        _require_same(first, other)
    names = {line.name: line.title.split(" (")[0] for report in reports for line in report.scores}
    rows = [["", *names.values()]]
    for report in reports:
        lines = {line.name: line.text for line in report.scores}
        rows.append([f"{report.samples.name} ({_count(report)})", *(lines.get(name, "-") for name in names)])
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    table = ["  ".join(f"{cell:{w}}" if k == 0 else f"{cell:>{w}}" for k, (cell, w) in enumerate(
        zip(row, widths, strict=True))).rstrip() for row in rows]  # fmt: skip
    counts = {report.samples.n for report in reports}
    uneven = ["note: the numbers of samples differ; fewer samples alone make Fréchet distances larger."]
    against = f"reference  {first.reference}\n" if first.reference else ""
    return "\n".join([f"{against}features   {first.seen}", "", *table, *(uneven if len(counts) > 1 else [])])


def write(path: str | os.PathLike, reports: Sequence[Report]) -> None:
    """One report as JSON, several as a list."""
    plain = [encode(report) for report in reports]
    write_json(Path(path), plain[0] if len(plain) == 1 else plain)


def read(path: str | os.PathLike) -> list[Report]:
    """The reports in a file; ValueError, naming it, where it holds something else."""
    plain = read_json(Path(path))
    try:
        found = decode(plain if isinstance(plain, list) else [plain], (Report, Told, Line))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not all(isinstance(report, Report) for report in found):
        raise ValueError(f"{path} holds no report of fewstep evaluate.")
    return list(found)


def _require_same(a: Report, b: Report) -> None:
    if (a.features, a.features_digest) != (b.features, b.features_digest):
        raise ValueError(f"{a.samples.name} was seen by {a.features} {a.features_digest} and {b.samples.name} by "
                         f"{b.features} {b.features_digest}: scores of different features cannot be compared."
                         )  # fmt: skip
    ours, theirs = a.reference, b.reference
    if bool(ours) != bool(theirs):
        raise ValueError(f"Of {a.samples.name} and {b.samples.name} one was compared with a reference and one was not.")
    if ours and theirs and (_measure(ours) != _measure(theirs) or not ours.digest):
        raise ValueError(f"{a.samples.name} was compared with {ours.name} ({ours.n} pictures, {ours.digest}) and "
                         f"{b.samples.name} with {theirs.name} ({theirs.n}, {theirs.digest}): scores against different "
                         "references, or one that was drawn otherwise, cannot be compared.")  # fmt: skip


def _measure(side: Told) -> tuple:
    """What another report's reference must have alike."""
    return side.digest, side.n, {name: str(_plain(value)) for name, value in side.how.items()}


def _count(report: Report) -> str:
    return "n unknown" if report.samples.n is None else f"n {report.samples.n:,}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _plain(value: Any) -> str:
    return " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value) if isinstance(
        value, list | tuple) else f"{value:g}" if isinstance(value, float) else str(value)  # fmt: skip
