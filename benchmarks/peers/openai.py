"""openai/consistency_models: consistency training, `KarrasDenoiser.consistency_losses` in the order of `CMTrainLoop`.

A step: loss, optimizer, average, target with μ(k). Published: the command for ImageNet-64 (`scripts/launch.sh`), whose
LPIPS is replaced by its ℓ2, as the VGG weights of LPIPS have to be downloaded; the first of its averages (0.999); two
steps at its 0 and 106 of 200. Ours: its ℓ1, the nearest to our Huber loss. Its loop's update of the target is written
for fp16 and fails in fp32, so `update_ema` is called on the parameters themselves, which is what it comes to in fp16.
"""

import copy
from pathlib import Path

import torch
from torch import Tensor

from .checkouts import Checkout, importing
from .method import SHAPE, TOTAL, Peer, Settings, Told, Way, in_parts, ours

ABSENT = (
    "piq",
    "torchvision",
    "torchvision.transforms",
    "mpi4py",
    "blobfile",
    "flash_attn",
    "flash_attn.flash_attention",
)

PUBLISHED = Settings(ema=0.999, knobs={"scales": (2, 200), "mu": 0.95, "norm": "l2"})
OURS = ours(scales=(2, 20), mu=0.9, norm="l1")


class OpenAI(Peer):
    """CT."""

    FILES = ("cm/karras_diffusion.py", "cm/script_util.py", "cm/nn.py")

    @staticmethod
    def load(folder: Path) -> None:
        global karras, script, nn_
        with importing(folder, ABSENT):
            from cm import karras_diffusion as karras  # type: ignore[import-not-found]
            from cm import nn as nn_
            from cm import script_util as script

    def begin(self) -> None:
        first, last = self.settings.knobs["scales"]
        self.diffusion = karras.KarrasDenoiser(weight_schedule="uniform", distillation=True,
                                              loss_norm=self.settings.knobs["norm"])  # fmt: skip
        self.schedule = script.create_ema_and_scales_fn(
            "adaptive", self.settings.knobs["mu"], "progressive", first, last, TOTAL, 0
        )
        self.target, self.averaged = (copy.deepcopy(self.network).requires_grad_(False) for _ in range(2))
        self.told, self.told_target = Told(self.network, scale=1e-3), Told(self.target, scale=1e-3)

    def step(self, x_0: Tensor, share: float) -> float:
        mu, scales = self.schedule(int(share * TOTAL))
        losses = self.diffusion.consistency_losses(self.told, x_0, scales, target_model=self.told_target)
        loss = self.update(losses["loss"].mean(), share)
        live = list(self.network.parameters())
        nn_.update_ema(self.averaged.parameters(), live, rate=self.settings.ema)
        with torch.no_grad():
            nn_.update_ema(self.target.parameters(), live, rate=mu)
        return loss

    def ways(self) -> dict[str, Way]:
        return {"averaged": self._way(self.averaged), "live": self._way(self.network)}

    def _way(self, network) -> Way:
        told = Told(network, scale=1e-3)
        two = {"sampler": "multistep", "steps": 201, "ts": (0, 106, 200)}

        def sample(steps: int, n: int) -> Tensor:
            how = {"sampler": "onestep", "steps": 40} if steps == 1 else two
            return in_parts(lambda m: karras.karras_sample(
                self.diffusion, told, (m, *SHAPE), model_kwargs={}, device="cpu", **how), n)  # fmt: skip

        def function(x: Tensor, t: float) -> Tensor:
            return self.diffusion.denoise(told, x, torch.full((len(x),), t))[1]

        return Way(network, sample, function, 0.002)


SOURCE = Checkout("openai/consistency_models", "e32b69ee436d518377db86fb2127a3972d0d8716", "45e25f342eccbc0d")
