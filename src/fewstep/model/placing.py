"""Networks with their weights, on a device.

No second copy is made in memory: the network is laid out without weights, and they are taken over one at a time.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fewstep.networks import Architecture
from fewstep.ondisk import outline


def placed(architecture: Architecture, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """The network with these weights (its state dict), in float32.

    Raises ValueError, with their names, for weights that are missing, too many or of another shape.
    """
    network = architecture.outline()
    wanted = network.state_dict()
    _check(wanted, outline(weights))
    own = {name: _taken_over(weights[name], like, device) for name, like in wanted.items()}
    network.load_state_dict(own, assign=True)
    return network


def _taken_over(w: Tensor, like: Tensor, device: torch.device) -> Tensor:
    """A copy in the dtype of `like`, on the device and in the memory layout that a model has there."""
    last = device.type == "cpu" and w.ndim == 4
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(w.shape, dtype=like.dtype, device=device, memory_format=layout).copy_(w)


def _check(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    shapes = {name: (tuple(given[name].shape), tuple(w.shape)) for name, w in wanted.items() if name in given}
    wrong = {
        "missing": [name for name in wanted if name not in given],
        "that the network does not have": [name for name in given if name not in wanted],
        "of another shape": [f"{name} {a}, not {b}" for name, (a, b) in shapes.items() if a != b],
    }
    found = [f"{len(names)} {kind} ({_first(names)})" for kind, names in wrong.items() if names]
    if found:
        raise ValueError(f"The weights do not fit the network: of {len(wanted)} tensors {'; '.join(found)}.")


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def pick_device(device: str | torch.device) -> torch.device:
    """`auto` takes the accelerator where there is one; a device that is not there is refused in one sentence."""
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if str(device) == "auto":
        return there or torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"'{device}' is no kind of device: use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("This PyTorch sees no CUDA device: use device='cpu', or install a CUDA build of PyTorch.")
    found = torch.accelerator.device_count() if there and chosen.type == there.type else 0
    if chosen.type not in ("cpu", "meta") and (chosen.index or 0) >= found:
        raise ValueError(f"There is no device '{device}' here: use device='auto' or 'cpu'.")
    return chosen
