"""A text-to-image model small enough for two CPU cores: MNIST told in words ("a thick slanted three").

The data are made from MNIST by `benchmarks/words_captions.py`: 32×32 pictures of digits in the sizes, weights and
slants that their captions name. In this order, each from the one before:

    fewstep train words-vae --data words-train-both.zip --out runs/words-vae
    fewstep train words-teacher --data words-train-black.zip --latent.autoencoder runs/words-vae \\
        --out runs/words-teacher
    fewstep train words-lcd --data words-train-black.zip --teacher runs/words-teacher --out runs/words-lcd
    fewstep train words-lora --data words-train-black.zip --teacher runs/words-teacher --out runs/words-lora
    fewstep train words-lcf --data words-train-white.zip --start runs/words-lcd --out runs/words-lcf

The autoencoder sees black and white paper, so that fine-tuning can go from the one to the other.
"""

from dataclasses import replace

from fewstep.distances import Squared
from fewstep.images import Data
from fewstep.networks.adapters import AutoencoderShape, LatentUNetShape, Lora
from fewstep.objectives import Autoencoding, LevelDiffusion
from fewstep.recipes import parts
from fewstep.schedules import Discrete
from fewstep.training.latent import Latent, Words
from fewstep.training.optimizers import AdamW
from fewstep.training.recipe import Recipe

VAE = AutoencoderShape({
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 4,
    "sample_size": 32,
    "block_out_channels": (16, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
})  # fmt: skip
"""Pictures of 32×32 to latents of 4×8×8."""

UNET = LatentUNetShape({
    "sample_size": 8,
    "block_out_channels": (64, 80),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
})  # fmt: skip
"""1.9 million parameters."""


def vae() -> Recipe:
    """The autoencoder."""
    return Recipe(
        name="words-vae",
        objective=Autoencoding(Squared(), beta=1e-3),
        data=Data("words-train-both.zip", labels=False, captions=False),
        architecture=VAE,
        optimizer=AdamW(lr=2e-3, betas=(0.9, 0.99), warmup=50, decay="cosine"),
        steps=2400,
        batch=32,
        ema=(0.995,),
    )


def teacher() -> Recipe:
    """The teacher and its text encoder, by v-prediction; an eighth of the prompts is empty, for its guidance."""
    return Recipe(
        name="words-teacher",
        objective=LevelDiffusion(),
        data=Data("words-train-black.zip", labels=False, captions=True),
        architecture=UNET,
        latent=Latent(prediction="v", words=Words(vocabulary=600, length=16, width=64, layers=2, heads=4)),
        schedule=Discrete(),
        optimizer=AdamW(lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=100, decay="cosine"),
        steps=4500,
        batch=64,
        ema=(0.999,),
        label_drop=0.125,
    )


def lcd() -> Recipe:
    """Latent consistency distillation: one to four steps, told the guidance scale."""
    return replace(
        teacher(),
        name="words-lcd",
        objective=parts.lcd(k=20, mu=0.95),
        latent=Latent(w=(0.0, 7.0), told=64),
        teacher="runs/words-teacher",
        optimizer=AdamW(lr=5e-4, betas=(0.9, 0.99), warmup=50, decay="cosine"),
        steps=2000,
        ema=(0.995,),
        label_drop=0.0,
    )


def lora() -> Recipe:
    """The same as low-rank changes of the teacher."""
    return replace(lcd(), name="words-lora", latent=Latent(w=(0.0, 7.0), lora=Lora(rank=16, alpha=16.0)), steps=1500)


def lcf() -> Recipe:
    """The consistency model fine-tuned on white paper, without a teacher."""
    return replace(
        lcd(),
        name="words-lcf",
        objective=parts.lcf(k=100, mu=0.9),
        data=Data("words-train-white.zip", labels=False, captions=True),
        teacher=None,
        start="runs/words-lcd",
        optimizer=AdamW(lr=7e-4, betas=(0.9, 0.99), warmup=50, decay="cosine"),
        steps=1500,
    )


RECIPES = {f"words-{make.__name__}": make for make in (vae, teacher, lcd, lora, lcf)}
