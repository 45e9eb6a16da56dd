"""Pictures out: u = round(127.5 (x + 1)) clipped to 0…255, tiled into a grid, written whole or not at all."""

import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .decoding import decode, fitted
from .opening import signed
from .sources import missing


def to_uint8(x: torch.Tensor) -> np.ndarray:
    """float (n, C, H, W) in [−1, 1] -> uint8 (n, H, W, C); clipped outside, grey where x is NaN."""
    levels = ((x.detach().float().cpu().nan_to_num(nan=0.0) + 1) * 127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def tile(pictures: np.ndarray, columns: int | None = None, pad=2, scale: int | None = None) -> Image.Image:
    """uint8 (n, H, W, C) -> one picture, row by row on white; small ones are enlarged without smoothing."""
    if pictures.ndim != 4 or len(pictures) == 0 or pictures.shape[3] not in (1, 3):
        raise ValueError(f"a grid needs pictures (n, H, W, C) with C 1 or 3, not {pictures.shape}")
    n, height, width, channels = pictures.shape
    across = min(n, columns or math.ceil(math.sqrt(n)))
    scale = scale or max(1, 64 // max(height, width))
    pictures = pictures.repeat(scale, axis=1).repeat(scale, axis=2)
    high, wide, lines = height * scale + pad, width * scale + pad, math.ceil(n / across)
    sheet = np.full((lines * high + pad, across * wide + pad, channels), 255, np.uint8)
    for k, picture in enumerate(pictures):
        top, left = pad + k // across * high, pad + k % across * wide
        sheet[top : top + high - pad, left : left + wide - pad] = picture
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def grid(x: torch.Tensor, columns: int | None = None, pad: int = 2, scale: int | None = None) -> Image.Image:
    """float (n, C, H, W) in [−1, 1] -> one picture; by default nearly square, and large enough to see.

    Raises ValueError where x is not (n, C, H, W) with C 1 or 3, or is empty.
    """
    if x.ndim != 4:
        raise ValueError(f"a grid needs pictures (n, C, H, W), not {tuple(x.shape)}")
    return tile(to_uint8(x), columns, pad, scale)


def save_grid(
    x: torch.Tensor,
    path: str | os.PathLike,
    columns: int | None = None,
    pad: int = 2,
    scale: int | None = None,
) -> Path:
    """Writes `grid(x)` to `path` (.png, .jpg), making its folder. Raises ValueError for an unknown suffix.

    >>> path = fewstep.save_grid(fewstep.load("mnist").sample(16, labels=7), "sevens.png")
    """
    return save_picture(grid(x, columns, pad, scale), path)


def save_picture(image: Image.Image, path: str | os.PathLike) -> Path:
    """Writes beside, then renames: a reader sees the old file or the whole new one."""
    path = Path(path)
    form = Image.registered_extensions().get(path.suffix.lower())
    if form is None:
        raise ValueError(f"{path} has no suffix of a picture that can be written: use .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        image.save(aside, format=form)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def read_picture(path: str | os.PathLike, size: int | None = None, channels: int | None = None) -> torch.Tensor:
    """float32 (1, C, H, W) in [−1, 1]; with `size` its shorter side is resized and the centre cropped.

    Raises FileNotFoundError, and ValueError where the file is no picture or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(missing(path))
    pixels = fitted(decode(path.read_bytes(), str(path)), size, channels)
    return signed(pixels.transpose(2, 0, 1)[None])
