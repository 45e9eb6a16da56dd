"""The scores by name.

    fd sfd                              Fréchet distances: FID, sFID of Inception's features    gaussians.py
    kid cmmd                            maximum mean discrepancies                              kernels.py
    precision recall density coverage   nearest neighbours                                      neighbours.py
    is agreement spread clip            what a network reads in the pictures                    readings.py
    energy                              between simple features                                 energy.py

Published titles are kept for the features that they were published with; "precision" of Inception's features is
OpenAI's; its authors used VGG's.
"""

from collections.abc import Callable, Iterable
from typing import Any

from fewstep.codec import nearest
from fewstep.evaluation.energy import energy_distance
from fewstep.evaluation.gaussians import frechet
from fewstep.evaluation.kernels import cmmd, kid
from fewstep.evaluation.neighbours import K_DENSITY, K_MANIFOLD, compared
from fewstep.evaluation.readings import agreement, clip_score, inception_score, spread
from fewstep.evaluation.types import Need, Score, Set, Value

INCEPTION, DINO, CLIP = "inception-2015", "dinov2-vitl14", "clip-vitl14-336"
"""Names of the features that scores were published with."""

Compute = Callable[[Set, Set | None, int], Value]


def chosen(names: Iterable[str]) -> list[Score]:
    """The scores of these names, each once, in their order; ValueError for an unknown name, with the nearest one."""
    for name in (names := list(names)):
        if name not in SCORES:
            raise ValueError(f"There is no score '{name}'{nearest(name, SCORES)}")
    return [SCORES[name] for name in dict.fromkeys(names)]


def _against(compare: Callable[[Set, Set, int], Value | float]) -> Compute:
    """A score of samples against a reference."""

    def compute(samples: Set, reference: Set | None, seed: int) -> Value:
        if reference is None:
            raise ValueError("This score compares with real pictures; give a reference.")
        found = compare(samples, reference, seed)
        return found if isinstance(found, Value) else Value(found)

    return compute


def _of(rate: Callable[..., Value], *parts: str) -> Compute:
    """A score of parts of the samples alone."""
    return lambda samples, reference, seed: rate(*(samples.part(part) for part in parts))


def _both(compare: Callable[..., float], *parts: str) -> Compute:
    """A score of parts of the samples and the same parts of the reference."""
    return _against(lambda x, y, seed: compare(*(of.part(part) for of in (x, y) for part in parts)))


def _balls(which: str) -> Compute:
    return _against(lambda x, y, seed: getattr(compared(x, y), which))


def _kid(x: Set, y: Set, seed: int) -> Value:
    return kid(x.part("features"), y.part("features"), seed)


def _energy(x: Set, y: Set, seed: int) -> float:
    return energy_distance(x.part("features"), y.part("features"), y.parts)


def _inception(samples: Set, reference: Set | None, seed: int) -> Value:
    return inception_score(samples.part("logits"), seed)


def _needs(*needs: Need) -> frozenset[Need]:
    return frozenset(needs)


def _least(n: int) -> Callable[[int], int]:
    return lambda dimension: n


def _full_rank(dimension: int) -> int:
    return dimension + 1


def _neighbourhood(name: str, k: int, better: Any) -> Score:
    inception = {INCEPTION: f"{name} (Inception)"}
    return Score(name, name, better, _needs("features", "reference"), _least(k + 1), _balls(name), published=inception)


_GAUSSIANS, _POINTS = _needs("gaussian", "reference"), _needs("features", "reference")

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("fd", "FD", "lower", _GAUSSIANS, _least(2), _both(frechet, "gaussian"), fair=_full_rank,
              published={INCEPTION: "FID", DINO: "FD-DINOv2"}),
        Score("sfd", "sFD", "lower", _needs("spatial", "reference"), _least(2), _both(frechet, "spatial_gaussian"),
              fair=_full_rank, published={INCEPTION: "sFID"}),
        Score("kid", "KD", "lower", _POINTS, _least(2), _against(_kid), published={INCEPTION: "KID", DINO: "KD-DINOv2"},
              error="standard error"),
        Score("cmmd", "MMD", "lower", _POINTS, _least(1), _both(cmmd, "features"), published={CLIP: "CMMD"}),
        _neighbourhood("precision", K_MANIFOLD, "higher"),
        _neighbourhood("recall", K_MANIFOLD, "higher"),
        _neighbourhood("density", K_DENSITY, "higher"),
        _neighbourhood("coverage", K_DENSITY, "higher"),
        Score("is", "IS", "higher", _needs("logits"), _least(1), _inception, published={INCEPTION: "Inception Score"},
              error="deviation over parts of 5,000"),
        Score("agreement", "agreement %", "higher", _needs("logits", "labels"), _least(1),
              _of(agreement, "logits", "labels"), error="standard error"),
        Score("spread", "spread", "near 1", _needs("features", "labels", "reference"), _least(2),
              _both(spread, "features", "labels")),
        Score("clip", "CLIP score", "higher", _needs("features", "text"), _least(1),
              _of(clip_score, "features", "text"), error="standard error"),
        Score("energy", "energy", "lower", _POINTS, _least(2), _against(_energy)),
    )
}  # fmt: skip
"""Every score by its name."""
