"""How fast a function changes along a trajectory, by forward-mode differentiation.

    ḟ = ∂f/∂t + (∂f/∂x) v

Two of PyTorch's operations are taken apart for it: attention, whose fused kernels have no such derivative, and layer
normalisation, whose derivative is right but is itself differentiated as if mean and spread were constants
(pytorch/pytorch#196700), which gives silently wrong gradients of ḟ.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode


def along(f: Callable[[Tensor, Tensor], Tensor], x: Tensor, t: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """f(x, t) and ḟ for x and v (n, ...) and times t (n,): about the cost of two calls of f.

    Both can be differentiated by the parameters of f.
    """
    with sdpa_kernel(SDPBackend.MATH), _InParts() if torch.is_grad_enabled() else nullcontext():
        value, change = torch.func.jvp(f, (x, t), (v.to(x.dtype), torch.ones_like(t)))[:2]
    return value, change


class _InParts(TorchFunctionMode):
    """Layer normalisation as the sums and products that it is made of."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (_layer_norm if func is F.layer_norm else func)(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(axes, keepdim=True)
    out = centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()
    out = out if weight is None else out * weight
    return out if bias is None else out + bias
