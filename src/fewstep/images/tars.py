"""Pictures in tars, as webdataset packs them.

    dir/0001.jpg  dir/0001.txt  dir/0001.cls     one sample: names that agree up to the first dot
    jpg jpeg png webp …                          the picture
    txt, or json {"text": …}                     its caption
    cls                                          its label, a number or a name

A tar is a chain of headers, so one pass finds where every file begins; a picture is then read by its offset.
"""

import hashlib
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .captions import COLUMNS, Captions, caption
from .decoding import SUFFIXES
from .sources import Compressed

_FIRST = ("jpg", "jpeg", "png", "webp")
_SAMPLE = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")


class Place(NamedTuple):
    """Where a file lies: which shard, its first byte, how many."""

    shard: int
    offset: int
    size: int


class Tars(Compressed):
    """The samples with a picture in uncompressed tars, in their order. Nothing stays open between two reads."""

    def __init__(self, paths: Sequence[Path], asked: str | None = None, *, passing: bool = False) -> None:
        """`passing`: the tars are copies made for this process alone, whose times say nothing."""
        self.paths, self._asked, self._passing = paths, asked, passing
        samples = [sample for k, path in enumerate(paths) for sample in _samples(k, path, asked)]
        chosen = [(key, files, kind) for key, files in samples if (kind := _picture(files))]
        self.names = [f"{key}.{kind} in {paths[files[kind].shard].name}" for key, files, kind in chosen]
        self._samples, self._pictures = [f for _, f, _ in chosen], [files[kind] for _, files, kind in chosen]
        self.labels, self.class_names = self._labelled()

    @cached_property
    def captions(self) -> Captions | None:
        found = [self._caption(i) for i in range(len(self))]
        if all(text is None for text in found):
            if self._asked is not None:
                raise ValueError(f"{self.paths[0]} has no captions called {self._asked!r}")
            return None
        return found

    def stamp(self) -> Iterable[str]:
        for path in self.paths:
            yield _digest(path) if self._passing else f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"

    def stream(self, i: int) -> BufferedIOBase:
        place = self._pictures[i]
        return BufferedReader(_Part(self.paths[place.shard], place.offset, place.size))

    def _read(self, place: Place) -> bytes:
        with _Part(self.paths[place.shard], place.offset, place.size) as part:
            return part.readall()

    def _labelled(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        if not self._samples or not all("cls" in files for files in self._samples):
            return None, ()
        said = [self._read(files["cls"]).decode(errors="replace").strip() for files in self._samples]
        if all(re.fullmatch(r"-?\d+", text) for text in said):
            labels = np.array(said, np.int64)
            return labels, tuple(map(str, range(int(labels.max()) + 1)))
        names, labels = np.unique(said, return_inverse=True)
        return labels.astype(np.int64), tuple(map(str, names))

    def _caption(self, i: int) -> str | None:
        files, where = self._samples[i], f"the caption of {self.names[i]}"
        direct = self._asked or "txt"
        if direct in files:
            return caption(self._read(files[direct]), where)
        if "json" not in files:
            return None
        try:
            about = json.loads(self._read(files["json"]))
        except ValueError as error:
            raise ValueError(f"{where} is in a json that cannot be read ({error})") from None
        keys = (self._asked,) if self._asked else COLUMNS
        return next((caption(about[k], where) for k in keys if k in about), None) if isinstance(about, dict) else None


class _Part(RawIOBase):
    """A piece of a file, as a file."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by close)
        self._offset, self._size, self._at = offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._at)]
        self._file.seek(self._offset + self._at)
        count = self._file.readinto(view) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _samples(shard: int, path: Path, asked: str | None) -> list[tuple[str, dict[str, Place]]]:
    """(key, {extension: place}) of every sample of one tar, in the order of their first files.

    Unlike webdataset it also joins files that are not neighbours, as `tar cf a.tar *.jpg *.txt` leaves them.
    """
    found: list[tuple[str, dict[str, Place]]] = []
    latest: dict[str, dict[str, Place]] = {}
    for name, place in _members(shard, path):
        match = _SAMPLE.fullmatch(name)
        kind = sys.intern(match[2].lower()) if match else ""
        if match is None or "__MACOSX" in name or not (kind in ("txt", "json", "cls", asked) or _is_picture(kind)):
            continue
        if kind in latest.get(match[1], {kind}):  # the first file of a sample, or the same key for another one
            latest[match[1]] = {}
            found.append((match[1], latest[match[1]]))
        latest[match[1]][kind] = place
    return found


def _members(shard: int, path: Path) -> Iterator[tuple[str, Place]]:
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.isreg() and not member.issparse():
                    yield member.name, Place(shard, member.offset_data, member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # else it would keep every header of a large shard
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not an uncompressed tar or is cut short ({error})") from error


def _picture(files: dict[str, Place]) -> str | None:
    """The extension of the picture of a sample."""
    return next((kind for kind in (*_FIRST, *files) if kind in files and _is_picture(kind)), None)


def _is_picture(kind: str) -> bool:
    return f".{kind}" in SUFFIXES


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
