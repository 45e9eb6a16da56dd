"""A compact U-Net for images up to 64 pixels, made to train fast on a CPU.

    e = W_2 silu(W_1 waves(c_noise)) + class embedding
    h = stem(unshuffle_p(x));  down: residuals, then halve
    middle: attention, residual;  up: residuals on [h, skip], then double
    F(x, c_noise, label) = shuffle_p(W ⋆ silu(norm(h)))

`unshuffle_p` folds p × p pixels into channels, so that the largest grid is p² times smaller than the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.networks.architecture import Architecture
from fewstep.networks.blocks import Attention, PixelNorm, Residual, Waves, add_classes, zeroed


@dataclass(frozen=True)
class CompactShape(Architecture):
    """The compact network."""

    image_channels: int = 1
    """Channels of an image: 1 grey, 3 RGB."""
    image_size: int = 28
    """Height and width of an image, a multiple of patch · 2^(levels − 1)."""
    num_classes: int = 0
    """Labels are 0 … num_classes − 1; 0 for an unconditional network."""
    widths: tuple[int, ...] = (32, 64)
    """Channels of each level; every level halves the grid of the one before it."""
    blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up, unless `skips` is "level"."""
    patch: int = 2
    """Pixels along one side that are folded into channels at the entrance."""
    attention: bool = True
    """Whether the middle, at the smallest grid, begins with attention over all of it."""
    skips: Literal["block", "level"] = "level"
    """A skip for every residual block, beside its input; or one a level, added: two thirds of the cost and weights."""
    embedding: int = 128
    """Width of the embedding of noise level and class."""
    dropout: float = 0.0
    """Chance of dropping a feature before the second convolution of a residual block."""

    def build(self) -> "Compact":
        """The network; ValueError when the image does not divide into patches and halves."""
        return Compact(self)


class Compact(nn.Module):
    """The compact network: one norm a block, over the channels of each pixel; attention at the smallest grid only.

    Measured by `benchmarks/compact_network.py --seconds 60` on one core with AVX-512 bf16: class-conditional MNIST,
    batch 128, EDM's denoising with one forward pass more a step, as a consistency objective has. After 60 s of
    processor time each, the denoising loss over six noise levels, and the images seen, relative to the default:

        the default, in bf16           0.722  1.00     the same without attention   0.733  0.72
        skips="block"                  0.784  0.63     ConvNeXt blocks, 5 × 5       0.774  0.54
        the same in fp32               0.833  0.52     the default, (48, 96) wide   0.820  0.55
        the same with two group norms  0.848  0.43     the same, wide, one block    0.832  0.54

    ("The same" is skips="block".) A minute is the beginning of training, where speed counts for most; that attention
    pays for its time in a long one was not measured: it gives every pixel sight of every other in one step.
    """

    def __init__(self, shape: CompactShape):
        super().__init__()
        check(shape)
        self.shape = shape
        widths, embedding = shape.widths, shape.embedding
        pixels = shape.image_channels * shape.patch**2
        self.waves = Waves(64, lowest=0.8, highest=25.0)
        self.time = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.classes = nn.Embedding(shape.num_classes, embedding) if shape.num_classes else None

        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_down(shape))
        self.attention = Attention(widths[-1]) if shape.attention else nn.Identity()
        self.middle = _residual(shape, widths[-1], widths[-1])
        self.up = nn.ModuleList(_up(shape))
        self.norm = PixelNorm(widths[0])
        self.head = zeroed(nn.Conv2d(widths[0], pixels, 3, padding=1))

    def embed(self, c_noise: Tensor, labels: Tensor | None) -> Tensor:
        """The embedding (n, E) of noise levels (n,) and classes (n,)."""
        features = self.waves(c_noise).to(self.stem.weight.dtype)
        return F.silu(add_classes(self.time(features), self.classes, labels))

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        c_noise: Float[Tensor, " n"],
        labels: Int64[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """F(x, c_noise, label); c_noise is about ln(t) / 4, in [−1.6, 1.1].

        A label of −1 (or None) adds no class. ValueError for labels when there are no classes.
        """
        e = self.embed(c_noise, labels)
        folded = F.pixel_unshuffle(x, self.shape.patch)
        h = self.stem(folded.contiguous(memory_format=torch.channels_last))
        each = self.shape.skips == "block"
        skips = [h] if each else []
        for layer in self.down:
            halves = not isinstance(layer, Residual)
            before, h = h, layer(h) if halves else layer(h, e)
            if each or halves:
                skips.append(h if each else before)
        h = self.middle(self.attention(h), e)
        for layer in self.up:
            if isinstance(layer, Residual):
                h = layer(torch.cat([h, skips.pop()], dim=1) if each else h, e)
            else:  # a 1 × 1 kernel commutes with doubling, and is four times cheaper before it
                h = F.interpolate(layer(h), scale_factor=2.0, mode="nearest")
                h = h if each else h + skips.pop()
        return F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.shape.patch)


def _residual(shape: CompactShape, channels_in: int, channels_out: int) -> Residual:
    return Residual(channels_in, channels_out, shape.embedding, shape.dropout)


def _down(shape: CompactShape) -> Iterator[nn.Module]:
    """The layers on the way down, each of which may leave a skip."""
    width = shape.widths[0]
    for level, wider in enumerate(shape.widths):
        if level:
            yield nn.Conv2d(width, wider, 2, stride=2)
        for _ in range(shape.blocks):
            yield _residual(shape, wider, wider)
        width = wider


def _up(shape: CompactShape) -> Iterator[nn.Module]:
    """The layers on the way up; with a skip for every block there is one block a level more, for that of the stem."""
    each, widths = shape.skips == "block", shape.widths
    skips = [widths[0]]
    for level, width in enumerate(widths):
        skips += [width] * (shape.blocks + (level > 0))
    for level in reversed(range(len(widths))):
        for _ in range(shape.blocks + each):
            beside = skips.pop() if each else 0
            yield _residual(shape, widths[level] + beside, widths[level])
        if level:
            yield nn.Conv2d(widths[level], widths[level - 1], 1)


def check(shape: CompactShape) -> None:
    """Raise ValueError, with the way to mend it, for a shape that no network can have."""
    counts = (shape.blocks, shape.patch, shape.image_channels, shape.embedding)
    if not shape.widths or min(*shape.widths, *counts) < 1:
        raise ValueError("CompactShape needs widths, blocks, patch, image_channels and embedding of at least 1.")
    if shape.skips not in ("block", "level"):
        raise ValueError(f'skips must be "block" or "level", not "{shape.skips}".')
    divisor = shape.patch * 2 ** (len(shape.widths) - 1)
    if shape.image_size < 1 or shape.image_size % divisor:
        raise ValueError(
            f"image_size {shape.image_size} is not a multiple of {divisor} (patch {shape.patch}, "
            f"{len(shape.widths)} levels): resize the images, or choose another patch or fewer widths."
        )
