"""fewstep: its recipes for MNIST, begun from nothing, by its own step (`fewstep.training.stepping`); ECT also with the
noise coupled to the pictures (`--coupling optimal-transport`).

Recipes count steps; here the share of the time takes the place of k/K, for the curriculum as for the learning rate.
"""

import copy
from abc import abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.conditions import Nothing
from fewstep.denoiser import Denoiser
from fewstep.design import Design
from fewstep.distances import PseudoHuber
from fewstep.model import Model
from fewstep.objectives import Objective
from fewstep.recipes import mnist
from fewstep.training.building import Parts
from fewstep.training.processes import Processes
from fewstep.training.recipe import Recipe
from fewstep.training.state import State
from fewstep.training.stepping import Stepper
from fewstep.weightings import Uniform

from .method import TOTAL, Method, Way

TIMES = dict(enumerate(mnist.UNSEARCHED, start=1))
"""Steps → times: those of the recipes that nobody searched times for."""


def unconditional(recipe: Recipe, seed: int, batch: int, architecture: Any) -> Recipe:
    """From nothing, without labels, with the optimizer and average of the recipe that is made for it."""
    like = mnist.ict()
    return replace(recipe, teacher=None, guidance=1.0, optimizer=like.optimizer, ema=like.ema, seed=seed, batch=batch,
                   architecture=architecture, steps=TOTAL)  # fmt: skip


class Own(Method):
    """A recipe of fewstep."""

    @staticmethod
    @abstractmethod
    def make() -> Recipe:
        """The recipe."""

    def begin(self) -> None:
        recipe = unconditional(type(self).make(), self.seed, 1, self.network.shape)
        objective: Objective = recipe.objective
        self.state = State(self.network, recipe.optimizer, recipe.ema, target=objective.target_rate(0.0) is not None)
        self.design = Design(architecture=recipe.architecture, parameterization=recipe.parameterization)
        self.recipe, self.stepper = recipe, None

    def step(self, x_0: Tensor, share: float) -> float:
        stepper = self.stepper or self._begun(len(x_0))
        stepper.recipe.now = share
        stepper.recipe.optimizer.now = share
        return stepper(x_0, torch.full((len(x_0),), -1)).loss

    def _begun(self, batch: int) -> Stepper:
        recipe, state = replace(self.recipe, batch=batch), self.state
        student = self._denoiser(state.network)
        target = student if state.target is None else self._denoiser(state.target)
        parts = Parts(_Timed(recipe), self.design, state, student, target, None, Nothing())  # type: ignore[arg-type]
        self.stepper = Stepper(parts, Processes("cpu"))
        return self.stepper

    def _denoiser(self, network: nn.Module) -> Denoiser:
        return Denoiser(network, self.recipe.schedule, self.recipe.parameterization)

    def ways(self) -> dict[str, Way]:
        averaged = self.recipe.architecture.build()
        averaged.load_state_dict(self.state.averaged())
        live = copy.deepcopy(self.state.network)  # a model freezes its network
        return {"averaged": self._way(averaged), "live": self._way(live)}

    def _way(self, network: nn.Module) -> Way:
        denoiser = self._denoiser(network)
        model = Model(denoiser, self.design, "cpu")

        def sample(steps: int, n: int) -> Tensor:
            return model.sample(n, times=TIMES[steps], seed=int(torch.randint(1 << 31, ())), batch=250)

        return Way(network, sample, lambda x, t: denoiser(x, torch.full((len(x),), t)), self.recipe.schedule.t_min)


class _Timed:
    """A recipe, or its optimizer, whose progress is `now`; all else is its own."""

    def __init__(self, of: Any):
        self.of, self.now = of, 0.0
        if isinstance(of, Recipe):
            self.optimizer = _Timed(of.optimizer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)

    def progress(self, step: int) -> float:
        return self.now

    def rate(self, step: int, steps: int) -> float:
        return self.of.rate(round(self.now * TOTAL), TOTAL)


class OwnCT(Own):
    """Recipe mnist-ct from nothing."""

    make = staticmethod(mnist.ct)


class OwnICT(Own):
    """Recipe mnist-ict."""

    make = staticmethod(mnist.ict)


class OwnECT(Own):
    """Recipe mnist-ect from nothing."""

    make = staticmethod(mnist.ect)


def _with(recipe: Recipe, **parts: Any) -> Recipe:
    return replace(recipe, objective=replace(recipe.objective, **parts))


NORM = PseudoHuber(0.03)
"""The distance that the recipes had first: of the whole picture."""


class NormCT(Own):
    """CT as it was first."""

    @staticmethod
    def make() -> Recipe:
        return _with(mnist.ct(), distance=NORM)


class NormECT(Own):
    """ECT as it was first: the norm of the whole picture, all weights 1."""

    @staticmethod
    def make() -> Recipe:
        return _with(mnist.ect(), distance=NORM, weighting=Uniform())


class NormGapECT(Own):
    """ECT with that distance alone."""

    @staticmethod
    def make() -> Recipe:
        return _with(mnist.ect(), distance=NORM)


class EvenECT(Own):
    """ECT with those weights alone."""

    @staticmethod
    def make() -> Recipe:
        return _with(mnist.ect(), weighting=Uniform())


class CoupledECT(Own):
    """ECT with noise and pictures coupled by optimal transport within the batch."""

    @staticmethod
    def make() -> Recipe:
        return replace(mnist.ect(), coupling="optimal-transport")
