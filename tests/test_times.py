"""The search finds known best times, survives noise, counts its scores and goes on where it stopped."""

import math
import random

import pytest
from oracle import EPS, Gaussian, T

from fewstep.sampling import check_times
from fewstep.schedules import Discrete, Karras
from fewstep.times import Search, golden_section, position, search_times, time_at

KARRAS = Karras()


def valley(best):
    """A score whose minimum over the second time is at `best`, quadratic in position."""
    return lambda times: sum(
        (position(KARRAS, t) - position(KARRAS, b)) ** 2 for t, b in zip(times[1:], best, strict=False)
    )


@pytest.mark.parametrize("best", [40.0, 3.0, 0.82, 0.05, 0.004])
def test_the_bottom_of_a_valley(best):
    found = search_times(valley([best]), KARRAS, tolerance=0.005)
    assert found.times[0] == 80.0
    assert position(KARRAS, found.times[1]) == pytest.approx(position(KARRAS, best), abs=0.005)
    assert found.score == valley([best])(found.times)


def test_the_best_second_time_of_a_consistency_function_with_errors():
    """Data N(0, s²), a function that is exact but for independent noise of size κτ in what it returns at time τ.

    With V = s² + ε² and v_1 the variance after the first call, the second leaves (compare oracle.variance_after)

        v(τ) − V = V (v_1 − V)/(s² + τ²) + κ² τ²        smallest at  τ² = √(V (v_1 − V))/κ − s²
    """
    data, kappa = Gaussian(0.0, 0.5), 0.004
    v = data.std**2 + EPS**2

    def variance(times):
        now = times[0] ** 2 * data.gain(times[0]) ** 2 + (kappa * times[0]) ** 2
        for t in times[1:]:
            now = data.gain(t) ** 2 * (now + t**2 - EPS**2) + (kappa * t) ** 2
        return now - v

    best = math.sqrt(math.sqrt(v * variance((T,))) / kappa - data.std**2)
    found = search_times(variance, KARRAS, steps=3, tolerance=0.002)
    assert found.best(2)[1] == pytest.approx(best, rel=0.01)
    assert 3 < best < 10
    scores = [found.tried[found.best(n)] for n in (1, 2, 3)]
    assert scores == sorted(scores, reverse=True)  # each further call helps here


def test_more_than_one_valley():
    """A ternary search can end in the shallow valley; the scan sees both."""

    def score(times):
        u = position(KARRAS, times[-1])
        return min((u - 0.2) ** 2, (u - 0.85) ** 2 - 0.001)

    found = search_times(score, KARRAS, tolerance=0.01)
    assert position(KARRAS, found.times[1]) == pytest.approx(0.85, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_noise(seed):
    """Where the score's noise is 0.002, the times found cost at most a few times that."""
    noise, clean = random.Random(seed), valley([0.8])
    found = search_times(lambda times: clean(times) + noise.gauss(0, 0.002), KARRAS)
    assert clean(found.times) < 0.01
    assert abs(position(KARRAS, found.times[1]) - position(KARRAS, 0.8)) < 0.1


def test_times_are_added_wherever_they_help():
    """0.5 helps most and is found first; the third time, 10, lies above it."""

    def score(times):
        far = lambda best: min((position(KARRAS, t) - position(KARRAS, best)) ** 2 for t in times)  # noqa: E731
        return 3 * min(far(0.5), 0.01) + min(far(10.0), 0.01)

    found = search_times(score, KARRAS, steps=3, tolerance=0.003, points=11)
    assert found.best(2)[1] == pytest.approx(0.5, rel=0.05)
    assert found.times[1:] == pytest.approx((10.0, 0.5), rel=0.05)
    check_times(found.times, KARRAS)


def test_it_counts_reports_and_keeps_every_score():
    calls, told = [], []

    def score(times):
        calls.append(times)
        return valley([3.0])(times)

    found = search_times(score, KARRAS, points=7, tolerance=0.02, report=lambda *line: told.append(line))
    assert len(calls) == len(set(calls)) == len(found.tried)
    expected = 1 + 7 + 2 + math.ceil(math.log(2 / 8 / 0.02) / math.log(1.618))
    assert len(calls) <= expected == 16
    assert told == [(times, found.tried[times]) for times in calls]
    table = found.table()
    assert [times for times, _ in table[:1]] == [(80.0,)]
    assert [times[1] for times, _ in table[1:]] == sorted((times[1] for times, _ in table[1:]), reverse=True)


def test_it_goes_on_where_it_was_cut_off():
    whole = search_times(valley([2.0, 0.3]), KARRAS, steps=3)
    cache, calls = {}, []

    def cut_off(times):
        if len(cache) == 12:
            raise KeyboardInterrupt
        calls.append(times)
        return valley([2.0, 0.3])(times)

    with pytest.raises(KeyboardInterrupt):
        search_times(cut_off, KARRAS, steps=3, cache=cache)
    assert len(cache) == 12

    def go_on(times):
        calls.append(times)
        return valley([2.0, 0.3])(times)

    again = search_times(go_on, KARRAS, steps=3, cache=cache)
    assert again == whole
    assert len(calls) == len(set(calls)) == len(whole.tried)


def test_the_first_time_may_be_another():
    found = search_times(valley([1.0]), KARRAS, first=10.0)
    assert all(times[0] == 10.0 for times in found.tried)
    assert all(t < 10.0 for times in found.tried for t in times[1:])
    assert found.times[1] == pytest.approx(1.0, rel=0.2)


def test_discrete_times_are_indices():
    schedule = Discrete()
    found = search_times(lambda times: sum(abs(t - 400) for t in times[1:]), schedule, tolerance=0.002)
    assert found.times[0] == 999.0
    assert found.times[1] == pytest.approx(400, abs=3)
    assert all(t == int(t) for times in found.tried for t in times)


def test_one_step_is_scored_too():
    assert search_times(lambda times: 3.5, KARRAS, steps=1) == Search({(80.0,): 3.5})


@pytest.mark.parametrize("u", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_positions_and_times_are_inverses(u):
    assert position(KARRAS, time_at(KARRAS, u)) == pytest.approx(u, abs=1e-3)
    assert time_at(KARRAS, 0.0) == 80.0
    assert time_at(KARRAS, 1.0) == 0.002


def test_golden_section_brackets_the_minimum():
    for a, b in golden_section(lambda u: abs(u - 0.3), 0.0, 1.0, 1e-3):
        assert a <= 0.3 <= b
    assert b - a <= 1e-3


@pytest.mark.parametrize(
    "settings", [{"steps": 0}, {"points": 0}, {"tolerance": 0.0}, {"first": 100.0}, {"first": 0.002}]
)
def test_useless_settings_are_refused(settings):
    with pytest.raises(ValueError, match="needs steps and points|first time lies above"):
        search_times(lambda times: 0.0, KARRAS, **settings)
    with pytest.raises(ValueError, match="No times of 4 steps"):
        Search({(80.0,): 1.0}).best(4)
