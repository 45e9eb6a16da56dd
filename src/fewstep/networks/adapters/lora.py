"""LoRA (Hu et al. 2022) in a latent U-Net, by PEFT: W + (α/r) B A, with W frozen and B zero at the start.

LCM-LoRA (Luo et al. 2023b) is latent consistency distillation of these alone.
"""

from dataclasses import dataclass

from torch import nn

TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)
"""The layers that the published LCM-LoRAs change."""


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
        from peft import LoraConfig

        unet.requires_grad_(False)
        unet.add_adapter(LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout,  # type: ignore
                                    target_modules=list(self.targets)))  # fmt: skip
