"""Pictures as files: a folder, or a zip of the same.

The class of `mnist/train/7/12.png` is its parent folder, 7. Classes are numbered in the order of their names,
as numbers where all of them are. A `dataset.json` {"labels": [[file, label], …]} (EDM's form) goes first.
Captions are those of `metadata.jsonl` and of a .txt beside each picture.
"""

import json
import os
import threading
import zipfile
from collections.abc import Iterable
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import cast

import numpy as np

from .captions import LISTING, Captions, beside
from .decoding import SUFFIXES
from .sources import Compressed

Labels = tuple[np.ndarray | None, tuple[str, ...]]


class Folder(Compressed):
    """All pictures below a folder, sorted by name; hidden files and macOS leftovers are passed over."""

    def __init__(self, path: Path, asked: str | None = None) -> None:
        self.path, self._asked = path, asked
        files = sorted(filter(_shown, _walk(path)))
        self.names, self._texts = list(filter(_is_picture, files)), list(filter(_is_text, files))
        listing = path / "dataset.json"
        document = listing.read_bytes() if listing.is_file() else None
        self.labels, self.class_names = _labels(self.names, document, str(listing))

    @cached_property
    def captions(self) -> Captions | None:
        return beside(self.names, self._texts, lambda n: (self.path / n).read_bytes(), self._asked, str(self.path))

    def stamp(self) -> Iterable[str]:
        for name in self.names:
            try:
                about = os.stat(self.path / name)
                yield f"{name} {about.st_size} {about.st_mtime_ns}"
            except OSError:  # a link to nowhere
                yield f"{name} gone"

    def stream(self, i: int) -> BufferedIOBase:
        return open(self.path / self.names[i], "rb")


class Zip(Compressed):
    """The same in a zip. Threads share one handle, which locks itself; each process opens its own."""

    def __init__(self, path: Path, asked: str | None = None) -> None:
        self.path, self._handle, self._process, self._lock = path, None, -1, threading.Lock()
        self._asked, entries = asked, sorted(filter(_shown, self._zip().namelist()))
        self.names, self._texts = list(filter(_is_picture, entries)), list(filter(_is_text, entries))
        listings = [n for n in entries if PurePosixPath(n).name == "dataset.json"]
        listing = min(listings, key=len, default=None)
        top = "" if listing is None else listing[: -len("dataset.json")]
        document = None if listing is None else self._zip().read(listing)
        self.labels, self.class_names = _labels(self.names, document, f"{listing} in {path}", top)

    @cached_property
    def captions(self) -> Captions | None:
        return beside(self.names, self._texts, self._zip().read, self._asked, str(self.path))

    def stamp(self) -> Iterable[str]:
        for name in self.names:
            about = self._zip().getinfo(name)
            yield f"{name} {about.file_size} {about.CRC}"

    def _zip(self) -> zipfile.ZipFile:
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._handle, self._process = _opened(self.path), os.getpid()
        return cast(zipfile.ZipFile, self._handle)

    def stream(self, i: int) -> BufferedIOBase:
        return cast(BufferedIOBase, self._zip().open(self.names[i]))

    def __getstate__(self) -> dict:
        return {**vars(self), "_handle": None, "_process": -1, "_lock": None}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip file or is cut short ({error})") from error


def _walk(path: Path):
    seen = set()
    for folder, folders, files in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real in seen:  # a link back into the folder
            continue
        seen.add(real)
        inner = Path(folder).relative_to(path)
        yield from ((inner / name).as_posix() for name in files)


def _shown(name: str) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not name.endswith("/")


def _is_text(name: str) -> bool:
    return name.endswith(".txt") or PurePosixPath(name).name == LISTING


def _labels(names: list[str], document: bytes | None, listing: str, top: str = "") -> Labels:
    if document is not None:
        return _listed(names, document, listing, top)
    parents = [PurePosixPath(name).parent for name in names]
    found = {parent.name for parent in parents}
    # pictures beside the class folders belong to no class, and one folder alone is no choice of classes
    if len(found) < 2 or PurePosixPath(os.path.commonpath(set(parents))) in parents:
        return None, ()
    numeric = all(name.isdecimal() for name in found)
    class_names = tuple(sorted(found, key=(lambda name: (int(name), name)) if numeric else None))
    number = {name: k for k, name in enumerate(class_names)}
    return np.array([number[p.name] for p in parents], np.int64), class_names


def _listed(names: list[str], document: bytes, listing: str, top: str) -> Labels:
    try:
        content = json.loads(document)
        pairs = content.get("labels") if isinstance(content, dict) else content
        if pairs is None:
            return None, ()
        table = {str(name).replace("\\", "/"): label for name, label in pairs}
    except (ValueError, TypeError) as error:
        raise ValueError(f'{listing} should hold {{"labels": [[file, label], …]}} ({error})') from error
    values = []
    for name in names:
        value = table.get(name.removeprefix(top), table.get(name))
        if not isinstance(value, int) or isinstance(value, bool):
            said = "no label" if value is None else f"the label {value!r}, not a whole number,"
            raise ValueError(f"{listing} has {said} for {name}")
        values.append(value)
    labels = np.array(values, np.int64)
    return labels, tuple(map(str, range(int(labels.max(initial=-1)) + 1)))
