"""Downloads: a file is fetched once, into a cache, and bears its name there only once it is whole.

    https://host/a/b.pt  →  <cache>/host/a/b.pt        <cache> is $FEWSTEP_CACHE or ~/.cache/fewstep

A download that was interrupted goes on where it stopped, unless the file behind the address changed meanwhile. A file
that somebody put in its place is taken as it is.
"""

import hashlib
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from fewstep.files import ASIDE

SECONDS = 30.0
"""Without an answer for so long, a connection counts as lost."""

CHUNK = 1 << 20


def cache() -> Path:
    """Where downloads are kept."""
    return Path(os.environ.get("FEWSTEP_CACHE") or "~/.cache/fewstep").expanduser()


def is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def kept(url: str) -> Path:
    """Where the file of this address is, or would be. ValueError for an address without a file's name."""
    split = urlsplit(url)
    parts = [part for part in unquote(split.path).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not (split.hostname or "").strip(".") or not parts:
        raise ValueError(f"{url} is no address of a file.")
    query = "&".join(part for part in split.query.split("&") if not part.startswith("download="))  # the Hub's own
    if query:  # another file of the same name
        name = Path(parts[-1])
        parts[-1] = f"{name.stem}-{hashlib.blake2b(query.encode(), digest_size=4).hexdigest()}{name.suffix}"
    return cache().joinpath(f"{split.hostname}{f'_{split.port}' if split.port else ''}", *parts)


def fetch(url: str, check: Callable[[Path], object]) -> Path:
    """The file of this address, from the cache or fetched into it, with a bar where stderr is a terminal.

    `check` raises ValueError for a file that is not what it should be; what was downloaded is then thrown away. Raises
    FileNotFoundError, with the place where the file is expected, where there is no connection.
    """
    place = kept(url)
    if place.is_file():
        return place
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise FileNotFoundError(_by_hand(url, "HF_HUB_OFFLINE forbids to download it"))
    from huggingface_hub.utils import WeakFileLock

    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(ASIDE + place.name)
    with WeakFileLock(place.with_name(f"{ASIDE}{place.name}.lock")):  # other processes wait for the same file
        if not place.is_file():
            _complete(part, url)
            _mark(part).unlink(missing_ok=True)
            _accept(part, url, check)
            os.replace(part, place)
    return place


def _accept(part: Path, url: str, check: Callable[[Path], object]) -> None:
    try:
        check(part)
    except ValueError as error:
        part.unlink()
        raise ValueError(f"What {url} gave is no model, and was thrown away: {error}") from None


def _complete(part: Path, url: str) -> None:
    """Receives what is missing, again and again as long as something comes."""
    while True:
        before = _size(part)
        try:
            if _receive(part, url):
                return
        except HTTPError as error:
            if error.code == 416 and part.exists():  # no such range: the part is as long as the file, or longer
                part.unlink()
                continue
            raise FileNotFoundError(_by_hand(url, f"the server says {error.code} {error.reason}")) from None
        except _Lost as error:
            raise FileNotFoundError(_by_hand(url, f"there is no connection ({error})")) from None
        if _size(part) <= before:
            raise FileNotFoundError(_by_hand(url, f"the connection was lost after {before >> 20} MiB, which are kept"))


class _Lost(Exception):
    """The server cannot be reached."""


def _receive(part: Path, url: str) -> bool:
    """Adds to `part` what one connection gives; whether it is whole."""
    headers, mark = {"User-Agent": "fewstep", "Accept-Encoding": "identity"}, _mark(part)
    if part.exists() and mark.is_file() and mark.stat().st_size:
        headers |= {"Range": f"bytes={_size(part)}-", "If-Range": mark.read_text("utf-8")}
    with _opened(urllib.request.Request(url, headers=headers)) as response:
        have = _size(part) if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        _require_room(part.parent, (total or 0) - have, url)
        mark.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified") or "", "utf-8")
        with open(part, "ab" if have else "wb") as file, _bar(url, have, total) as advance:
            ended = _pour(response, file, advance)
            file.flush()
            os.fsync(file.fileno())
    return ended if total is None else _size(part) == total


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[HTTPResponse]:
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise _Lost(getattr(error, "reason", None) or error) from None
    with response:
        yield response


def _pour(response: HTTPResponse, file: IO[bytes], advance: Callable[[int], object]) -> bool:
    """Whether it ended well, as far as can be told without a length."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException):
            return False
        if not chunk:
            return True
        file.write(chunk)
        advance(len(chunk))


@contextmanager
def _bar(url: str, have: int, total: int | None) -> Iterator[Callable[[int], object]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn(kept(url).name), BarColumn(bar_width=24), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("left"), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, completed=have)
        yield lambda more: progress.advance(task, more)


def _require_room(folder: Path, size: int, url: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"{url} needs {size >> 20} MiB in {folder}, and {free >> 20} MiB are free: make room, or set "
                      "FEWSTEP_CACHE to a folder on another disk.")  # fmt: skip


def _by_hand(url: str, why: str) -> str:
    return f"{kept(url).name} is not here, and {why}: it is expected at {kept(url)}, from {url}"


def _mark(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
