"""A look at data before training on it: sizes, classes, captions, damaged files, repeats, a contact sheet."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike

import numpy as np
from PIL import Image

from .captions import Captions, distinct, without
from .data import Data
from .decoding import Damaged, fitted
from .grid import tile
from .opening import Images
from .parallel import each
from .sources import source


@dataclass(frozen=True)
class Said:
    """What `check` found of captions. `str(said)` is the text for people."""

    count: int
    """Pictures with a caption, the empty ones too."""
    different: int
    """How many different captions there are, without the empty one."""
    empty: int
    """Pictures with an empty caption: an empty prompt."""
    longest: str
    """The caption with the most characters."""
    examples: tuple[str, ...]
    """At most three different ones."""
    missing: tuple[str, ...] = ()
    """Pictures without a caption, by name."""

    def __str__(self) -> str:
        empty = f", {self.empty} empty" if self.empty else ""
        lines = [f"captions: {self.count} ({self.different} different{empty})"]
        if self.longest:
            lines += [f"  longest: {_short(self.longest)} ({len(self.longest)} characters)"]
        lines += [f"  example: {_short(text)}" for text in self.examples]
        if self.missing:
            more = ", …" if len(self.missing) > 5 else ""
            lines += [f"  missing: {len(self.missing)} ({', '.join(self.missing[:5])}{more})"]
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What `check` found. `str(report)` is the text for people."""

    path: str
    count: int
    """Files with the name of a picture, the damaged ones too."""
    sizes: dict[str, int]
    """How many of each "width×height", the most frequent first."""
    modes: dict[str, int]
    """How many of each of Pillow's modes (L grey, RGB, P palette, RGBA …)."""
    classes: dict[str, int] = field(default_factory=dict)
    """How many pictures each class has; empty without labels."""
    captions: Said | None = None
    """What is said of the pictures; None without captions."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Damaged files and why."""
    duplicates: tuple[tuple[str, ...], ...] = ()
    """Groups of files whose pixels are the same."""

    @property
    def sound(self) -> bool:
        """Whether training would accept the files: at most 1% of them are damaged."""
        return len(self.damaged) <= 0.01 * self.count

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.count} pictures"]
        lines += [f"sizes: {_counts(self.sizes)}", f"modes: {_counts(self.modes)}"]
        classes = f"{len(self.classes)} ({_counts(self.classes)})" if self.classes else "none"
        lines += [f"classes: {classes}", str(self.captions or "captions: none")]
        if self.duplicates:
            first = "; ".join(" = ".join(group[:3]) for group in self.duplicates[:3])
            lines += [f"repeated: {sum(map(len, self.duplicates)) - len(self.duplicates)} ({first})"]
        lines += [f"damaged: {len(self.damaged)}"]
        lines += [f"  {name}: {reason}" for name, reason in self.damaged.items()]
        return "\n".join(lines)


def check(data: Data | str | PathLike) -> Report:
    """Decodes every picture and counts; sizes and modes may be mixed and any number damaged.

    Raises what `open_images` raises for a missing path, no pictures, an unknown kind of file, a wrong label, captions
    that cannot be read.
    """
    data = data if isinstance(data, Data) else Data(str(data))
    origin = source(data)
    seen: dict[int, tuple[str, str, bytes]] = {}
    damaged: dict[int, str] = {}

    def look(i: int) -> None:
        try:
            image = origin.picture(i)
        except Damaged as damage:
            damaged[i] = damage.reason
            return
        pixels = hashlib.blake2b(image.tobytes(), digest_size=16, key=image.mode.encode())
        seen[i] = f"{image.width}×{image.height}", image.mode, pixels.digest()

    each(look, range(len(origin)), f"checking {data.path}")
    return Report(
        path=data.path,
        count=len(origin),
        sizes=_ranked(size for size, _, _ in seen.values()),
        modes=_ranked(mode for _, mode, _ in seen.values()),
        classes=_classes(origin.labels, origin.class_names),
        captions=None if data.captions is False else _said(origin.captions, origin.names),
        damaged={origin.names[i]: damaged[i] for i in sorted(damaged)},
        duplicates=_duplicates(seen, origin.names),
    )


def contact_sheet(images: Images | Data | str | PathLike, n: int = 64, size: int | None = None) -> Image.Image:
    """n pictures spread evenly over the data (so over its classes), as squares of `size` on one sheet.

    Damaged files are passed over. `size` None: that of the pictures, but between 8 and 128 pixels.
    Raises ValueError where no picture can be decoded.
    """
    if n < 1:
        raise ValueError(f"a contact sheet needs at least one picture, not {n}")
    data = images.data if isinstance(images, Images) else images if isinstance(images, Data) else Data(str(images))
    origin = source(data)
    pictures: list[np.ndarray] = []
    for i in np.unique(np.linspace(0, len(origin) - 1, min(n, len(origin))).round().astype(int)).tolist():
        try:
            image = origin.picture(i)
        except Damaged:
            continue
        size = size or min(128, max(8, data.size or min(image.size)))
        pictures.append(fitted(image, size, data.channels))
    if not pictures:
        raise ValueError(f"no picture of {data.path} can be decoded")
    coloured = any(picture.shape[2] == 3 for picture in pictures)
    return tile(np.stack([np.repeat(p, 3, 2) if coloured and p.shape[2] == 1 else p for p in pictures]))


def _ranked(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _classes(labels: np.ndarray | None, names: tuple[str, ...]) -> dict[str, int]:
    if labels is None:
        return {}
    return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))


def _said(captions: Captions | None, names: Sequence[str]) -> Said | None:
    if captions is None:
        return None
    there = [text for text in captions if text is not None]
    table, _ = distinct(there)
    some = [table[i] for i in np.unique(np.linspace(0, len(table) - 1, min(3, len(table))).round().astype(int))]
    longest = max(table, key=len, default="")
    return Said(len(there), len(table), there.count(""), longest, tuple(some), tuple(without(captions, names)))


def _short(text: str) -> str:
    return f'"{text if len(text) <= 200 else text[:199] + "…"}"'


def _duplicates(seen: dict[int, tuple[str, str, bytes]], names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    groups: dict[tuple[str, str, bytes], list[str]] = {}
    for i, key in sorted(seen.items()):
        groups.setdefault(key, []).append(names[i])
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _counts(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name}: {n}" for name, n in list(counts.items())[:12])
    return shown + (", …" if len(counts) > 12 else "")
