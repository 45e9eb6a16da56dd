"""What prompts were embedded as, kept from one call to the next.

An embedding is a function of the tokens, of how they are read, and of the text encoder. So it is used again only if all
of these are what they were: the tokens themselves (a textual inversion changes those), the layer that is read, the
encoder's device and precision, autocast too, every adapter's scale and whether it is switched on or merged, and the
sum of each of the encoder's weights. The sums are taken anew at every call, one pass over the weights where embedding a
prompt takes as many as the prompt has tokens; so training, fusing, swapping or overwriting weights is noticed however
it is done. A whole list of prompts is remembered as one, and what comes back is equal to the bit.

Nothing is kept where it could be wrong: while gradients are on, while the encoder is in training mode (dropout), or
while its weights are not there (sequential offloading).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

KEPT = 32
"""How many lists of prompts are remembered unless it is said otherwise."""


class Memory:
    """The `size` results that were used last; 0 remembers nothing."""

    def __init__(self, size: int = KEPT):
        if size < 0:
            raise ValueError(f"The number of remembered prompts is at least 0, not {size}.")
        self.size = size
        self._known: OrderedDict[Hashable, tuple[Tensor, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __call__(
        self, encoder: nn.Module, asked: Hashable, make: Callable[[], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """make(), or what it gave when this encoder was asked the same before."""
        state = _state(encoder) if self.size and not torch.is_grad_enabled() and not encoder.training else None
        if state is None:
            return make()
        key = (asked, state)
        made = self._known.pop(key, None) or make()
        self._known[key] = made
        if len(self._known) > self.size:
            self._known.popitem(last=False)
        return made


def _state(encoder: nn.Module) -> Hashable | None:
    """All that an encoder's answers depend on; None where it cannot be told."""
    weights = list(encoder.parameters())
    if not weights or any(weight.is_meta for weight in weights):
        return None
    sums = torch.stack([weight.detach().sum(dtype=torch.float32) for weight in weights])
    adapters = [_adapter(module) for module in encoder.modules() if hasattr(module, "merged_adapters")]
    kinds = {(weight.dtype, weight.device) for weight in weights}
    device = weights[0].device.type
    lowered = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return type(encoder), tuple(sums.tolist()), frozenset(kinds), lowered, tuple(adapters)


def _adapter(layer: Any) -> Hashable:
    """PEFT's layers: which adapters are on, merged, and how strong."""
    scales = tuple(sorted(getattr(layer, "scaling", {}).items()))
    return tuple(layer.active_adapters), tuple(layer.merged_adapters), bool(layer.disable_adapters), scales
