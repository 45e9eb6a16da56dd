"""Spaces: where the data live that a network sees. Pixels are themselves; latents (to come) pass through an
autoencoder."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Space(ABC):
    """Pictures ↔ the x_0 of the network."""

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
