"""The same work for many pictures, in threads: Pillow decodes outside Python's lock."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_CHUNK = 256


def each(work: Callable[[int], None], numbers: Sequence[int], what: str) -> None:
    """Does `work` for each number, with a bar called `what` when it takes longer than a second."""
    chunks = [numbers[a : a + _CHUNK] for a in range(0, len(numbers), _CHUNK)]
    stop = threading.Event()

    def run(chunk: Sequence[int]) -> int:
        for i in chunk:
            if stop.is_set():
                break
            work(i)
        return len(chunk)

    with ThreadPoolExecutor(cores()) as pool:
        try:
            with bar(len(numbers), what, shown=os.environ.get("RANK", "0") == "0") as advance:  # one for all processes
                for count in pool.map(run, chunks):
                    advance(count)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def cores() -> int:
    """Processors that this process may use, at most 16."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, allowed)


@contextmanager
def bar(total: int, what: str, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A function that tells how many more are done; what takes longer than a second gets a bar with the time left."""
    started, progress, done = time.monotonic(), None, 0

    def advance(count: int) -> None:
        nonlocal progress, done
        done += count
        if progress is None and shown and time.monotonic() - started > 1:
            from rich.console import Console
            from rich.progress import Progress

            progress = Progress(console=Console(stderr=True), transient=True)
            progress.add_task(what, total=total)
            progress.start()
        if progress is not None:
            progress.update(progress.task_ids[0], completed=done)

    try:
        yield advance
    finally:
        if progress is not None:
            progress.stop()
