"""From the bytes of a file to a uint8 array (H, W, C).

A file is sound when every pixel it promises can be decoded. A truncated file is damaged: Pillow's option to
fill the missing half with grey is never used, and its limit against decompression bombs stays as it is.
"""

from io import BufferedIOBase, BytesIO
from typing import IO, NamedTuple, cast

import numpy as np
from PIL import Image, ImageOps

_KINDS = "png jpg jpeg jpe jfif webp bmp gif tif tiff avif jp2 tga ppm pgm pbm pnm"
SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())
GREY = frozenset(["1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"])
_ORIENTATION = 0x0112


class Damaged(ValueError):
    """A picture that cannot be decoded whole; `name` says which, `reason` why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self):
        return Damaged, (self.name, self.reason)


class Header(NamedTuple):
    """What the first bytes of a picture tell: upright size in pixels and Pillow's mode."""

    width: int
    height: int
    mode: str

    @property
    def channels(self) -> int:
        return 1 if self.mode in GREY else 3


def header(stream: BufferedIOBase, name: str) -> Header:
    """Reads size and mode without decoding. Raises Damaged."""
    try:
        with Image.open(cast(IO[bytes], stream)) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
            return Header(width, height, image.mode)
    except MemoryError:
        raise
    except Exception as error:
        raise Damaged(name, _reason(error)) from error


def decode(content: bytes, name: str) -> Image.Image:
    """The first frame of a picture, decoded whole and turned upright (EXIF). Raises Damaged."""
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            if _cut_short(image.format, content):
                raise OSError("image file is truncated (its end mark is missing)")
            return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
    except MemoryError:
        raise
    except Exception as error:
        raise Damaged(name, _reason(error)) from error


def as_channels(image: Image.Image, channels: int | None) -> Image.Image:
    """Grey (mode L) or RGB; transparent pixels are laid over white, 16-bit greys keep their upper byte."""
    if channels is None:
        channels = 1 if image.mode in GREY else 3
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def square(image: Image.Image, size: int, place: tuple[float, float] | None = None) -> Image.Image:
    """Shorter side to `size` (Lanczos), then its central square, or at `place` (top, left) in [0, 1)²."""
    width, height = image.size
    if min(width, height) != size:
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    if (width, height) == (size, size):
        return image
    if place is None:
        top, left = (height - size) // 2, (width - size) // 2
    else:
        top, left = int(place[0] * (height - size + 1)), int(place[1] * (width - size + 1))
    return image.crop((left, top, left + size, top + size))


def fitted(image: Image.Image, size: int | None, channels: int | None, place=None) -> np.ndarray:
    """uint8 (H, W, C) of a decoded picture, resized and cropped when a size is asked."""
    image = as_channels(image, channels)
    pixels = np.asarray(image if size is None else square(image, size, place))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _cut_short(kind: str | None, content: bytes) -> bool:
    """Whether the end mark is missing, which Pillow forgives when all pixels are there."""
    if kind == "PNG":
        return b"IEND" not in content
    end, start = content.rfind(b"\xff\xd9"), content.rfind(b"\xff\xda")  # of the last scan of a JPEG
    return kind == "JPEG" and end < start


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture that Pillow can read"
    return " ".join(str(error).split()) or type(error).__name__
