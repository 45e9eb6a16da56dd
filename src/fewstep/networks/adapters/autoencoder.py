"""Pictures ↔ latents, by an autoencoder of diffusers (AutoencoderKL, AutoencoderTiny).

mean, std = (m − shift) · scaling, s · scaling  of the encoder's posterior N(m, s²);  decode(x_0 / scaling + shift)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.files import read_json, write_json
from fewstep.networks.adapters.needed import quiet
from fewstep.networks.adapters.stored import reading
from fewstep.networks.architecture import Architecture


class Autoencoder(nn.Module):
    """An autoencoder seen in the scale in which diffusion works."""

    def __init__(self, vae: nn.Module):
        super().__init__()
        self.vae: Any = vae

    @classmethod
    def load(cls, source: str | Path) -> "Autoencoder":
        """That of a pipeline's folder or Hub id (its `vae`), or of an autoencoder's own folder, in float32, frozen."""
        from diffusers.models.auto_model import AutoModel

        part = "" if Path(source, "config.json").is_file() else "vae"
        with quiet():
            vae = AutoModel.from_pretrained(str(source), subfolder=part or None, **reading(source, part))
        return cls(vae.float().eval().requires_grad_(False))

    def save(self, folder: str | Path) -> None:
        """Writes an autoencoder's own folder, as diffusers does, but for the place on this machine it came from."""
        self.vae.save_pretrained(folder)
        config = Path(folder, "config.json")
        write_json(config, {k: v for k, v in read_json(config).items() if k != "_name_or_path"})

    @property
    def kind(self) -> str:
        """The name of its class in diffusers."""
        return type(self.vae).__name__

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

    @property
    def channels(self) -> int:
        """Those of the pictures."""
        return int(self.vae.config["in_channels"])

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

    def forward(self, pictures: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: pictures again, through latents μ + s z, and μ and s before any scaling.

        z is as the pictures; a latent takes the first of its values.
        """
        posterior = self.vae.encode(pictures).latent_dist
        mean, std = posterior.mean, posterior.std
        noise = z.flatten(1)[:, : mean[0].numel()].view_as(mean)
        return self.vae.decode(mean + std * noise).sample, mean, std


@dataclass(frozen=True)
class AutoencoderShape(Architecture):
    """diffusers' AutoencoderKL, to be trained."""

    config: Mapping[str, Any]
    """What its config.json says."""

    num_classes = 0

    @property
    def image_channels(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return int(self.config.get("in_channels", 3))

    @property
    def image_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return int(self.config.get("sample_size", 32))

    def build(self) -> Autoencoder:
        """The network; ValueError where diffusers cannot build it, or latents hold more values than pictures."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        config = {name: value for name, value in self.config.items() if not name.startswith("_")}
        try:
            network = Autoencoder(AutoencoderKL.from_config(config))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ValueError(f"diffusers cannot build an AutoencoderKL of this configuration: {error}") from None
        if network.vae.config["latent_channels"] > self.image_channels * network.factor**2:
            raise ValueError("These latents hold more values than the pictures: take fewer latent_channels.")
        return network
