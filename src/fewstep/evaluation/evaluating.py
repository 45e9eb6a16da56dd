"""Evaluation: samples and a reference are seen by features, and scores are taken of what was seen.

    report = fewstep.evaluate("mnist", "mnist-test.zip", n=2000, steps=1)
    report["fd"], print(report)

    measure = Yardstick("mnist-test.zip")          the reference is seen once
    measure("one.npz"), measure("two.npz")

A score that these sets or features do not give is left out with the reason, unless it is asked for by name.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, final

import torch

from fewstep.conditions import Asked
from fewstep.evaluation import caching, sets
from fewstep.evaluation.gaussians import Gaussian
from fewstep.evaluation.giving import fitting, inapt, lacking, unfair
from fewstep.evaluation.opening import Asking, Named, Side, opened
from fewstep.evaluation.pictures import Pictures
from fewstep.evaluation.report import Line, Report, Told
from fewstep.evaluation.scores import SCORES, chosen
from fewstep.evaluation.sets import Gathered, Progress, kinds_of
from fewstep.evaluation.sharing import Sharing
from fewstep.evaluation.types import Features, Score, Set
from fewstep.model import pick_device

BATCH = 64
"""Pictures that features see at once unless told otherwise."""

WIDEST = 16_384
"""Numbers a picture whose covariance is taken without being asked for."""


def evaluate(
    samples: Named,
    reference: Named | None = None,
    *,
    features: "str | os.PathLike | Callable | Features" = "auto",
    scores: str | Sequence[str] | None = None,
    n: int | None = None,
    reference_n: int | None = None,
    reference_steps: int | None = None,
    size: int | None = None,
    channels: int | None = None,
    steps: int | None = None,
    times: Sequence[float] | None = None,
    sampler: str | None = None,
    labels: Asked = None,
    prompts: Sequence[str] | None = None,
    guidance: float | None = None,
    seed: int = 0,
    batch: int = BATCH,
    device: str = "auto",
    cache: bool = True,
    split: bool = False,
    progress: Progress | None = None,
) -> Report:
    """How good samples are. `samples` and `reference` are each a path, a name, a `Data`, pictures (uint8, or float in
    [-1, 1]) or a model; some scores need no reference.

    `features` is a name, a file, a network, or "auto": the bundled readers of digits for 28×28 and 8×8 grey pictures,
    for others TensorFlow's Inception ("simple" where that cannot be had). `scores` are names out of `SCORES`; None
    takes all that can be had. A model draws n pictures (as many as the reference has, at most 10,000) by `steps`,
    `times`, `sampler`, `guidance`, of `labels` in turn (every class) or for `prompts` in turn (the reference's
    captions); one in the place of the reference draws `reference_n` by `reference_steps`, from other noise. Of more
    stored pictures n, or `reference_n`, are chosen at random; `labels` and `prompts` then say what each was asked for.
    `split` shares the work with the other processes of torch.distributed; all return the same report.

    Raises ValueError where a score asked for cannot be had, with what it needs, and for unknown names;
    FileNotFoundError for what is not there.
    """
    how = {"steps": steps, "times": times, "sampler": sampler, "guidance": guidance}
    how = {k: v for k, v in how.items() if v is not None}
    ask = Asking(n, size, channels, seed, labels=labels, prompts=prompts, how=how, device=device)
    measure = Yardstick(reference, features=features, scores=scores, n=reference_n, size=size, channels=channels,
                        steps=reference_steps, prompts=prompts, seed=seed, batch=batch, device=device, cache=cache,
                        split=split, progress=progress)  # fmt: skip
    return measure(samples, ask)


class _Seen(NamedTuple):
    """One side, as features saw it (in the main process), and what the report says of it."""

    set: Set
    told: Told
    notes: list[str]


@final
class Yardstick:
    """A reference, features and scores, for the samples that it is called with."""

    def __init__(
        self,
        reference: Named | None = None,
        *,
        features: "str | os.PathLike | Callable | Features" = "auto",
        scores: str | Sequence[str] | None = None,
        n: int | None = None,
        at_most: int | None = None,
        size: int | None = None,
        channels: int | None = None,
        steps: int | None = None,
        prompts: Sequence[str] | None = None,
        seed: int = 0,
        batch: int = BATCH,
        device: str = "auto",
        cache: bool = True,
        split: bool = False,
        progress: Progress | None = None,
    ):
        """See `evaluate`; `n` is the number of the reference's pictures, or all of them up to `at_most`; `steps` and
        `prompts` are for a reference that is a model."""
        if batch < 1:
            raise ValueError(f"batch is at least 1, not {batch}.")
        self.wanted = None if scores is None else chosen([scores] if isinstance(scores, str) else scores)
        self.seed, self.batch, self.cache, self.progress = seed, batch, cache, progress
        self.device = pick_device(device)
        self.sharing = Sharing.of_group() if split else Sharing()
        how = {} if steps is None else {"steps": steps}
        ask = Asking(n, size, channels, seed, None, prompts, how, str(self.device), apart=True, at_most=at_most)
        self.reference = None if reference is None else opened(reference, ask, called="the reference")
        self._features = None if isinstance(features, str) and features == "auto" else self._opened(features)
        self._theirs: _Seen | None = None
        self._why: list[str] = []

    def __call__(self, samples: Named, ask: Asking | None = None) -> Report:
        """The scores of samples. What a model is asked for is in `ask`."""
        began = time.perf_counter()
        ask = ask or Asking(seed=self.seed, device=str(self.device))
        side = opened(samples, ask, called="the samples", beside=self.reference, drawn=True)
        features = self.features_for(side)
        if self.reference is not None and self._theirs is None:
            self._theirs = self._seen(self.reference, features, cached=self.cache)
        ours, theirs = self._seen(side, features, cached=False), self._theirs

        def report() -> Report:
            other = theirs.set if theirs else None
            lines, left_out = self._scored(ours.set, other, side, features)
            notes = [
                *self._why,
                *ours.notes,
                *(theirs.notes if theirs else []),
                *unfair(lines, ours.set, other, features),
            ]
            return Report(
                samples=ours.told,
                reference=theirs.told if theirs else None,
                features=features.name,
                features_digest=features.digest,
                resize=features.resize,
                dimension=features.dimension,
                scores=tuple(lines),
                left_out=left_out,
                notes=tuple(dict.fromkeys(notes)),
                seed=self.seed,
                date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
                versions=_versions(),
                device=str(self.device),
                seconds=round(time.perf_counter() - began, 2),
            )

        return self.sharing.told(report)

    @property
    def pictures(self) -> Pictures:
        """The reference's; ValueError where there are none."""
        if self.reference is None or self.reference.pictures is None:
            raise ValueError("There is no reference with pictures.")
        return self.reference.pictures

    def features_for(self, side: Side) -> Features:
        """The features; "auto" is settled by the first picture of the reference, else of the samples."""
        if self._features is not None and self._features.dimension:
            return self._features
        known = next((s.pictures for s in (self.reference, side) if s is not None and s.pictures), None)
        first = None if known is None else known.first()
        if self._features is None:
            self._features = self._automatic(() if first is None else tuple(first.shape))
        if not self._features.dimension and first is not None:
            self._features(first[None])  # some learn from a picture how many numbers they are
        return self._features

    def _automatic(self, shape: tuple[int, ...]) -> Features:
        from fewstep.evaluation.features import auto

        try:
            return self._opened(auto(shape))
        except FileNotFoundError as error:
            self._why = [f"The features 'simple' were taken, which know little of what pictures show: {error}"]
            return self._opened("simple")

    def _opened(self, features: "str | os.PathLike | Callable | Features") -> Features:
        from fewstep.evaluation.features import open_features

        return open_features(os.fspath(features) if isinstance(features, os.PathLike) else features, self.device)

    def _seen(self, side: Side, features: Features, *, cached: bool) -> _Seen:
        """What is seen of one side."""
        side, notes = fitting(side, features)
        pictures = side.pictures
        if pictures is None:
            told = Told(side.name, None, f"statistics of {len(side.statistics['mu'])} features", side.identity())
            return _Seen(sets.as_set(side, None, features), told, notes)
        found = self._gathered(side, features, cached)
        if found is None:  # this process only helps
            return _Seen(Set(side.name, 0), Told(side.name, None), notes)
        text = sets.texts(pictures, found, features) if self._reads_text(features) else None
        told = Told(side.name, len(found.rows), kinds_of(found), side.identity(),
                    tuple(sorted(found.reasons)), pictures.how())  # fmt: skip
        gaussian = Gaussian.of(found.features) if self._fits(found) else None
        return _Seen(sets.as_set(side, found, features, text, gaussian), told, [*notes, *pictures.notes()])

    def _gathered(self, side: Side, features: Features, cached: bool) -> Gathered | None:
        """What was seen, out of the cache where it is kept; None in processes that only help."""
        assert side.pictures is not None
        place = caching.place(side.pictures, features) if cached else None
        found = caching.kept(place) if place and self.sharing.main else None
        if self.sharing.told(lambda: found is not None):
            return found
        found = sets.gather(side.pictures, features, device=self.device, batch=self.batch, sharing=self.sharing,
                            progress=self.progress)  # fmt: skip
        if place and found is not None:
            caching.keep(place, found, {"pictures": side.name, "features": features.name, "digest": features.digest})
        return found

    def _fits(self, found: Gathered) -> bool:
        """Whether a covariance is wanted: for scores by name, else up to 2 GB of it."""
        if self.wanted is None:
            return found.features.shape[1] <= WIDEST
        return any("gaussian" in score.needs for score in self.wanted)

    def _reads_text(self, features: Features) -> bool:
        asked = self.wanted is None or any("text" in score.needs for score in self.wanted)
        return asked and type(features).text is not Features.text

    def _scored(
        self, ours: Set, theirs: Set | None, side: Side, features: Features
    ) -> tuple[list[Line], dict[str, str]]:
        """The numbers, and why others are left out. ValueError for one that is asked for by name."""
        lines, left_out = [], {}
        for score in SCORES.values() if self.wanted is None else self.wanted:
            reason = lacking(score, ours, theirs, features)
            if reason and self.wanted is not None:
                raise ValueError(f"The score '{score.name}' cannot be had: {reason}.")
            reason = reason or (None if self.wanted is not None else inapt(score, ours, features))
            try:
                if reason is None:
                    lines.append(_line(score, features, ours, theirs, self.seed))
            except ValueError as error:
                if self.wanted is not None:
                    raise
                reason = str(error).rstrip(".")
            if reason is not None:
                left_out[score.name] = reason
        return lines, left_out


def _line(score: Score, features: Features, ours: Set, theirs: Set | None, seed: int) -> Line:
    value, error = (None if x is None or not math.isfinite(x) else float(x) for x in score.compute(ours, theirs, seed))
    return Line(score.name, score.title(features), value, error, score.error, score.better)


def _versions() -> dict[str, str]:
    from fewstep import __version__

    return {"fewstep": __version__, "torch": torch.__version__}
