"""KID and CMMD against loops over pairs, closed forms and torchmetrics."""

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from fewstep.evaluation import blocks
from fewstep.evaluation.kernels import cmmd, kid


def points(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + seed / 10


def cubic(a: np.ndarray, b: np.ndarray) -> float:
    return (float(a @ b) / len(a) + 1) ** 3


class TestKID:
    def test_loops_over_pairs_for_sets_of_different_sizes(self):
        x, y = points(7, 4), points(5, 4, seed=1)
        own = [np.mean([cubic(a, b) for a, b in itertools.permutations(s, 2)]) for s in (x, y)]
        cross = np.mean([cubic(a, b) for a in x for b in y])
        value, error = kid(x, y)
        assert value == pytest.approx(own[0] + own[1] - 2 * cross, rel=1e-12)
        assert error is None

    def test_point_masses(self):
        a, b = np.array([1.0, 2, 0.5]), np.array([0.0, 1, 3])
        found = kid(np.tile(a, (4, 1)), np.tile(b, (9, 1))).value
        assert found == pytest.approx(cubic(a, a) + cubic(b, b) - 2 * cubic(a, b), rel=1e-12)

    def test_torchmetrics(self):
        class Seen(torch.nn.Module):
            num_features = 12

            def forward(self, pictures):
                return pictures.flatten(1).double() / 100

        x, y = (
            torch.randint(0, 200 + 50 * i, (60, 3, 2, 2), dtype=torch.uint8, generator=torch.manual_seed(i))
            for i in (0, 1)
        )
        oracle = KernelInceptionDistance(feature=Seen(), subsets=1, subset_size=60).set_dtype(torch.float64)
        oracle.update(x, real=True)
        oracle.update(y, real=False)
        found = kid(*(Seen()(pictures).numpy() for pictures in (x, y)))
        assert found.value == pytest.approx(float(oracle.compute()[0]), rel=1e-6)

    def test_two_gaussians_within_the_error(self):
        """In one dimension (xy + 1)³ compares three moments: 3 (Δm₁)² + 3 (Δm₂)² + (Δm₃)²."""
        x = np.random.default_rng(1).normal(0.5, 1, (4000, 1))
        y = np.random.default_rng(2).normal(0, 1, (4000, 1))
        expected = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
        value, error = kid(x, y, size=200)
        assert error is not None
        assert abs(value - expected) < 4 * error
        assert error < 0.2 * expected

    @pytest.mark.parametrize("size", [50, 1000])
    def test_the_error_is_how_much_the_value_varies(self, size):
        rng = np.random.default_rng(3)
        sets = ((rng.normal(0.5, 1, (400, 1)), rng.normal(0, 1, (400, 1))) for _ in range(40))
        found = [kid(x, y, subsets=20, size=size) for x, y in sets]
        varies = np.std([value for value, _ in found], ddof=1)
        assert np.mean([error for _, error in found]) == pytest.approx(varies, rel=0.3)

    @pytest.mark.parametrize(("n", "m", "shift"), [(101, 1500, 0.5), (1500, 101, 0.5), (70, 70, 0.5), (150, 1500, 0)])
    def test_so_it_is_for_sets_of_other_sizes_and_for_one_distribution(self, n, m, shift):
        rng = np.random.default_rng(4)
        sets = ((rng.normal(shift, 1, (n, 2)), rng.normal(0, 1, (m, 2))) for _ in range(60))
        found = [kid(x, y, subsets=10, size=100) for x, y in sets]
        varies = np.std([value for value, _ in found], ddof=1)
        assert 0.7 < np.mean([error for _, error in found]) / varies < 1.8

    def test_it_depends_on_the_seed_alone(self):
        x, y = points(40, 3), points(30, 3, seed=1)
        assert kid(x, y, seed=5, size=10) == kid(x.copy(), y.copy(), seed=5, size=10)
        assert kid(x, y, seed=5, size=10) != kid(x, y, seed=6, size=10)

    def test_subsets_agree_with_the_whole(self):
        x, y = points(200, 3), points(300, 3, seed=4)
        assert kid(x, y, subsets=400, size=30).value == pytest.approx(kid(x, y, size=300).value, rel=0.1)

    def test_one_picture_is_refused(self):
        with pytest.raises(ValueError, match="two or more"):
            kid(points(1, 3), points(10, 3))


class TestCMMD:
    def expected(self, x, y):
        x, y = (s / np.linalg.norm(s, axis=1, keepdims=True) for s in (x, y))
        k = [np.mean([np.exp(-((a - b) ** 2).sum() / 200) for a in s for b in t]) for s, t in ((x, x), (y, y), (x, y))]
        return 1000 * (k[0] + k[1] - 2 * k[2])

    @pytest.mark.parametrize("block", [5, 2048])
    def test_loops_over_pairs(self, block, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK", block)
        x, y = points(13, 6), points(11, 6, seed=9)
        assert cmmd(x, y) == pytest.approx(self.expected(x, y), rel=1e-10)

    def test_opposite_points(self):
        assert cmmd(np.array([[3.0, 0]]), np.array([[-0.1, 0]])) == pytest.approx(2000 * (1 - np.exp(-0.02)), rel=1e-12)

    def test_equal_sets_and_lengths_do_not_count(self):
        x = points(20, 5)
        assert cmmd(x, x * np.arange(1, 21)[:, None]) < 1e-9
        assert cmmd(x, np.concatenate([x, x])) < 1e-9

    def test_embeddings_of_length_zero_are_no_error(self):
        assert np.isfinite(cmmd(np.zeros((2, 3)), points(4, 3)))
