"""Features of your own: any module or function of pictures.

    features = open_features(network, name="my-features")      network(x) → Tensor (n, …) or Seen

It is shown pictures float32 (n, C, H, W) in [-1, 1] as they are, neither resized nor repeated; what it returns is
flattened. A module is copied and frozen; its digest stands for its weights and its layers. Of a function the digest
knows the code and nothing that the code reaches for: name two different functions differently. How many numbers they
are is known once they have seen pictures, or where the module has an attribute `dimension`.
"""

import copy
import inspect
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from fewstep.evaluation.features.seeing import checked, digest_of, exact, signed
from fewstep.evaluation.types import Features, Seen


@final
class Own(Features):
    """The features of a module or function; `dimension` is 0 until it is known."""

    resize = "none"

    def __init__(self, function: Callable, name: str | None, device: str | torch.device):
        self.device = torch.device(device)
        if isinstance(function, nn.Module):
            function = copy.deepcopy(function).to(self.device).eval().requires_grad_(False)
            self.digest = digest_of(function.state_dict(), type(self).__name__, repr(function))
            self.name = name or type(function).__name__
        else:
            self.name = name or getattr(function, "__name__", type(function).__name__)
            self.digest = digest_of({}, type(self).__name__, self.name, source_of(function))
        self.function, self.dimension = function, int(getattr(function, "dimension", 0))

    def __call__(self, pictures: Tensor) -> Seen:
        with exact():
            seen = self.function(signed(checked(pictures).to(self.device)))
        seen = seen if isinstance(seen, Seen) else Seen(seen)
        if not isinstance(seen.features, Tensor) or len(seen.features) != len(pictures):
            raise ValueError(f"The features '{self.name}' must return a tensor (n, …) for n pictures, or a Seen.")
        features = seen.features.flatten(1).float()
        self.dimension = features.shape[1]
        return seen._replace(features=features)


def source_of(function: Callable) -> str:
    """The text of a function, or of its class; its name where there is no text."""
    try:
        return inspect.getsource(function if inspect.isroutine(function) else type(function))
    except (OSError, TypeError):
        return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
