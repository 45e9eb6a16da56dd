"""The judge's eyes: a small network that learns to read the study's own pictures, kept in the study's folder.

Readers of larger digits are no judges of pictures of 8×8 pixels: made large again, those are too blurred to be read.
This one learns from the pictures of the study, a tenth of which it never sees (the report says how many of them it
reads), with a little noise on them, from one seed: a study's scores are then the same wherever they are taken. No model
is trained with it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.evaluation.features import open_features
from fewstep.evaluation.features.readers import conv
from fewstep.evaluation.readings import agreement
from fewstep.evaluation.types import Features, Seen
from fewstep.files import whole_file

if TYPE_CHECKING:
    from fewstep.reproduce.setting import Pictures

STEPS, BATCH, NOISE = 800, 128, 0.1
"""Of its training; the noise's standard deviation, of pictures in [-1, 1]."""
HELD_OUT = 10
"""Every tenth picture is not learned from."""


class Eyes(nn.Module):
    """Two convolutions, then 64 features; ten or more classes."""

    def __init__(self, channels: int, side: int, classes: int):
        super().__init__()
        seen = (side // 2) ** 2 * 64
        self.body = nn.Sequential(
            conv(channels, 32), conv(32, 64, stride=2), nn.Flatten(), nn.Linear(seen, 64), nn.ReLU()
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Seen:
        features = self.body(x)
        return Seen(features, logits=self.head(features))


def own_reader(pictures: "Pictures", folder: Path) -> Features:
    """The reader of these pictures, learned once; ValueError where they have no labels."""
    (rows, labels), shape = learnable(pictures), pictures.some([0]).shape
    stored, eyes = folder / f"reader-{pictures.digest}.safetensors", _eyes(shape, int(labels.max()) + 1)
    if not stored.is_file():
        learn(eyes, pictures.some(rows.tolist()), labels[rows])
        with whole_file(stored) as aside:
            save_file(eyes.state_dict(), aside)
    eyes.load_state_dict(load_file(stored))
    return open_features(eyes, name="own reader")


def learnable(pictures: "Pictures") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows that may be learned from, and the labels of all; ValueError where there are none."""
    labels = pictures.images.labels
    if labels.min() < 0:
        raise ValueError("Pictures without labels teach no reader: choose other features, such as --features simple, "
                         "and other studies than `distance`, which learns to read them too.")  # fmt: skip
    return np.flatnonzero(np.arange(len(labels)) % HELD_OUT != 0), labels


@torch.no_grad()
def reads(reader: Features, pictures: "Pictures") -> float:
    """% of the pictures that it did not learn from which it reads right."""
    labels = pictures.images.labels
    rows = np.arange(0, len(labels), HELD_OUT)
    seen = [
        reader(torch.from_numpy(pictures.some(part.tolist()))) for part in np.array_split(rows, -(-len(rows) // 500))
    ]
    logits = np.concatenate([part.logits.numpy() for part in seen if part.logits is not None])
    return agreement(logits, labels[rows]).value


def _eyes(shape: tuple[int, ...], classes: int) -> Eyes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Eyes(shape[1], shape[-1], classes)


def learn(eyes: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.int64], seed: int = 0) -> None:
    """Cross entropy of a module's logits over STEPS batches of pictures uint8 (n, C, H, W)."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(eyes.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    eyes.train()
    for _ in range(STEPS):
        rows = torch.randint(len(labels), (BATCH,), generator=random)
        x = torch.from_numpy(pictures[rows.numpy()]).float() / 127.5 - 1
        x = x + NOISE * torch.randn(x.shape, generator=random)
        loss = F.cross_entropy(eyes(x).logits, torch.from_numpy(labels[rows.numpy()]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    eyes.eval()
