"""The scores of benchmarks/mnist_scores.py against closed forms and a plain implementation."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import judge  # noqa: E402
import mnist_scores  # noqa: E402


def rng():
    return np.random.default_rng(0)


def test_frechet_of_shifted_and_scaled_gaussians():
    a = rng().standard_normal((4000, 6))
    scale, shift = np.linspace(0.5, 2, 6), np.arange(6.0)
    covariance = np.cov(a.T)
    whitener = np.linalg.inv(np.linalg.cholesky(covariance)).T
    whitened = (a - a.mean(0)) @ whitener  # mean 0, covariance I
    expected = shift @ shift + ((scale - 1) ** 2).sum()
    assert mnist_scores.frechet(whitened, whitened * scale + shift) == pytest.approx(expected, rel=1e-9)


def test_frechet_agrees_with_sqrtm_and_is_symmetric():
    a = rng().standard_normal((300, 5)) @ rng().standard_normal((5, 5))
    b = rng().standard_normal((200, 5)) + 1
    first, second = np.cov(a.T), np.cov(b.T)
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(first + second - 2 * scipy.linalg.sqrtm(first @ second).real)
    assert mnist_scores.frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert mnist_scores.frechet(b, a) == pytest.approx(expected, rel=1e-9)


def test_frechet_of_rank_deficient_features():
    a = np.zeros((10, 40))
    a[:, :3] = rng().standard_normal((10, 3))
    assert mnist_scores.frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert mnist_scores.frechet(a, a + 2) == pytest.approx(160, rel=1e-6)


def test_covered_by_hand():
    manifold = np.arange(5.0)[:, None]  # with k = 1 each ball has radius 1
    points = np.array([[-1.0], [-1.1], [2.5], [5.0], [5.2]])
    assert mnist_scores.covered(points, manifold, k=1) == pytest.approx(3 / 5)


def test_covered_against_loops():
    manifold, points = rng().standard_normal((40, 3)), rng().standard_normal((30, 3)) * 1.5
    hits = 0
    for point in points:
        gaps = [np.sort(np.linalg.norm(manifold - other, axis=1))[3] for other in manifold]
        hits += any(np.linalg.norm(point - other) <= gap for other, gap in zip(manifold, gaps, strict=True))
    assert mnist_scores.covered(points, manifold) == hits / 30


def test_spread_of_scaled_classes():
    labels = np.repeat(np.arange(4), 50)
    features = rng().standard_normal((200, 8)) + 10 * labels[:, None]
    centres = np.stack([features[labels == label].mean(0) for label in range(4)])[labels]
    real = mnist_scores.Read(features, labels, labels)
    narrow = mnist_scores.Read(centres + 0.5 * (features - centres), labels, labels)
    scores = mnist_scores.score(narrow, real, features)
    assert scores.spread == pytest.approx(0.25)
    assert scores.agreement == 1
    assert mnist_scores.score(real, real, features).frechet == pytest.approx(0, abs=1e-9)


def test_balanced_takes_each_class_equally():
    labels = np.repeat(np.arange(3), [30, 20, 50])
    seen = mnist_scores.Read(np.arange(100.0)[:, None], labels, labels)
    taken = mnist_scores.balanced(seen, 20)
    assert np.bincount(taken.asked).tolist() == [20, 20, 20]
    assert len(np.unique(taken.features)) == 60


def test_samples_of_another_size_are_refused():
    with pytest.raises(ValueError, match="28×28×1"):
        mnist_scores.from_uint8(np.zeros((2, 32, 32, 1), np.uint8))


@pytest.mark.parametrize("name", ["judge", "selector"])
def test_readers_load_and_read(name):
    reader = judge.load_reader(BENCHMARKS / f"{name}.safetensors")
    images = mnist_scores.from_uint8(np.zeros((3, 28, 28, 1), np.uint8))
    assert reader(images).shape == (3, 10)
    assert reader.features(images).shape == (3, reader.head.in_features)
    assert images.unique().tolist() == [-1]
