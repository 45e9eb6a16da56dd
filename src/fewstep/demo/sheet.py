"""The contact sheet: sections of rows, each row a title, a sentence and ten pictures with captions, as one image.

Its letters are those of Pillow's own font, which has no ×.
"""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 112
"""Pixels of a picture on the sheet: 28, 14, 8 and 7 divide it, so that no pixel is smoothed."""
GAP, MARGIN, LEFT = 10, 48, 400
TOP, HEADING = 150, 92
"""Heights of the title and of a section's heading."""
COLUMNS = 10
PAPER, INK, SOFT, LINE = (252, 252, 250), (28, 30, 36), (112, 116, 126), (222, 222, 216)
HIDDEN = (232, 163, 61)
"""The colour of what a mask hides."""


@dataclass(frozen=True)
class Tile:
    """One picture with a word below it."""

    pixels: np.ndarray
    """uint8 (H, W), (H, W, 1) or (H, W, 3)."""
    caption: str = ""
    """A word or two."""
    joined: bool = False
    """Whether an arrow leads here from the picture before."""


@dataclass(frozen=True)
class Row:
    """What one line of the sheet shows."""

    title: str
    text: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Section:
    """Rows under a heading."""

    title: str
    rows: list[Row] = field(default_factory=list)


def sheet(title: str, subtitle: str, sections: list[Section], footer: str = "") -> Image.Image:
    """The whole picture, as wide as ten pictures and their titles."""
    width = 2 * MARGIN + LEFT + COLUMNS * (SIDE + GAP) - GAP
    height = (
        TOP + sum(HEADING + sum(_height(row) for row in section.rows) for section in sections) + (70 if footer else 30)
    )
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, 38), title, INK, _font(46))
    draw.text((MARGIN, 98), subtitle, SOFT, _font(22))
    y = TOP
    for section in sections:
        draw.line((MARGIN, y + 10, width - MARGIN, y + 10), LINE, 2)
        draw.text((MARGIN, y + 30), section.title, INK, _font(29))
        y += HEADING
        for row in section.rows:
            _row(page, draw, row, y)
            y += _height(row)
    draw.text((MARGIN, y + 12), footer, SOFT, _font(19))
    return page


def enlarged(pixels: np.ndarray) -> Image.Image:
    """A picture at SIDE pixels, every pixel a square."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST)


def _row(page: Image.Image, draw: ImageDraw.ImageDraw, row: Row, y: int) -> None:
    draw.text((MARGIN, y + 6), row.title, INK, _font(25))
    for i, line in enumerate(_wrapped(row.text, _font(19), LEFT - 40)):
        draw.text((MARGIN, y + 42 + 25 * i), line, SOFT, _font(19))
    for column, tile in enumerate(row.tiles):
        x = MARGIN + LEFT + column * (SIDE + GAP)
        page.paste(enlarged(tile.pixels), (x, y))
        if tile.joined:
            _arrow(draw, x - GAP // 2, y + SIDE // 2)
        if tile.caption:
            draw.text((x + SIDE // 2, y + SIDE + 4), tile.caption, SOFT, _font(17), anchor="ma")


def _arrow(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    draw.ellipse((x - 13, y - 13, x + 13, y + 13), PAPER, LINE, 2)
    draw.line((x - 7, y, x + 5, y), INK, 2)
    draw.polygon([(x + 8, y), (x + 1, y - 5), (x + 1, y + 5)], INK)


def _height(row: Row) -> int:
    return SIDE + (46 if any(tile.caption for tile in row.tiles) else 22)


def _font(size: int):
    return ImageFont.load_default(size=size)


def _wrapped(text: str, font, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
