"""How alike two sets of pictures are, without any download: an energy distance between simple features.

    E(X, Y) = 2 E|φ(x) − φ(y)| − E|φ(x) − φ(x')| − E|φ(y) − φ(y')|  ≥ 0,   0 for equal distributions

(Székely & Rizzo 2013). φ(x) holds the picture averaged to at most 16 × 16 pixels and, for 32 fixed random filters w_k
of 3 × 3, the means of |w_k ⋆ x| over 4 × 4 regions, which see strokes, blur and noise. Each half is scaled so that the
data's variances add up to 1. It compares samples of one model; a judge that knows what the pictures show is better.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


class Likeness:
    """The distance to given data (n, C, H, W) in [-1, 1]."""

    def __init__(self, data: Tensor):
        generator = torch.Generator().manual_seed(0)
        filters = torch.randn(32, data.shape[1], 3, 3, generator=generator)
        self.filters = filters - filters.mean(dim=(1, 2, 3), keepdim=True)
        halves = self._halves(data)
        self.scales = [half.var(0).sum().sqrt().clamp(min=1e-6) for half in halves]
        self.data = self._scaled(halves)
        self.within = _mean_distance(self.data)

    def __call__(self, x: Tensor) -> float:
        """The energy distance of pictures (m, C, H, W) from the data; smaller is better."""
        features = self._scaled(self._halves(x))
        between = torch.cdist(features, self.data).mean()
        return float(2 * between - _mean_distance(features) - self.within)

    def _halves(self, x: Tensor) -> list[Tensor]:
        small = F.adaptive_avg_pool2d(x, min(16, x.shape[-1]))
        edges = F.adaptive_avg_pool2d(F.conv2d(x, self.filters).abs(), 4)
        return [small.flatten(1), edges.flatten(1)]

    def _scaled(self, halves: list[Tensor]) -> Tensor:
        return torch.cat([half / scale for half, scale in zip(halves, self.scales, strict=True)], dim=1)


def _mean_distance(x: Tensor) -> Tensor:
    """E|x − x'| over pairs of different samples."""
    return torch.cdist(x, x).sum() / (len(x) * max(1, len(x) - 1))
