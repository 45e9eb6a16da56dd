"""The Fréchet distance against closed forms, scipy, torchmetrics and singular values of the points themselves."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

from fewstep.evaluation.gaussians import Gaussian, frechet


def points(n: int, d: int, seed: int = 0, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) / np.sqrt(d) + rng.standard_normal(d) + offset


def spanned(a: np.ndarray, b: np.ndarray) -> float:
    """The distance from the points alone: Tr (Σ_a Σ_b)^½ is the nuclear norm of A Bᵀ, at any rank."""
    first, second = (a - a.mean(0)) / np.sqrt(len(a) - 1), (b - b.mean(0)) / np.sqrt(len(b) - 1)
    shared = np.linalg.norm(first @ second.T, ord="nuc")
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + (first**2).sum() + (second**2).sum() - 2 * shared)


class TestGaussian:
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_it_is_numpys_mean_and_covariance_however_the_points_are_split(self, offset):
        x = points(500, 6, offset=offset)
        centred = x - x[0]  # exact enough to be an oracle far from 0
        whole = Gaussian.of(x)
        pieces = Gaussian.over(np.split(x, [1, 2, 70, 499]))
        for fitted in (whole, pieces):
            assert fitted.n == 500
            np.testing.assert_allclose(fitted.mean, x[0] + centred.mean(0), rtol=1e-12)
            np.testing.assert_allclose(fitted.covariance, np.cov(centred.T), rtol=1e-9, atol=1e-12)

    def test_float32_loses_nothing_but_its_own_rounding(self):
        x = points(300, 4, offset=1e6).astype(np.float32)
        np.testing.assert_allclose(Gaussian.of(x).covariance, np.cov((x.astype(np.float64) - 1e6).T), rtol=1e-9)

    def test_the_order_of_merging_does_not_matter(self):
        a, b = Gaussian.of(points(40, 5)), Gaussian.of(points(7, 5, seed=1))
        np.testing.assert_allclose(a.merged(b).covariance, b.merged(a).covariance, rtol=1e-12)

    def test_one_point_and_none(self):
        assert (Gaussian.of(points(1, 3)).covariance == 0).all()
        with pytest.raises(ValueError, match="no pictures"):
            Gaussian.over([])

    def test_a_feature_that_is_not_finite_is_refused(self):
        x = points(10, 3)
        x[4, 1] = np.nan
        with pytest.raises(ValueError, match="not finite"):
            Gaussian.of(x)

    def test_the_factor_has_a_column_for_each_direction_that_the_points_span(self):
        few = Gaussian.of(points(8, 30))
        assert few.factor.shape == (30, 7)
        np.testing.assert_allclose(few.factor @ few.factor.T, few.covariance, atol=1e-12)
        flat = points(100, 6)
        flat[:, 3] = 2.5
        assert Gaussian.of(flat).factor.shape == (6, 5)


class TestFrechet:
    def test_gaussians_that_share_their_axes(self):
        rng = np.random.default_rng(0)
        axes = np.linalg.qr(rng.standard_normal((5, 5)))[0]
        first, second = np.array([4.0, 1, 0, 9, 2]), np.array([1.0, 1, 3, 0, 5])
        a, b = (
            Gaussian(mean, (axes * values) @ axes.T, 0) for mean, values in ((np.zeros(5), first), (np.ones(5), second))
        )
        expected = 5 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
        assert frechet(a, b) == pytest.approx(expected, rel=1e-12)

    def test_any_two_gaussians_of_the_plane(self):
        a, b = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[0.5, -0.3], [-0.3, 3.0]])
        root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))  # Tr of the root of a 2 × 2 matrix
        expected = 1 + np.trace(a) + np.trace(b) - 2 * root
        found = frechet(Gaussian(np.zeros(2), a, 0), Gaussian(np.array([0.6, 0.8]), b, 0))
        assert found == pytest.approx(expected, rel=1e-12)

    def test_scipys_root(self):
        a, b = (Gaussian.of(points(400, 20, seed)) for seed in (1, 2))
        root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
        gap = a.mean - b.mean
        expected = gap @ gap + np.trace(a.covariance + b.covariance - 2 * root)
        assert frechet(a, b) == pytest.approx(expected, rel=1e-9)

    def test_torchmetrics(self):
        class Seen(torch.nn.Module):
            num_features = 12

            def forward(self, pictures):
                return pictures.flatten(1).double().square() / 1000

        x, y = (
            torch.randint(0, 256, (200, 3, 2, 2), dtype=torch.uint8, generator=torch.manual_seed(i)) for i in (0, 1)
        )
        oracle = FrechetInceptionDistance(feature=Seen(), normalize=False).set_dtype(torch.float64)
        oracle.update(x, real=True)
        oracle.update(y, real=False)
        found = frechet(*(Gaussian.of(Seen()(pictures).numpy()) for pictures in (x, y)))
        assert found == pytest.approx(float(oracle.compute()), rel=1e-6)

    @pytest.mark.parametrize(("n", "m"), [(2, 2), (2, 300), (15, 40), (40, 300), (64, 65), (300, 300)])
    def test_it_is_exact_at_any_rank(self, n, m):
        a, b = points(n, 64, seed=3), points(m, 64, seed=4)
        assert frechet(Gaussian.of(a), Gaussian.of(b)) == pytest.approx(spanned(a, b), rel=1e-10)

    def test_dead_features_and_copies_of_features(self):
        def seen(seed: int) -> np.ndarray:
            x = points(200, 16, seed)
            return np.concatenate([x, np.full((200, 4), 0.1), x[:, :8] * 3, x @ np.ones((16, 4))], axis=1)

        assert frechet(Gaussian.of(seen(1)), Gaussian.of(seen(2))) == pytest.approx(spanned(seen(1), seen(2)), rel=1e-8)

    def test_two_lines(self):
        u, v = np.array([3.0, 0, 4]), np.array([0.0, 1, 1])
        a, b = (Gaussian(np.zeros(3), np.outer(line, line), 0) for line in (u, v))
        assert frechet(a, b) == pytest.approx(25 + 2 - 2 * abs(u @ v), rel=1e-12)

    @pytest.mark.parametrize("n", [5, 200])
    def test_a_set_has_no_distance_from_itself(self, n):
        a = Gaussian.of(points(n, 30))
        assert 0 <= frechet(a, Gaussian(a.mean, a.covariance.copy(), n)) < 1e-11 * np.trace(a.covariance)

    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_a_common_offset_changes_nothing(self, offset):
        a, b = points(50, 10, seed=1), points(60, 10, seed=2)
        found = frechet(Gaussian.of(a + offset), Gaussian.of(b + offset))
        assert found == pytest.approx(spanned(a, b), rel=1e-7)

    def test_it_is_symmetric(self):
        a, b = Gaussian.of(points(20, 30, seed=1)), Gaussian.of(points(90, 30, seed=2))
        assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-12)

    def test_one_picture_is_refused(self):
        with pytest.raises(ValueError, match="two or more"):
            frechet(Gaussian.of(points(1, 4)), Gaussian.of(points(9, 4)))

    def test_different_features_are_refused(self):
        with pytest.raises(ValueError, match="4 and of 5"):
            frechet(Gaussian.of(points(9, 4)), Gaussian.of(points(9, 5)))
