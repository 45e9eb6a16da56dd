"""Files that are either complete or not there: written aside, synced, then renamed."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import IO, Any, TypeVar

Loaded = TypeVar("Loaded")

ASIDE = ".partial-"
"""How unfinished files and folders begin; what a killed process leaves can be removed by that name."""

OLD = ".replaced-"
"""How a folder is called for the moment in which a new one takes its place."""

_held: dict[Path, IO] = {}


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; when the block ends well its file takes `path`'s place, else it is removed."""
    path = _followed(path)
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
    """The same for a folder. An old folder at `path` is moved away only when the new one is complete.

    A process killed between the two renames leaves the old folder under another name: `remove_leftovers`, or the next
    `whole_folder` of that path, puts it back.
    """
    path = _followed(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, so it cannot be the folder that is to be written.")
    path.parent.mkdir(parents=True, exist_ok=True)
    old = path.with_name(OLD + path.name)
    _settle(old)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=path.parent))
    aside.chmod(0o777 & ~_umask())
    try:
        yield aside
        for part in [*aside.rglob("*"), aside]:
            if part.is_file():
                part.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner can read
            _sync(part)
        if path.exists():
            os.replace(path, old)
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        _settle(old)


def remove_leftovers(folder: str | Path) -> None:
    """Removes what killed processes left unfinished in a folder, and puts back what they were about to replace."""
    for leftover in Path(folder).glob(f"{ASIDE}*"):
        shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    for old in Path(folder).glob(f"{OLD}*"):
        _settle(old)


def hold(folder: str | Path) -> None:
    """Keeps other processes from holding this folder until this process ends, however it ends.

    Raises RuntimeError where another one holds it. File systems without locks hold nothing.
    """
    path = Path(folder).resolve() / ".lock"
    try:
        import fcntl
    except ImportError:  # Windows
        return
    if path in _held and path.exists():
        return
    file = open(path, "a")  # noqa: SIM115 (it stays open as long as the folder is held)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise RuntimeError(
                f"Another process is at work in {folder}: wait for its end, or choose another folder."
            ) from None
        return
    _held[path] = file


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


def read_object(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file; ValueError, naming the file, for anything else."""
    plain = read_json(path)
    if not isinstance(plain, dict):
        raise ValueError(f"{path} is damaged: it is no JSON object.")
    return plain


def refuse_others(folder: Path, ours: Iterable[str]) -> None:
    """Raises FileExistsError for a folder with other files than `ours`, which would be lost if it were replaced."""
    if folder.is_dir() and (others := sorted({path.name for path in folder.iterdir()} - set(ours))):
        more = ", …" * (len(others) > 3)
        raise FileExistsError(f"{folder} holds other files ({', '.join(others[:3])}{more}), which would be lost: "
                              "choose another folder.")  # fmt: skip


def sha256(files: Sequence[Path]) -> str:
    """Over the content of files, one after another."""
    found = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def stamp(folder: str | Path) -> tuple[tuple[str, int, int], ...]:
    """(name, bytes, time of writing) of every file in a folder: another tuple where one was written anew; () where
    there is no folder, as for the name of something on the Hub."""
    files = (path for path in sorted(Path(folder).rglob("*")) if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def remembered(load: Callable[[str], Loaded], most: int = 4) -> Callable[[str], Loaded]:
    """`load` for folders, of which the last few results are kept, until their files are written anew. A folder that is
    gone is remembered as it was."""
    known: dict[str, tuple[tuple, Loaded]] = {}

    @wraps(load)
    def loaded(folder: str) -> Loaded:
        written = stamp(folder)
        if folder not in known or known[folder][0] != written != ():
            known[folder] = written, load(folder)
        known[folder] = known.pop(folder)  # the last used is the last forgotten
        while len(known) > most:
            del known[next(iter(known))]
        return known[folder][1]

    return loaded


def _followed(path: str | Path) -> Path:
    """Where a link leads, so that what it names is replaced and not the link."""
    path = Path(path)
    return path.resolve() if path.is_symlink() else path


def _settle(old: Path) -> None:
    """A folder on its way out: back to its place where nothing came there, else removed."""
    path = old.with_name(old.name.removeprefix(OLD))
    if old.exists() and not path.exists():
        os.replace(old, path)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
