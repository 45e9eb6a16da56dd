"""What a call of a latent pipeline says in words, or as embeddings of words: all of it, and nothing contradictory."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from torch import Tensor

Text = str | Sequence[str] | None


@dataclass(frozen=True, eq=False)
class Words:
    """What a call says about its pictures. Raises ValueError for what is contradictory or missing."""

    prompt: Text
    """One, or one for each picture."""
    negative_prompt: Text
    """What the pictures shall not show; for real guidance."""
    prompt_2: Text
    """For SDXL's second encoder, if other than `prompt`."""
    negative_prompt_2: Text
    """For SDXL's second encoder, if other than `negative_prompt`."""
    prompt_embeds: Tensor | None
    """(n, L, D) instead of `prompt`."""
    negative_prompt_embeds: Tensor | None
    """(n, L, D) instead of `negative_prompt`."""
    pooled_prompt_embeds: Tensor | None
    """(n, P), which SDXL needs beside `prompt_embeds`; beside `prompt` it takes the place of the prompt's own."""
    negative_pooled_prompt_embeds: Tensor | None
    """(n, P), the same for what the pictures shall not show."""
    clip_skip: int | np.integer | None
    """How many of a text encoder's last layers are left out."""

    def __post_init__(self):
        if (self.prompt is None) == (self.prompt_embeds is None):
            given = "neither" if self.prompt is None else "both"
            raise ValueError(f"Pass one of `prompt` and `prompt_embeds`; {given} were given.")
        for name in ("prompt", "negative_prompt", "prompt_2", "negative_prompt_2"):
            check_text(getattr(self, name), name)
        for text, embeds in (("prompt_2", "prompt_embeds"), ("negative_prompt", "negative_prompt_embeds"),
                             ("negative_prompt_2", "negative_prompt_embeds")):  # fmt: skip
            if getattr(self, text) is not None and getattr(self, embeds) is not None:
                raise ValueError(f"Pass one of `{text}` and `{embeds}`; both were given.")
        for name, axes in (("prompt_embeds", 3), ("pooled_prompt_embeds", 2)):
            for embeds in (name, f"negative_{name}"):
                if (given := getattr(self, embeds)) is not None and getattr(given, "ndim", 0) != axes:
                    raise ValueError(f"`{embeds}` has {axes} axes, {'(n, L, D)' if axes == 3 else '(n, P)'}, not "
                                     f"{tuple(getattr(given, 'shape', ())) or given!r}.")  # fmt: skip
        alone = (self.negative_prompt, self.negative_prompt_2, self.negative_prompt_embeds)
        if self.negative_pooled_prompt_embeds is not None and all(part is None for part in alone):
            raise ValueError("`negative_pooled_prompt_embeds` goes with `negative_prompt_embeds` or `negative_prompt`.")
        if self.clip_skip is not None and index(self.clip_skip) < 0:
            raise ValueError(f"`clip_skip` counts layers from 0, it cannot be {self.clip_skip}.")

    @property
    def count(self) -> int:
        """How many prompts there are."""
        return len(listed(self.prompt) if self.prompt_embeds is None else self.prompt_embeds)

    @property
    def negative(self) -> bool:
        """Whether anything is said of what the pictures shall not show."""
        parts = (self.negative_prompt, self.negative_prompt_2, self.negative_prompt_embeds)
        return any(part is not None for part in (*parts, self.negative_pooled_prompt_embeds))

    @property
    def second(self) -> list[str]:
        """The names of what was given and only SDXL understands."""
        names = ("prompt_2", "negative_prompt_2", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        return [name for name in names if getattr(self, name) is not None]


def listed(text: Text, count: int | None = None, name: str = "prompt") -> list[str]:
    """The prompts; a single one is repeated `count` times. ValueError for another number than `count`."""
    texts = [text] * (count or 1) if isinstance(text, str) else list(text or ())
    if count is not None and len(texts) != count:
        raise ValueError(f"{len(texts)} of `{name}` were given for {count} prompts: give one, or one each.")
    return texts


def check_text(text: Any, name: str) -> None:
    """Raises ValueError, with its name, for what is no string and no list of them."""
    texts = [text or ""] if isinstance(text, str) or text is None else text
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(part, str) for part in texts):
        raise ValueError(f"`{name}` is a text or a list of texts, not {text!r}.")
