"""The order of the data, a pure function of (seed, step).

Sample j of step k has the global number g = k·batch + j. It lies in epoch e = ⌊g / n⌋ at position
p = g mod n, and is picture π_{seed,e}(p). The permutation π_{seed,e} of 0…n−1 drops and repeats nothing;
it sorts the raw words of a Philox stream keyed on (seed, e) (Salmon et al. 2011), which NumPy promises not
to change. A run that resumes at step k needs to know k only.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_ORDER, _AUGMENT = 0x0D, 0xA6


def words(seed: int, purpose: int, number: int, count: int) -> np.ndarray:
    """`count` uint64 words that depend on (seed, purpose, number) alone; fewer words are a prefix of more."""
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    key = np.random.SeedSequence(entropy=seed, spawn_key=(purpose, number))
    return np.random.Philox(key).random_raw(count)


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """int64 (n,), read-only: the order of one epoch."""
    order = np.argsort(words(seed, _ORDER, epoch, n), kind="stable")
    order.flags.writeable = False
    return order


def augmentation(seed: int, step: int, batch: int) -> np.ndarray:
    """float64 (batch, 3) in [0, 1): sample j's flip, top, left, a function of (seed, step, j) alone."""
    return (words(seed, _AUGMENT, step, batch * 3) >> np.uint64(11)).reshape(batch, 3) * 2.0**-53


@dataclass(frozen=True)
class Order:
    """`Order(seed, n)[g]` is the picture of global number g; `rows(step, batch)` those of one step."""

    seed: int
    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"an order needs at least one picture, not {self.n}")

    def __getitem__(self, g: int) -> int:
        epoch, position = divmod(g, self.n)
        if epoch < 0:
            raise IndexError(f"the order begins at 0, it has no number {g}")
        return int(permutation(self.seed, epoch, self.n)[position])

    def rows(self, step: int, batch: int) -> np.ndarray:
        """int64 (batch,): the pictures of step `step`, across the ends of epochs where it meets them."""
        g, end, parts = step * batch, (step + 1) * batch, []
        while g < end:
            epoch, position = divmod(g, self.n)
            taken = min(end - g, self.n - position)
            parts.append(permutation(self.seed, epoch, self.n)[position : position + taken])
            g += taken
        return np.concatenate(parts) if parts else np.empty(0, np.int64)
