"""Spaces: where the data live that a network sees. Pixels are themselves; latents pass through an autoencoder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fewstep.files import remembered
from fewstep.networks.adapters.autoencoder import Autoencoder
from fewstep.networks.adapters.needed import latent_extra


class Space(ABC):
    """Pictures ↔ the x_0 of the network."""

    bounded: bool = True
    """Whether x_0 lies in [-1, 1], so that estimates of it are clipped."""

    @property
    def factor(self) -> int:
        """How many pixels wide a value of x_0 is."""
        return 1

    def pictures(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(C, H, W) of the pictures whose x_0 has this shape."""
        return shape

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """x_0 from pictures (n, C, H, W) in [-1, 1]."""

    @abstractmethod
    def decode(self, x_0: Tensor) -> Tensor:
        """Pictures (n, C, H, W), nominally in [-1, 1], from x_0."""


@dataclass(frozen=True)
class Pixels(Space):
    """The pictures themselves."""

    def encode(self, images: Tensor) -> Tensor:
        return images

    def decode(self, x_0: Tensor) -> Tensor:
        return x_0


@dataclass(frozen=True)
class Latents(Space):
    """The latents of an autoencoder."""

    source: str
    """The folder or Hub id of a pipeline (its `vae`) or of an autoencoder; it is loaded when first needed."""

    bounded = False

    def autoencoder(self, device: torch.device | str = "cpu") -> Autoencoder:
        """The autoencoder, moved to a device; loaded once a process. OSError where there is none."""
        return _autoencoder(self.source).to(device)

    @property
    def factor(self) -> int:
        return _autoencoder(self.source).factor

    def pictures(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return _autoencoder(self.source).channels, shape[1] * self.factor, shape[2] * self.factor

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """The means of the latents."""
        return self.autoencoder(images.device).moments(images)[0]

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        return self.autoencoder(x_0.device).decode(x_0)


@remembered
def _autoencoder(source: str) -> Autoencoder:
    with latent_extra():
        return Autoencoder.load(source)
