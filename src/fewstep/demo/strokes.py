"""Digits drawn with a few straight strokes, as on a pocket calculator: what the model turns into handwriting."""

import torch
from PIL import Image, ImageDraw
from torch import Tensor

STROKES: dict[int, list[list[tuple[float, float]]]] = {
    2: [[(0.28, 0.26), (0.70, 0.26), (0.28, 0.78), (0.74, 0.78)]],
    3: [[(0.30, 0.22), (0.66, 0.22), (0.66, 0.80), (0.30, 0.80)], [(0.38, 0.50), (0.66, 0.50)]],
    5: [[(0.70, 0.20), (0.34, 0.20), (0.34, 0.48), (0.68, 0.48), (0.68, 0.80), (0.30, 0.80)]],
    6: [[(0.64, 0.20), (0.36, 0.20), (0.36, 0.80), (0.66, 0.80), (0.66, 0.50), (0.36, 0.50)]],
    8: [[(0.34, 0.20), (0.66, 0.20), (0.66, 0.80), (0.34, 0.80), (0.34, 0.20)], [(0.34, 0.50), (0.66, 0.50)]],
}
"""Corners of the strokes of each digit, (x, y) with (0, 0) at the top left and (1, 1) at the bottom right."""


def drawn(size: int, thickness: float = 0.1) -> tuple[Tensor, list[int]]:
    """The paintings (n, 1, size, size) in [-1, 1] and the digits that they mean."""
    return torch.stack([_painting(strokes, size, thickness) for strokes in STROKES.values()]), list(STROKES)


def _painting(strokes: list[list[tuple[float, float]]], size: int, thickness: float) -> Tensor:
    large = 8 * size  # drawn large and averaged, for smooth edges
    image = Image.new("L", (large, large), 0)
    draw, wide = ImageDraw.Draw(image), round(thickness * large)
    for stroke in strokes:
        corners = [(x * large, y * large) for x, y in stroke]
        draw.line(corners, 255, wide)
        for x, y in corners:
            draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), 255)
    small = image.resize((size, size), Image.Resampling.BOX)
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(1, size, size)
    return pixels.float() / 127.5 - 1
