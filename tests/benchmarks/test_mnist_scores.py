"""benchmarks/mnist_scores.py: what it takes of the evaluation, and its readers."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import judge  # noqa: E402
import mnist_scores  # noqa: E402


def rng():
    return np.random.default_rng(0)


def test_scores_are_those_of_the_evaluation():
    labels = np.repeat(np.arange(4), 50)
    features = (rng().standard_normal((200, 8)) + 10 * labels[:, None]).astype(np.float32)
    centres = np.stack([features[labels == label].mean(0) for label in range(4)])[labels]
    logits = np.eye(10)[labels].astype(np.float32)
    real = mnist_scores.a_set(features, logits, labels)
    narrow = mnist_scores.a_set(centres + 0.5 * (features - centres), logits, (labels + (np.arange(200) < 10)) % 4)
    scores = mnist_scores.score(narrow, real, real)
    assert scores.agreement == pytest.approx(0.95)
    same = mnist_scores.score(real, real, real)
    assert same.frechet == pytest.approx(0, abs=1e-6)
    assert (same.agreement, same.precision, same.recall, same.spread) == (1, 1, 1, 1)
    right = mnist_scores.a_set(centres + 0.5 * (features - centres), logits, labels)
    assert mnist_scores.score(right, real, real).spread == pytest.approx(0.25, rel=1e-5)


def test_balanced_takes_each_class_equally():
    labels = np.repeat(np.arange(3), [30, 20, 50])
    numbers = np.arange(100, dtype=np.float32)[:, None]
    taken = mnist_scores.balanced(mnist_scores.a_set(numbers, numbers, labels), 20)
    assert np.bincount(taken.part("labels")).tolist() == [20, 20, 20]
    assert len(np.unique(taken.part("features"))) == 60


def test_samples_of_another_size_are_refused():
    with pytest.raises(ValueError, match="28×28×1"):
        mnist_scores.from_uint8(np.zeros((2, 32, 32, 1), np.uint8))


@pytest.mark.parametrize("path", [judge.JUDGE, BENCHMARKS / "selector.safetensors"])
def test_readers_load_and_read(path):
    reader = judge.load_reader(path)
    images = mnist_scores.from_uint8(np.zeros((3, 28, 28, 1), np.uint8))
    assert reader(images).shape == (3, 10)
    assert reader.features(images).shape == (3, reader.head.in_features)
    assert images.unique().tolist() == [-1]
