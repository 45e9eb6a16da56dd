"""Pictures as users of diffusers hand them over, and as they expect them back.

In: a PIL image; a NumPy array (H, W), (H, W, C) or (n, H, W, C); a tensor (H, W), (C, H, W) or (n, C, H, W); or a list
of these, one size. Values: uint8 from 0 to 255, else [0, 1]; arrays in which something is negative are taken for
[-1, 1] as they are, the rule of diffusers' VaeImageProcessor. For a model of one channel a third axis counts pictures.
Transparent pixels are laid over white. Nothing is resized.

Inside: float32 (n, C, H, W) in [-1, 1].
Out: `pil`; `np` (n, H, W, C) and `pt` (n, C, H, W), float32 in [0, 1]; `latent`, what is inside, as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fewstep.images.decoding import as_channels


def pictures(image: Any, channels: int | None, name: str = "image") -> Tensor:
    """float32 (n, channels, H, W) in [-1, 1]; channels None takes 1 or 3, as they are.

    Raises TypeError for what is no picture, ValueError for other channels, sizes that differ, or values out of range.
    """
    x = _stacked(image, channels, name)
    low, high = x.min().item(), x.max().item()
    if not -1.001 <= low <= high <= 1.001:
        raise ValueError(f"The values of `{name}` reach from {low:g} to {high:g}: floats lie in [0, 1] (or [-1, 1]), "
                         "uint8 in 0 … 255.")  # fmt: skip
    return (x if low < 0 else 2 * x - 1).clamp(-1, 1)


def masks(mask: Any) -> Tensor:
    """Zeros and ones (m, 1, H, W): 1, white, is to be filled; greys count from the middle. Errors as `pictures`."""
    x = _stacked(mask, 1, "mask_image")
    if not (x.min() >= 0 and x.max() <= 1):
        raise ValueError("A mask lies in [0, 1] (uint8: 0 … 255); 1 is to be filled, 0 is kept.")
    return (x >= 0.5).float()


def check_size(x: Tensor, height: int, width: int, name: str) -> None:
    """Raises ValueError, with the way to mend it, unless x (n, C, H, W) has this size."""
    if tuple(x.shape[-2:]) != (height, width):
        raise ValueError(f"`{name}` is {x.shape[-1]}×{x.shape[-2]} pixels, this model draws {width}×{height}: "
                         f"resize it first, a PIL image with {name}.resize(({width}, {height})).")  # fmt: skip


def check_kind(kind: str, channels: int) -> None:
    """Raises ValueError for PIL images of a number of channels that they cannot have."""
    if kind == "pil" and channels not in (1, 3, 4):
        raise ValueError(f"PIL images cannot have {channels} channels: ask for output_type='np' or 'pt'.")


def finished(x: Tensor, kind: str) -> Any:
    """x (n, C, H, W) in [-1, 1] as `kind` (see above); a PIL image has 1, 3 or 4 channels."""
    if kind == "latent":
        return x
    x = (x / 2 + 0.5).clamp(0, 1)
    if kind == "pt":
        return x
    array = x.cpu().float().permute(0, 2, 3, 1).numpy()
    if kind == "np":
        return array
    levels = (array * 255).round().astype(np.uint8)
    return [Image.fromarray(level[:, :, 0] if level.shape[-1] == 1 else level) for level in levels]


def within(x: Tensor, anchor: Tensor, least: Callable[[Tensor], Tensor]) -> Tensor:
    """x brought into [-1, 1] without a change to what is known of it.

    `anchor` lies in [-1, 1] and agrees with x in all that is known. Where x leaves the range, its difference to the
    anchor is shortened, by one factor for all values that only together leave the known part alone: `least` takes the
    smallest factor of such a group (a pixel's channels, a patch).
    """
    difference = x - anchor
    room = torch.where(difference > 0, 1 - anchor, 1 + anchor)
    factor = least((room / difference.abs().clamp(min=1e-12)).clamp(max=1))
    return torch.where(factor < 1, anchor + factor * difference, x)


def _stacked(image: Any, channels: int | None, name: str) -> Tensor:
    parts = [_unit(part, channels, name) for part in (image if isinstance(image, (list, tuple)) else [image])]
    if not parts or not all(part.numel() for part in parts):
        raise ValueError(f"`{name}` is empty.")
    if len({part.shape[1:] for part in parts}) > 1:
        raise ValueError(f"The pictures of `{name}` differ in shape: {_shapes(parts)}.")
    return torch.cat(parts)


def _unit(image: Any, channels: int | None, name: str) -> Tensor:
    """One picture or array as float32 (n, C, H, W), uint8 scaled to [0, 1]."""
    if isinstance(image, Image.Image):
        if channels not in (None, 1, 3):
            raise ValueError(f"A PIL image has 1 or 3 channels, this model {channels}: give `{name}` as a tensor.")
        image = np.asarray(as_channels(image, channels))
    if isinstance(image, np.ndarray):
        x = _channels_first(torch.from_numpy(np.array(image)), channels)
    elif isinstance(image, Tensor):
        x = image.detach()
    else:
        raise TypeError(f"`{name}` is a PIL image, a NumPy array, a tensor or a list of them, "
                        f"not {type(image).__name__}.")  # fmt: skip
    if x.ndim == 2:
        x = x[None]
    if x.ndim == 3:
        x = x[:, None] if channels == 1 else x[None]
    if x.ndim != 4:
        raise ValueError(f"`{name}` has {x.ndim} axes; see (H, W), (H, W, C) and (n, H, W, C), tensors channels first.")
    return _of_channels(_scaled(x, name), channels, name)


def _channels_first(x: Tensor, channels: int | None) -> Tensor:
    """(H, W, C) → (C, H, W) and (n, H, W, C) → (n, C, H, W); (n, H, W), for one channel, as it is."""
    if x.ndim == 3 and channels == 1 and x.shape[-1] != 1:
        return x
    return x.movedim(-1, -3) if x.ndim > 2 else x


def _scaled(x: Tensor, name: str) -> Tensor:
    if x.dtype == torch.uint8:
        return x.float() / 255
    if not x.is_floating_point() and x.dtype != torch.bool:
        raise ValueError(f"`{name}` holds {x.dtype}: use uint8 from 0 to 255, or floats in [0, 1].")
    return x.float()


def _of_channels(x: Tensor, channels: int | None, name: str) -> Tensor:
    """Grey is repeated for a model of three channels, RGBA laid over white."""
    if x.shape[1] == 4 and channels in (None, 3):
        x = x[:, :3] * x[:, 3:] + (1 - x[:, 3:])
    if x.shape[1] == 1 and channels == 3:
        x = x.expand(-1, 3, -1, -1)
    if x.shape[1] not in ((1, 3) if channels is None else (channels,)):
        raise ValueError(f"`{name}` has {x.shape[1]} channels, not {channels or '1 or 3'} "
                         "(arrays carry them last, tensors first).")  # fmt: skip
    return x


def _shapes(parts: Sequence[Tensor]) -> str:
    return ", ".join(f"{tuple(part.shape[1:])}" for part in parts[:3])
