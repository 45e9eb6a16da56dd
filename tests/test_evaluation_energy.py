"""The energy distance against loops, a closed form in one dimension and invariances."""

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from fewstep.evaluation import blocks
from fewstep.evaluation.energy import energy_distance


def points(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * np.arange(1, d + 1) + seed


@pytest.mark.parametrize("block", [6, 2048])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_formula(offset, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    x, y = points(17, 5), points(13, 5, seed=1)
    halves = [y[:, :2], y[:, 2:]]
    scale = np.repeat([np.sqrt(half.var(0, ddof=1).sum()) for half in halves], (2, 3))
    first, second = torch.from_numpy(x / scale), torch.from_numpy(y / scale)
    own = [torch.pdist(s).mean() for s in (first, second)]
    cross = (first[:, None] - second).norm(dim=2).mean()
    found = energy_distance(x + offset, y + offset, (2, 3))
    assert found == pytest.approx(float(2 * cross - own[0] - own[1]), rel=1e-6)


def test_two_points_of_the_line():
    """E|x − y| = (2 + 0 + 4 + 2) / 4, E|x − x'| = 2 of both, in units of the reference's deviation √2."""
    x, y = np.array([[0.0], [2]]), np.array([[2.0], [4]])
    assert energy_distance(x, y) == pytest.approx((2 * 2 - 2 - 2) / np.sqrt(2), abs=1e-12)
    assert energy_distance(x, y + 10) == pytest.approx((2 * 12 - 4) / np.sqrt(2), rel=1e-12)


def test_two_gaussians_of_the_line():
    """E|N(m, 2)| has a closed form; the rest is 2/√π for either set."""
    y = ndtri((np.arange(500)[:, None] + 0.5) / 500)
    x, shift = y + 1.5, 1.5
    far = 2 / np.sqrt(np.pi) * np.exp(-(shift**2) / 4) + shift * torch.erf(torch.tensor(shift / 2)).item()
    assert energy_distance(x, y) == pytest.approx(2 * far - 4 / np.sqrt(np.pi), rel=0.01)


def test_every_part_counts_as_much_however_it_is_scaled():
    x, y = points(20, 6), points(30, 6, seed=1)
    units = np.array([1000.0, 1000, 1000, 1, 1, 1])
    assert energy_distance(x * units, y * units, (3, 3)) == pytest.approx(energy_distance(x, y, (3, 3)), rel=1e-10)


def test_two_sets_of_one_distribution_are_near():
    assert abs(energy_distance(points(400, 3), np.random.default_rng(9).standard_normal((400, 3)) * [1, 2, 3])) < 0.02


def test_a_reference_without_spread_is_no_error():
    assert np.isfinite(energy_distance(points(5, 2), np.ones((4, 2))))


def test_bad_input():
    with pytest.raises(ValueError, match="do not make up"):
        energy_distance(points(5, 4), points(5, 4), (1, 2))
    with pytest.raises(ValueError, match="two or more"):
        energy_distance(points(1, 4), points(5, 4))
