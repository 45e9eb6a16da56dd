"""cloneofsimo/consistency_models: `ConsistencyModel.loss` and `.sample` in the loop of its `main.py`.

Published: AdamW(1e-4), 100 epochs, N growing to 150 with the epoch, μ = exp(2 ln 0.95 / N), pictures drawn with the
live weights at 80 and 80, 2. Parameterization and network are one module there: its `forward` is run as it is, with its
layers taken out and ours in the place of the last, which is told x and t as they are.
"""

import copy
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkouts import Checkout, importing
from .method import SHAPE, Peer, Settings, Told, Way, in_parts, ours

PUBLISHED = Settings("AdamW", 1e-4, weight_decay=0.01, ema=0.0, knobs={"last": 150, "mu": 0.95, "epochs": 100})
OURS = ours(last=20, mu=0.9, epochs=100)

TIMES = {1: [80.0], 2: [80.0, 2.0]}


class _Last(nn.Module):
    """Ours in the place of its last layer: it is given [h, x] and asks the module around it for t."""

    def __init__(self, told: Told):
        super().__init__()
        self.told, self.t = told, torch.zeros(())

    def forward(self, both: Tensor) -> Tensor:
        return self.told(both[:, both.shape[1] // 2 :], self.t)


def wrapped(network: nn.Module) -> nn.Module:
    """Its module around ours."""
    model = package.ConsistencyModel(SHAPE[0], D=32)
    model.down, model.up, model.time_downs, model.mid = nn.Sequential(), nn.Sequential(), nn.Sequential(), nn.Identity()
    model.last = _Last(Told(network, raw=True))

    def tell(module: nn.Module, given: tuple) -> None:
        t = given[1]
        module.last.t = torch.full((len(given[0]),), t) if isinstance(t, float) else t

    model.register_forward_pre_hook(tell)
    return model


class Cloneofsimo(Peer):
    """CT."""

    FILES = ("consistency_models/unet.py", "consistency_models/utils.py")

    @staticmethod
    def load(folder: Path) -> None:
        global package
        with importing(folder):
            import consistency_models as package  # type: ignore[import-not-found]

    def begin(self) -> None:
        self.target = copy.deepcopy(self.network).requires_grad_(False)
        self.averaged = copy.deepcopy(self.target) if self.settings.ema else None
        self.model, self.target_model = wrapped(self.network), wrapped(self.target)

    def step(self, x_0: Tensor, share: float) -> float:
        last, mu_0, epochs = (self.settings.knobs[name] for name in ("last", "mu", "epochs"))
        epoch = 1 + int(share * (epochs - 1))
        n = math.ceil(math.sqrt((epoch * (last**2 - 4) / epochs) + 4) - 1) + 1
        boundaries = package.kerras_boundaries(7.0, 0.002, n, 80.0)
        z = torch.randn_like(x_0)
        t = torch.randint(0, n - 1, (len(x_0), 1))
        loss = self.model.loss(x_0, z, boundaries[t], boundaries[t + 1], ema_model=self.target_model)
        loss = self.update(loss, share)
        with torch.no_grad():
            follow(self.target, self.network, math.exp(2 * math.log(mu_0) / n))
            if self.averaged is not None:
                follow(self.averaged, self.network, self.settings.ema)
        return loss

    def ways(self) -> dict[str, Way]:
        averaged = {} if self.averaged is None else {"averaged": _way(self.averaged)}
        return {**averaged, "live": _way(self.network), "target": _way(self.target)}


def _way(network: nn.Module) -> Way:
    model = wrapped(network)

    def sample(steps: int, n: int) -> Tensor:
        return in_parts(lambda m: model.sample(torch.randn(m, *SHAPE) * 80.0, TIMES[steps]), n)

    return Way(network, sample, lambda x, t: model(x, torch.full((len(x), 1), t)), 0.002)


def follow(average: nn.Module, network: nn.Module, rate: float) -> None:
    """average ← rate · average + (1 − rate) · network."""
    for old, new in zip(average.parameters(), network.parameters(), strict=True):
        old.mul_(rate).add_(new, alpha=1 - rate)


SOURCE = Checkout("cloneofsimo/consistency_models", "328bad489803936faa6c1dd9432731cc915e9917", "405908fd75b3b6db")
