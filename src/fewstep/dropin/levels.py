"""How the levels of a run are asked for: a number of steps, indices of the training grid, or noise levels.

Each function returns what was asked, from noise to picture, or raises ValueError in one sentence.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np


def spaced(steps: Any, grid: int) -> list[int]:
    """The first `steps` multiples of grid // steps: evenly spaced indices of a grid, 1 ≤ steps ≤ grid."""
    (steps,) = whole([steps], "num_inference_steps")
    if not 1 <= steps <= grid:
        raise ValueError(
            f"`num_inference_steps` lies between 1 and num_train_timesteps={grid}, the levels of this model's training "
            f"grid; it cannot be {steps}."
        )
    return [i * (grid // steps) for i in range(steps)]


def indices(timesteps: Any, grid: int) -> list[int]:
    """Strictly decreasing indices grid − 1 … 0, reversed."""
    asked = whole(numbers(timesteps, "timesteps", "[22, 0]"), "timesteps")
    if asked[-1] < 0 or asked[0] >= grid:
        raise ValueError(
            f"`timesteps` are indices from {grid - 1} (sigma_min) to 0 (sigma_max), and these reach from {asked[0]} to "
            f"{asked[-1]}: for real noise levels pass sigmas=[80.0, 1.38]."
        )
    return asked[::-1]


def noise_levels(sigmas: Any, low: float, high: float) -> list[float]:
    """Strictly decreasing noise levels within [low, high], but for rounding."""
    asked = numbers(sigmas, "sigmas", "[80.0, 1.38]")
    if not (low * (1 - 1e-6) <= asked[-1] and asked[0] <= high * (1 + 1e-6)):
        raise ValueError(f"`sigmas` lie between sigma_min={low:g} and sigma_max={high:g}; these do not: {asked}.")
    return [min(max(sigma, low), high) for sigma in asked]


def numbers(values: Any, name: str, example: str) -> list[float]:
    """A list, tuple, array or tensor of strictly decreasing numbers, at least one."""
    try:
        array = np.asarray(values.tolist() if hasattr(values, "tolist") else list(values), dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` is a list of numbers such as {example}, not {values!r}.") from None
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` is a list of at least one number, such as {example}, not {array.tolist()}.")
    if not (np.diff(array) < 0).all():
        raise ValueError(f"`{name}` must be strictly decreasing, such as {example}; these are not: {array.tolist()}.")
    return array.tolist()


def whole(values: Iterable[Any], name: str) -> list[int]:
    """Numbers that have no fraction, as integers."""
    values = list(values)
    for value in values:
        if not float(value).is_integer():
            raise ValueError(f"`{name}` counts in whole numbers, and {value} is none.")
    return [int(value) for value in values]
