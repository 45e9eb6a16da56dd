"""What a network is, before it has weights."""

from abc import ABC, abstractmethod

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Architecture(ABC):
    """The description of a network: a frozen dataclass that builds it.

    The network is called as `network(x, c_noise, labels=None)`, with x (n, C, H, W), c_noise (n,) in float32
    and labels (n,) in int64, where -1 asks for no class; it answers with x's shape.
    """

    image_channels: int
    """C of x."""
    image_size: int
    """H = W of x."""
    num_classes: int
    """Labels are 0 … num_classes − 1; 0 for an unconditional network."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The network, freshly initialised; ValueError for a description that no network can have."""

    def outline(self) -> nn.Module:
        """The network on the meta device: names, shapes and dtypes, in no time and no memory. Raises what `build` does,
        ValueError also for sizes that no tensor can have."""
        try:
            with torch.device("meta"), _Undrawn():
                return self.build()
        except RuntimeError as error:
            raise ValueError(f"No network can have these sizes: {str(error).splitlines()[0]}") from None


class _Undrawn(TorchFunctionMode):
    """Draws no random numbers: on the meta device there is nothing to fill, and trying to imports torch._dynamo."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))
