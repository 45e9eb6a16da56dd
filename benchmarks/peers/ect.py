"""locuslab/ect: `ECMLoss` and `ECMPrecond` in the order of its `training_loop`, from nothing, not from EDM's weights.

Published: `run_ecm.sh`: RAdam(1e-4), average 0.9999, q = 2 with eight stages, P_mean −1.1, P_std 2, c = 0; gradients
are cleaned of what is not finite. Without its dropout (0.2), as the network is everyone's. Two steps at 80 and 0.821.
The loss saves and restores the state of the GPU's generator; here that of the CPU's.
"""

import copy
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn

from .checkouts import Checkout, importing
from .method import SHAPE, Peer, Settings, Told, Way, in_parts, ours

PUBLISHED = Settings(ema=0.9999, knobs={"stages": 8})
OURS = ours(stages=2, P_mean=0.3, P_std=1.8, c=0.03)

ABSENT = ("scipy", "click", "requests", "psutil", "torchvision")


def wrapped(network: nn.Module) -> nn.Module:
    """Its preconditioning around ours."""
    networks.Given = lambda **_: Told(network)
    return networks.ECMPrecond(SHAPE[1], SHAPE[0], model_type="Given")


class ECT(Peer):
    """ECT from nothing."""

    FILES = ("training/loss.py", "training/networks.py", "training/ct_training_loop.py")

    @staticmethod
    def load(folder: Path) -> None:
        global losses, networks, loop
        with importing(folder, ABSENT):
            from training import ct_training_loop as loop  # type: ignore[import-not-found]
            from training import loss as losses
            from training import networks

    def begin(self) -> None:
        knobs = dict(self.settings.knobs)
        self.stages = knobs.pop("stages")
        self.loss = losses.ECMLoss(**knobs)
        self.loss.update_schedule(0)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.net = wrapped(self.network).train()

    def step(self, x_0: Tensor, share: float) -> float:
        stage = int(share * self.stages)
        if stage != self.loss.stage:
            self.loss.update_schedule(stage)
        self.optimizer.zero_grad(set_to_none=True)
        cuda = torch.cuda
        with (
            patch.object(cuda, "get_rng_state", torch.get_rng_state),
            patch.object(cuda, "set_rng_state", torch.set_rng_state),
        ):
            loss = self.loss(self.net, x_0).mean()
        loss.backward()
        for p in self.network.parameters():
            if p.grad is not None:
                torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        if self.settings.clip:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.forward(share)
        with torch.no_grad():
            for old, new in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                old.copy_(new.detach().lerp(old, self.settings.ema))
        return float(loss.detach())

    def ways(self) -> dict[str, Way]:
        return {"averaged": _way(self.averaged), "live": _way(self.network)}


def _way(network: nn.Module) -> Way:
    net = wrapped(network).eval()

    def sample(steps: int, n: int) -> Tensor:
        mid = [0.821] if steps == 2 else None
        return in_parts(lambda m: loop.generator_fn(net, torch.randn(m, *SHAPE), mid_t=mid).float(), n)

    return Way(network, sample, lambda x, t: net(x, torch.full((len(x),), t)), net.sigma_min)


SOURCE = Checkout("locuslab/ect", "4311059770f54821d151a9b0e1f76770a5f3930e", "1bfc81fa026889f5")
