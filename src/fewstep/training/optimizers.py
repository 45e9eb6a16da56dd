"""Optimizers and their learning rate, a pure function of the step.

lr(k) = lr · min(1, (k + 1)/warmup) · decay(k / steps)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Optimizer(ABC):
    """The hyper-parameters of an optimizer."""

    lr: float = 1e-3
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    warmup: int = 0
    """Steps of linear warm-up."""
    decay: Literal["constant", "cosine", "linear"] = "constant"
    """How the rate falls after the warm-up."""
    floor: float = 0.01
    """The share of the peak at the end of the decay."""

    def __post_init__(self):
        if self.lr < 0 or self.warmup < 0 or self.weight_decay < 0:
            raise ValueError("lr, warmup and weight_decay of an optimizer are 0 or more.")
        if not all(0 <= beta < 1 for beta in self.betas) or not 0 <= self.floor <= 1:
            raise ValueError("The betas of an optimizer lie in [0, 1), its floor in [0, 1].")

    @abstractmethod
    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The torch optimizer of these parameters."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of a step (counted from 0) of a run of `steps`."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        passed = min(1.0, step / max(1, steps))
        if self.decay == "cosine":
            fall = self.floor + (1 - self.floor) * (1 + math.cos(math.pi * passed)) / 2
        elif self.decay == "linear":
            fall = 1 - (1 - self.floor) * passed
        else:
            fall = 1.0
        return self.lr * rise * fall


@dataclass(frozen=True)
class RAdam(Optimizer):
    """Rectified Adam, the papers' optimizer: it needs no warm-up."""

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        decoupled = self.weight_decay > 0
        return torch.optim.RAdam(parameters, self.lr, self.betas, 1e-8, self.weight_decay, decoupled, foreach=True)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, self.lr, self.betas, 1e-8, self.weight_decay, foreach=True)
