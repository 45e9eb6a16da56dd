"""Batches for training: those of step k are a function of (data, seed, k), whatever the number of workers.

Sample j of step k is picture `Order(seed, n)[k·batch + j]`, flipped and cropped by row j of
`augmentation(seed, k)`. A process of several takes its rows j of the global batch. Threads decode ahead where
pictures are not in memory: Pillow decodes outside Python's lock, and Ctrl-C meets no worker processes.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from .opening import signed
from .order import Order, augmentation


@runtime_checkable
class Rows(Protocol):
    """What batches are made of: `Images`, or latents in their place."""

    def __len__(self) -> int: ...

    @property
    def in_memory(self) -> bool:
        """Whether rows cost too little for threads to help."""
        ...

    def rows(self, indices: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 or float32 (b, C, H, W) and int64 (b,); `draws` (b, 3) in [0, 1) hold all that is random in them."""
        ...


@dataclass(frozen=True)
class Batches:
    """Iterates over (x_0 float32 (b, C, H, W), labels int64 (b,)) from step `start` on, forever.

    Pictures (uint8) come out in [−1, 1]; latents (float32) as they are.

    Raises ValueError for a batch below 1, a rank outside 0…world−1, more processes than rows.
    """

    images: Rows
    seed: int
    batch: int
    """The global batch, over all processes."""
    start: int = 0
    """The first step to yield."""
    rank: int = 0
    world: int = 1
    workers: int = 0
    """Threads that decode ahead; 0 decodes when asked. Pictures in memory need none."""
    ahead: int = 2
    """How many batches are prepared ahead when there are workers."""

    def __post_init__(self) -> None:
        if self.batch < 1 or self.start < 0 or self.workers < 0 or self.ahead < 1:
            raise ValueError("batch and ahead must be at least 1, start and workers at least 0")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is outside 0…{self.world - 1}")
        if self.world > self.batch:
            raise ValueError(f"a batch of {self.batch} cannot be shared by {self.world} processes")

    @property
    def mine(self) -> slice:
        """This process's rows of the global batch."""
        return slice(self.rank * self.batch // self.world, (self.rank + 1) * self.batch // self.world)

    def at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch of one step."""
        return _tensors([self.images.rows(*self._wanted(step))])

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.workers == 0 or self.images.in_memory:
            step = self.start
            while True:
                yield self.at(step)
                step += 1
        yield from self._ahead()

    def _ahead(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="pictures")
        try:
            queue, step = deque(), self.start
            while True:
                while len(queue) <= self.ahead:
                    indices, draws = self._wanted(step)
                    parts = np.array_split(np.arange(len(indices)), min(self.workers, len(indices)))
                    queue.append([pool.submit(self.images.rows, indices[p], draws[p]) for p in parts])
                    step += 1
                yield _tensors([future.result() for future in queue.popleft()])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _wanted(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = Order(self.seed, len(self.images)).rows(step, self.batch)
        return rows[self.mine], augmentation(self.seed, step, self.batch)[self.mine]


def _tensors(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, labels = zip(*parts, strict=True)
    x_0 = np.concatenate(rows)
    return signed(x_0) if x_0.dtype == np.uint8 else torch.from_numpy(x_0), torch.from_numpy(np.concatenate(labels))
