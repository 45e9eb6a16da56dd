"""What pictures are asked to show, and how closely: labels or prompts, and a guidance scale.

A guidance scale g follows the prompt more closely than the data do, w = g − 1 of it. A network that is told w is given
it, and has learned the result; any other is asked twice:

    D_w(x, t | c) = D(x, t | c) + w (D(x, t | c) − D(x, t | c'))      c' the negative prompt, or what asks for nothing
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.codec import nearest
from fewstep.conditions import Asked
from fewstep.denoiser import Guided
from fewstep.design import Design
from fewstep.solvers import Estimate

Scale = float | Sequence[float] | Tensor | np.ndarray | None
"""A guidance scale for all, one for each, or the usual one."""

TOLD_GUIDANCE = 8.0
"""The usual scale of a network that is told it (Luo et al. 2023)."""

DIFFUSION_GUIDANCE = 7.5
"""The usual scale of a latent diffusion model."""


def label_of(word: Any, design: Design) -> int:
    """A class by its name or number; −1 asks for none. ValueError, with the nearest name, for one that is not there."""
    names, count = design.class_names, design.architecture.num_classes
    if word in names:
        return names.index(word)
    try:
        label = int(word)
    except ValueError:
        label = -2
    if not -1 <= label < count:
        known = nearest(word, names) if names and not str(word).lstrip("-").isdigit() else ""
        raise ValueError(f"This model has no class '{word}': its labels are 0 to {count - 1}, or all{known}.")
    return label


class Asking(TypedDict, total=False):
    """The keywords that say what to draw."""

    labels: Asked
    """Classes: an int, or one for each picture; left out, they are drawn from the seed; −1 asks for no class."""
    prompts: str | Sequence[str] | None
    """Words, for a model that is told them: of all pictures, or one for each; left out, the empty prompt."""
    negative: str | Sequence[str] | None
    """What guidance leads away from, in the place of nothing in particular."""
    guidance: Scale
    """g, for all or one for each; 1 is none."""


@dataclass(frozen=True)
class Wish:
    """What some pictures are asked to show, in the order of their indices."""

    design: Design
    """Of the model that is asked."""
    labels: Tensor
    """Labels (n,), or tokens (n, …)."""
    w: Tensor
    """g − 1, float32 (n,)."""
    negative: Tensor | None
    """Tokens (n, …)."""

    def part(self, start: int, stop: int) -> "Wish":
        """That of the pictures start … stop − 1 of these."""
        negative = None if self.negative is None else self.negative[start:stop]
        return Wish(self.design, self.labels[start:stop], self.w[start:stop], negative)

    def of(self, denoiser: nn.Module, size: tuple[int, int], device: torch.device) -> tuple[Estimate, dict[str, Any]]:
        """The function that draws these pictures of a size (height, width), and its keywords."""
        cond, w = self._keywords(self.labels, size, device), self.w.to(device)
        if is_told(self.design):
            return denoiser, {**cond, "guidance": w}
        if not w.any():
            return denoiser, cond
        nothing = self.design.condition.nothing
        free = nothing(cond) if self.negative is None else self._keywords(self.negative, size, device)
        return Guided(denoiser, 0.0, lambda _: free), {**cond, "guidance": w}

    def _keywords(self, labels: Tensor, size: tuple[int, int], device: torch.device) -> dict[str, Any]:
        cond = self.design.condition(labels.to(device))
        if "sizes" in cond:  # SDXL is told what size the picture has, where it was cut out, and what size it is to be
            told = torch.tensor([*size, 0, 0, *size], dtype=torch.float32, device=device)
            cond["sizes"] = told.expand(len(labels), 6)
        return cond


def wish(design: Design, seed: int, indices: range, asked: Mapping[str, Any]) -> Wish:
    """What is asked of the pictures with these indices; ValueError, in one sentence, for what the model cannot do.

    Raises TypeError for unknown keywords.
    """
    if unknown := [name for name in asked if name not in Asking.__annotations__]:
        raise TypeError(f"There is no option '{unknown[0]}'{nearest(unknown[0], Asking.__annotations__)}")
    condition, negative = design.condition, asked.get("negative")
    labels = condition.ask(_subject(design, asked), seed, indices)
    w = _scale(asked.get("guidance"), design, len(indices)) - 1
    _check_guidance(design, w)
    if negative is None:
        return Wish(design, labels, w, None)
    _check_negative(design, w)
    return Wish(design, labels, w, condition.ask(negative, seed, indices))


def is_told(design: Design) -> bool:
    """Whether the network is told its guidance scale."""
    return bool(getattr(design.architecture, "told_guidance", 0))


def usual_guidance(design: Design) -> float:
    """The scale where none is asked for: 8 where it is told, 7.5 for a latent diffusion model, else 1."""
    if is_told(design):
        return TOLD_GUIDANCE
    return DIFFUSION_GUIDANCE if design.condition.words and not design.parameterization.consistent else 1.0


def _subject(design: Design, asked: Mapping[str, Any]) -> Asked:
    labels, prompts = asked.get("labels"), asked.get("prompts")
    if design.condition.words:
        if labels is not None:
            raise ValueError("This model is told what to draw in words: give prompts, not labels.")
        return prompts
    if prompts is not None:
        known = design.architecture.num_classes
        instead = f"it takes labels, 0 to {known - 1}" if known else "it is unconditional"
        raise ValueError(f"This model knows no words, so it takes no prompts: {instead}.")
    return labels


def _scale(asked: Any, design: Design, n: int) -> Tensor:
    """g, float32 (n,)."""
    try:
        g = torch.as_tensor(usual_guidance(design) if asked is None else asked, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"A guidance scale is a number, not {asked!r}.") from None
    if g.ndim == 1 and len(g) == 1:
        g = g[0]
    if g.ndim and g.shape != (n,):
        raise ValueError(f"{n} images need one guidance scale or {n}, not {len(g)}.")
    if not all(math.isfinite(value) for value in g.flatten().tolist()):
        raise ValueError(f"A guidance scale is a finite number, such as 4, not {asked!r}.")
    return g.expand(n)


def _check_guidance(design: Design, w: Tensor) -> None:
    if design.condition.words or not w.any():
        return
    if not design.architecture.num_classes:
        raise ValueError("This model is unconditional, so there is nothing to guide it to: leave guidance at 1.")
    if design.about.get("label_drop", 1) == 0:
        raise ValueError(
            "This model never saw a hidden label, so it cannot be guided: leave guidance at 1 (a model trained with "
            "label_drop, such as 0.1, can)."
        )


def _check_negative(design: Design, w: Tensor) -> None:
    if not design.condition.words:
        raise ValueError("This model knows no words, so it takes no negative prompts.")
    if is_told(design):
        raise ValueError(
            "This model is told its guidance scale, and has learned what guidance away from the empty prompt makes: it "
            "cannot take a negative prompt. Models that are not told it can."
        )
    if not w.any():
        raise ValueError("A negative prompt does nothing without guidance: give a guidance scale above 1, such as 1.5.")
