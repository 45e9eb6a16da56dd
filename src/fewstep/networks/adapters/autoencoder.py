"""Pictures ↔ latents, by an autoencoder of diffusers (AutoencoderKL, AutoencoderTiny).

mean, std = (m − shift) · scaling, s · scaling  of the encoder's posterior N(m, s²);  decode(x_0 / scaling + shift)
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """An autoencoder seen in the scale in which diffusion works."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.vae: Any = vae

    @classmethod
    def load(cls, source: str | Path) -> "Autoencoder":
        """That of a pipeline's folder or Hub id (its `vae`), or of an autoencoder's own folder, frozen."""
        from diffusers.models.auto_model import AutoModel

        own = Path(source, "config.json").is_file()
        vae = AutoModel.from_pretrained(source, **({} if own else {"subfolder": "vae"}))
        return cls(vae.eval().requires_grad_(False))

    @property
    def scaling(self) -> float:
        return float(self.vae.config.get("scaling_factor") or 1.0)

    @property
    def shift(self) -> float:
        return float(self.vae.config.get("shift_factor") or 0.0)

    @property
    def factor(self) -> int:
        """How many pixels a latent is wide."""
        widths = self.vae.config.get("block_out_channels") or self.vae.config["encoder_block_out_channels"]
        return 2 ** (len(widths) - 1)

    def moments(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (n, c, h, w) of the latents of pictures (n, C, H, W) in [−1, 1]."""
        encoded = self.vae.encode(pictures.to(self.vae.dtype))
        if hasattr(encoded, "latent_dist"):
            mean, std = encoded.latent_dist.mean, encoded.latent_dist.std
        else:  # a tiny autoencoder answers with the latents themselves
            mean, std = encoded.latents, torch.zeros_like(encoded.latents)
        return (mean - self.shift) * self.scaling, std * self.scaling

    def decode(self, x_0: Tensor) -> Tensor:
        """Pictures (n, C, H, W), nominally in [−1, 1], from latents."""
        return self.vae.decode((x_0 / self.scaling + self.shift).to(self.vae.dtype)).sample.float()
