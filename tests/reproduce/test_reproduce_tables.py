"""Intervals against scipy's, claims judged seed by seed."""

import math

import numpy as np
import pytest
from scipy import stats

from fewstep.reproduce.studies import STUDIES, Claim
from fewstep.reproduce.tables import Interval, Results, claims, closed, quantile, table, verdict


def results(scores: dict[str, list[float]]) -> Results:
    """Results with these final distances of each run, a seed each."""
    found = {}
    for run, values in scores.items():
        for seed, value in enumerate(values):
            entries = [{"step": 10, "calls": 1, "fd": value + 5}, {"step": 20, "calls": 1, "fd": value}]
            found[run, seed] = {"scores": entries, "costs": {"10": 3.0, "20": 6.0 + seed}, "teacher": run != "teacher"}
    return Results(found)


def test_intervals_are_students_t():
    wanted = [stats.t.ppf(0.975, k) for k in (*range(1, 31), 99)]
    assert [quantile(k) for k in (*range(1, 31), 99)] == pytest.approx(wanted, rel=1e-9)
    for values in ([3.0, 4.5, 4.0], [float(k % 5) for k in range(11)]):
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        found = Interval.of(values)
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), rel=1e-9)
    assert math.isnan(Interval.of([1.0]).half)
    assert Interval.of([1.0]).words("{:.2f}") == "1.00"
    assert Interval(1.0, 0.25).words("{:.2f}") == "1.00 ± 0.25"


def test_a_claim_holds_fails_or_stays_open():
    claim = Claim(("x", 1), ("y", 1))
    far = {"x": [10.0, 20.0, 30.0], "y": [12.0, 22.1, 31.9]}  # the seeds differ more than the runs, yet it holds
    assert verdict(claim, results(far)).startswith("holds (+2.00")
    assert verdict(claim, results({"x": far["y"], "y": far["x"]})).startswith("fails (-2.00")
    assert verdict(claim, results({"x": [1.0, 2.0, 3.0], "y": [2.0, 1.5, 4.0]})).startswith("undecided")
    assert verdict(claim, results({"x": [1.0], "y": [2.0]})) == "one seed: smaller (+1.00)"


def test_time_counts_the_teachers_where_it_was_needed():
    found = results({"teacher": [1.0, 1.0], "heun-18": [1.0, 1.0]})
    assert found.seconds("heun-18", 1) == {10: 3.0, 20: 7.0}
    assert found.seconds("heun-18", 1, whole=True) == {10: 10.0, 20: 14.0}
    assert found.cost("heun-18") == 6.5
    assert found.final("heun-18", "fd") == [1.0, 1.0]
    assert found.curve("heun-18", 0, "fd") == {10: 6.0, 20: 1.0}


def test_a_row_costs_what_training_had_cost_when_it_was_drawn():
    """Progressive distillation has its student of four steps long before its last."""
    entries = [{"step": step, "calls": calls, "fd": 1.0} for step, calls in ((4, 4), (7, 2), (10, 1))]
    made = {"scores": entries, "teacher": True}
    costs = ({"4": 12.0, "7": 20.0, "10": 30.0}, {"4": 14.0, "7": 24.0, "10": 31.0})
    found = Results({("pd", seed): {**made, "costs": each} for seed, each in enumerate(costs)})
    assert [found.cost("pd", calls) for calls in (4, 2, 1)] == [13.0, 22.0, 30.5]


def test_a_table_has_a_row_a_line():
    lines = table(STUDIES["distance"], results({run: [1.0, 2.0] for run in STUDIES["distance"].runs}))
    assert len(lines) == 2 + 5
    assert lines[3] == "| random filters | 1.50 ± 6.35 | 6 |"


def test_the_closed_form_is_printed_where_there_is_one():
    assert closed(STUDIES["distance"]) == []
    lines = closed(STUDIES["heun-vs-euler"])
    assert lines[0] == "|  | 9 | 18 | 36 | 72 |"
    assert lines[2:] == ["| Heun | 0.278 | 0.055 | 0.012 | 0.003 |", "| Euler | 0.301 | 0.154 | 0.078 | 0.039 |"]


def test_students_that_follow_a_teacher_are_judged_by_the_difference_from_it_too():
    runs = {"heun-18": 1.0, "pd": 2.0}
    entries = {run: [{"step": 9, "calls": n, "fd": v, "gap": v / 10} for n in (1, 2, 4)] for run, v in runs.items()}
    made = {run: {"scores": scores, "costs": {"9": 1.0}, "teacher": True} for run, scores in entries.items()}
    found = Results({(run, seed): result for run, result in made.items() for seed in (0, 1)})
    lines = claims(STUDIES["progressive"], found)
    assert lines[0].endswith("| Fréchet distance | difference from the teacher |")
    assert lines[2] == "| CD, 1 step | PD, 1 step | holds (+1.00 ± 0.00) | holds (+0.100 ± 0.000) |"
    assert lines[3].endswith("holds (+1.00 ± 0.00) |  |")  # two calls of CD add noise of their own
    rows = table(STUDIES["progressive"], found)
    assert rows[2].count("0.100") == 1
    assert rows[3].count("0.100") == 0
    assert rows[6].count("0.200") == 1
    runs = STUDIES["schedules"].runs
    assert "difference" not in claims(STUDIES["schedules"], results({run: [1.0] for run in runs}))[0]
