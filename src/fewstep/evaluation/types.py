"""The words of evaluation: pictures are *seen* by features, two *sets* of them are compared by a *score*.

    pictures  -- Features -->  Seen(features, spatial, logits)  -- gathered -->  Set
    Score.compute(samples: Set, reference: Set, seed)  -->  Value(value, error)

A score is a number only together with the features it was taken from: other weights, another layer or another way to
resize give other numbers. Therefore features carry a digest, and the title of a score names it (`Score.title`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.evaluation.gaussians import Gaussian

Need = Literal["features", "gaussian", "spatial", "logits", "labels", "text", "reference"]


class Seen(NamedTuple):
    """What features see of n pictures."""

    features: "Tensor"
    """float32 (n, d)."""
    spatial: "Tensor | None" = None
    """float32 (n, d_s), of an earlier layer that still knows places: for sFID."""
    logits: "Tensor | None" = None
    """float32 (n, classes): for the Inception Score and agreement."""


class Features(ABC):
    """A frozen network (or a fixed filter) that turns pictures into points."""

    name: str
    """Such as "inception-2015", "dinov2-vitl14", "mnist". A published name stands for the published numbers only:
    its weights, its layer and its resize; with anything else of them the name is another."""
    digest: str
    """16 hex digits over the weights and everything else that changes the numbers (resize, layer)."""
    resize: str
    """In words, such as "299×299 bilinear, TensorFlow 1's corners"."""
    dimension: int
    """d, the width of `Seen.features`."""
    parts: tuple[int, ...] = ()
    """Widths of the parts that the features are put together from, where an energy distance scales each for itself."""
    classes: tuple[str, ...] | None = None
    """What the logits stand for, by the names that data have for their classes; None where that is not known."""
    lasting: bool = True
    """Whether the digest stands for all that makes the numbers, so that what is seen may be kept on disk."""

    @abstractmethod
    def __call__(self, pictures: "Tensor") -> Seen:
        """See pictures uint8 (n, C, H, W) on any device; C is 1 or 3, grey is repeated where colour is needed."""

    def text(self, prompts: list[str]) -> "Tensor":
        """Embeddings float32 (n, d) of prompts, in the space of the pictures' features. Only CLIP has them."""
        raise ValueError(f"The features '{self.name}' read no text; give CLIP's (--features clip) for a CLIP score.")


@dataclass(frozen=True, eq=False)
class Set:
    """One side of a comparison: what features saw of n pictures. None stands for what is not known.

    A set equals itself only, so that what was found of it can be remembered.
    """

    name: str
    """How a message calls it."""
    n: int
    """The number of pictures."""
    features: NDArray[np.float32] | None = None
    """(n, d), may be a memmap; None where only statistics are known (an npz with mu and sigma)."""
    gaussian: "Gaussian | None" = None
    """Mean and covariance of the features."""
    spatial: NDArray[np.float32] | None = None
    """(n, d_s); usually None, as sFID needs their Gaussian only."""
    spatial_gaussian: "Gaussian | None" = None
    """Mean and covariance of the spatial features."""
    logits: NDArray[np.float32] | None = None
    """(n, classes)."""
    labels: NDArray[np.int64] | None = None
    """(n,), the label asked for, or the true one; −1 none."""
    class_names: tuple[str, ...] = ()
    """Of the labels."""
    classes: tuple[str, ...] | None = None
    """`Features.classes` of the features: of the logits."""
    text: NDArray[np.float32] | None = None
    """(n, d), CLIP's embeddings of the prompts asked for."""
    parts: tuple[int, ...] = ()
    """`Features.parts` of the features."""

    def part(self, name: str) -> Any:
        """What is known under the name of a field; ValueError where nothing is."""
        part = getattr(self, name)
        if part is None:
            raise ValueError(f"{self.name} has no {name.replace('_', ' ')}, which this score needs.")
        return part


class Value(NamedTuple):
    """A score's value and, where it is a mean over subsets or splits, the error that goes with it."""

    value: float
    error: float | None = None


@dataclass(frozen=True)
class Score:
    """One way to compare (or, without a reference, to rate) sets of pictures."""

    name: str
    """How a user asks for it: "fd", "kid", "precision", …"""
    short: str
    """What it is called in front of the features' name: "FD", "KD", …"""
    better: Literal["lower", "higher", "near 1"]
    """Which way is better."""
    needs: frozenset[Need]
    """What it takes. "reference" means a second set: then both sets must have the rest, else the samples alone."""
    at_least: tuple[int, int]
    """How many samples, and how many pictures of the reference, there must be for the number to be defined."""
    compute: Callable[[Set, Set | None, int], Value]
    """(samples, reference, seed) -> Value."""
    error: str = ""
    """What `Value.error` is, in words; "" where there is none."""
    published: Mapping[str, str] = field(default_factory=dict)
    """Features' name -> the title that papers use for this score of those features: {"inception-2015": "FID"}."""
    shrinks: bool = False
    """Whether the number is too large by what shrinks as there are more pictures, as that of covariances is."""

    def title(self, features: Features) -> str:
        """The published title for the features that it was published with, else one that names features and digest.

        So no two numbers with one title come from different features.
        """
        named = f"{self.short} ({features.name} {features.digest[:8]})"
        return self.published.get(features.name, named)
