"""Conditions: what an image is asked to show, as keywords of the network.

`Nothing` asks for nothing, `Labels` for a class. A label of -1 asks for nothing in particular: training drops
labels to it
now and then, which gives classifier-free guidance its unconditional half.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.tensors import LABEL, rng

Asked = int | Sequence[int] | Tensor | np.ndarray | np.integer | None
"""What a user may say: one label for all, one for each, or nothing."""


class Condition(ABC):
    """Turns what a user or a batch says into keywords of the network."""

    @abstractmethod
    def __call__(self, labels: Tensor) -> dict[str, Any]:
        """The keywords for a batch with these labels (n,), int64."""

    @abstractmethod
    def ask(self, asked: Asked, seed: int, indices: range) -> Tensor:
        """The labels (len(indices),) of the images with these indices; ValueError for what the model cannot show."""

    @staticmethod
    def nothing(cond: Mapping[str, Any]) -> dict[str, Any]:
        """The keywords that ask for nothing, in the shape of `cond`."""
        return {name: torch.full_like(value, -1) for name, value in cond.items()}


@dataclass(frozen=True)
class Nothing(Condition):
    """An unconditional model."""

    def __call__(self, labels: Tensor) -> dict[str, Any]:
        return {}

    def ask(self, asked: Asked, seed: int, indices: range) -> Tensor:
        if asked is not None:
            raise ValueError("This model is unconditional: it takes no labels.")
        return torch.full((len(indices),), -1)


@dataclass(frozen=True)
class Labels(Condition):
    """A class-conditional model."""

    num_classes: int
    """Labels are 0 … num_classes − 1, or -1 for none."""

    def __call__(self, labels: Tensor) -> dict[str, Any]:
        return {"labels": labels}

    def ask(self, asked: Asked, seed: int, indices: range) -> Tensor:
        """An int for all, one for each, or None: drawn per image from (seed, index)."""
        if asked is None:
            drawn = [int(rng(seed, LABEL, i).integers(self.num_classes)) for i in indices]
            return torch.tensor(drawn, dtype=torch.int64)
        try:
            labels = torch.as_tensor(asked)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"Labels are whole numbers, not {asked!r}.") from None
        if labels.is_floating_point() or labels.dtype == torch.bool:
            raise ValueError(f"Labels are whole numbers, not {labels.dtype}.")
        labels = labels.to("cpu", torch.int64)
        labels = labels.expand(len(indices)) if labels.ndim == 0 else labels
        if labels.shape != (len(indices),):
            raise ValueError(f"{len(indices)} images need one label or {len(indices)}, not {tuple(labels.shape)}.")
        if len(labels) and not -1 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(
                f"Labels of this model are 0 to {self.num_classes - 1} (or -1 for none), "
                f"not {int(labels[(labels < -1) | (labels >= self.num_classes)][0])}."
            )
        return labels
