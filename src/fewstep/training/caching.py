"""A cache on disk of what is costly to compute: records of one layout, made once and in order.

    FOLDER/KIND-KEY/about.json     what they were made from, how a record is laid out, how many are done
    FOLDER/KIND-KEY/records.bin    the records, one behind the other

KEY is a hash of what they are made from (data, geometry, weights). So records of other data or other weights are never
taken for these: they lie beside, and may be removed. Records are on disk before `about.json` counts them: whatever
stops a process, the next goes on behind the last one counted, with the batches of an undisturbed run, and fills up a
file that was cut off. One process writes, others wait for it. A folder that is complete is only read.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.files import read_json, write_json
from fewstep.images.parallel import bar

Compute = Callable[[range], Mapping[str, np.ndarray]]
"""From the numbers of records to their fields, each (len(numbers), …)."""

_EVERY = 5.0
"""Seconds of work that a killed process may lose."""


def cached(
    folder: str | Path,
    kind: str,
    made_from: Mapping[str, Any],
    count: int,
    compute: Compute,
    *,
    batch: int,
    what: str,
    progress: bool = True,
) -> np.ndarray:
    """`count` records, memory-mapped: a structured array (count,) with the fields that `compute` gives.

    `made_from` is plain JSON data and says all that decides what they are; `what` is shown beside the bar.
    Raises OSError where there is no room for them, and what `compute` raises; what is done by then is kept.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    text = json.dumps(made_from, sort_keys=True)
    work = _Work(Path(folder) / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}", json.loads(text), count)
    if work.state()[1] < count:
        try:
            work.place.mkdir(parents=True, exist_ok=True)
            with _alone(work.place):
                work.go_on(compute, batch, what, progress)
        except OSError as error:
            raise _said(error, work.place) from None
    return work.records()


class _Work:
    """The records at one place."""

    def __init__(self, place: Path, made_from: Mapping[str, Any], count: int) -> None:
        self.place, self.made_from, self.count = place, made_from, count
        self.about, self.file = place / "about.json", place / "records.bin"

    def state(self) -> tuple[np.dtype | None, int]:
        """The layout and how many records are done; (None, 0) where nothing is, or it is of something else."""
        try:
            about = read_json(self.about)
            if about["made_from"] != self.made_from:
                return None, 0
            layout = np.dtype([(name, kind, tuple(shape)) for name, kind, shape in about["layout"]])
            if layout.hasobject:
                return None, 0
            return layout, min(int(about["done"]), self.count, self.file.stat().st_size // layout.itemsize)
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            return None, 0

    def records(self) -> np.ndarray:
        layout, done = self.state()
        if layout is None or done < self.count:
            raise RuntimeError(f"{self.place} was changed while it was written: start again.")
        return np.asarray(np.memmap(self.file, layout, "r", shape=(self.count,)))

    def go_on(self, compute: Compute, batch: int, what: str, progress: bool) -> None:
        done = self.state()[1]
        if done == self.count:  # another process did it while this one waited
            return
        with bar(self.count - done, what, shown=progress) as advance:
            self._append(compute, batch, advance)

    def _append(self, compute: Compute, batch: int, advance: Callable[[int], None]) -> None:
        layout, done = self.state()
        done -= done % batch  # the last bits of a network's numbers depend on its batch
        counted = time.monotonic()
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:
            file.seek(done * layout.itemsize if layout else 0)
            try:
                while done < self.count:
                    numbers = range(done, min(done + batch, self.count))
                    block = _packed(compute(numbers), len(numbers))
                    layout = self._checked(layout, block.dtype, done)
                    file.write(block.tobytes())
                    done = numbers.stop
                    advance(len(numbers))
                    if time.monotonic() - counted > _EVERY:
                        self._count(file, layout, done)
                        counted = time.monotonic()
                file.truncate()
            finally:
                if layout is not None:
                    self._count(file, layout, done)

    def _checked(self, layout: np.dtype | None, found: np.dtype, done: int) -> np.dtype:
        """The layout, where all records have it and there is room for the rest."""
        if layout is None or done == 0:
            need = (self.count - done) * found.itemsize
            free = shutil.disk_usage(self.place).free
            if need > free:
                raise OSError(
                    f"{self.place} needs {need / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free:"
                    " make room, or choose another folder."
                )
        elif layout != found:
            raise ValueError(f"Record {done} of {self.place} is laid out as {found}, those before as {layout}.")
        return found

    def _count(self, file, layout: np.dtype, done: int) -> None:
        file.flush()
        os.fsync(file.fileno())
        parts = [(name, layout[name].base.str, list(layout[name].shape)) for name in layout.names or ()]
        write_json(self.about, {"made_from": self.made_from, "layout": parts, "done": done})


def _said(error: OSError, place: Path) -> OSError:
    """What went wrong at the cache, in a sentence; errors from elsewhere as they are."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(f"No room is left for {place}: make some, and start again.")
    if str(error.filename or "").startswith(str(place)):
        return OSError(f"{place} cannot be written to ({error}): choose another folder for the cache (--latent.cache).")
    return error


def _packed(fields: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    for name, values in fields.items():
        if values.ndim == 0 or len(values) != n:
            raise ValueError(f"{name} of {n} records has the shape {values.shape}: it should begin with {n}")
    block = np.empty(n, [(name, values.dtype, values.shape[1:]) for name, values in fields.items()])
    for name, values in fields.items():
        block[name] = values
    return block


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Waits until no other process is at work here. File systems without locks let everyone in at once."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(place / ".lock", "a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                if os.environ.get("RANK", "0") == "0":
                    print(f"Another process is making {place}: waiting for it.", file=sys.stderr)
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield
