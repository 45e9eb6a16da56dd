"""The U-Net of latent diffusion, told a prompt and, where it is a latent consistency model, a guidance scale.

    F(x, t, prompt, w) = U(x, t, prompt, γ(w))        U diffusers' UNet2DConditionModel
    γ(w) = [sin(1000 w ω_i), cos(1000 w ω_i)],  ω_i = 10000^(−i/(half − 1)),  i < half = dim // 2

γ enters through a projection beside the time's (Luo et al. 2023, section 4.2), which begins at zero: a student starts
as its teacher. A U-Net without that projection (a teacher, a LoRA's base) is not told w.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.networks.adapters.needed import latent_extra
from fewstep.networks.adapters.text import TextEncoder
from fewstep.networks.architecture import Architecture


@dataclass(frozen=True)
class LatentUNetShape(Architecture):
    """diffusers' UNet2DConditionModel: the shapes of Stable Diffusion 1, 2 and XL among others."""

    config: Mapping[str, Any]
    """What its config.json says."""
    text: tuple[Mapping[str, Any], ...] = ()
    """The configurations of text encoders that are part of the network, to be trained with it; else prompts come
    embedded."""

    num_classes = 0

    def __post_init__(self):
        side = self.config.get("sample_size") or 64
        sizes = {"in_channels": self.config.get("in_channels", 4), "out_channels": self.config.get("out_channels", 4),
                 "sample_size": side[0] if isinstance(side, list | tuple) and side else side}  # fmt: skip
        for name, size in sizes.items():
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"A U-Net's {name} is a whole number from 1, not {size!r}.")

    @property
    def image_channels(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return int(self.config.get("in_channels", 4))

    @property
    def image_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        size = self.config.get("sample_size") or 64
        return int(size if isinstance(size, int) else size[0])

    @property
    def told_guidance(self) -> int:
        """The width of γ(w); 0 where the network is not told a guidance scale."""
        return int(self.config.get("time_cond_proj_dim") or 0)

    @property
    def told_sizes(self) -> bool:
        """Whether it is told a pooled prompt and the picture's sizes, as SDXL is."""
        return self.config.get("addition_embed_type") == "text_time"

    def build(self) -> "LatentUNet":
        """The network; ValueError where diffusers cannot build it, or where it is told more than latents."""
        out = int(self.config.get("out_channels", 4))
        if out != self.image_channels:
            raise ValueError(f"This U-Net takes {self.image_channels} channels and answers with {out}, as those for "
                             "inpainting or editing do: fewstep runs those that take latents alone.")  # fmt: skip
        with latent_extra():
            return LatentUNet(self)


class LatentUNet(nn.Module):
    """The adapter: `network(x, c_noise, prompt=…, guidance=…)`."""

    def __init__(self, shape: LatentUNetShape):
        super().__init__()
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        self.shape = shape
        config = {name: value for name, value in shape.config.items() if not name.startswith("_")}
        try:
            self.unet: Any = UNet2DConditionModel.from_config(config)
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as error:
            raise ValueError(f"diffusers cannot build a UNet2DConditionModel of this configuration: {error}") from None
        if shape.told_guidance:
            nn.init.zeros_(self.unet.time_embedding.cond_proj.weight)
        self.text = TextEncoder.of(shape.text) if shape.text else None

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        *,
        prompt: Tensor | None = None,
        tokens: Tensor | None = None,
        pooled: Tensor | None = None,
        sizes: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """F (n, C, h, w) from latents x (n, C, h, w) at times c_noise (n,).

        prompt (n, L, D) is the embedded prompt, or tokens (n, L) or (n, 2, L) where the text encoder is part of the
        network; pooled (n, P) and sizes (n, 6) are what SDXL is told besides; guidance (n,) is w, ignored by a network
        that is not told it.
        """
        if self.text is not None and tokens is not None:
            told = self.text(tokens)
            prompt, pooled = told["prompt"], told.get("pooled", pooled)
        dtype, more = self.unet.dtype, None
        if self.shape.told_sizes:
            more = {"text_embeds": pooled, "time_ids": sizes}
        dim = self.shape.told_guidance
        w = embed_guidance(guidance, dim).to(dtype) if dim and guidance is not None else None
        assert prompt is not None
        out = self.unet(x.to(dtype), c_noise, prompt.to(dtype), timestep_cond=w, added_cond_kwargs=more)
        return out.sample.to(x.dtype)


def embed_guidance(w: Tensor, dim: int) -> Tensor:
    """γ(w) (n, dim), float32, of w = guidance_scale − 1 (n,)."""
    half = dim // 2
    index = torch.arange(half, dtype=torch.float32, device=w.device)
    angles = (1000 * w.float())[:, None] * torch.exp(index * -(math.log(10_000.0) / (half - 1)))
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim % 2))
