"""The table of scores: names, needs, titles, and that each computes from two sets."""

import numpy as np
import pytest

from fewstep.evaluation.gaussians import Gaussian
from fewstep.evaluation.neighbours import neighbours
from fewstep.evaluation.scores import SCORES, chosen
from fewstep.evaluation.types import Features, Seen, Set


class Named(Features):
    def __init__(self, name: str, digest: str = "0123456789abcdef"):
        self.name, self.digest, self.resize, self.dimension = name, digest, "not at all", 4

    def __call__(self, pictures):
        return Seen(pictures.flatten(1).float())


def seen(name: str, seed: int, n: int = 40, **changes) -> Set:
    rng = np.random.default_rng(seed)
    features, spatial = rng.standard_normal((n, 4)).astype(np.float32), rng.standard_normal((n, 3)).astype(np.float32)
    known = {
        "features": features,
        "gaussian": Gaussian.of(features),
        "spatial_gaussian": Gaussian.of(spatial),
        "logits": rng.standard_normal((n, 3)).astype(np.float32),
        "labels": np.arange(n) % 3,
        "text": rng.standard_normal((n, 4)).astype(np.float32),
        "parts": (1, 3),
    }
    return Set(name, n, **(known | changes))


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_every_score_is_a_number_from_what_it_needs_and_the_same_again(score):
    samples, real = seen("samples", 0), seen("real", 1)
    value = score.compute(samples, real, 0)
    assert np.isfinite(value.value)
    assert score.compute(seen("samples", 0), seen("real", 1), 0) == value
    assert (value.error is None) or score.error


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_every_score_is_defined_from_at_least_so_many_pictures(score):
    n, m = score.at_least
    samples, real = (seen(name, k, size, labels=np.zeros(size, np.int64)) for k, (name, size) in
                     enumerate((("samples", n), ("real", m))))  # fmt: skip
    value = score.compute(samples, real, 0)
    assert np.isfinite(value.value)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_what_a_score_lacks_is_named(score):
    samples, real = seen("samples", 0), seen("real", 1)
    parts = {"spatial": "spatial_gaussian"}
    for need in score.needs - {"reference"}:
        bare = seen("the bare set", 0, **{parts.get(need, need): None})
        with pytest.raises(ValueError, match="the bare set has no"):
            score.compute(bare, real, 0)
    if "reference" in score.needs:
        with pytest.raises(ValueError, match="give a reference"):
            score.compute(samples, None, 0)
    else:
        assert score.compute(samples, None, 0) == score.compute(samples, real, 0)


def test_samples_come_first():
    samples, real = (
        seen("samples", 0, features=np.random.default_rng(5).standard_normal((40, 4), np.float32) / 9),
        seen("real", 1),
    )
    found = neighbours(samples.features, real.features)
    for name in ("precision", "recall", "density", "coverage"):
        assert SCORES[name].compute(samples, real, 0).value == getattr(found, name)
    assert found.precision > 0.9 > found.recall


def test_names():
    assert list(SCORES) == [score.name for score in SCORES.values()]
    assert [score.name for score in chosen(["kid", "fd", "kid"])] == ["kid", "fd"]
    with pytest.raises(ValueError, match="'presicion'; did you mean 'precision'"):
        chosen(["fd", "presicion"])


def test_titles_of_published_features_and_of_others():
    inception, dino, mine = Named("inception-2015"), Named("dinov2-vitl14"), Named("mnist", "1a2b3c4d00000000")
    assert SCORES["fd"].title(inception) == "FID"
    assert SCORES["sfd"].title(inception) == "sFID"
    assert SCORES["kid"].title(inception) == "KID"
    assert SCORES["is"].title(inception) == "Inception Score"
    assert SCORES["fd"].title(dino) == "FD-DINOv2"
    assert SCORES["fd"].title(mine) == "FD (mnist 1a2b3c4d)"
    assert SCORES["agreement"].title(mine) == "agreement % (mnist 1a2b3c4d)"


def test_no_title_stands_for_two_features():
    known = [Named(name) for name in ("inception-2015", "dinov2-vitl14", "clip-vitl14-336", "mnist")]
    for score in SCORES.values():
        titles = [
            score.title(features) for features in [*known, Named("mnist", "f" * 16), Named("inception-2015 @ 64")]
        ]
        assert len(set(titles)) == len(titles)


def test_only_clip_reads_text():
    with pytest.raises(ValueError, match="'mnist' read no text"):
        Named("mnist").text(["a seven"])
