"""What a network costs: parameters, operations and kept activations, found on fake tensors; seconds, by a short try."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from fewstep.networks.adapters import AutoencoderShape, LatentUNetShape

if TYPE_CHECKING:
    from fewstep.networks import Architecture

PROMPT = 77
"""Tokens of a prompt."""


@dataclass(frozen=True)
class Cost:
    """Of one picture through one network."""

    parameters: int = 0
    forward: int | float = 0
    """Floating-point operations of the network's call."""
    trained: int | float = 0
    """The same with the backward pass."""
    activations: int | float = 0
    """Bytes kept for the backward pass."""


def inputs(architecture: "Architecture", n: int) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """What n calls of a network need: zeros."""
    x = torch.zeros(n, architecture.image_channels, architecture.image_size, architecture.image_size)
    if isinstance(architecture, AutoencoderShape):
        return (x, x), {}
    if not isinstance(architecture, LatentUNetShape):
        return (x, torch.zeros(n)), {"labels": torch.zeros(n, dtype=torch.int64) if architecture.num_classes else None}
    if architecture.text:
        told = {"tokens": torch.zeros(n, architecture.text[0]["max_position_embeddings"], dtype=torch.int64)}
        return (x, torch.zeros(n)), told
    told = {"prompt": torch.zeros(n, PROMPT, int(architecture.config.get("cross_attention_dim", 1280)))}
    if architecture.told_sizes:
        width = architecture.config["projection_class_embeddings_input_dim"]
        pooled = width - 6 * architecture.config["addition_time_embed_dim"]
        told |= {"pooled": torch.zeros(n, pooled), "sizes": torch.zeros(n, 6)}
    return (x, torch.zeros(n)), told


def pictures(answer: Any) -> Tensor:
    """An autoencoder answers more than pictures."""
    return answer if isinstance(answer, Tensor) else answer[0]


def cost_of(architecture: "Architecture", precision: str = "fp32") -> Cost:
    """Parameters, operations and kept activations of a network, found by running it on fake tensors."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
        network = architecture.build().train()
        args, told = inputs(architecture, 2)
        own = {p.untyped_storage()._cdata for p in network.parameters()}
        with FlopCounterMode(display=False) as forward, Kept(network, own) as kept:
            y = pictures(network(*args, **told))
        with FlopCounterMode(display=False) as backward:
            y.sum().backward()
    first, second = forward.get_total_flops() / 2, backward.get_total_flops() / 2
    return Cost(sum(p.numel() for p in network.parameters()), first, first + second, kept.bytes / 2)


class Kept:
    """Counts the bytes of tensors that a forward pass keeps for the backward pass.

    A block that is computed again keeps its inputs alone.
    """

    def __init__(self, network: nn.Module, own: set[int]):
        self.own, self.found = own, {}
        self.network = network
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.note, lambda tensor: tensor)

    def note(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.own:
            self.found[storage._cdata] = (storage.nbytes(), storage)  # held, so that its address is not used again
        return tensor

    @property
    def bytes(self) -> int:
        return sum(count for count, _ in self.found.values())

    def __enter__(self) -> "Kept":
        again = [m for m in self.network.modules() if getattr(m, "recompute", False)]
        self.handles = [m.register_forward_pre_hook(self.inputs) for m in again]
        self.hooks.__enter__()
        return self

    def inputs(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        for tensor in args:
            if isinstance(tensor, Tensor):
                self.note(tensor)

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)
        for handle in self.handles:
            handle.remove()


def measured(architecture: "Architecture") -> tuple[float, float]:
    """Seconds a picture of a call without and with its backward pass, on this CPU: the fastest of a few tries."""
    network = architecture.build().to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    n = 16
    args, told = inputs(architecture, n)
    args = (torch.randn_like(args[0]), *args[1:])

    def once(train: bool) -> float:
        began = time.perf_counter()
        with torch.set_grad_enabled(train):
            y = pictures(network(*args, **told))
            if train:
                y.sum().backward()
        return (time.perf_counter() - began) / n

    once(True)
    began, free, trained = time.perf_counter(), [once(False)], [once(True)]
    while len(free) < 8 and time.perf_counter() - began < 1.5:
        free.append(once(False))
        trained.append(once(True))
    return min(free), min(trained)
