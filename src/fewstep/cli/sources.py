"""What a command is given: a model, the hash of its weights, labels by number or name, a free name for the output."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.model import Model

Asking = Callable[[range], list[int] | None]
"""Indices of pictures → their labels; None leaves them to the seed."""


def asking(words: Sequence[str], model: "Model") -> Asking:
    """What `--labels` means: picture i shows label i mod m of the m given; `all` gives all classes.

    Labels are numbers or names of classes. Raises ValueError for what the model cannot show.
    """
    if not words:
        return lambda indices: None
    if not model.num_classes:
        raise ValueError("This model is unconditional: leave out --labels.")
    if list(words) == ["all"]:
        labels = list(range(model.num_classes))
    else:
        labels = [label_of(word, model) for word in words]
    return lambda indices: [labels[i % len(labels)] for i in indices]


def label_of(word: str, model: "Model") -> int:
    """A class by its name or number; -1 asks for none."""
    names, count = model.design.class_names, model.num_classes
    if word in names:
        return names.index(word)
    try:
        label = int(word)
    except ValueError:
        label = -2
    if not -1 <= label < count:
        from fewstep.codec import nearest

        known = nearest(word, names) if names and not word.lstrip("-").isdigit() else ""
        raise ValueError(f"This model has no class '{word}': its labels are 0 to {count - 1}, or all{known}.")
    return label


def labels_shown(model: "Model", asked: list[int] | None, seed: int, indices: range) -> list[int] | None:
    """The labels of these pictures; None for an unconditional model."""
    return model.design.condition.ask(asked, seed, indices).tolist() if model.num_classes else None


def origin(source: str) -> dict[str, Any]:
    """Where a model is and the SHA-256 of its weights: what a sidecar says about it."""
    path = weights_file(source)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"source": source, "weights": path.name, "sha256": digest}


def weights_file(source: str) -> Path:
    """The file that `fewstep.load(source)` reads."""
    from fewstep.formats import locate

    return locate(source)


def versions() -> dict[str, str]:
    import torch

    from fewstep import __version__

    return {"fewstep": __version__, "torch": torch.__version__}
