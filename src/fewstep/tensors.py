"""Small things about tensors that every layer above needs.

A *stream* is a source of random numbers that is a pure function of integers. `rng(seed, purpose, a, b)` always
gives the same numbers, whatever was drawn before it, on every machine and for every batch size:

    image i of a sampling run   noise(seed, [i], shape)
    sample j of training step k rng(seed, TRAIN, k, j)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SAMPLE, LABEL, TRAIN, AUGMENT, DROPOUT, PREVIEW, TIMES, GUIDANCE, EVALUATE = range(9)
"""Purposes: streams that must never share numbers."""

_MASK = (1 << 64) - 1
_GOLDEN = 0.6180339887498949


def rng(seed: int, purpose: int, a: int = 0, b: int = 0) -> np.random.Generator:
    """A generator that depends on its four arguments alone (counter-based Philox).

    `seed` takes any integer of 64 bits, `a` and `b` any non-negative ones.
    """
    key = np.array([seed & _MASK, purpose], dtype=np.uint64)
    counter = np.array([0, 0, a, b], dtype=np.uint64)  # the low words are left free for the draws themselves
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def noise(
    seed: int, indices: Sequence[int] | range, shape: Sequence[int], *, purpose: int = SAMPLE, a: int = 0
) -> Float[Tensor, "n *shape"]:
    """Unit Gaussian noise, float32 (len(indices), *shape): row r depends on (seed, purpose, a, indices[r]) alone."""
    out = np.empty((len(indices), *shape), dtype=np.float32)
    stream = rng(seed, purpose, a)
    state = stream.bit_generator.state
    for row, index in zip(out, indices, strict=True):
        state["state"]["counter"][3] = index  # rng(seed, purpose, a, index), without the cost of a new generator
        stream.bit_generator.state = state
        stream.standard_normal(dtype=np.float32, out=row)
    return torch.from_numpy(out)


def uniforms(seed: int, purpose: int, step: int, indices: Sequence[int] | range) -> Float[Tensor, "n"]:
    """Uniforms in [0, 1), float64 (n,): u_j = frac(U(seed, step) + j φ).

    Each one is uniform by itself and depends on (seed, step, j) alone; together they cover [0, 1) more evenly than
    independent draws do (an additive recurrence with the golden ratio), which lowers the variance of a loss that is
    averaged over noise levels.
    """
    first = rng(seed, purpose, step).random()
    j = np.asarray(indices, dtype=np.float64)
    return torch.from_numpy(np.modf(first + j * _GOLDEN)[0])


def expand_as(t: Tensor, x: Tensor) -> Tensor:
    """A scalar or (n,) tensor with trailing axes added until it broadcasts against x (n, ...)."""
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


def at_least_float32(t: Tensor) -> Tensor:
    """Times and coefficients are never kept in less than float32: bfloat16 would turn 1092 into 1096."""
    return t if t.dtype in (torch.float32, torch.float64) else t.float()


def as_times(t: float | Tensor, x: Tensor) -> Float[Tensor, "n"]:
    """A time, given as a number, a scalar or (n,) tensor, as an (n,) tensor on x's device (float32 or float64)."""
    if not isinstance(t, Tensor):
        t = torch.tensor(t, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    t = t.to(x.device)
    return t.expand(x.shape[0]) if t.ndim == 0 else t


def mean_flat(x: Tensor) -> Float[Tensor, "n"]:
    """Mean over all axes but the first."""
    return x.flatten(1).mean(1)


def sum_flat(x: Tensor) -> Float[Tensor, "n"]:
    """Sum over all axes but the first."""
    return x.flatten(1).sum(1)


@contextmanager
def same_randomness(device: torch.device) -> Iterator[None]:
    """What runs after the block sees the random state that the block saw: two passes, one dropout mask.

    Saves the CPU's generator and, for an accelerator, the device's own (the CPU's alone would leave the masks of a
    GPU different, a known defect of the original code).
    """
    accelerator = getattr(torch, device.type) if device.type != "cpu" else None
    before = torch.get_rng_state()
    on_device = _device_state(accelerator, device)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if accelerator is not None and on_device is not None:
            _restore(accelerator, on_device, device)


def _device_state(accelerator, device: torch.device) -> Tensor | None:
    if accelerator is None:
        return None
    return accelerator.get_rng_state() if device.type == "mps" else accelerator.get_rng_state(device)


def _restore(accelerator, state: Tensor, device: torch.device) -> None:
    if device.type == "mps":
        accelerator.set_rng_state(state)
    else:
        accelerator.set_rng_state(state, device)
