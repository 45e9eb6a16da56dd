"""Files that are either complete or not there: written aside, synced, then renamed."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ASIDE = ".partial-"
"""How unfinished files and folders begin; what a killed process leaves can be removed by that name."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well its file takes `path`'s place, else it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=ASIDE, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())
        _sync(aside)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """The same for a folder. An old folder at `path` is moved away only when the new one is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=path.parent))
    aside.chmod(0o777 & ~_umask())
    old = aside.with_name(aside.name + "-old")
    try:
        yield aside
        for part in [*(p for p in aside.rglob("*") if p.is_file()), aside]:
            _sync(part)
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
        _sync(path.parent)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(folder: str | Path) -> None:
    """Removes what killed processes left unfinished in a folder."""
    for leftover in Path(folder).glob(f"{ASIDE}*"):
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def write_json(path: str | Path, plain: Any) -> None:
    """Indented JSON, whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """The JSON in a file; ValueError, naming the file, when it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}).") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
