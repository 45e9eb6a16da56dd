"""What `--data` says: where the pictures are, and how each becomes an array of one shape."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Data:
    """Pictures to learn from.

    Raises ValueError where a field has no meaning (a size below 1, channels other than 1 and 3).
    """

    path: str
    """Folder, .zip, .npz, .parquet, .tar (many: shard-{000..003}.tar), Hub data set (owner/name) or "digits"."""
    size: int | None = None
    """Resize the shorter side to this many pixels and crop to a square. None: as stored, all equal."""
    channels: int | None = None
    """1 grey, 3 RGB. None: as the files are, all equal."""
    crop: Literal["centre", "random"] = "centre"
    """Which square of a picture that is not square; it matters only with a size."""
    flip: bool = False
    """Mirror left and right at random. Not for digits or writing."""
    labels: bool | None = None
    """True: labels (subfolders, or a column) are required. False: ignore them. None: take them where there are any."""
    classes: int | None = None
    """How many classes the labels count from 0. None: as many as are found."""
    captions: bool | None = None
    """True: captions are required. False: ignore them. None: take them where there are any."""
    caption: str | None = None
    """The column, key or array that holds the captions. None: text, caption or prompt."""
    uncaptioned: Literal["refuse", "empty"] = "refuse"
    """What a picture without a caption is among others that have one: an error, or an empty prompt."""
    pipe: bool = False
    """Allow a path `pipe:COMMAND`: runs the shell command and reads the tar that it prints."""
    split: str = "train"
    """The split of a Hub data set."""
    memory: int = 512
    """Keep the decoded pictures in memory where they need at most this many MiB."""

    def __post_init__(self) -> None:
        if not str(self.path):
            raise ValueError("the data has no path: give a folder, a .zip, an .npz, a .parquet, a .tar or a Hub id")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size must be at least 1 pixel, not {self.size}")
        if self.channels not in (None, 1, 3):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), not {self.channels}")
        if self.crop not in ("centre", "random"):
            raise ValueError(f"crop must be 'centre' or 'random', not {self.crop!r}")
        if self.uncaptioned not in ("refuse", "empty"):
            raise ValueError(f"uncaptioned must be 'refuse' or 'empty', not {self.uncaptioned!r}")
        if self.classes is not None and self.classes < 1:
            raise ValueError(f"classes must be at least 1, not {self.classes}")
        if self.memory < 0:
            raise ValueError(f"memory must be at least 0 MiB, not {self.memory}")
