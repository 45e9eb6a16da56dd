"""Checkpoints as OpenAI's training writes them."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from unet_helpers import IMAGENET, random_weights

from fewstep.networks import UNetShape

CONFIG = {"image_size": 16, "num_head_channels": 16}
"""What the tensors of the small networks do not tell."""


def save_pt(path: Path, shape: UNetShape = IMAGENET, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    torch.save(OrderedDict(random_weights(shape, dtype)), path, **options)
    return path


def assert_same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Bit for bit, dtypes included."""
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name].dtype != theirs[name].dtype] == []
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
