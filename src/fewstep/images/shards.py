"""Which tars a path names.

    photos.tar              one
    shard-{000..003}.tar    several, by the braces of the shell; lists {a,b} too
    a folder                every .tar in it, where it holds no pictures
    pipe:COMMAND            what a shell command prints (ranges {000..003}: several commands)

A command runs only where `Data.pipe` allows it; what it prints is kept in a file until the process ends, because
training reads pictures in any order.
"""

import atexit
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from .data import Data
from .sources import missing

_RANGE = r"\{(\d+\.\.\d+)\}"
_BRACES = r"\{(\d+\.\.\d+|[^{}]*,[^{}]*)\}"  # commands have commas in braces of their own


def shards(data: Data) -> list[Path]:
    """The tars that the path names by itself: one, several by braces, or what commands print; none for other data.

    Raises FileNotFoundError for a tar that is not there, ValueError for a command that is not allowed or fails.
    """
    if data.path.startswith("pipe:"):
        if not data.pipe:
            raise ValueError(
                f"{data.path} runs a shell command: read it, and if you trust it allow it with pipe=True"
                " (--data.pipe; --pipe for data check)"
            )
        return [_piped(command) for command in _expanded(data.path.removeprefix("pipe:"), _RANGE)]
    if not data.path.lower().endswith(".tar"):
        return []
    named = Path(data.path).expanduser()
    if named.is_dir():
        return []
    paths = [named] if named.exists() else [Path(name).expanduser() for name in _expanded(data.path, _BRACES)]
    if gone := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(missing(gone[0]))
    return paths


def tars_in(folder: Path) -> list[Path]:
    """The tars directly in a folder, by name."""
    return sorted(path for path in folder.glob("*.tar") if path.is_file() and not path.name.startswith("."))


def _expanded(text: str, braces: str) -> list[str]:
    """`a-{08..10}-{x,y}` → a-08-x, a-08-y, a-09-x, …, in the order of the shell."""
    parts = re.split(braces, text)
    return [
        "".join(words) for words in itertools.product(*(_choices(p) if k % 2 else [p] for k, p in enumerate(parts)))
    ]


def _choices(inside: str) -> list[str]:
    if "," in inside:
        return inside.split(",")
    first, last = inside.split("..")
    step = 1 if int(first) <= int(last) else -1
    width = len(first) if first.startswith("0") or last.startswith("0") else 0
    return [f"{k:0{width}d}" for k in range(int(first), int(last) + step, step)]


@cache
def _piped(command: str) -> Path:
    """What a command prints, in a file that is removed at the end of this process."""
    handle, name = tempfile.mkstemp(".tar", dir=_spool())
    with os.fdopen(handle, "wb") as file:
        done = subprocess.run(command, shell=True, stdout=file)
    if done.returncode:
        raise ValueError(f"the command {command!r} of the data failed (exit code {done.returncode})")
    return Path(name)


@cache
def _spool() -> str:
    folder, owner = tempfile.mkdtemp(prefix="fewstep-"), os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder
