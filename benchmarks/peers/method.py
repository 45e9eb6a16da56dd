"""What the study asks of an implementation: a step, and ways to draw from what it has learned.

    step(x_0, share) → loss        share ∈ [0, 1): of the training time that is gone
    ways() → name → Way            live and averaged weights, each with the sampler of the implementation

A way also has its consistency function f(x, t), so that f(x, t_min) = x can be checked.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewstep.training import optimizers

SHAPE = (1, 16, 16)
"""Channels, height, width."""

TOTAL = 1_000_000
"""What a schedule that counts steps takes for the number of all of them; the step is the share of it."""


class Way(NamedTuple):
    """One way to draw."""

    network: nn.Module
    """Whose weights are kept."""
    sample: Callable[[int, int], Tensor]
    """(steps, n) → pictures (n, C, H, W), about [−1, 1]; noise of torch's generator."""
    function: Callable[[Tensor, float], Tensor]
    """f(x, t)."""
    t_min: float
    """Where f(x, t_min) is x."""


@dataclass(frozen=True)
class Settings:
    """Optimizer, average, and what an objective has beside."""

    optimizer: str = "RAdam"
    """A class of torch.optim."""
    lr: float = 1e-4
    """The learning rate, at its peak."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the moments."""
    weight_decay: float = 0.0
    """Weight decay as the optimizer has it."""
    decay: str = "constant"
    """How the rate falls: constant or cosine."""
    ema: float = 0.9999
    """Rate of the average of the weights; 0 for none."""
    clip: float | None = None
    """Largest norm of the gradient."""
    knobs: dict[str, Any] = field(default_factory=dict)
    """What the objective has beside."""

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        kind = getattr(torch.optim, self.optimizer)
        return kind(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay)

    def rate(self, share: float) -> float:
        """The learning rate when this share of the time is gone."""
        return optimizers.RAdam(lr=self.lr, decay=self.decay).rate(round(share * TOTAL), TOTAL)  # type: ignore[arg-type]


def ours(**knobs: Any) -> Settings:
    """Optimizer, rate, schedule, average and clipping of recipe `mnist-ict`, with other values for the objective."""
    return Settings("RAdam", 1e-3, (0.9, 0.99), 0.0, "cosine", 0.998, 1.0, knobs)


class Method(ABC):
    """One implementation with its settings, around a network that it is given and trains."""

    def __init__(self, network: nn.Module, settings: Settings, seed: int):
        self.network, self.settings, self.seed = network, settings, seed
        self.begin()

    @abstractmethod
    def begin(self) -> None:
        """Makes what training needs of `self.network` and `self.settings`."""

    @abstractmethod
    def step(self, x_0: Tensor, share: float) -> float:
        """One step of training on pictures in [−1, 1]; its loss."""

    @abstractmethod
    def ways(self) -> dict[str, Way]:
        """How pictures can be drawn now."""


class Peer(Method):
    """What the adapters of plain loops share: the optimizer's step."""

    FILES: tuple[str, ...] = ()
    """What is imported, under the checkout."""

    def __init__(self, network: nn.Module, settings: Settings, seed: int):
        self.optimizer = settings.build(network.parameters())
        super().__init__(network, settings, seed)

    def update(self, loss: Tensor, share: float) -> float:
        """Backward, clipping where there is any, and the optimizer's step; the loss as a number."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.forward(share)
        return float(loss.detach())

    def forward(self, share: float) -> None:
        """The optimizer's step at the rate of now."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(share)
        self.optimizer.step()


class Told(nn.Module):
    """The network for callers who say the noise level otherwise: told(x, t) = F(c_in(σ) x, c_noise(t)).

    `scale` is for those who say scale⁻¹ · ln(σ)/4; with `raw` they say σ itself and leave the preconditioning of the
    input to the network, which takes the usual one.
    """

    def __init__(self, network: nn.Module, *, scale: float = 1.0, raw: bool = False):
        super().__init__()
        self.network, self.scale, self.raw = network, scale, raw

    def forward(self, x: Tensor, t: Tensor, *_: Any, **__: Any) -> Tensor:
        t = t.reshape(-1).to(x.dtype).expand(len(x))
        if not self.raw:
            return self.network(x, t * self.scale)
        c_in = (t.square() + 0.25).rsqrt().view(-1, 1, 1, 1)
        return self.network(c_in * x, t.log() / 4)


def in_parts(sample: Callable[[int], Tensor], n: int, part: int = 250) -> Tensor:
    """n pictures, `part` at once."""
    return torch.cat([sample(min(part, n - i)) for i in range(0, n, part)])
