"""Precision, recall, density and coverage against loops, also where points are equal or far from 0."""

import gc

import numpy as np
import pytest

from fewstep.evaluation import blocks
from fewstep.evaluation import neighbours as module
from fewstep.evaluation.neighbours import compared, neighbours, radii
from fewstep.evaluation.types import Set


def points(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def looped(samples: np.ndarray, real: np.ndarray) -> tuple[float, ...]:
    """The four scores from their definitions, one pair at a time."""

    def distance(a, b):
        return ((a - b) ** 2).sum()

    def reach(of, i, k):
        return sorted(distance(of[i], of[j]) for j in range(len(of)) if j != i)[k - 1]

    reach_3, reach_5 = ([reach(real, i, k) for i in range(len(real))] for k in (3, 5))
    own = [reach(samples, i, 3) for i in range(len(samples))]
    every = [[distance(x, y) for y in samples] for x in real]
    precision = np.mean([any(every[i][j] <= reach_3[i] for i in range(len(real))) for j in range(len(samples))])
    recall = np.mean([any(every[i][j] <= own[j] for j in range(len(samples))) for i in range(len(real))])
    density = (
        np.sum([every[i][j] <= reach_5[i] for i in range(len(real)) for j in range(len(samples))]) / 5 / len(samples)
    )
    coverage = np.mean([min(every[i]) <= reach_5[i] for i in range(len(real))])
    return float(precision), float(recall), float(density), float(coverage)


@pytest.mark.parametrize("block", [7, 2048])
@pytest.mark.parametrize(("n", "m", "d"), [(30, 40, 3), (41, 23, 20), (6, 6, 2)])
def test_loops(n, m, d, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    samples, real = points(n, d) * 0.8 + 0.2, points(m, d, seed=1)
    assert neighbours(samples, real) == pytest.approx(looped(samples, real), rel=1e-12)


@pytest.mark.parametrize("block", [7, 2048])
@pytest.mark.parametrize("offset", [0, 10**6])
def test_points_on_borders_and_equal_points_count_as_inside(offset, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    rng = np.random.default_rng(0)
    samples, real = rng.integers(0, 3, (50, 4)), rng.integers(0, 3, (60, 4)) * np.array([1, 1, 2, 1])
    found = neighbours((samples + offset).astype(np.float32), (real + offset).astype(np.float32))
    assert found == pytest.approx(looped(samples, real), rel=1e-12)


def test_many_copies_of_one_picture():
    real = np.concatenate([np.tile([[0.3, 0.7, 0.1]], (10, 1)), points(5, 3) + 50])
    samples = np.tile([[0.3, 0.7, 0.1]], (8, 1))
    assert neighbours(samples, real) == pytest.approx(looped(samples, real))
    assert neighbours(samples, real).precision == 1


def test_a_set_against_itself_and_against_one_far_away():
    real = points(50, 10)
    itself = neighbours(real, real)
    assert (itself.precision, itself.recall, itself.coverage) == (1, 1, 1)
    assert neighbours(points(50, 10, seed=1) + 100, real) == (0, 0, 0, 0)


def test_two_sets_of_one_distribution_have_the_expected_density_and_coverage():
    """Density 1; coverage 1 − (n − 1) … (n − k) / ((2n − 1) … (2n − k)) (Naeem et al. 2020, lemma 2)."""
    found = [neighbours(points(300, 4, seed), points(300, 4, 100 + seed)) for seed in range(10)]
    n, k = 300, np.arange(1, 6)
    assert np.mean([scores.density for scores in found]) == pytest.approx(1, abs=0.03)
    assert np.mean([scores.coverage for scores in found]) == pytest.approx(1 - np.prod((n - k) / (2 * n - k)), abs=0.01)


def test_radii_far_from_zero():
    x = points(40, 6)
    np.testing.assert_allclose(radii(x + 1e6), radii(x), rtol=1e-7)


def test_what_was_found_of_sets_is_remembered_as_long_as_they_live(monkeypatch):
    real, samples = (Set(name, 30, points(30, 3, seed).astype(np.float32)) for seed, name in enumerate("ab"))
    first = compared(samples, real)
    monkeypatch.setattr(module, "neighbours", None)
    assert compared(samples, real) is first
    held = len(module._radii)
    del samples, real
    gc.collect()
    assert len(module._radii) == held - 2
