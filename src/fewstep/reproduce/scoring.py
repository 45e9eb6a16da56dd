"""How good pictures are, by a judge that no run was trained with.

    fd           Fréchet distance of the features of a reader of digits, against the data
    agreement    % of the pictures that it reads as the class that was asked for
    energy       energy distance of features without weights (small pictures, and 32 random filters)

The reader has learned from the study's pictures (`reading.py`); features of other names can be asked for.

The perceptual distance of the studies has random filters too, but others, drawn apart from these.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewstep.evaluation.energy import energy_distance
from fewstep.evaluation.features import open_features
from fewstep.evaluation.gaussians import Gaussian, frechet
from fewstep.evaluation.readings import agreement
from fewstep.evaluation.types import Features, Seen

FEWER = 2_000
"""Pictures of the reference that the energy distance is taken from: its cost is quadratic."""


@dataclass(frozen=True)
class Judge:
    """Scores pictures against a reference."""

    features: Features
    """Of the Fréchet distance and the agreement."""
    simple: Features
    """Of the energy distance."""
    gaussian: Gaussian
    """The reference's, in the features."""
    near: NDArray[np.float32]
    """The reference in the simple features."""
    about: dict[str, Any]
    """What makes the numbers: kept beside them."""

    @classmethod
    def of(cls, reference: NDArray[np.uint8], source: str | Features) -> "Judge":
        """The judge with these features, or those of that name, and this reference, uint8 (n, C, H, W)."""
        features, simple = open_features(source), open_features("simple")
        seen = [_seen(features, part).features.numpy() for part in np.array_split(reference, -(-len(reference) // 500))]
        some = reference[np.linspace(0, len(reference) - 1, min(FEWER, len(reference))).round().astype(int)]
        about = {
            "features": features.name,
            "digest": features.digest,
            "simple": simple.digest,
            "reference": len(reference),
        }
        return cls(features, simple, Gaussian.over(seen), _seen(simple, some).features.numpy(), about)

    def __call__(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64] | None) -> dict[str, float]:
        """The scores of pictures uint8 (n, H, W, C) and the labels (n,) asked for; None where none were."""
        seen = self._seen(pictures)
        near = _seen(self.simple, _first(pictures[:FEWER])).features.numpy()
        found = {"fd": self._fd(seen), "energy": energy_distance(near, self.near, self.simple.parts)}
        if labels is not None and seen[0].logits is not None:
            logits = np.concatenate([part.logits.numpy() for part in seen if part.logits is not None])
            found["agreement"] = agreement(logits, labels).value
        return {name: round(value, 6) for name, value in found.items()}

    def fd(self, pictures: NDArray[np.uint8]) -> float:
        """The Fréchet distance alone."""
        return self._fd(self._seen(pictures))

    def _seen(self, pictures: NDArray[np.uint8]) -> list[Seen]:
        return [_seen(self.features, _first(part)) for part in np.array_split(pictures, -(-len(pictures) // 500))]

    def _fd(self, seen: list[Seen]) -> float:
        return frechet(Gaussian.over([part.features.numpy() for part in seen]), self.gaussian)


def _first(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Channels before rows and columns."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


@torch.no_grad()
def _seen(features: Features, pictures: NDArray[np.uint8]) -> Seen:
    return features(torch.from_numpy(pictures))
