"""The perceptual distance of study a: filters that have learned to read the study's pictures, kept in its folder.

LPIPS compares features of a network that was trained to classify photographs. Here a network of three scales is
trained to read the small pictures themselves, and its filters are compared as LPIPS compares VGG's
(`fewstep.distances.LearnedFilters`). The judge reads the same pictures with another network (`reading.py`).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fewstep.distances import features
from fewstep.evaluation.types import Seen
from fewstep.files import whole_file
from fewstep.reproduce.reading import learn, learnable

if TYPE_CHECKING:
    from fewstep.reproduce.setting import Pictures

WIDTHS = (16, 32, 64)
"""Filters by scale: as many as the random ones."""
SEED = 1
"""Another one than the judge's."""


class Reader(nn.Module):
    """Three scales of filters; what the coarsest sees is read by one linear layer."""

    def __init__(self, channels: int, side: int, classes: int):
        super().__init__()
        ins = (channels, *WIDTHS[:-1])
        self.filters = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in zip(ins, WIDTHS, strict=True))
        self.head = nn.Linear(WIDTHS[-1] * (side >> (len(WIDTHS) - 1)) ** 2, classes)

    def forward(self, x: Tensor) -> Seen:
        *_, coarse = features([(layer.weight, layer.bias) for layer in self.filters], x)  # type: ignore[misc]
        return Seen(coarse.flatten(1), logits=self.head(coarse.flatten(1)))


def stored(folder: Path, digest: str) -> Path:
    """Where a study keeps the filters of the pictures with this digest."""
    return folder / f"filters-{digest}.safetensors"


def learn_filters(pictures: "Pictures", folder: Path) -> Path:
    """The file of these pictures' filters, learned once; ValueError where they have no labels."""
    path, (rows, labels) = stored(folder, pictures.digest), learnable(pictures)
    if not path.is_file():
        shape = pictures.some([0]).shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            reader = Reader(shape[1], shape[-1], int(labels.max()) + 1)
        learn(reader, pictures.some(rows.tolist()), labels[rows], seed=SEED)
        with whole_file(path) as aside:
            save_file(reader.filters.state_dict(), aside)
    return path
