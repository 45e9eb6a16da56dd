"""Small latent runs: a few captioned pictures, tiny stock pipelines as teachers."""

from pathlib import Path
from typing import Any

import latent_helpers as tiny
import numpy as np

from fewstep.distances import Huber
from fewstep.images import Data
from fewstep.networks.adapters import AutoencoderShape, LatentUNetShape
from fewstep.objectives import LevelDiffusion
from fewstep.recipes import parts
from fewstep.schedules import Discrete
from fewstep.training.latent import Latent
from fewstep.training.optimizers import AdamW
from fewstep.training.recipe import Recipe

CAPTIONS = ("a thick slanted three", "the small zero", "a large upright seven", "")

UNET = {
    "layers_per_block": 1, "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 4, "norm_num_groups": 8,
}  # fmt: skip

VAE = {
    "latent_channels": 4, "block_out_channels": (8, 16), "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4,
}  # fmt: skip


def pictures(folder: Path, *, channels: int = 3, n: int = 12, captions: bool = True) -> str:
    """n random pictures of 16×16, with captions."""
    some = np.random.default_rng(0)
    text = {"captions": np.array([CAPTIONS[i % len(CAPTIONS)] for i in range(n)])} if captions else {}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"pictures{channels}{'' if captions else '-silent'}.npz"
    np.savez(path, images=some.integers(0, 255, (n, 16, 16, channels), np.uint8), **text)
    return str(path)


OBJECTIVES = {
    "teacher": LevelDiffusion(),
    "lcd": parts.lcd(Huber()),
    "lcd-lora": parts.lcd(mu=0.0),
    "lcf": parts.lcf(),
}


def latent(objective: str, source: str, **changes: Any) -> Recipe:
    """A recipe of some ten milliseconds a step; `latent` is a mapping of its leaves."""
    inside = {"w": (3.0, 13.0), "told": 16} if objective != "teacher" else {}
    more = changes.pop("latent", {})
    options: dict[str, Any] = {
        "objective": OBJECTIVES[objective],
        "data": Data(source),
        "architecture": LatentUNetShape(UNET),
        "schedule": Discrete(),
        "latent": Latent(**(inside | more)),
        "optimizer": AdamW(1e-3),
        "steps": 4,
        "batch": 4,
        "ema": (0.9,),
        "label_drop": 0.2,
        "checkpoint_every": 2,
        "preview_every": 1000,
        "score": None,
        "workers": 0,
    }
    return Recipe(**(options | changes))


def stock(folder: Path, kind: str = "sd", **options: Any) -> str:
    """The folder of a tiny stock pipeline."""
    tiny.pipeline(folder, kind, **options)
    return str(folder)


def autoencoder_shape() -> AutoencoderShape:
    return AutoencoderShape(VAE)
