"""The pictures that an edit is given, brought to the size in which the model works.

A model of pixels has one size, a square: the shorter side is resized to it and the centre cropped. A latent model draws
in any size of whole latents, so the picture keeps its own, as in the pipelines, unless --size says another.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.model import Model

LARGEST = 4
"""So many times the pixels that a latent model was trained on it is given unasked: a photograph of 12 million pixels
would not fit into memory, and what is drawn far beyond the size of training repeats itself."""


def framed(path: str, model: "Model", o: Any, *, channels: int | None = None) -> "Tensor":
    """A picture (1, C, H, W) in the size of the results: the model's, of a latent model as `frame` says."""
    if not model.latent:
        if getattr(o, "size", None) is not None:
            raise ValueError(f"--size is for latent models; this one makes {model.shape[-1]}×{model.shape[-2]}.")
        return picture(path, model, channels=channels)
    import torch.nn.functional as F

    from fewstep.images import read_picture

    height, width = frame(model, o)
    if (was := size_of(path)) == (width, height):
        return read_picture(path, None, channels or model.shape[0])
    said_resized(path, was, (width, height))
    x = read_picture(path, None, channels or model.shape[0])
    scale = max(height / x.shape[2], width / x.shape[3])
    size = [max(side, round(old * scale)) for side, old in zip((height, width), x.shape[2:], strict=True)]
    x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def frame(model: "Model", o: Any) -> tuple[int, int]:
    """(height, width) of what a latent model makes: what was asked for, else that of the picture in whole latents."""
    factor, (width, height) = model.design.space.factor, size_of(o.image)
    if (asked := getattr(o, "size", None)) is not None:
        if any(side < factor or side % factor for side in asked):
            raise ValueError(f"--size is two multiples of {factor} for this model, not {asked[0]} {asked[1]}.")
        return asked[1], asked[0]
    scale = min(1.0, (LARGEST * model.shape[-1] * model.shape[-2] / (width * height)) ** 0.5)
    size = int(height * scale) // factor * factor, int(width * scale) // factor * factor
    if not all(size):
        raise ValueError(f"{o.image} is {width}×{height}: say with --size in which size it is to be edited.")
    return size


def picture(path: str, model: "Model", *, size: int | None = None, channels: int | None = None) -> "Tensor":
    """A picture (1, C, H, W) in the model's size and channels; says so where it was changed."""
    from fewstep.images import read_picture

    size, channels = size or model.shape[-1], channels or model.shape[0]
    if (was := size_of(path)) != (size, size):
        said_resized(path, was, (size, size))
    return read_picture(path, size, channels)


def said_resized(path: str, was: tuple[int, int], now: tuple[int, int]) -> None:
    """Widths and heights."""
    cropped = "" if abs(was[0] * now[1] - was[1] * now[0]) < max(*was, *now) else " and cropped in the centre"
    print(f"{path} is {was[0]}×{was[1]}: resized{cropped} to {now[0]}×{now[1]}.")


def size_of(path: str) -> tuple[int, int]:
    """Width and height; FileNotFoundError, or ValueError for what is no picture."""
    from fewstep.images.decoding import header
    from fewstep.images.sources import missing

    if not Path(path).is_file():
        raise FileNotFoundError(missing(Path(path)))
    with open(path, "rb") as file:
        found = header(file, path)
    return found.width, found.height
