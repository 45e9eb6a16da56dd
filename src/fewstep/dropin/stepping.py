"""What schedulers with diffusers' interface share: which step comes next, the noise between two, names and files.

A scheduler holds decreasing `timesteps`. The first call of a run looks its timestep up among them (or starts at
`begin_index`); from then on the steps are counted, and later timesteps are not looked at, as in diffusers.
"""

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from fewstep.codec import nearest

P = ParamSpec("P")
R = TypeVar("R")
Generators = torch.Generator | list[torch.Generator] | None
"""One source of noise for the batch, one for each of its rows, or torch's global one."""

Timestep = float | int | np.generic | np.ndarray | Tensor
"""One number, however it comes."""

logger = logging.getLogger("diffusers.fewstep")  # below diffusers' own, so that its verbosity settings hold here too


def known_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, with a TypeError that names the nearest argument for a keyword that it does not have."""
    names = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in names and not name.startswith("_"):  # private ones are diffusers' notes in a config
                raise TypeError(f"{function.__qualname__} has no argument '{name}'{nearest(name, names)}")
        return function(*args, **kwargs)

    return checked


class Stepping(SchedulerMixin, ConfigMixin, ABC):
    """The place in a run. A subclass sets `timesteps` and, with `num_train_timesteps` among its arguments, `config`."""

    order = 1
    timesteps: Tensor

    def __init__(self):
        # A pipeline's index names its parts by their module: diffusers' own, where a class of the same name loads them.
        self.__module__ = "diffusers"
        self.restart()

    def restart(self) -> None:
        """Forgets the place in the schedule, and where to begin."""
        self._step_index: int | None = None
        self._begin_index: int | None = None

    def __len__(self) -> int:
        """`num_train_timesteps`."""
        return self.config.num_train_timesteps

    @property
    def config(self) -> Any:
        """The constructor's arguments, as saved."""
        return super().config

    @abstractmethod
    def step(self, *args: Any, **kwargs: Any) -> Any:
        """One step of a run: from the network's output and the sample to the next sample."""

    @classmethod
    def _get_compatibles(cls) -> list[type]:
        return [cls, *super()._get_compatibles()]

    @property
    def step_index(self) -> int | None:
        """The step that comes next; None before the first of a run."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """The step that a run starts with; None where it is looked up."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """The next run starts with this step instead of looking its timestep up. `set_timesteps` forgets it."""
        if begin_index < 0:
            raise ValueError(f"begin_index counts the steps from 0; it cannot be {begin_index}.")
        self._begin_index = begin_index

    def index_for_timestep(self, timestep: Timestep, schedule_timesteps: Tensor | None = None) -> int:
        """Where `timestep` (a number or one-element tensor) stands in `schedule_timesteps` (n,), or in `timesteps`.

        It may have been rounded to float32. Of several that match, the second is taken, so that a run that starts in
        the middle of a schedule skips no level. Raises ValueError, with those that there are, for an unknown one.
        """
        known = self.timesteps if schedule_timesteps is None else schedule_timesteps
        known = np.asarray(known.tolist(), dtype=np.float64)
        matches = np.flatnonzero(np.isclose(known, float(timestep), rtol=1e-6, atol=1e-6))
        if not len(matches):
            raise ValueError(
                f"{float(timestep):g} is none of the timesteps of this schedule ({_listed(known)}): "
                "pass values of scheduler.timesteps, as they are after set_timesteps."
            )
        return int(matches[min(1, len(matches) - 1)])

    def _init_step_index(self, timestep: Timestep) -> None:
        self._step_index = self.index_for_timestep(timestep) if self._begin_index is None else self._begin_index

    def _place(self, timestep: Timestep) -> int:
        """The step to be done; raises ValueError when the last one is done already."""
        if self._step_index is None:
            self._init_step_index(timestep)
        if self._step_index >= len(self.timesteps):  # pyright: ignore[reportOptionalOperand]
            raise ValueError(
                f"This schedule ends after step {len(self.timesteps) - 1}, and step {self._step_index} was asked for: "
                "call set_timesteps before another run."
            )
        return self._step_index  # pyright: ignore[reportReturnType]


def is_integer(timestep: Timestep) -> bool:
    """Whether this is an integer or a tensor or array of them, on any device."""
    if isinstance(timestep, Tensor):
        return not timestep.is_floating_point()
    return isinstance(timestep, int | np.integer) or (isinstance(timestep, np.ndarray) and timestep.dtype.kind in "iu")


def unit_noise(like: Tensor, generator: Generators) -> Tensor:
    """Unit noise of a tensor's shape, dtype and device. A list of generators has one for each row, or a single one.

    The numbers are those that diffusers draws; a generator of the CPU gives the same ones for every device.
    """
    if isinstance(generator, list) and len(generator) not in (1, len(like)):
        raise ValueError(f"A list of generators has one for each of the {len(like)} samples, not {len(generator)}.")
    return randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _listed(values: np.ndarray) -> str:
    shown = [f"{value:g}" for value in values]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", shown[-1]]) or "it has none"
