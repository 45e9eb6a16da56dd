"""Features without any weights: what a picture looks like from afar, and 32 random filters for strokes, blur and noise.

    near   the picture in [-1, 1], averaged to 16 × 16 places, or repeated to so many                     768 numbers
    edges  for fixed random 3 × 3 filters w_k without a mean, the means of |w_k ⋆ x| over 4 × 4 regions   512 numbers

They are meant for an energy distance that scales each half for itself (`parts`). They compare samples of one model, or
of models trained on the same pictures; features that know what the pictures show are better.
"""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.evaluation.features.seeing import checked, colour, digest_of, exact, signed
from fewstep.evaluation.types import Features, Seen

FILTERS, PLACES, REGIONS = 32, 16, 4


@final
class Simple(Features):
    """The two halves side by side."""

    name = "simple"
    resize = f"averaged to {PLACES}×{PLACES}, edges to {REGIONS}×{REGIONS}"
    parts = (3 * PLACES**2, FILTERS * REGIONS**2)
    dimension = sum(parts)

    def __init__(self, device: str | torch.device = "cpu"):
        self.filters = filters().to(device)
        self.digest = digest_of({"filters": self.filters}, type(self).__name__, self.resize)

    def __call__(self, pictures: Tensor) -> Seen:
        x = signed(colour(checked(pictures).to(self.filters.device)))
        with exact():
            near = F.adaptive_avg_pool2d(x, PLACES)
            edges = F.adaptive_avg_pool2d(F.conv2d(x, self.filters).abs(), REGIONS)
        return Seen(torch.cat([near.flatten(1), edges.flatten(1)], dim=1))


def filters() -> Tensor:
    """(32, 3, 3, 3), each of mean 0; the same everywhere and always."""
    w = torch.randn(FILTERS, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return w - w.mean(dim=(1, 2, 3), keepdim=True)
