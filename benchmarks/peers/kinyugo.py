"""Kinyugo/consistency_models: `ConsistencyTraining` and `ImprovedConsistencyTraining` in the loops of its README.

Published: Adam(1e-4, (0.9, 0.995)), no average of the student; 17 and 11 times at the end, which its notes recommend
for short trainings in place of 150 and 1280. The loss of CT is up to the caller there; it is the mean square here, as
LPIPS needs weights that have to be downloaded, and our Huber loss in our settings. Its network is told x and σ as they
are, and preconditions the input itself. Two steps at 80 and 0.661, as in its notebooks.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep.distances import Huber, Squared

from .checkouts import Checkout, importing
from .method import SHAPE, TOTAL, Peer, Settings, Told, Way, in_parts, ours

_ADAM = Settings("Adam", 1e-4, (0.9, 0.995), ema=0.0)
CT_PUBLISHED = Settings(**{**vars(_ADAM), "knobs": {"initial_timesteps": 2, "final_timesteps": 17, "mu": 0.95,
                                                     "distance": Squared()}})  # fmt: skip
CT_OURS = ours(initial_timesteps=2, final_timesteps=20, mu=0.9, distance=Huber(0.03))
ICT_PUBLISHED = Settings(**{**vars(_ADAM), "knobs": {"initial_timesteps": 10, "final_timesteps": 11}})
ICT_OURS = ours(initial_timesteps=5, final_timesteps=10, lognormal_mean=0.3, lognormal_std=1.8)

SIGMAS = {1: [80.0], 2: [80.0, 0.661]}


class Kinyugo(Peer):
    """What both have in common."""

    FILES = ("consistency_models/consistency_models.py", "consistency_models/utils.py")

    @staticmethod
    def load(folder: Path) -> None:
        global cm, utils
        with importing(folder):
            import consistency_models.consistency_models as cm  # type: ignore[import-not-found]
            import consistency_models.utils as utils  # type: ignore[import-not-found]

    def begin(self) -> None:
        self.told = Told(self.network, raw=True)
        self.averaged = copy.deepcopy(self.told).requires_grad_(False) if self.settings.ema else None

    def follow(self) -> None:
        if self.averaged is not None:
            utils.update_ema_model_(self.averaged, self.told, self.settings.ema)

    def ways(self) -> dict[str, Way]:
        averaged = {} if self.averaged is None else {"averaged": _way(self.averaged)}
        return {**averaged, "live": _way(self.told)}


def _way(told: nn.Module) -> Way:
    sampling = cm.ConsistencySamplingAndEditing()

    @torch.no_grad()
    def sample(steps: int, n: int) -> Tensor:
        return in_parts(lambda m: sampling(told, torch.zeros(m, *SHAPE), sigmas=SIGMAS[steps], clip_denoised=True), n)

    def function(x: Tensor, t: float) -> Tensor:
        return cm.model_forward_wrapper(told, x, torch.full((len(x),), t))

    return Way(told, sample, function, 0.002)


class KinyugoCT(Kinyugo):
    """CT, with the target's μ(k)."""

    def begin(self) -> None:
        super().begin()
        self.knobs = dict(self.settings.knobs)
        self.mu, self.distance = self.knobs.pop("mu"), self.knobs.pop("distance")
        self.teacher = copy.deepcopy(self.told).requires_grad_(False)
        self.training = cm.ConsistencyTraining(**self.knobs)

    def step(self, x_0: Tensor, share: float) -> float:
        out = self.training(self.told, self.teacher, x_0, int(share * TOTAL), TOTAL)
        loss = self.update(self.distance(out.predicted, out.target).mean(), share)
        rate = cm.ema_decay_rate_schedule(
            out.num_timesteps, initial_ema_decay_rate=self.mu, initial_timesteps=self.knobs["initial_timesteps"]
        )
        utils.update_ema_model_(self.teacher, self.told, rate)
        self.follow()
        return loss

    def ways(self) -> dict[str, Way]:
        return {**super().ways(), "target": _way(self.teacher)}


class KinyugoICT(Kinyugo):
    """iCT."""

    def begin(self) -> None:
        super().begin()
        self.training = cm.ImprovedConsistencyTraining(**self.settings.knobs)

    def step(self, x_0: Tensor, share: float) -> float:
        out = self.training(self.told, x_0, int(share * TOTAL), TOTAL)
        loss = self.update((cm.pseudo_huber_loss(out.predicted, out.target) * out.loss_weights).mean(), share)
        self.follow()
        return loss


SOURCE = Checkout("Kinyugo/consistency_models", "2e6618d4b908f7ef7f5424d83afe0eb5c6c85957", "9cb33d38e76906e6")
