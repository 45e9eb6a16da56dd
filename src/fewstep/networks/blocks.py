"""Pieces of the compact network, written for channels_last memory.

    norm(x)       = γ ⊙ (x − mean_C x) / std_C x + β                       per pixel, over channels
    residual(x,e) = P x + W_2 ⋆ silu((1 + a) ⊙ (W_1 ⋆ silu(norm(x))) + b),  (a, b) = A e
    attention(x)  = x + W_o softmax(q kᵀ / √d) v                           over all pixels
    waves(c)      = [cos(ω_i c), sin(ω_i c)],  ω_i geometric

The last weights of a residual or attention block start at zero, so that it starts as the identity (or as P).
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def zeroed(layer: Layer) -> Layer:
    """The layer with its weight and bias set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def add_classes(embedding: Tensor, classes: nn.Embedding | None, labels: Tensor | None) -> Tensor:
    """embedding (n, E) plus that of each label (n,); a label of −1, or None for all, adds nothing.

    Raises ValueError for labels without classes.
    """
    if labels is None:
        return embedding
    if classes is None:
        raise ValueError("This network has no classes, but labels were given: leave them out.")
    asked = (labels >= 0).to(embedding.dtype)[:, None]
    return embedding + asked * classes(labels.clamp(min=0)).to(embedding.dtype)


class PixelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel; fused, without copies in channels_last."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to the same."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Waves(nn.Module):
    """Cosines and sines of c_noise, at frequencies from `lowest` to `highest` radians per unit."""

    def __init__(self, features: int, lowest: float, highest: float):
        super().__init__()
        self.features, self.lowest, self.highest = features, lowest, highest

    def forward(self, c_noise: Tensor) -> Tensor:
        """(n,) to (n, features), in float32 whatever the network's dtype: bfloat16 would round the time."""
        ends = math.log(self.lowest), math.log(self.highest)
        frequencies = torch.linspace(*ends, self.features // 2, device=c_noise.device, dtype=torch.float32).exp()
        angles = c_noise.float()[:, None] * frequencies
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class Residual(nn.Module):
    """Two convolutions around a scale and shift by the embedding."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, dropout: float = 0.0):
        super().__init__()
        self.norm = PixelNorm(channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels_out)
        self.dropout = nn.Dropout(dropout)
        self.second = zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(n, C_in, H, W) and (n, E) to (n, C_out, H, W)."""
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.first(F.silu(self.norm(x)))
        h = self.dropout(F.silu(torch.addcmul(shift, h, 1 + scale)))
        return self.skip(x) + self.second(h)


class Attention(nn.Module):
    """Every pixel looks at every other, in heads of about `width` channels."""

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        self.heads = next(n for n in range(max(1, channels // width), 0, -1) if channels % n == 0)
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to the same."""
        n, c, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(n, height * width, c)
        q, k, v = self.qkv(self.norm(pixels)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, height * width, c)
        return x + self.out(mixed).view(n, height, width, c).permute(0, 3, 1, 2)
