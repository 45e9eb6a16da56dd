"""Conditions: what an image is asked to show, as keywords of the network.

`Nothing` asks for nothing, `Labels` for a class, `Prompts` for what words say, `Table` (in training) for one of a list
of prompts. A label of -1 and the empty prompt ask for nothing in particular: training drops labels to them now and
then, which gives classifier-free guidance its unconditional half.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from fewstep.files import remembered
from fewstep.networks.adapters.needed import latent_extra
from fewstep.networks.adapters.text import TextEncoder, Tokenizer
from fewstep.tensors import LABEL, rng

Asked = int | str | Sequence[int] | Sequence[str] | Tensor | np.ndarray | np.integer | None
"""What a user may say: one label (or prompt) for all, one for each, or nothing."""


class Condition(ABC):
    """Turns what a user or a batch says into keywords of the network."""

    words: bool = False
    """Whether it is asked in prompts."""

    @abstractmethod
    def __call__(self, labels: Tensor) -> dict[str, Any]:
        """The keywords for a batch with these labels (n,), int64; for prompts labels are their tokens (n, …)."""

    @abstractmethod
    def ask(self, asked: Asked, seed: int, indices: range) -> Tensor:
        """The labels (len(indices), …) of the images with these indices; ValueError for what the model cannot show."""

    def nothing(self, cond: Mapping[str, Any]) -> dict[str, Any]:
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
        if isinstance(asked, str):
            raise ValueError(f"This model takes labels, whole numbers, not the words {asked!r}.")
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


@dataclass(frozen=True)
class Prompts(Condition):
    """A model of text to images."""

    source: str
    """The folder or Hub id of a pipeline: its tokenizers and text encoders are loaded when first needed."""
    size: int | None = None
    """The width of the pictures that SDXL is told; None for models that are not told it."""
    zero_empty: bool = False
    """Whether nothing is asked for by zeros (SDXL), instead of by the empty prompt."""
    inside: bool = False
    """Whether the network reads tokens itself: in a run that trains a text encoder, until its model is written."""

    words = True

    @torch.no_grad()
    def __call__(self, labels: Tensor) -> dict[str, Any]:
        """{"prompt": (n, L, D)}, and for SDXL `pooled` (n, P) and `sizes` (n, 6), of tokens (n, L) or (n, 2, L)."""
        if self.inside:
            return {"tokens": labels}
        tokens, places = labels.unique(dim=0, return_inverse=True)  # a prompt of many pictures is read once
        read = _encoder(self.source).to(labels.device)(tokens.clamp(min=0))
        nothing = tokens.flatten(1)[:, 0] < 0
        read = {name: value.masked_fill(nothing.view(-1, *[1] * (value.ndim - 1)), 0) for name, value in read.items()}
        return self.told({name: value[places] for name, value in read.items()})

    def ask(self, asked: Asked, seed: int, indices: range) -> Tensor:
        """Tokens, of one prompt for all or one for each; None asks for nothing: the empty prompt, or −1 for zeros."""
        prompts = [asked or ""] if asked is None or isinstance(asked, str) else asked
        if not _are_texts(prompts):
            raise ValueError(f"This model takes prompts, words, not {asked!r}.")
        if len(prompts) not in (1, len(indices)):
            raise ValueError(f"{len(indices)} images need one prompt or {len(indices)}, not {len(prompts)}.")
        tokenizer = _tokenizer(self.source)
        for sentence in tokenizer.cut(prompts):
            warnings.warn(sentence, stacklevel=2)
        tokens = tokenizer(prompts)
        if asked is None and self.zero_empty:
            tokens = torch.full_like(tokens, -1)
        return tokens.expand(len(indices), *tokens.shape[1:])

    @torch.no_grad()
    def nothing(self, cond: Mapping[str, Any]) -> dict[str, Any]:
        """The empty prompt's keywords, or zeros; sizes are told as they are."""
        if self.zero_empty:
            return {name: value if name == "sizes" else torch.zeros_like(value) for name, value in cond.items()}
        like: Tensor = cond["tokens" if self.inside else "prompt"]
        empty = self(_tokenizer(self.source)([""]).to(like.device))
        told = {name: value for name, value in empty.items() if name != "sizes"}
        return {**cond, **{name: value.to(like.dtype).expand_as(cond[name]) for name, value in told.items()}}

    def told(self, embedded: dict[str, Tensor]) -> dict[str, Any]:
        """The keywords of embedded prompts: with `sizes` for SDXL."""
        if self.size is None:
            return embedded
        n, width = len(embedded["prompt"]), float(self.size)
        sizes = torch.tensor([width, width, 0.0, 0.0, width, width], device=embedded["prompt"].device)
        return {**embedded, "sizes": sizes.expand(n, 6)}


def _are_texts(asked: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(asked, Sequence) and all(isinstance(text, str) for text in asked)


@remembered
def _encoder(source: str) -> TextEncoder:
    with latent_extra():
        return TextEncoder.load(source)


@remembered
def _tokenizer(source: str) -> Tokenizer:
    with latent_extra():
        return Tokenizer(source)


@dataclass(frozen=True)
class Table(Condition):
    """A list of prompts whose keywords were computed before; labels are places in the list. For training."""

    rows: Callable[[Tensor], dict[str, Tensor]]
    """Places (n,), −1 for the empty prompt, on the CPU → the keywords of these prompts."""

    def __call__(self, labels: Tensor) -> dict[str, Any]:
        return {name: value.to(labels.device) for name, value in self.rows(labels.cpu()).items()}

    def ask(self, asked: Asked, seed: int, indices: range) -> Tensor:
        raise ValueError("A table of prompts is for training; ask the trained model.")

    def nothing(self, cond: Mapping[str, Any]) -> dict[str, Any]:
        first = next(iter(cond.values()))
        empty = self(torch.tensor([-1], device=first.device))
        return {**cond, **{name: value.expand_as(cond[name]) for name, value in empty.items()}}
