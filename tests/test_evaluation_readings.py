"""Inception Score, agreement, spread and CLIP score against closed forms, written-out formulas and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.image.inception import InceptionScore

from fewstep.evaluation.readings import agreement, clip_score, inception_score, spread
from fewstep.tensors import EVALUATE, rng


def logits(n: int, classes: int, seed: int = 0) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal((n, classes)).astype(np.float32)


class TestInceptionScore:
    def test_sure_and_even_readings_score_the_number_of_classes(self):
        assert inception_score(np.tile(1000 * np.eye(7), (3, 1))).value == pytest.approx(7, rel=1e-12)

    def test_equal_readings_score_one(self):
        assert inception_score(np.tile(logits(1, 9), (20, 1))).value == pytest.approx(1, rel=1e-12)

    def test_torchmetrics(self):
        class Read(torch.nn.Module):
            def forward(self, pictures):
                return pictures.flatten(1).double() / 40

        pictures = torch.randint(0, 256, (80, 3, 2, 2), dtype=torch.uint8, generator=torch.manual_seed(0))
        oracle = InceptionScore(feature=Read(), splits=1)
        oracle.update(pictures)
        found = inception_score(Read()(pictures).numpy())
        assert found.value == pytest.approx(float(oracle.compute()[0]), rel=1e-6)
        assert found.error is None

    def test_the_formula_over_parts_of_equal_size(self):
        read = logits(41, 6)
        chances = np.exp(read.astype(np.float64))
        chances /= chances.sum(1, keepdims=True)
        parts = np.array_split(chances[rng(7, EVALUATE, 2).permutation(41)], 3)
        plain = [np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()) for p in parts]
        value, error = inception_score(read, 7, split=20)
        assert value == pytest.approx(np.mean(plain), rel=1e-12)
        assert error == pytest.approx(np.std(plain), rel=1e-9)

    def test_readings_beyond_what_exp_can_hold(self):
        assert inception_score(np.array([[0.0, 5000], [0, 5000], [0, 5000]])).value == pytest.approx(1)

    def test_sorted_samples_score_as_shuffled_ones(self):
        read = 1000 * np.eye(10)[np.repeat(np.arange(10), 100)]
        assert inception_score(read, split=500).value > 9.5  # 5 each in parts that are taken in order

    def test_it_depends_on_the_seed_alone(self):
        assert inception_score(logits(50, 5), 3, split=10) == inception_score(logits(50, 5), 3, split=10)
        assert inception_score(logits(50, 5), 3, split=10) != inception_score(logits(50, 5), 4, split=10)


class TestAgreement:
    def test_percent_of_those_with_a_label(self):
        read = np.eye(3)[[0, 1, 2, 2, 0]]
        value, error = agreement(read, np.array([0, 1, 1, 2, -1]))
        assert value == 75
        assert error == pytest.approx(100 * np.sqrt(0.75 * 0.25 / 4))

    def test_no_label_or_one_too_large(self):
        with pytest.raises(ValueError, match="−1"):
            agreement(np.eye(3), np.full(3, -1))
        with pytest.raises(ValueError, match="Label 3"):
            agreement(np.eye(3), np.array([0, 1, 3]))


class TestSpread:
    def test_the_ratio_of_traces_over_the_classes_that_both_have(self):
        rng = np.random.default_rng(0)
        real, labels = rng.standard_normal((60, 4)), np.repeat([0, 1, 2], 20)
        samples, asked = rng.standard_normal((50, 4)) * 0.5 + 1e6, np.repeat([0, 1, 3, -1, 2], [20, 20, 5, 4, 1])
        trace = [
            [np.trace(np.cov((x[named == c] - x[0]).T)) for c in (0, 1)]
            for x, named in ((samples, asked), (real, labels))
        ]
        assert spread(samples, asked, real, labels) == pytest.approx(np.mean(trace[0]) / np.mean(trace[1]), rel=1e-8)

    def test_a_set_against_itself_and_half_as_wide(self):
        x, labels = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 4
        assert spread(x, labels, x, labels) == 1
        assert spread(x / 2, labels, x, labels) == pytest.approx(0.25)

    def test_what_has_no_spread_is_refused(self):
        x = np.ones((4, 2))
        with pytest.raises(ValueError, match="two pictures or more"):
            spread(x, np.arange(4), x, np.arange(4))
        with pytest.raises(ValueError, match="all equal"):
            spread(x, np.zeros(4), x, np.zeros(4))


class TestClipScore:
    def test_angles(self):
        pictures = np.array([[2.0, 0], [0, 1], [1, 0], [1, 0]])
        prompts = np.array([[0.5, np.sqrt(0.75)], [0, 9], [0, 1], [-1, 0]])
        value, error = clip_score(pictures, prompts)
        assert value == pytest.approx((50 + 100 + 0 + 0) / 4, rel=1e-12)  # below a right angle, not below 0
        assert error == pytest.approx(np.std([50, 100, 0, 0], ddof=1) / 2)

    def test_a_prompt_a_picture(self):
        with pytest.raises(ValueError, match="a prompt a picture"):
            clip_score(np.ones((2, 3)), np.ones((1, 3)))
