"""A reader of MNIST digits that scores generators and has no part in training or choosing them.

`judge.safetensors` (features of 96 numbers) is what published scores are read with; `selector.safetensors`,
another architecture from another seed, is for choosing among models in development, so that the judge
stays out of it. One thread each; the files were made by

    export OMP_NUM_THREADS=1 DATA=mnist-train.zip TEST=mnist-test.zip
    python benchmarks/judge.py --data $DATA --test $TEST --out benchmarks/judge.safetensors
    python benchmarks/judge.py --data $DATA --test $TEST --out benchmarks/selector.safetensors \\
        --architecture lenet --seed 1
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.images import Data, open_images


def read_images(path: str | Path) -> tuple[Tensor, Tensor]:
    """All images float32 (n, 1, 28, 28) in [−1, 1] and labels int64 (n,) of a zip of `class/file`."""
    images = open_images(Data(str(path), channels=1, labels=True))
    pixels, labels = images.rows(np.arange(len(images)), np.zeros((len(images), 3)))
    return torch.from_numpy(pixels).float() / 127.5 - 1, torch.from_numpy(labels)


class Reader(nn.Module):
    """logits = linear(features(x)); x is (n, 1, 28, 28) in [−1, 1]."""

    body: nn.Module
    head: nn.Linear

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, float32 (n, width)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def conv(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


class Convolutional(Reader):
    """The judge: four convolutions with batch norm, then 96 features."""

    def __init__(self) -> None:
        super().__init__()
        early = [conv(1, 24, 5, 2), conv(24, 48), nn.MaxPool2d(2), conv(48, 64), conv(64, 64)]
        self.body = nn.Sequential(*early, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 49, 96), nn.ReLU())
        self.head = nn.Linear(96, 10)


class LeNet(Reader):
    """The selector: LeNet's shape (valid 5×5 convolutions, pooled) with GELU and 64 features."""

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(1, 16, 5), nn.GELU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(16, 32, 5), nn.GELU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(32 * 16, 64), nn.GELU())
        self.head = nn.Linear(64, 10)


ARCHITECTURES = {"convolutional": Convolutional, "lenet": LeNet}


def load_reader(path: str | Path) -> Reader:
    """The reader in a file written by this script, in eval mode."""
    with safe_open(str(path), framework="pt") as file:
        reader = ARCHITECTURES[file.metadata()["architecture"]]()
        reader.load_state_dict({name: restored(file.get_tensor(name)) for name in file.keys()})  # noqa: SIM118
    return reader.eval().requires_grad_(False)


def restored(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """A small random rotation (±10°), scale (±10%) and shift (±2 pixels) of each image."""
    angle, scale, right, down = (torch.rand(4, len(x), generator=generator) * 2 - 1).unbind()
    angle, scale, right, down = angle * math.pi / 18, 1 + 0.1 * scale, right / 7, down / 7
    cos, sin = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, right], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, align_corners=False) - 1


@torch.inference_mode()
def accuracy(reader: Reader, images: Tensor, labels: Tensor) -> float:
    read = torch.cat([reader(batch).argmax(1) for batch in images.split(500)])
    return (read == labels).double().mean().item()


def train(reader: Reader, images: Tensor, labels: Tensor, epochs: int, seed: int, batch: int = 128) -> None:
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * (len(images) // batch)
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.2)
    reader.train().to(memory_format=torch.channels_last)
    began = time.monotonic()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for rows in order[: len(images) // batch * batch].split(batch):
            pictures = augment(images[rows], generator).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(reader(pictures), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds = time.monotonic() - began
        print(f"epoch {epoch + 1} of {epochs}: loss {loss.item():.4f}, {seconds:.0f} s", flush=True)


def save(reader: Reader, path: Path, metadata: dict[str, str]) -> None:
    """Weights as float16 (half the size, and it is these that are measured), integers as they are."""
    state = reader.state_dict().items()
    halves = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in state}
    save_file(halves, str(path), metadata=metadata)


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--data", required=True, help="zip of class folders to train on")
    parser.add_argument("--test", required=True, help="zip of class folders to measure on")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="convolutional")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    reader = ARCHITECTURES[options.architecture]()
    train(reader, *read_images(options.data), epochs=options.epochs, seed=options.seed)
    images, labels = read_images(options.test)
    settings = {name: str(getattr(options, name)) for name in ("architecture", "epochs", "seed")}
    save(reader.eval(), options.out, settings)
    measured = accuracy(load_reader(options.out), images, labels)
    print(json.dumps(settings | {"test_accuracy": round(measured, 5), "bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
