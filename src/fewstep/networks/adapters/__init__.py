"""The diffusers world's networks as fewstep's: latent U-Nets, autoencoders, text encoders, LoRA.

Here, and in `fewstep.dropin`, are the only imports of diffusers, transformers and peft.
"""

from fewstep.networks.adapters.autoencoder import Autoencoder, AutoencoderShape
from fewstep.networks.adapters.fusing import fuse
from fewstep.networks.adapters.latent_unet import LatentUNet, LatentUNetShape
from fewstep.networks.adapters.lora import Lora
from fewstep.networks.adapters.text import TextEncoder, Tokenizer

__all__ = [
    "Autoencoder",
    "AutoencoderShape",
    "LatentUNet",
    "LatentUNetShape",
    "Lora",
    "TextEncoder",
    "Tokenizer",
    "fuse",
]
