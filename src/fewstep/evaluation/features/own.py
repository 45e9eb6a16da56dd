"""Features of your own: any module or function of pictures.

    features = open_features(network, name="my-features")      network(x) → Tensor (n, …) or Seen

It is shown pictures float32 (n, C, H, W) in [-1, 1] as they are, neither resized nor repeated; what it returns is
flattened. A module is copied and frozen; its digest is over its weights, the text of its classes and their attributes.
A function, or a module with attributes that are not plain data, may reach for what no digest knows: with a `name` of
yours the digest is over name and text, and you answer for it that another function has another name; without one it is
another digest each time, and nothing is kept on disk. How many numbers they are is known once they have seen pictures,
or where the module has an attribute `dimension`.
"""

import copy
import inspect
import secrets
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

from fewstep.evaluation.features.seeing import checked, digest_of, exact, signed
from fewstep.evaluation.types import Features, Seen

HELD = ("_parameters", "_buffers", "_modules")
"""Attributes of modules that are weights, or modules again."""


@final
class Own(Features):
    """The features of a module or function; `dimension` is 0 until it is known."""

    resize = "none"

    def __init__(self, function: Callable, name: str | None, device: str | torch.device):
        self.device = torch.device(device)
        weights: dict[str, Tensor] = {}
        if isinstance(function, nn.Module):
            function = copy.deepcopy(function).to(self.device).eval().requires_grad_(False)
            weights = {**dict(function.named_buffers()), **function.state_dict()}
            text = text_of(function)
        else:
            text = None
        self.lasting = text is not None or name is not None
        text = text or (source_of(function) if self.lasting else secrets.token_hex(8))
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.digest = digest_of(weights, type(self).__name__, name or "", text)
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


def text_of(module: nn.Module) -> str | None:
    """All that a module is besides its weights: its parts, the text of their classes, their attributes. None where an
    attribute is no plain data, or where hooks hang on a part."""
    lines = [repr(module)]
    for name, part in module.named_modules():
        about = {key: said(value) for key, value in vars(part).items() if key not in HELD and not _empty(value)}
        if None in about.values():
            return None
        lines.append(f"{name} {source_of(part)} {sorted(about.items())}")
    return "\n".join(lines)


def _empty(value: Any) -> bool:
    return isinstance(value, dict | set) and not value


def said(value: Any) -> str | None:
    """Plain data as text; None for anything else. Of torch's functions and classes the name."""
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device | torch.Size):
        return repr(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        found = [said(x) for x in (value.items() if isinstance(value, dict) else value)]
        known = [text for text in found if text is not None]
        ordered = sorted(known) if isinstance(value, set | frozenset) else known
        return f"{type(value).__name__} {ordered}" if len(known) == len(found) else None
    module = getattr(value, "__module__", None) or ""
    return (
        f"{module}.{value.__qualname__}" if module.split(".")[0] == "torch" and hasattr(value, "__qualname__") else None
    )


def source_of(function: Any) -> str:
    """The text of a function, or of its class; its name where there is no text, or where it is PyTorch's."""
    kind = function if inspect.isroutine(function) else type(function)
    name = f"{kind.__module__}.{kind.__qualname__}"
    try:
        return name if name.startswith("torch.") else inspect.getsource(kind)
    except (OSError, TypeError):
        return name
