"""LoRA (Hu et al. 2022) in a latent U-Net, by PEFT: W + (α/r) B A, with W frozen and B zero at the start.

LCM-LoRA (Luo et al. 2023b) is latent consistency distillation of these alone. In files their names are

    unet.MODULE.lora_A.weight, unet.MODULE.lora_B.weight            diffusers, with r and α in the file's metadata
    lora_unet_MODULE.lora_down.weight, ….lora_up.weight, ….alpha    kohya, dots in MODULE as underscores
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep.ondisk import Changed

TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)
"""The layers that the published LCM-LoRAs change."""

FILE = "pytorch_lora_weights.safetensors"
KOHYA = "pytorch_lora_weights.kohya.safetensors"


@dataclass(frozen=True)
class Lora:
    """A low-rank change of some layers."""

    rank: int = 64
    """r."""
    alpha: float = 64.0
    """α; the change is scaled by α/r."""
    dropout: float = 0.0
    """Chance of dropping an input of A."""
    targets: tuple[str, ...] = TARGETS
    """Ends of the names of the layers."""

    def __post_init__(self):
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError(f"A LoRA needs rank ≥ 1, alpha > 0, dropout in [0, 1) and targets, not {self}.")

    def add_to(self, unet: nn.Module) -> None:
        """Freezes a diffusers U-Net and adds the low-rank layers, which alone are trained."""
        unet.requires_grad_(False)
        unet.add_adapter(self._config())  # type: ignore[operator]

    def _config(self):
        from peft import LoraConfig

        return LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout,  # type: ignore[arg-type]
                          target_modules=list(self.targets))  # fmt: skip

    def save(self, folder: str | Path, layers: Mapping[str, Tensor]) -> None:
        """Writes low-rank layers (see `layers`) into a folder, in diffusers' form and in kohya's."""
        from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
        from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
        from safetensors.torch import save_file

        kept = {name: w.detach().cpu().contiguous() for name, w in layers.items()}
        unet: dict[str, nn.Module | Tensor] = {name.removeprefix("unet."): w for name, w in kept.items()}
        about = self._config().to_dict()
        StableDiffusionLoraLoaderMixin.save_lora_weights(
            folder, unet, weight_name=FILE, unet_lora_adapter_metadata=about
        )
        kohya = convert_state_dict_to_kohya(dict(kept))  # it takes α to be r
        kohya |= {name: torch.tensor(float(self.alpha)) for name in kohya if name.endswith(".alpha")}
        save_file(kohya, str(Path(folder, KOHYA)), metadata={"format": "pt"})


def with_lora(network: nn.Module, lora: Lora) -> nn.Module:
    """A network of its own with low-rank layers in its `unet`; the frozen weights are the given network's, shared."""
    shared = {id(part): part for part in (*network.parameters(), *network.buffers())}
    network = copy.deepcopy(network, shared)
    network.requires_grad_(False)
    lora.add_to(network.get_submodule("unet"))
    return network


def layers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The low-rank layers in a network's state dict, under diffusers' names."""
    return {name.replace(".default.", "."): w for name, w in weights.items() if ".lora_" in name}


def merged(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The state dict of the plain network that computes as this one with low-rank layers does."""
    plain = {name.replace(".base_layer.", "."): w for name, w in weights.items() if ".lora_" not in name}
    return dict(merge(plain, layers(weights), scale))


def merge(weights: Mapping[str, Tensor], low: Mapping[str, Tensor], scale: float) -> Mapping[str, Tensor]:
    """W + scale · B A for every layer that has them; each is computed when it is asked for."""

    def change(name: str, w: Tensor) -> Tensor:
        stem = name.removesuffix(".weight")
        if not name.endswith(".weight") or f"{stem}.lora_A.weight" not in low or w.is_meta:
            return w
        a, b = (low[f"{stem}.lora_{side}.weight"].to(w.device, torch.float32) for side in "AB")
        return (w.float() + scale * torch.einsum("or,r...->o...", b.flatten(1), a)).to(w.dtype)

    return Changed(weights, change)
