"""Where pictures lie: one interface over folders, zips, arrays, tables and tars, and how the right one is found."""

import difflib
import hashlib
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from PIL import Image

from .captions import Captions
from .data import Data
from .decoding import SUFFIXES, Damaged, Header, decode, header

# what files and zips raise: also a damaged or encrypted entry, an unknown compression
_UNREADABLE = (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile)
_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_KINDS = (".zip", ".npz", ".parquet", ".tar")


class Source(ABC):
    """A numbered collection of pictures, some of them perhaps damaged."""

    names: Sequence[str]
    """How a message calls picture i."""
    labels: np.ndarray | None
    """int64 (n,), or None without labels."""
    class_names: tuple[str, ...]

    @cached_property
    def captions(self) -> Captions | None:
        """One a picture, None where it has none; None without captions. Read when first asked for."""
        return None

    @abstractmethod
    def stamp(self) -> Iterable[str]:
        """What changes when pictures are added, removed or changed: of files size and time, which cost no read."""

    @abstractmethod
    def content(self, i: int) -> str:
        """What changes exactly when picture i does: a hash of its bytes."""

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def header(self, i: int) -> Header:
        """Size and mode without decoding. Raises Damaged."""

    @abstractmethod
    def picture(self, i: int) -> Image.Image:
        """Decoded whole. Raises Damaged."""

    def whole(self) -> np.ndarray | None:
        """uint8 (n, H, W, C) where the source is such an array already."""
        return None


class Compressed(Source):
    """Pictures that are files: PNG, JPEG and the like."""

    @abstractmethod
    def stream(self, i: int) -> BufferedIOBase:
        """The file of picture i, opened for reading."""

    def content(self, i: int) -> str:
        try:
            with self.stream(i) as stream:
                return hashlib.blake2b(stream.read(), digest_size=16).hexdigest()
        except _UNREADABLE:
            return "unreadable"

    def header(self, i: int) -> Header:
        with self._opened(i) as stream:
            return header(stream, self.names[i])

    def picture(self, i: int) -> Image.Image:
        with self._opened(i) as stream:
            try:
                content = stream.read()
            except _UNREADABLE as error:
                raise Damaged(self.names[i], f"cannot be read ({error})") from error
        return decode(content, self.names[i])

    def _opened(self, i: int) -> BufferedIOBase:
        try:
            return self.stream(i)
        except _UNREADABLE as error:
            raise Damaged(self.names[i], f"cannot be read ({error})") from error


def source(data: Data) -> Source:
    """The collection at `data.path`, with its labels settled.

    Raises FileNotFoundError (nothing there), ValueError (no pictures, a wrong label, an unknown kind),
    ModuleNotFoundError (the extra `data` is missing), ConnectionError (the Hub cannot be reached).
    """
    found = _find(data)
    if len(found) == 0:
        raise ValueError(f"{data.path} holds no pictures (looked for {', '.join(sorted(SUFFIXES))})")
    if data.labels is False:
        found.labels, found.class_names = None, ()
    elif data.labels is True and found.labels is None:
        raise ValueError(f"{data.path} has no labels: put each class in a subfolder, or ask for none")
    _check_labels(data, found)
    if data.captions is True and found.captions is None:
        raise ValueError(
            f"{data.path} has no captions: put a .txt beside each picture, or a metadata.jsonl with lines"
            ' {"file_name": …, "text": …}, or ask for none'
        )
    return found


def _find(data: Data) -> Source:
    from .arrays import Arrays
    from .bundled import BUNDLED
    from .files import Folder, Zip
    from .shards import shards, tars_in
    from .tables import hub, parquet
    from .tars import Tars

    if found := shards(data):
        return Tars(found, data.caption, passing=data.path.startswith("pipe:"))
    path = Path(data.path).expanduser()
    if not path.exists():
        path = BUNDLED.get(data.path, path)
    if path.is_dir():
        folder = Folder(path, data.caption)
        return folder if len(folder) or not (tars := tars_in(path)) else Tars(tars, data.caption)
    if path.is_file():
        kinds = {".zip": Zip, ".npz": Arrays, ".parquet": parquet}
        if kind := kinds.get(path.suffix.lower()):
            return kind(path, data.caption)
        raise ValueError(_no_kind(data.path, path))
    if _HUB.fullmatch(data.path) and not path.parent.exists() and path.suffix.lower() not in _KINDS:
        return hub(data.path, data.split, data.caption)
    raise FileNotFoundError(missing(path))


def _no_kind(asked: str, path: Path) -> str:
    if path.suffix.lower() in SUFFIXES:
        return f"{asked} is a single picture: give the folder that holds the pictures"
    if re.search(r"\.(tar\.\w+|tgz)$", path.name.lower()):
        return f"{asked} is a compressed tar, which cannot be read from the middle: unpack it to a folder or a .tar"
    return f"{asked} is no kind of data that fewstep reads: give a folder, a .zip, an .npz, a .parquet or a .tar"


def missing(path: Path) -> str:
    """The sentence about a path that is not there, with the nearest name that is."""
    known = path.parent
    while not known.exists() and known != known.parent:
        known = known.parent
    parts = path.parts[len(known.parts) :] if known != Path(".") else path.parts
    wanted = parts[0] if parts else path.name
    try:
        near = difflib.get_close_matches(wanted, [p.name for p in known.iterdir()], n=1, cutoff=0.5)
    except OSError:
        near = []
    hint = f"; did you mean {known / near[0]}?" if near else ""
    return f"there is no {path}{hint}"


def _check_labels(data: Data, found: Source) -> None:
    if found.labels is None:
        if data.classes is not None and data.labels is not False:
            raise ValueError(f"{data.path} has no labels, but classes={data.classes} asks for them")
        return
    count = data.classes or len(found.class_names)
    wrong = np.flatnonzero((found.labels < 0) | (found.labels >= count))
    if len(wrong):
        i = int(wrong[0])
        raise ValueError(
            f"the label {found.labels[i]} of {found.names[i]} in {data.path} is outside 0…{count - 1}"
            f" ({len(wrong)} such label{'s' if len(wrong) > 1 else ''})"
        )
    found.class_names = (*found.class_names, *map(str, range(len(found.class_names), count)))[:count]
