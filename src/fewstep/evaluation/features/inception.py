"""The Inception network of FID, sFID, KID and the Inception Score: TensorFlow's graph of 2015-12-05, not torchvision's.

    x      = (resize(picture, 299 × 299) − 128) / 128
    conv_k = relu(bn(convolution)), bn with ε = 0.001 and, in the graph, no scale
    mixed  … mixed_10   blocks of branches beside each other, 35 × 35, then 17 × 17, then 8 × 8 places

    features  pool_3, the mean over the last 8 × 8 places, 2048
    spatial   the first 7 channels of mixed_6, 17 × 17 × 7 = 2023 in the graph's order (y, x, channel)
    logits    1008, without the output's bias, as the Inception Score's first code takes them

What sets the graph apart: a mean pool counts no padding; the last block pools by the maximum; the resize is TensorFlow
1's, whose sample for pixel j lies at j · H / 299 (no half pixels, no corners aligned, no antialiasing).
Szegedy et al. 2015 (arXiv 1512.00567), Heusel et al. 2017, Nash et al. 2021 (sFID).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.evaluation.features.seeing import Network, colour
from fewstep.evaluation.types import Seen

SIZE = 299


class Unit(NamedTuple):
    """A convolution with its norm and ReLU; with stride 1 it keeps the size, with stride 2 it takes no padding."""

    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


Stage = Unit | list[Unit]
"""One unit, or several that see the same and whose channels are put side by side."""
Branches = Mapping[str, list[Stage]]
"""By name, what follows what. The branch `branch_pool` sees the pooled input."""

Pool = Callable[[Tensor], Tensor]

W3, H3, W7, H7, S3, S5 = (1, 3), (3, 1), (1, 7), (7, 1), (3, 3), (5, 5)
"""Kernels (height, width)."""


class Convolution(nn.Module):
    """relu(bn(conv(x)))."""

    def __init__(self, channels: int, unit: Unit, padded: bool):
        super().__init__()
        padding = "same" if padded else "valid"
        self.conv = nn.Conv2d(channels, unit.width, unit.kernel, unit.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(unit.width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches of one input, put side by side. A branch of k > 1 stages names its units branch_1 … branch_k."""

    def __init__(self, channels: int, pool: Pool, branches: Branches):
        super().__init__()
        self.pool, self.width = pool, 0
        self.names: dict[str, list[list[str]]] = {}
        for branch, stages in branches.items():
            seen, self.names[branch] = channels, []
            for k, stage in enumerate(stages, 1):
                units = [stage] if isinstance(stage, Unit) else stage
                name = branch if len(stages) == 1 else f"{branch}_{k}"
                names = [name] if len(units) == 1 else [name + letter for letter in "ab"]
                for each, unit in zip(names, units, strict=True):
                    self.add_module(each, Convolution(seen, unit, padded=unit.stride == 1))
                seen = sum(unit.width for unit in units)
                self.names[branch].append(names)
            self.width += seen

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._branch(name, x) for name in self.names], dim=1)

    def _branch(self, branch: str, x: Tensor) -> Tensor:
        h = self.pool(x) if branch == "branch_pool" else x
        for names in self.names[branch]:
            parts = [self.get_submodule(name)(h) for name in names]
            h = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return h


average = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
maximum = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halving = partial(F.max_pool2d, kernel_size=3, stride=2)


def double(last: Unit) -> list[Stage]:
    return [Unit(64), Unit(96, S3), last]


def places35(channels: int, pooled: int) -> Block:
    branches: dict[str, list[Stage]] = {"branch1x1": [Unit(64)], "branch5x5": [Unit(48), Unit(64, S5)]}
    return Block(channels, average, {**branches, "branch3x3dbl": double(Unit(96, S3)), "branch_pool": [Unit(pooled)]})


def to17(channels: int) -> Block:
    branches: dict[str, list[Stage]] = {"branch3x3": [Unit(384, S3, 2)], "branch3x3dbl": double(Unit(96, S3, 2))}
    return Block(channels, halving, {**branches, "branch_pool": []})


def places17(channels: int, inner: int) -> Block:
    twice: list[Stage] = [Unit(inner), Unit(inner, H7), Unit(inner, W7), Unit(inner, H7), Unit(192, W7)]
    once: list[Stage] = [Unit(inner), Unit(inner, W7), Unit(192, H7)]
    branches: dict[str, list[Stage]] = {"branch1x1": [Unit(192)], "branch7x7": once, "branch7x7dbl": twice}
    return Block(channels, average, {**branches, "branch_pool": [Unit(192)]})


def to8(channels: int) -> Block:
    long: list[Stage] = [Unit(192), Unit(192, W7), Unit(192, H7), Unit(192, S3, 2)]
    branches = {"branch3x3": [Unit(192), Unit(320, S3, 2)], "branch7x7x3": long}
    return Block(channels, halving, {**branches, "branch_pool": []})


def places8(channels: int, pool: Pool) -> Block:
    fork = [Unit(384, W3), Unit(384, H3)]
    branches = {"branch3x3": [Unit(384), fork], "branch3x3dbl": [Unit(448), Unit(384, S3), fork]}
    return Block(channels, pool, {"branch1x1": [Unit(320)], **branches, "branch_pool": [Unit(192)]})


STEM = {
    "Conv2d_1a_3x3": (Unit(32, S3, 2), False),
    "Conv2d_2a_3x3": (Unit(32, S3), False),
    "Conv2d_2b_3x3": (Unit(64, S3), True),
    "Conv2d_3b_1x1": (Unit(80), False),
    "Conv2d_4a_3x3": (Unit(192, S3), False),
}
"""The first convolutions, and whether they are padded. Pooling follows the third and the fifth."""

MIXED = {
    "Mixed_5b": partial(places35, pooled=32),
    "Mixed_5c": partial(places35, pooled=64),
    "Mixed_5d": partial(places35, pooled=64),
    "Mixed_6a": to17,
    "Mixed_6b": partial(places17, inner=128),
    "Mixed_6c": partial(places17, inner=160),
    "Mixed_6d": partial(places17, inner=160),
    "Mixed_6e": partial(places17, inner=192),
    "Mixed_7a": to8,
    "Mixed_7b": partial(places8, pool=average),
    "Mixed_7c": partial(places8, pool=maximum),
}
"""mixed, mixed_1, … mixed_10 under the names that PyTorch's conversions gave them."""


class Inception2015(nn.Module):
    """Pictures float (n, 3, 299, 299), scaled, → (features, spatial, logits)."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for name, (unit, padded) in STEM.items():
            self.add_module(name, Convolution(channels, unit, padded))
            channels = unit.width
        for name, build in MIXED.items():
            block = build(channels)
            self.add_module(name, block)
            channels = block.width
        self.fc = nn.Linear(channels, 1008, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for name in STEM:
            x = self.get_submodule(name)(x)
            x = halving(x) if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3") else x
        spatial = x
        for name in MIXED:
            x = self.get_submodule(name)(x)
            spatial = x[:, :7] if name == "Mixed_6d" else spatial
        features = x.mean((2, 3))
        return features, spatial.permute(0, 2, 3, 1).flatten(1), self.fc(features)


@final
class Inception(Network):
    """What FID is taken from."""

    def __init__(self, name: str, network: Inception2015, device: str | torch.device):
        super().__init__(name, network, device, "299×299 bilinear, TensorFlow 1's corners", 2048)

    def see(self, pictures: Tensor) -> Seen:
        return Seen(*self.network((tensorflow_resize(colour(pictures).float(), SIZE) - 128) / 128))


def tensorflow_resize(x: Tensor, size: int) -> Tensor:
    """Float32 (n, C, H, W) → (n, C, size, size) as tf.image.resize_bilinear of TensorFlow 1 does it, in its order."""
    for axis in (-1, -2):
        length = x.shape[axis]
        if length == size:
            continue
        at = torch.arange(size, dtype=torch.float32, device=x.device) * torch.tensor(length / size, dtype=torch.float32)
        low = at.long()
        high = (low + 1).clamp(max=length - 1)
        share = (at - low).unsqueeze(-1) if axis == -2 else at - low
        before, after = x.index_select(axis, low), x.index_select(axis, high)
        x = before + (after - before) * share
    return x
