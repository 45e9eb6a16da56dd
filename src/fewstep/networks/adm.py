"""Pieces of the papers' U-Net (ADM: Dhariwal & Nichol 2021, appendix A; Song et al. 2023).

    residual(x, e) = S x + W_2 ⋆ drop(silu(film(norm(W_1 ⋆ R silu(norm(x))), A silu(e))))     with scale-shift
    residual(x, e) = S x + W_2 ⋆ drop(silu(norm(W_1 ⋆ R silu(norm(x)) + A silu(e))))          without
    film(h, (a, b)) = (1 + a) ⊙ h + b
    attention(x) = x + W_o softmax(q kᵀ / √d) v,  (q, k, v) = W norm(x)

R resizes (the identity, a 2 × 2 mean, or nearest-neighbour doubling), and S is the same resizing followed by
a 1 × 1 convolution where the width changes. Attributes carry the names that the released weights have.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fewstep.networks.blocks import zeroed

Resize = Callable[[Tensor], Tensor]


def halve(x: Tensor) -> Tensor:
    """The mean of every 2 × 2 pixels."""
    return F.avg_pool2d(x, 2)


def double(x: Tensor) -> Tensor:
    """Every pixel as 2 × 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def time_features(c_noise: Tensor, dim: int, period: float = 10_000.0) -> Tensor:
    """[cos(ω_i c), sin(ω_i c)], ω_i = period^(−i / half), half = dim // 2; (n,) to (n, dim), in float32."""
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=c_noise.device)
    angles = c_noise.float()[:, None] * torch.exp(-math.log(period) * index / half)
    features = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(features, (0, dim % 2))


class GroupNorm32(nn.GroupNorm):
    """Group normalisation in 32 groups, computed in float32 whatever comes in."""

    def __init__(self, channels: int):
        super().__init__(32, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to the same, in x's dtype."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


class Recomputed(nn.Module, ABC):
    """A block that, where asked, keeps no activations and computes them again in the backward pass. In a pass with
    forward-mode derivatives it keeps them: what would be computed again knows nothing of those."""

    def __init__(self, recompute: bool):
        super().__init__()
        self.recompute = recompute

    def forward(self, *inputs: Tensor) -> Tensor:
        """What `compute` gives. Dropout draws the same mask again."""
        if self.recompute and torch.is_grad_enabled() and unpack_dual(inputs[0]).tangent is None:
            return checkpoint(self.compute, *inputs, use_reentrant=False)  # type: ignore[return-value]
        return self.compute(*inputs)

    @abstractmethod
    def compute(self, *inputs: Tensor) -> Tensor:
        """What the block does."""


class ResidualBlock(Recomputed):
    """Two convolutions, told the embedding in between; may halve or double the grid."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        embedding: int,
        *,
        scale_shift: bool,
        dropout: float = 0.0,
        resize: Resize | None = None,
        recompute: bool = False,
    ):
        super().__init__(recompute)
        self.scale_shift, self.resize = scale_shift, resize
        self.in_layers = nn.Sequential(
            GroupNorm32(channels_in), nn.SiLU(), nn.Conv2d(channels_in, channels_out, 3, padding=1)
        )
        told = 2 * channels_out if scale_shift else channels_out
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, told))
        self.out_layers = nn.Sequential(
            GroupNorm32(channels_out),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(channels_out, channels_out, 3, padding=1)),
        )
        same = channels_in == channels_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def compute(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """(n, C_in, H, W) and (n, E) to (n, C_out, H', W')."""
        norm_in, act_in, first = self.in_layers
        norm_out, act_out, dropout, second = self.out_layers
        h = act_in(norm_in(x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = first(h)
        told = self.emb_layers(embedding).to(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = norm_out(h) * (1 + scale) + shift
        else:
            h = norm_out(h + told)
        return self.skip_connection(x) + second(dropout(act_out(h)))


class AttentionBlock(Recomputed):
    """Self-attention over all pixels. The 3 C channels of `qkv` are ordered (three, head, dim)."""

    def __init__(self, channels: int, heads: int, recompute: bool = False):
        super().__init__(recompute)
        self.heads = heads
        self.norm = GroupNorm32(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv2d(channels, channels, 1))

    def compute(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(n, C, H, W) to the same. Channels come last in between: only so the fused attention kernels can be used."""
        pixels = _pointwise(self.qkv, self.norm(x).flatten(2).transpose(1, 2))
        q, k, v = pixels.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (n, heads, H W, C / heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + _pointwise(self.proj_out, mixed).transpose(1, 2).unflatten(2, x.shape[2:])


def _pointwise(layer: nn.Conv2d, pixels: Tensor) -> Tensor:
    """A 1 × 1 convolution on (n, H W, C)."""
    return F.linear(pixels, layer.weight.flatten(1), layer.bias)


class Downsample(nn.Module):
    """A convolution with stride 2."""

    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C, H / 2, W / 2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) to (n, C, 2 H, 2 W)."""
        return self.conv(double(x))
