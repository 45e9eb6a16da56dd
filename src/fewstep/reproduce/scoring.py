"""How good pictures are, by a judge that no run was trained with.

    fd           Fréchet distance of the features of a reader of digits, against the data
    agreement    % of the pictures that it reads as the digit that was asked for
    energy       energy distance of features without weights (small pictures, and 32 random filters)

The reader of MNIST looks at 28×28 pixels: smaller pictures are enlarged for it by cubic interpolation, samples and
reference alike. (Of MNIST's own test pictures, made 8×8 so, it reads some 91%.)

The perceptual distance of the studies has random filters too, but others, drawn apart from these.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fewstep.evaluation.energy import energy_distance
from fewstep.evaluation.features import open_features
from fewstep.evaluation.gaussians import Gaussian, frechet
from fewstep.evaluation.readings import agreement
from fewstep.evaluation.types import Features, Seen

READ_AT = 28
"""Pixels of a side of what the reader of MNIST was trained on."""

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
    def of(cls, reference: NDArray[np.uint8], name: str) -> "Judge":
        """The judge with these features and this reference, uint8 (n, C, H, W)."""
        features, simple = open_features(name), open_features("simple")
        seen = [_seen(features, part).features.numpy() for part in np.array_split(reference, -(-len(reference) // 500))]
        some = reference[np.linspace(0, len(reference) - 1, min(FEWER, len(reference))).round().astype(int)]
        about = {
            "features": features.name,
            "digest": features.digest,
            "simple": simple.digest,
            "reference": len(reference),
        }
        return cls(features, simple, Gaussian.over(seen), _seen(simple, some).features.numpy(), about)

    def __call__(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, float]:
        """The scores of pictures uint8 (n, H, W, C) and the labels asked for."""
        given = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        seen = [_seen(self.features, part) for part in np.array_split(given, -(-len(given) // 500))]
        gaussian = Gaussian.over([part.features.numpy() for part in seen])
        near = _seen(self.simple, given[:FEWER]).features.numpy()
        parts = self.simple.parts
        found = {"fd": frechet(gaussian, self.gaussian), "energy": energy_distance(near, self.near, parts)}
        if seen[0].logits is not None:
            logits = np.concatenate([part.logits.numpy() for part in seen if part.logits is not None])
            found["agreement"] = agreement(logits, labels).value
        return {name: round(value, 6) for name, value in found.items()}


@torch.no_grad()
def _seen(features: Features, pictures: NDArray[np.uint8]) -> Seen:
    shown = torch.from_numpy(pictures)
    if features.name == "mnist" and shown.shape[-1] < READ_AT:
        larger = F.interpolate(shown.float(), size=(READ_AT, READ_AT), mode="bicubic", align_corners=False)
        shown = larger.round().clamp(0, 255).to(torch.uint8)
    return features(shown)
