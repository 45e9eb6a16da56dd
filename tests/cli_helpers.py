"""Pictures for the tests of the command line."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_image(path: Path, size: int = 8, channels: int = 1, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, channels), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    return path
