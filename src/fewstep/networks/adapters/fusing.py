"""A LoRA of any trainer's, fused into a latent U-Net by diffusers' loader: W + scale · (α/r) B A in the place of W."""

import math
import re
from pathlib import Path
from typing import Any

from fewstep.networks.adapters.latent_unet import LatentUNet
from fewstep.networks.adapters.needed import latent_extra


def fuse(network: LatentUNet, source: str | Path, scale: float = 1.0) -> None:
    """Changes the network for good; its weights keep their names.

    source: a file of safetensors in diffusers' or kohya's form, a folder with one, or a Hub id. Raises ValueError for
    one that does not fit this U-Net or that changes a text encoder too, OSError where there is none.
    """
    if not math.isfinite(scale):
        raise ValueError(f"The scale of a LoRA is a finite number, such as 1, not {scale}.")
    with latent_extra():
        import peft  # noqa: F401
        from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
    if not Path(source).exists() and not re.fullmatch(r"\w[\w.-]*/\w[\w-]*(\.\d[\w-]*)*", str(source)):
        raise FileNotFoundError(f"There is no LoRA '{source}': no file or folder here, no owner/name of the Hub.")
    loader = StableDiffusionXLLoraLoaderMixin if network.shape.told_sizes else StableDiffusionLoraLoaderMixin
    found: Any = loader.lora_state_dict(
        str(source), unet_config=network.unet.config, use_safetensors=True, return_lora_metadata=True
    )
    layers, alphas, about = found
    if others := sorted({name.partition(".")[0] for name in layers if not name.startswith("unet.")}):
        raise ValueError(f"The LoRA {source} changes {', '.join(others)} too, and here only U-Nets are changed: load "
                         "it into a pipeline (LatentConsistencyModelPipeline.load_lora_weights).")  # fmt: skip
    names = set(network.unet.state_dict())
    try:
        loader.load_lora_into_unet(layers, alphas, network.unet, adapter_name="lora", metadata=about)
        fit = sum(".lora_" in name for name in network.unet.state_dict())
        if 0 < fit < len(layers):
            raise ValueError(f"of its {len(layers)} tensors only {fit} have a place here")
        network.unet.fuse_lora(lora_scale=scale, adapter_names=["lora"])
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"The LoRA {source} does not fit this U-Net: {str(error).splitlines()[0]}") from None
    finally:
        network.unet.unload_lora()
        network.unet.requires_grad_(False)
    if set(network.unet.state_dict()) != names:
        raise ValueError(f"The LoRA {source} has layers that this U-Net does not.")
