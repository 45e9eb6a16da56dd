"""Which compact network learns most in a minute of one core? The choice behind `fewstep.networks.compact`.

Every candidate denoises MNIST (EDM's objective) for the same processor time, with one forward pass a step more, as a
consistency objective has; then the averaged weights are read on 1,000 held-out digits at fixed noise levels. The
clock is the process's own on one thread, so other work on the machine hardly counts.

    OMP_NUM_THREADS=1 python benchmarks/compact_network.py --data mnist-train.zip --seconds 60
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.denoiser import Denoiser
from fewstep.images import Data, open_images
from fewstep.networks import Compact, CompactShape
from fewstep.networks.blocks import PixelNorm, Residual, zeroed
from fewstep.objectives import Diffusion, Draw
from fewstep.parameterizations import EDM
from fewstep.schedules import Karras

BATCH, RATE, HELD_OUT = 128, 2e-3, 1000
LEVELS = (0.1, 0.3, 0.8, 2.0, 5.0, 20.0)
SCHEDULE, OBJECTIVE = Karras(), Diffusion(p_mean=-0.6, p_std=1.4)


class Candidate(NamedTuple):
    """A network and the precision that it trains in."""

    build: Callable[[], nn.Module]
    bf16: bool = False


def shaped(**fields) -> Compact:
    return CompactShape(num_classes=10, **fields).build()


def replaced(network: nn.Module, kind: type, other: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """The network with every module of this kind exchanged."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                setattr(parent, name, other(child))
    return network


def group_normed(network: nn.Module) -> nn.Module:
    """The usual block: group norms before both convolutions."""
    for module in network.modules():
        if isinstance(module, Residual):
            module.first = nn.Sequential(module.first, nn.GroupNorm(8, module.first.out_channels))  # type: ignore
    return replaced(network, PixelNorm, lambda norm: nn.GroupNorm(8, norm.normalized_shape[0]))  # type: ignore


class ConvNext(Residual):
    """A 5 × 5 depthwise convolution, a norm told the embedding, and two matrices (Liu et al. 2022)."""

    def __init__(self, block: Residual, growth: int = 3):
        nn.Module.__init__(self)
        width = block.second.out_channels
        self.skip, self.film = block.skip, block.film
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.grow, self.shrink = nn.Linear(width, growth * width), zeroed(nn.Linear(growth * width, width))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.skip(x)
        scale, shift = self.film(embedding)[:, None, None].chunk(2, dim=-1)
        h = torch.addcmul(shift, self.norm(self.depthwise(x).permute(0, 2, 3, 1)), 1 + scale)
        return x + self.shrink(F.silu(self.grow(h))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    return replaced(shaped(widths=(48, 96), skips="level"), Residual, ConvNext)  # type: ignore[arg-type]


CANDIDATES = {
    "default, bf16": Candidate(shaped, bf16=True),
    "a skip a block, bf16": Candidate(lambda: shaped(skips="block"), bf16=True),
    "a skip a block": Candidate(lambda: shaped(skips="block")),
    "a skip a block, two group norms, bf16": Candidate(lambda: group_normed(shaped(skips="block")), bf16=True),
    "a skip a block, no attention, bf16": Candidate(lambda: shaped(attention=False, skips="block"), bf16=True),
    "wider, bf16": Candidate(lambda: shaped(widths=(48, 96)), bf16=True),
    "a skip a block, wider, one block, bf16": Candidate(
        lambda: shaped(widths=(48, 96), blocks=1, skips="block"), bf16=True
    ),
    "ConvNeXt blocks, wider, bf16": Candidate(convnext, bf16=True),
}


def read(path: str, count: int = 12_000) -> tuple[Tensor, Tensor]:
    """Some digits float32 (count, 1, 28, 28) in [−1, 1], of all classes alike, and their labels."""
    images = open_images(Data(path, size=28, channels=1, labels=True))
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    pixels, labels = images.rows(chosen, np.zeros((count, 3)))
    return torch.from_numpy(pixels).float() / 127.5 - 1, torch.from_numpy(labels)


def loss(network: nn.Module, x_0: Tensor, labels: Tensor, z: Tensor, t: Tensor, bf16: bool = False) -> Tensor:
    """The weighted denoising loss of each sample (n,)."""
    draw = Draw(SCHEDULE, x_0, z, t, t, {"labels": labels})
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        denoiser = Denoiser(network, SCHEDULE, EDM())
        return OBJECTIVE.loss(denoiser, denoiser, draw)


def train(network: nn.Module, x_0: Tensor, labels: Tensor, seconds: float, bf16: bool) -> int:
    """Trains for this processor time, leaves averaged weights in the network, and returns the steps made."""
    optimizer = torch.optim.Adam(network.parameters(), RATE, betas=(0.9, 0.99), fused=True)
    average = [p.detach().clone() for p in network.parameters()]
    start, steps = time.process_time(), 0
    while (progress := (time.process_time() - start) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = RATE * min(1, (steps + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * progress))
        rows = torch.randint(0, len(x_0), (BATCH,))
        t, _ = OBJECTIVE.times(torch.rand(BATCH, dtype=torch.float64), SCHEDULE, progress)
        batch = (x_0[rows], labels[rows], torch.randn(BATCH, *x_0.shape[1:]), t.float(), bf16)
        with torch.no_grad():
            loss(network, *batch)  # the target's pass of a consistency objective
        loss(network, *batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(average, [p.detach() for p in network.parameters()], 1 - min(0.99, steps / (steps + 10)))
        steps += 1
    for p, mean in zip(network.parameters(), average, strict=True):
        p.data.copy_(mean)
    return steps


@torch.no_grad()
def validate(network: nn.Module, x_0: Tensor, labels: Tensor) -> list[float]:
    """The loss at each of LEVELS, always with the same noise."""
    z = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    return [loss(network.eval(), x_0, labels, z, torch.full((len(x_0),), t)).mean().item() for t in LEVELS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="MNIST's training set: a zip, folder, .npz ...")
    parser.add_argument("--seconds", type=float, default=60, help="processor time for each candidate")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES), help="candidates")
    args = parser.parse_args()
    torch.set_num_threads(1)
    x_0, labels = read(args.data)
    print(f"{'candidate':38s} {'params':>8s} {'img/s':>6s} {'steps':>6s}  loss; at t = {LEVELS}")
    for name in args.only:
        candidate = CANDIDATES[name]
        torch.manual_seed(0)
        network = candidate.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        steps = train(network, x_0[HELD_OUT:], labels[HELD_OUT:], args.seconds, candidate.bf16)
        at = validate(network, x_0[:HELD_OUT], labels[:HELD_OUT])
        parameters = sum(p.numel() for p in network.parameters()) / 1e6
        print(
            f"{name:38s} {parameters:7.2f}M {steps * BATCH / args.seconds:6.0f} {steps:6d}  "
            f"{sum(at) / len(at):.4f}; " + " ".join(f"{value:.3f}" for value in at),
            flush=True,
        )


if __name__ == "__main__":
    main()
