"""Pictures ↔ latents, by a pipeline's autoencoder.

Diffusion sees (latent − mean) / spread of the autoencoder's own latents: spread is 1 / scaling_factor, and mean zero,
or what the configuration says of each channel. AutoencoderKL answers a picture with a Gaussian, AutoencoderTiny with a
point.

Pictures come in as `fewstep.dropin.pictures` says (transparent pixels are laid over white, grey is repeated for a model
of colours), or as latents: tensors of as many channels as those have. Sizes are brought down to the next multiple of
the autoencoder's factor, as in diffusers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from fewstep.dropin.latent_parts import LatentParts
from fewstep.dropin.pictures import pictures
from fewstep.dropin.stepping import Generators


class LatentCodec(LatentParts):
    """The part of a pipeline that looks and paints."""

    image_processor: Any

    def _given(self, image: Any, name: str = "image") -> tuple[Tensor, tuple[int, int]]:
        """Pictures (m, C, H, W) in [-1, 1], and the size (height, width) in which they came.

        Raises what `pictures` raises, and ValueError for ones that are too small.
        """
        parts = image if isinstance(image, list | tuple) else [image]
        sizes = {(part.height, part.width) for part in parts if isinstance(part, Image.Image)}
        if sizes:
            image = [self._fitting(part) if isinstance(part, Image.Image) else part for part in parts]
        x = pictures(image, self._channels, name)
        if min(x.shape[-2:]) < self.vae_scale_factor:
            raise ValueError(f"`{name}` is {x.shape[-1]}×{x.shape[-2]}: at least {self.vae_scale_factor} pixels a side "
                             "are needed, the factor of this model's autoencoder.")  # fmt: skip
        size = sizes.pop() if sizes else (x.shape[-2], x.shape[-1])
        return self.image_processor.preprocess(x / 2 + 0.5), size

    @property
    def _channels(self) -> int:
        """Of pictures."""
        config = self.vae.config
        return config.get("in_channels") or config.get("encoder_in_channels") or 3

    def _fitting(self, picture: Image.Image) -> Image.Image:
        """In the next smaller size of which the factor is a divisor, resampled as diffusers does."""
        width, height = (side - side % self.vae_scale_factor for side in picture.size)
        if (width, height) == picture.size or not min(width, height):
            return picture
        if picture.mode not in ("L", "RGB", "RGBA"):  # such as palettes, whose indices cannot be blended
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        return picture.resize((width, height), Image.Resampling.LANCZOS)

    def _latents_given(self, image: Any) -> Tensor | None:
        """The tensors (m, c, h, w), where latents were given instead of pictures."""
        parts = image if isinstance(image, list | tuple) else [image]
        channels = self.vae.config.latent_channels
        if channels == self._channels or not all(isinstance(part, Tensor) for part in parts):
            return None
        parts = [part[None] if part.ndim == 3 else part for part in parts]
        if not parts or not all(part.ndim == 4 and part.shape[1] == channels for part in parts):
            return None
        return torch.cat(parts)

    def _encoded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and standard deviation (m, c, h, w) of the latents of pictures; no deviation where they are certain."""
        with self._upcast() as dtype:
            x = x.to(self._execution_device, dtype)
            out = self.vae.encode(x)
        mean, spread = self._scale(x)
        if not hasattr(out, "latent_dist"):
            return (out.latents - mean) / spread, None
        return (out.latent_dist.mean - mean) / spread, out.latent_dist.std / spread

    def _drawn(self, mean: Tensor, std: Tensor | None, n: int, generator: Generators) -> Tensor:
        """Latents (n, c, h, w) from the moments of m pictures, the n / m variants of one picture one after another.

        They are drawn once a picture that was given, or, with generators of their own, once a picture that is made.
        """
        copies = n // len(mean)
        if std is None:
            return mean.repeat_interleave(copies, 0)
        if isinstance(generator, list):
            mean, std, copies = mean.repeat_interleave(copies, 0), std.repeat_interleave(copies, 0), 1
        z = randn_tensor(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return (mean + std * z).repeat_interleave(copies, 0)

    def _decoded(self, x_0: Tensor) -> Tensor:
        """Pictures (n, C, H, W), float32, nominally in [-1, 1]."""
        mean, spread = self._scale(x_0)
        with self._upcast() as dtype:
            return self.vae.decode((x_0 * spread + mean).to(dtype), return_dict=False)[0].float()

    def _scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = config.get("latents_mean"), config.get("latents_std")
        spread = 1 / float(config.get("scaling_factor") or 1)
        if mean is None or std is None:
            return like.new_tensor(float(config.get("shift_factor") or 0)), like.new_tensor(spread)
        return like.new_tensor(mean).view(1, -1, 1, 1), like.new_tensor(std).view(1, -1, 1, 1) * spread

    @contextmanager
    def _upcast(self) -> Iterator[torch.dtype]:
        """The precision in which the autoencoder works: SDXL's overflows in half precision, and says so."""
        was = self.vae.dtype
        if not (was == torch.float16 and self.told_sizes and self.vae.config.get("force_upcast", False)):
            yield was
            return
        self.vae.to(torch.float32)
        try:
            yield torch.float32
        finally:
            self.vae.to(was)
