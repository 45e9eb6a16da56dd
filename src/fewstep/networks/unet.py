"""The papers' U-Net (ADM: Dhariwal & Nichol 2021; used by Song et al. 2023 for ImageNet-64 and LSUN-256).

    e = W_2 silu(W_1 [cos ω c_noise, sin ω c_noise]) + class embedding
    down: convolution; at each level residual blocks (attention at chosen resolutions), then halve
    middle: residual, attention, residual
    up: at each level one residual block more, each on [h, skip], then double
    F(x, c_noise, label) = W ⋆ silu(norm(h))

It computes the function of OpenAI's consistency models, with the names and shapes of their weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from fewstep.networks.adm import (
    AttentionBlock,
    Downsample,
    GroupNorm32,
    ResidualBlock,
    Upsample,
    double,
    halve,
    time_features,
)
from fewstep.networks.architecture import Architecture
from fewstep.networks.blocks import add_classes, zeroed


@dataclass(frozen=True)
class UNetShape(Architecture):
    """The papers' U-Net."""

    image_channels: int = 3
    """Channels of an image: 1 grey, 3 RGB."""
    image_size: int = 32
    """Height and width of an image, a multiple of 2^(levels − 1)."""
    num_classes: int = 0
    """Labels are 0 … num_classes − 1; 0 for an unconditional network."""
    out_channels: int | None = None
    """Channels of the output; left out, those of an image."""
    model_channels: int = 128
    """Channels of a level with multiplier 1."""
    num_res_blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up."""
    channel_mult: tuple[int, ...] = (1, 2, 2)
    """Each level's channels in units of model_channels."""
    attention_resolutions: tuple[int, ...] = (16,)
    """Grid sizes at which every residual block is followed by attention; the middle always has it."""
    num_heads: int = 4
    """Attention heads, where num_head_channels is left out."""
    num_head_channels: int | None = None
    """Channels of an attention head; it takes the place of num_heads."""
    dropout: float = 0.0
    """Chance of dropping a feature before the second convolution of a residual block."""
    use_scale_shift_norm: bool = True
    """Tell the embedding as scale and shift after the second norm, instead of adding it before."""
    resblock_updown: bool = True
    """Halve and double inside residual blocks, instead of by plain convolutions."""
    use_checkpoint: bool = False
    """Keep no activations of a block and compute them again in the backward pass: less memory, more time."""

    def build(self) -> "UNet":
        """The network; ValueError for a shape that no network can have."""
        return UNet(self)

    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(mult * self.model_channels for mult in self.channel_mult)

    def heads(self, channels: int) -> int:
        """Attention heads over this many channels."""
        if self.num_head_channels is None:
            return self.num_heads
        return channels // self.num_head_channels


class UNet(nn.Module):
    """The papers' U-Net, with the parameter names of OpenAI's."""

    def __init__(self, shape: UNetShape):
        super().__init__()
        check(shape)
        self.shape = shape
        embedding, widths = 4 * shape.model_channels, shape.widths()
        self.time_embed = nn.Sequential(
            nn.Linear(shape.model_channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.label_emb = nn.Embedding(shape.num_classes, embedding) if shape.num_classes else None
        stem = nn.Conv2d(shape.image_channels, widths[0], 3, padding=1)
        self.input_blocks = nn.ModuleList([nn.ModuleList([stem]), *_down(shape)])
        self.middle_block = nn.ModuleList(
            [_residual(shape, widths[-1]), _attention(shape, widths[-1]), _residual(shape, widths[-1])]
        )
        self.output_blocks = nn.ModuleList(_up(shape))
        out_channels = shape.out_channels or shape.image_channels
        self.out = nn.Sequential(
            GroupNorm32(widths[0]), nn.SiLU(), zeroed(nn.Conv2d(widths[0], out_channels, 3, padding=1))
        )

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        c_noise: Float[Tensor, " n"],
        labels: Int64[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n o h w"]:
        """F(x, c_noise, label), in x's dtype. The time embedding is given c_noise as it is.

        A label of −1 (or None) adds no class. ValueError for labels when there are no classes.
        """
        features = time_features(c_noise, self.shape.model_channels)
        e = self.time_embed(features.to(_dtype(self.time_embed)))
        e = add_classes(e, self.label_emb, labels)
        h, skips = x.to(_dtype(self.input_blocks)), []
        for block in self.input_blocks:
            h = _through(block, h, e)
            skips.append(h)
        h = _through(self.middle_block, h, e)
        for block in self.output_blocks:
            h = _through(block, torch.cat([h, skips.pop()], dim=1), e)
        return self.out(h.to(_dtype(self.out))).to(x.dtype)


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _through(layers: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for layer in layers.children():
        h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
    return h


def _down(shape: UNetShape) -> Iterator[nn.ModuleList]:
    """The blocks on the way down, after the first convolution."""
    widths, size = shape.widths(), shape.image_size
    width = widths[0]
    for level, wider in enumerate(widths):
        for _ in range(shape.num_res_blocks):
            yield nn.ModuleList([_residual(shape, width, wider), *_attentions(shape, wider, size)])
            width = wider
        if level < len(widths) - 1:
            plain = not shape.resblock_updown
            yield nn.ModuleList([Downsample(width) if plain else _residual(shape, width, resize=halve)])
            size //= 2


def _up(shape: UNetShape) -> Iterator[nn.ModuleList]:
    """The blocks on the way up: each takes the last skip that is left."""
    widths = shape.widths()
    skips = [widths[0]]
    for level, width in enumerate(widths):
        skips += [width] * (shape.num_res_blocks + (level < len(widths) - 1))
    width, size = widths[-1], shape.image_size >> (len(widths) - 1)
    for level in reversed(range(len(widths))):
        for i in range(shape.num_res_blocks + 1):
            layers = [_residual(shape, width + skips.pop(), widths[level])]
            width = widths[level]
            layers += _attentions(shape, width, size)
            if level and i == shape.num_res_blocks:
                plain = not shape.resblock_updown
                layers.append(Upsample(width) if plain else _residual(shape, width, resize=double))
                size *= 2
            yield nn.ModuleList(layers)


def _residual(shape: UNetShape, channels_in: int, channels_out: int | None = None, resize=None) -> nn.Module:
    return ResidualBlock(
        channels_in,
        channels_out or channels_in,
        4 * shape.model_channels,
        scale_shift=shape.use_scale_shift_norm,
        dropout=shape.dropout,
        resize=resize,
        recompute=shape.use_checkpoint,
    )


def _attention(shape: UNetShape, channels: int) -> AttentionBlock:
    return AttentionBlock(channels, shape.heads(channels), shape.use_checkpoint)


def _attentions(shape: UNetShape, channels: int, size: int) -> list[nn.Module]:
    return [_attention(shape, channels)] if size in shape.attention_resolutions else []


def check(shape: UNetShape) -> None:
    """Raise ValueError, with the way to mend it, for a shape that no network can have."""
    if not shape.channel_mult or min(*shape.channel_mult, shape.num_res_blocks, shape.image_channels) < 1:
        raise ValueError("channel_mult, num_res_blocks and image_channels must all be at least 1.")
    levels = len(shape.channel_mult)
    divisor = 2 ** (levels - 1)
    if shape.image_size < 1 or shape.image_size % divisor:
        raise ValueError(
            f"image_size {shape.image_size} is not a multiple of {divisor}, which the {levels} levels of "
            "channel_mult need: resize the images, or take fewer levels."
        )
    sizes = [shape.image_size >> level for level in range(levels)]
    for size in shape.attention_resolutions:
        if size not in sizes:
            raise ValueError(f"attention_resolutions has {size}, but the grids are {sizes}: choose among these.")
    _check_widths(shape, sizes)


def _check_widths(shape: UNetShape, sizes: list[int]) -> None:
    for width, size in zip(shape.widths(), sizes, strict=True):
        if width % 32:
            raise ValueError(
                f"A level of {width} channels does not divide into the 32 groups of its norms: "
                f"make model_channels a multiple of 32, not {shape.model_channels}."
            )
        attends = size in shape.attention_resolutions or size == sizes[-1]
        name = "num_heads" if shape.num_head_channels is None else "num_head_channels"
        parts = getattr(shape, name)
        if attends and (parts < 1 or width % parts):
            raise ValueError(f"{name} {parts} does not divide the {width} channels at grid {size}.")
