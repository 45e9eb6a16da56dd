"""Latent consistency distillation of Stable Diffusion: `--data` is a folder or tars of pictures with captions.

The settings are those of the published scripts' commands (diffusers, examples/consistency_distillation): 1,000 steps
of 12 pictures, Huber with c = 0.001, AdamW without weight decay, k = 20 of 50 DDIM levels, in float16. Learning rates
are 1e-6 for whole networks with a target averaged by 0.95, and 1e-4 for a LoRA of rank 64, whose target is the
student itself; w lies between 5 and 15, for SDXL between 3 and 15.

What differs: the scripts ask for 500 steps of warm-up and, with a constant rate, do none; here it is none. Their 8-bit
optimizer is a plain one here. Empty prompts (`--label-drop`) are 0, as in the scripts, but the number that is given
is the number that is trained with.

Fine-tuning (Luo et al. 2023, Algorithm 4) has no published code; its learning rate, 8e-6, is that of the paper. A
released model is fine-tuned for the guidance that it was distilled for.
"""

from dataclasses import replace

from fewstep.images import Data
from fewstep.networks.adapters import LatentUNetShape, Lora
from fewstep.recipes import parts
from fewstep.schedules import Discrete
from fewstep.training.latent import Latent
from fewstep.training.optimizers import AdamW
from fewstep.training.recipe import Recipe
from fewstep.training.scoring import Scoring

SD15 = LatentUNetShape({"sample_size": 64, "cross_attention_dim": 768})
"""Stable Diffusion 1.5's U-Net, as far as it is not diffusers' default."""

SDXL = LatentUNetShape({
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
})  # fmt: skip
"""Stable Diffusion XL's."""


def lcd() -> Recipe:
    """Stable Diffusion 1.5 as a latent consistency model, told the guidance scale."""
    return Recipe(
        name="sd15-lcd",
        objective=parts.lcd(k=20, mu=0.95),
        data=Data("photos", size=512, channels=3, captions=True),
        architecture=SD15,
        latent=Latent(w=(5.0, 15.0), told=256, recompute=True),
        schedule=Discrete(origin=50),
        teacher="stable-diffusion-v1-5/stable-diffusion-v1-5",
        optimizer=AdamW(lr=1e-6),
        steps=1000,
        batch=12,
        ema=(0.95,),
        precision="fp16",
        checkpoint_every=200,
        preview_every=200,
        score=Scoring(n=0),  # hundreds of such pictures cost a twentieth of the run
    )


def lcm_lora() -> Recipe:
    """An LCM-LoRA of Stable Diffusion 1.5."""
    inside = Latent(w=(5.0, 15.0), lora=Lora(rank=64, alpha=64.0), recompute=True)
    return replace(
        lcd(),
        name="sd15-lcm-lora",
        objective=parts.lcd(k=20, mu=0.0),
        latent=inside,
        optimizer=AdamW(lr=1e-4),
        ema=(0.0,),
    )


def lcf() -> Recipe:
    """A latent consistency model fine-tuned on pictures of one's own, without a teacher."""
    return replace(
        lcd(),
        name="sd15-lcf",
        objective=parts.lcf(k=20, mu=0.95),
        architecture=replace(SD15, config={**SD15.config, "time_cond_proj_dim": 256}),
        latent=Latent(w=(2.0, 14.0), recompute=True),
        teacher=None,
        start="SimianLuo/LCM_Dreamshaper_v7",
        data=Data("photos", size=768, channels=3, captions=True),
        optimizer=AdamW(lr=8e-6),
    )


def sdxl_lcm_lora() -> Recipe:
    """An LCM-LoRA of Stable Diffusion XL."""
    return replace(
        lcm_lora(),
        name="sdxl-lcm-lora",
        data=Data("photos", size=1024, channels=3, captions=True),
        architecture=SDXL,
        latent=Latent(w=(3.0, 15.0), lora=Lora(rank=64, alpha=64.0), recompute=True),
        teacher="stabilityai/stable-diffusion-xl-base-1.0",
    )


RECIPES = {make().name: make for make in (lcd, lcm_lora, lcf, sdxl_lcm_lora)}
