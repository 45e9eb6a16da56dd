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
from fewstep.evaluation.readings import agreement, clip_score, inception_score, renumbered, spread
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


def _neighbourhood(name: str, least: tuple[int, int], better: Any) -> Score:
    inception = {INCEPTION: f"{name} (Inception)"}
    return Score(name, name, better, _needs("features", "reference"), least, _balls(name), published=inception)


def _agreement(samples: Set, reference: Set | None, seed: int) -> Value:
    asked = samples.part("labels")
    labels = renumbered(asked, samples.class_names, samples.classes)
    if len(lost := asked[(asked >= 0) & (labels < 0)]):
        raise ValueError(f"The class '{samples.class_names[lost[0]]}' of {samples.name} is none of those that these "
                         f"features read: {', '.join(samples.classes or ())}.")  # fmt: skip
    return agreement(samples.part("logits"), labels)


def _spread(samples: Set, reference: Set, seed: int) -> float:
    labels = renumbered(reference.part("labels"), reference.class_names, samples.class_names or None)
    return spread(samples.part("features"), samples.part("labels"), reference.part("features"), labels)


_GAUSSIANS, _POINTS = _needs("gaussian", "reference"), _needs("features", "reference")

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score("fd", "FD", "lower", _GAUSSIANS, (2, 2), _both(frechet, "gaussian"), shrinks=True,
              published={INCEPTION: "FID", DINO: "FD-DINOv2"}),
        Score("sfd", "sFD", "lower", _needs("spatial", "reference"), (2, 2), _both(frechet, "spatial_gaussian"),
              shrinks=True, published={INCEPTION: "sFID"}),
        Score("kid", "KD", "lower", _POINTS, (2, 2), _against(_kid), published={INCEPTION: "KID", DINO: "KD-DINOv2"},
              error="standard error"),
        Score("cmmd", "MMD", "lower", _POINTS, (1, 1), _both(cmmd, "features"), published={CLIP: "CMMD"}),
        _neighbourhood("precision", (K_MANIFOLD + 1, K_MANIFOLD + 1), "higher"),
        _neighbourhood("recall", (K_MANIFOLD + 1, K_MANIFOLD + 1), "higher"),
        _neighbourhood("density", (1, K_DENSITY + 1), "higher"),
        _neighbourhood("coverage", (1, K_DENSITY + 1), "higher"),
        Score("is", "IS", "higher", _needs("logits"), (1, 1), _inception, published={INCEPTION: "Inception Score"},
              error="deviation over parts of 5,000"),
        Score("agreement", "agreement %", "higher", _needs("logits", "labels"), (1, 1),
              _agreement, error="standard error"),
        Score("spread", "spread", "near 1", _needs("features", "labels", "reference"), (2, 2),
              _against(_spread)),
        Score("clip", "CLIP score", "higher", _needs("features", "text"), (1, 1),
              _of(clip_score, "features", "text"), error="standard error"),
        Score("energy", "energy", "lower", _POINTS, (2, 2), _against(_energy)),
    )
}  # fmt: skip
"""Every score by its name."""
