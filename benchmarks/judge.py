"""Training of the readers of MNIST digits that score generators and have no part in training or choosing them.

The judge (features of 96 numbers) is what published scores are read with; it comes with fewstep as the features `mnist`
(`fewstep.evaluation.features.readers`). `selector.safetensors`, another architecture from another seed, is for choosing
among models in development, so that the judge stays out of it. One thread each; the files were made by

    export OMP_NUM_THREADS=1 DATA=mnist-train.zip TEST=mnist-test.zip
    python benchmarks/judge.py --data $DATA --test $TEST --out mnist.safetensors
    python benchmarks/judge.py --data $DATA --test $TEST --out benchmarks/selector.safetensors \\
        --architecture lenet --seed 1
"""

import argparse
import json
import math
import shlex
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from fewstep.evaluation.features.readers import ARCHITECTURES, Reader, bundled, load_reader
from fewstep.images import Data, open_images

JUDGE = bundled("mnist")


def read_images(path: str | Path) -> tuple[Tensor, Tensor]:
    """All images float32 (n, 1, 28, 28) in [−1, 1] and labels int64 (n,) of a zip of `class/file`."""
    images = open_images(Data(str(path), channels=1, labels=True))
    pixels, labels = images.rows(np.arange(len(images)), np.zeros((len(images), 3)))
    return torch.from_numpy(pixels).float() / 127.5 - 1, torch.from_numpy(labels)


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
    measured = f"{accuracy(load_reader(options.out), images, labels):.4f} of {len(images)} test pictures"
    words = {"data": Path(options.data).name, "command": shlex.join(["python", *sys.argv]), "test_accuracy": measured}
    save(reader, options.out, settings | words)
    print(json.dumps(settings | words | {"bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
