"""Small models, pictures and files under the names that the documentation gives: its examples run on them."""

import json
from pathlib import Path
from typing import Any

import latent_helpers as tiny
import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from unet_helpers import design_of, random_weights

from fewstep.formats.writing import write
from fewstep.networks import UNetShape

SMALL = UNetShape(image_size=64, model_channels=64, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(),
                  num_head_channels=64, num_classes=1000)  # fmt: skip
LATENT = {
    "SimianLuo/LCM_Dreamshaper_v7": "lcm",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd",
    "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
    "SOURCE": "lcm",
    "MODEL": "sd",
}
ZOO = "consistency_models_8xb256-imagenet1k-multistep-64x64.py"
CAPTIONS = ("a thick slanted three", "the small zero", "a large upright seven")


def furnish(folder: Path) -> None:
    """Puts them all into `folder`."""
    _pixel_models(folder)
    for name, kind in LATENT.items():
        tiny.pipeline(folder / name, kind)
    sizes: Any = {f"{part}_block_out_channels": (8,) * 4 for part in ("encoder", "decoder")}
    sizes |= {f"num_{part}_blocks": (1,) * 4 for part in ("encoder", "decoder")}
    AutoencoderTiny(**sizes).save_pretrained(folder / "madebyollin" / "taesd")
    _lora(folder / "latent-consistency" / "lcm-lora-sdv1-5")
    _pictures(folder)


def _pixel_models(folder: Path) -> None:
    """OpenAI's files, a folder of diffusers, and a configuration of mmagic's."""
    weights = random_weights(SMALL)
    for name in ("cd_imagenet64_l2", "cd_imagenet64_l2.pt", "ema_0.9999_100000.pt"):
        torch.save(weights, folder / name)
    place = folder / "openai" / "diffusers-cd_imagenet64_l2"
    place.parent.mkdir()
    write("diffusers", place, design_of(SMALL), weights)
    (folder / ZOO).write_text(
        "model = dict(type='ConsistencyModel', model_path='cd_imagenet64_l2.pt', num_classes=1000, num_samples=1,\n"
        "    sampler='multistep', steps=40, ts='0,22,39', seed=42, training_mode='consistency_distillation',\n"
        "    unet=dict(image_size=64, num_head_channels=64), denoiser=dict(sigma_data=0.5))\n"
    )


def _lora(folder: Path) -> None:
    unet = tiny.unet()
    torch.manual_seed(3)
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(unet))


def _pictures(folder: Path) -> None:
    """A picture, its mask (white: to be filled), and photos/ with captions."""
    mask = np.zeros((64, 64), np.uint8)
    mask[32:] = 255
    for picture, hole in (("cat.png", "mask.png"), ("a.png", "m.png")):
        Image.effect_noise((64, 64), 90).convert("RGB").save(folder / picture)
        Image.fromarray(mask).save(folder / hole)
    photos = folder / "photos"
    photos.mkdir()
    lines = []
    for i in range(6):
        Image.effect_noise((20, 16), 60 + i).convert("RGB").save(photos / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": CAPTIONS[i % len(CAPTIONS)]}))
    (photos / "metadata.jsonl").write_text("\n".join(lines))
