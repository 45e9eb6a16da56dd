"""Checkouts of the peers: `DIR/owner+name`, told apart by a digest over the files that are imported.

What the peers import and a study does not need (MPI, file systems in the cloud, logging services) is replaced while
they are imported, where it is not installed: by an object that has every name. Nothing of it is ever called in a step.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from unittest.mock import MagicMock


class Checkout(NamedTuple):
    """Where a peer's code comes from."""

    name: str
    """owner/name on GitHub."""
    commit: str
    """The one that the adapters were written against."""
    digest: str
    """Of the imported files at that commit."""

    @property
    def folder(self) -> str:
        return self.name.replace("/", "+")


def place(peers: Path | None, checkout: Checkout) -> Path:
    """The checkout's folder; FileNotFoundError, with the way to get it, where there is none."""
    if peers is None:
        raise FileNotFoundError("The peers' code is not part of fewstep: name a folder of checkouts with --peers DIR.")
    path = peers / checkout.folder
    if not path.is_dir():
        raise FileNotFoundError(
            f"There is no {path}: git clone https://github.com/{checkout.name} {path} && "
            f"git -C {path} checkout {checkout.commit}"
        )
    return path


def digest(folder: Path, files: Sequence[str]) -> str:
    """16 hex digits over the contents of files."""
    found = hashlib.sha256()
    for name in files:
        found.update((folder / name).read_bytes())
    return found.hexdigest()[:16]


@contextmanager
def importing(folder: Path, absent: Sequence[str] = ()) -> Iterator[None]:
    """Modules of the folder can be imported by name; of `absent`, what is not installed is stood in for."""
    missing = [name for name in absent if not _there(name)]
    sys.path.insert(0, str(folder))
    for name in missing:
        sys.modules[name] = MagicMock(name=name)
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in missing:
            sys.modules.pop(name, None)


def _there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def bare_package(name: str, folder: Path) -> ModuleType:
    """A package whose own __init__ is not run, so that one module of it does not import all the others."""
    module = ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module
    return module
