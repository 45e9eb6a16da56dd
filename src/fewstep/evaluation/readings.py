"""Scores of what a network reads in the pictures: classes, or the prompt.

    Inception Score   exp E KL(p(y|x) ‖ p(y))                             (Salimans et al. 2016)
    agreement         % of pictures whose most likely class is the label asked for
    spread            Tr Σ of the features within a class, over that of the reference; below 1: too alike
    CLIP score        100 max(cos(picture, prompt), 0)                    (Hessel et al. 2021, who multiply by 2.5)

The Inception Score depends on how many pictures share a p(y). As in OpenAI's evaluator that is 5,000, so ten parts of
50,000; ours are of equal size, where its last one is the rest, and shuffled by seed, because samples are often sorted
by class. The published number is that of Inception's logits without their bias, over 1,008 classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fewstep.evaluation.blocks import Floats, unit
from fewstep.evaluation.types import Value
from fewstep.tensors import EVALUATE, rng

SPLIT = 5000


def inception_score(logits: NDArray, seed: int = 0, split: int = SPLIT) -> Value:
    """The mean over parts of at most `split` pictures, from logits (n, classes); and its deviation over the parts, as
    papers give it (None for one part)."""
    order = rng(seed, EVALUATE, 2).permutation(len(logits))
    parts = np.array_split(order, -(-len(logits) // split))
    scores = [_inception_score(logits[np.sort(part)]) for part in parts]
    return Value(float(np.mean(scores)), float(np.std(scores)) if len(scores) > 1 else None)


def _inception_score(logits: NDArray) -> float:
    logs = log_softmax(logits)
    chances = np.exp(logs)
    marginal = chances.mean(0)
    marginal = marginal[marginal > 0]
    certain = (chances * logs).sum(1).mean()
    return float(np.exp(certain - (marginal * np.log(marginal)).sum()))


def log_softmax(logits: NDArray) -> Floats:
    exact = np.asarray(logits, dtype=np.float64)
    exact = exact - exact.max(1, keepdims=True)
    return exact - np.log(np.exp(exact).sum(1, keepdims=True))


def agreement(logits: NDArray, labels: NDArray) -> Value:
    """% of pictures read as the label asked for, of those with a label (not −1); and its standard error."""
    asked = labels >= 0
    if not asked.any():
        raise ValueError("Agreement needs labels that were asked for; every label is −1, none.")
    if labels.max() >= logits.shape[1]:
        raise ValueError(f"Label {labels.max()} is none of the {logits.shape[1]} classes that these features read.")
    right = float((logits[asked].argmax(1) == labels[asked]).mean())
    return Value(100 * right, 100 * float(np.sqrt(right * (1 - right) / asked.sum())))


def renumbered(labels: NDArray, names: Sequence[str], classes: Sequence[str] | None) -> NDArray:
    """Labels (n,) of the classes `names` by their numbers among `classes`: label 0 of the folders 3 and 7 is the digit
    3. −1 for a class that is not among them. Where either has no names a label is the number itself."""
    if classes is None or not names:
        return labels
    table = [classes.index(name) if name in classes else -1 for name in names]
    return np.array([*table, -1], np.int64)[labels]  # −1, no class, takes the last


def spread(features: NDArray, labels: NDArray, real: NDArray, real_labels: NDArray) -> float:
    """The mean over classes of Tr Σ of features (n, d) of a class, over that of the real ones (m, d).

    Of the classes with two pictures or more on both sides; ValueError where there is none.
    """
    classes = np.intersect1d(_paired(labels), _paired(real_labels))
    if not len(classes):
        raise ValueError("Spread needs a class with two pictures or more among the samples and in the reference.")
    own, theirs = (
        np.mean([np.var(points[named == label], axis=0, ddof=1, dtype=np.float64).sum() for label in classes])
        for points, named in ((features, labels), (real, real_labels))
    )
    if theirs == 0:
        raise ValueError("The reference's pictures of a class are all equal; there is no spread to compare with.")
    return float(own / theirs)


def _paired(labels: NDArray) -> NDArray:
    """The classes of two pictures or more."""
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    return classes[counts > 1]


def clip_score(pictures: NDArray, prompts: NDArray) -> Value:
    """The mean CLIP score of embeddings (n, d) of any length, picture i with prompt i; and its standard error."""
    if pictures.shape != prompts.shape:
        raise ValueError(f"A CLIP score needs a prompt a picture; embeddings are {pictures.shape} and {prompts.shape}.")
    cosines = (unit(np.asarray(pictures, np.float64)) * unit(np.asarray(prompts, np.float64))).sum(1)
    scores = 100 * np.maximum(cosines, 0)
    error = float(scores.std(ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None
    return Value(float(scores.mean()), error)
