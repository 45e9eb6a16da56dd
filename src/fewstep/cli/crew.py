"""Several processes that share one piece of work, as torchrun starts them (RANK, WORLD_SIZE, MASTER_ADDR)."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

PATIENCE = timedelta(days=30)
"""How long one process waits for the slowest; one that dies ends the wait at once."""


@dataclass(frozen=True)
class Crew:
    """This process among `world`; process 0 speaks and writes what they share."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def first(self, work: Callable[[], bool]) -> bool:
        """What process 0 answers, in every process. If it fails, the others end quietly."""
        if self.world == 1:
            return work()
        try:
            answer = int(work()) if self.main else 0
        except BaseException:
            self._told(-1)
            raise
        if (answer := self._told(answer)) < 0:
            raise SystemExit(1)
        return bool(answer)

    def meet(self) -> None:
        """Waits until all are here."""
        self._told(0)

    def _told(self, number: int) -> int:
        """The number of process 0."""
        if self.world == 1:
            return number
        import torch
        import torch.distributed as dist

        told = torch.tensor(number)
        dist.broadcast(told, src=0)
        dist.barrier()
        return int(told)


@contextmanager
def crew() -> Iterator[Crew]:
    """The processes that were started together; this one alone without a launcher."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Crew()
        return
    if "MASTER_ADDR" not in os.environ:
        raise ValueError("WORLD_SIZE is set, but not MASTER_ADDR: start several processes with torchrun.")
    import torch.distributed as dist

    dist.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Crew(rank, world)
    finally:
        dist.destroy_process_group()


def own_device(device: str) -> str:
    """`auto` and `cuda` are this process's own GPU where a launcher started several on one machine."""
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1 and device in ("auto", "cuda"):
        import torch

        if torch.cuda.is_available():
            return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device


@contextmanager
def bar(total: int, completed: int, us: Crew) -> Iterator[Callable[[int], None]]:
    """A bar with the time left; the other processes are taken to be as fast as this one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    left = TimeRemainingColumn(), TextColumn("left")
    columns = TextColumn("drawing"), BarColumn(bar_width=24), MofNCompleteColumn(), *left
    console = Console(stderr=True)
    silent = not (us.main and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=silent) as progress:
        task = progress.add_task("", total=total, completed=completed)
        yield lambda more: progress.advance(task, more)
