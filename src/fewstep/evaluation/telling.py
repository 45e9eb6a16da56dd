"""What pictures were asked to show: labels and prompts, one for each picture or fewer, which are then taken in turn.

A model is asked for them, and draws; pictures that are there already were asked for by somebody else, who says how.
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewstep.codec import nearest
from fewstep.conditions import Asked
from fewstep.model import Model
from fewstep.model.asking import label_of

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.evaluation.pictures import Pictures

Labels = NDArray[np.int64]


def drawn_labels(model: Model, labels: Asked, n: int, other: "Pictures | None") -> Labels | None:
    """The classes (n,) that a model draws: every one in turn, those of `labels`, or with "reference" `other`'s."""
    count = model.num_classes
    if not count:
        if labels is not None:
            raise ValueError("This model has no classes: it takes no labels.")
        return None
    if labels is None or (isinstance(labels, str) and labels == "all"):
        return np.arange(n) % count
    if isinstance(labels, str) and labels == "reference":
        if other is None or other.labels is None or other.num_classes != count:
            raise ValueError(
                f"Labels like the reference's need a reference with labels of the model's {count} classes."
            )
        return other.labels[_spread(len(other), n)]
    numbers = [label_of(word, model.design) for word in _words(labels)]
    return np.array([numbers[i % len(numbers)] for i in range(n)], np.int64)


def drawn_prompts(model: Model, name: str, prompts: Sequence[str] | None, n: int,
                  other: "Pictures | None") -> list[str] | None:  # fmt: skip
    """What a model is told in words, n of them; None for one that knows none."""
    if not model.design.condition.words:
        if prompts:
            raise ValueError(f"{name} knows no words, so it takes no prompts.")
        return None
    if prompts:
        return [prompts[i % len(prompts)] for i in range(n)]
    said = None if other is None else other.captions
    if other is None or said is None:
        raise ValueError(f"{name} is told what to draw in words: give a file of prompts (--prompts), or a reference "
                         "whose pictures have captions.")  # fmt: skip
    return [said[i] for i in _spread(len(other), n)]


def asked_labels(labels: Asked, names: tuple[str, ...], total: int, name: str) -> tuple[Labels, tuple[str, ...]]:
    """Labels (total,) of stored pictures, by number or by the names of their classes; and the names of the classes."""
    if isinstance(labels, str) and labels in ("all", "reference"):
        raise ValueError(f"labels '{labels}' say what a model draws; of the pictures in {name} give numbers or names.")
    words = [str(word) for word in _words(labels)]
    if not names and all(_whole(word) is not None for word in words):
        names = tuple(map(str, range(max(map(int, words), default=-1) + 1)))
    names = names or tuple(dict.fromkeys(words))
    found = []
    for word in words:
        number = names.index(word) if word in names else _whole(word)
        if number is None or not -1 <= number < len(names):
            raise ValueError(f"{name} has no class '{word}'{nearest(word, names)}")
        found.append(number)
    return np.array(in_turn(found, total, f"labels, and {name} holds {total} pictures"), np.int64), names


def class_words(model: Model, labels: "Tensor") -> list[str]:
    """The classes that a model was asked for, by name where it has names, else by number."""
    names = model.design.class_names
    return [names[k] if names and k >= 0 else str(k) for k in labels.tolist()]


def in_turn(given: Sequence[Any], total: int, what: str) -> list[Any]:
    """One for each of `total`, again and again from the first; ValueError for none, and for more than there are."""
    if not 1 <= len(given) <= total:
        raise ValueError(f"There are {len(given)} {what}: one for each, or fewer that are taken in turn.")
    return [given[i % len(given)] for i in range(total)]


def shortly(asked: Sequence[Hashable]) -> str:
    """The first of what was asked for, and 8 hex digits over all of it."""
    kinds = list(dict.fromkeys(asked))
    mark = hashlib.blake2b("\0".join(map(str, asked)).encode(), digest_size=4).hexdigest()
    return f"{', '.join(map(str, kinds[:3]))}{', …' if len(kinds) > 3 else ''} ({mark})"


def _words(labels: Asked) -> list[Any]:
    asked: Any = labels
    asked = asked.tolist() if hasattr(asked, "tolist") else asked
    return [asked] if isinstance(asked, str | int) else list(asked)


def _whole(word: str) -> int | None:
    try:
        return int(word)
    except ValueError:
        return None


def _spread(total: int, n: int) -> Labels:
    """n rows spread evenly over `total`; more than there are: in turn."""
    return np.arange(n) * total // n if n <= total else np.arange(n) % total
