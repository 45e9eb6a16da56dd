"""One evaluation by several processes, as torchrun starts them: each looks at its share of the blocks.

Blocks go to process 0 in their order, which alone puts them together and computes: more processes give the same bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch.distributed as dist

Told = TypeVar("Told")


@dataclass(frozen=True)
class Sharing:
    """This process among `world`."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of_group(cls) -> "Sharing":
        """All processes of torch.distributed's group; this one alone where there is none."""
        there = dist.is_available() and dist.is_initialized()
        return cls(dist.get_rank(), dist.get_world_size()) if there else cls()

    @property
    def main(self) -> bool:
        return self.rank == 0

    def gathered(self, part: Any) -> list[Any]:
        """In process 0 the parts of all, in the order of the processes; nothing in the others."""
        if self.world == 1:
            return [part]
        parts: list[Any] = [None] * self.world
        dist.gather_object(part, parts if self.main else None)
        return parts if self.main else []

    def told(self, work: Callable[[], Told]) -> Told:
        """What process 0 makes, in all processes. If it fails there, the others end quietly."""
        if self.world == 1:
            return work()
        answer: list[Any] = [None, False]
        try:
            if self.main:
                answer = [work(), True]
        finally:
            dist.broadcast_object_list(answer, src=0)
        if not answer[1]:
            raise SystemExit(1)
        return answer[0]
