"""Which scores two sets give: what is lacking, what would mean nothing, what is biased; each in words."""

from collections.abc import Iterable
from dataclasses import replace

from fewstep.evaluation.opening import Side
from fewstep.evaluation.report import Line
from fewstep.evaluation.scores import SCORES
from fewstep.evaluation.types import Features, Need, Score, Set

PLENTY = 50_000
"""Pictures with which Fréchet distances are published."""

STATISTICS: dict[Need, str] = {
    "spatial": "it needs mu_s and sigma_s, or pictures, and {name} has neither",
    "logits": "it needs pictures, and {name} holds statistics only",
}
"""What is said instead of a set that only statistics are known of."""

LACKING: dict[Need, str] = {
    "features": "it needs pictures, and {name} holds statistics only",
    "gaussian": "it needs mu and sigma, or pictures, and {name} has neither",
    "spatial": "it needs features of an earlier layer, and {features} has none",
    "logits": "it needs features that read classes, and {features} reads none",
    "labels": "it needs labels, and {name} has none",
    "text": "it needs prompts or captions, and features that read them (--features clip)",
}


def fitting(side: Side, features: Features) -> tuple[Side, list[str]]:
    """The side without statistics that are of other features, and what is to be said of them.

    Raises ValueError where nothing is left.
    """
    if not side.statistics:
        return side, []
    mu = side.statistics.get("mu")
    if mu is not None and len(mu) == features.dimension:
        return side, [f"{side.name} does not say of which features its statistics are; they are taken to be "
                      f"{features.name}'s."]  # fmt: skip
    if side.pictures is None:
        has = "mu_s and sigma_s only" if mu is None else f"statistics of {len(mu)} features"
        raise ValueError(f"{side.name} holds {has}, and {features.name} has {features.dimension}: give the features "
                         "that made them (--features), or pictures.")  # fmt: skip
    return replace(side, statistics={}), [f"The statistics in {side.name} are of other features than {features.name}: "
                                          "its pictures were taken."]  # fmt: skip


def lacking(score: Score, samples: Set, reference: Set | None, features: Features) -> str | None:
    """Why a score cannot be had, or None."""
    if "reference" in score.needs and reference is None:
        return "it needs a reference"
    for need in LACKING:
        for side in _asked(score, need, samples, reference):
            if _held(side, need) is None:
                if need == "gaussian" and side.features is not None:
                    return f"the covariance of {features.dimension:,} numbers is large: ask for the score by name"
                words = LACKING | (STATISTICS if side.features is None else {})
                return words[need].format(name=side.name, features=features.name)
    sides = (samples, reference if "reference" in score.needs else None)
    for side, least in zip(sides, score.at_least, strict=True):
        if side is not None and side.features is not None and side.n < least:
            return f"it needs {least} pictures, and {side.name} holds {side.n}"
    widths = {side.features.shape[1] for side in sides if side is not None and side.features is not None}
    if len(widths) > 1:
        return (f"{features.name} sees {' and '.join(map(str, sorted(widths)))} numbers a picture in the two sets: "
                "choose one size with --size and --channels, or features that resize (--features)")  # fmt: skip
    return None


def inapt(score: Score, samples: Set, features: Features) -> str | None:
    """Why a score that can be had would say nothing, unless it is asked for by name."""
    if score.name == "cmmd" and type(features).text is Features.text:
        return "it is defined for CLIP's features (--features clip)"
    if score.name == "energy" and not features.parts:
        return "it is meant for the features 'simple'"
    if (
        score.name == "agreement"
        and samples.classes is None
        and (samples.logits is None or samples.logits.shape[1] != len(samples.class_names))
    ):
        return f"the classes that {features.name} reads are not those of the labels"
    return None


def unfair(lines: Iterable[Line], samples: Set, reference: Set | None, features: Features) -> list[str]:
    """What has to be said of the numbers of pictures."""
    notes = []
    sides = [side for side in (samples, reference) if side is not None and side.features is not None]
    seen = [side for side in sides if side.gaussian is None or side.gaussian.n]  # not the statistics of a file
    if len(sides) == 2 and sides[0].n != sides[1].n:
        notes.append(f"{sides[0].n:,} samples, {sides[1].n:,} pictures in the reference: say both beside the numbers.")
    few = [side for side in seen if side.n < PLENTY]
    for title in dict.fromkeys(line.title for line in lines if SCORES[line.name].shrinks and few):
        rank = [side for side in few if side.n <= features.dimension]
        said = " and ".join(f"{side.name} {side.n:,}" for side in few)
        short = f", fewer than the {features.dimension + 1:,} that a full covariance needs" if rank else ""
        notes.append(f"{title} is too large by what shrinks as there are more pictures ({said}{short}): compare it "
                     "with others of the same numbers only.")  # fmt: skip
    return notes


def _asked(score: Score, need: Need, samples: Set, reference: Set | None) -> list[Set]:
    """The sets that a score asks for this."""
    sides = (samples, reference if "reference" in score.needs else None)
    return [side for side in sides if side is not None] if need in score.needs else []


def _held(side: Set, need: Need):
    fields = {"spatial": (side.spatial, side.spatial_gaussian)}
    there = [x for x in fields.get(need, (getattr(side, need, None),)) if x is not None]
    return there[0] if there else None
