"""huggingface/diffusers: iCT, the functions of `train_cm_ct_unconditional.py` in the order of its loop.

Published: the example of its README (AdamW(1e-4, (0.95, 0.999)), constant rate, average 0.99993, clipping at 1) and the
script's defaults (10 to 1280 steps, P_mean −1.1, P_std 2), with AdamW for its 8-bit form. The script trains with
c_in = 1/(σ² + σ_data²) and a c_out without σ_data, while the pipeline that it samples with has c_in = 1/√(σ² + σ_data²)
and the paper's c_out: the trained function is drawn from both with its pipeline and as it was trained, at the same
times. Scheduler, pipeline and EMAModel are those of the installed diffusers.
"""

import copy
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkouts import Checkout, importing
from .method import SHAPE, TOTAL, Peer, Settings, Told, Way, in_parts, ours

PUBLISHED = Settings("AdamW", 1e-4, (0.95, 0.999), 1e-6, ema=0.99993, clip=1.0, knobs={})
OURS = ours(s_0=5, s_1=10, p_mean=0.3, p_std=1.8, c=0.03)


class DiffusersICT(Peer):
    """iCT."""

    SUBFOLDER = "examples/research_projects/consistency_training"
    FILES = (f"{SUBFOLDER}/train_cm_ct_unconditional.py",)

    @staticmethod
    def load(folder: Path) -> None:
        global script, diffusers
        import datasets  # noqa: F401  before anything is stood in for
        import diffusers
        import diffusers.training_utils

        diffusers.ConsistencyModelPipeline.set_progress_bar_config  # noqa: B018  imported here, not lazily later
        with importing(folder / DiffusersICT.SUBFOLDER, ("torchvision", "torchvision.transforms")):
            import train_cm_ct_unconditional as script  # type: ignore[import-not-found]

    def begin(self) -> None:
        knobs = self.settings.knobs
        self.s_0, self.s_1 = knobs.get("s_0", 10), knobs.get("s_1", 1280)
        self.p_mean, self.p_std = knobs.get("p_mean", -1.1), knobs.get("p_std", 2.0)
        self.c = knobs.get("c", 0.00054 * SHAPE[1] * SHAPE[0] ** 0.5)
        self.told = Told(self.network, scale=1e-3)
        self.teacher = copy.deepcopy(self.told).requires_grad_(False)
        rate = self.settings.ema
        self.ema = diffusers.training_utils.EMAModel(self.told.parameters(), decay=rate, min_decay=rate)
        self.steps = 0
        self._recalculate(0.0)

    def _recalculate(self, share: float) -> None:
        steps = script.get_discretization_steps(int(share * TOTAL), TOTAL, s_0=self.s_0, s_1=self.s_1)
        if steps == self.steps:
            return
        self.steps, self.skip = steps, script.get_skip_steps(0)
        self.scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=steps)
        self.times = script.get_karras_sigmas(steps)
        valid = self.times[: len(self.times) - self.skip + 1]
        self.weights = script.get_discretized_lognormal_weights(valid, p_mean=self.p_mean, p_std=self.p_std)
        self.loss_weights = script.get_loss_weighting_schedule(valid)

    def step(self, x_0: Tensor, share: float) -> float:
        index = torch.multinomial(self.weights, len(x_0), replacement=True).long()
        s, t = self.times[index], self.times[index + self.skip]
        z = torch.randn(x_0.shape)
        x_s, x_t = script.add_noise(x_0, z, s), script.add_noise(x_0, z, t)
        state = torch.get_rng_state()
        student = denoise(self.told, x_t, t)
        with torch.no_grad():
            torch.set_rng_state(state)
            teacher = denoise(self.teacher, x_s, s)
        weight = script._extract_into_tensor(self.loss_weights, index, (len(x_0), 1, 1, 1))
        distance = torch.sqrt((student.float() - teacher.float()) ** 2 + self.c**2) - self.c
        loss = self.update((weight * distance).mean(), share)
        self.teacher.load_state_dict(self.told.state_dict())
        self.ema.step(self.told.parameters())
        self._recalculate(share)
        return loss

    def ways(self) -> dict[str, Way]:
        averaged = copy.deepcopy(self.told)
        self.ema.copy_to(averaged.parameters())
        found = {}
        for name, told in (("averaged", averaged), ("live", self.told)):
            found[f"{name}, its pipeline"] = self._way(told, self._piped)
            found[f"{name}, as trained"] = self._way(told, self._as_trained)
        return found

    def _way(self, told: Told, draw: Any) -> Way:
        def sample(steps: int, n: int) -> Tensor:
            return in_parts(lambda m: draw(told, steps, m), n)

        return Way(told.network, sample, lambda x, t: denoise(told, x, torch.full((len(x),), t)), 0.002)

    def _piped(self, told: Told, steps: int, n: int) -> Tensor:
        pipe = diffusers.ConsistencyModelPipeline(_Unet(told), self.scheduler)
        pipe.set_progress_bar_config(disable=True)
        return 2 * pipe(n, num_inference_steps=steps, output_type="pt").images - 1

    @torch.no_grad()
    def _as_trained(self, told: Told, steps: int, n: int) -> Tensor:
        scheduler = diffusers.CMStochasticIterativeScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        x = torch.randn(n, *SHAPE) * scheduler.init_noise_sigma
        for i, sigma in enumerate(scheduler.sigmas[:steps].tolist()):
            if i:
                x = x + (sigma**2 - 0.002**2) ** 0.5 * torch.randn_like(x)
            x = denoise(told, x, torch.full((n,), sigma)).clamp(-1, 1)
        return x


def denoise(told: Told, x: Tensor, sigma: Tensor) -> Tensor:
    """The consistency function that the script trains."""
    c_in = script.append_dims(script.get_input_preconditioning(sigma), x.ndim)
    c_skip, c_out = (script.append_dims(c, x.ndim) for c in script.scalings_for_boundary_conditions(sigma))
    return c_skip * x + c_out * told(c_in * x, script.get_noise_preconditioning(sigma))


class _Unet(nn.Module):
    """The network as a pipeline wants it."""

    def __init__(self, told: Told):
        super().__init__()
        self.told, self.dtype, self.device = told, torch.float32, torch.device("cpu")
        self.config = types.SimpleNamespace(sample_size=SHAPE[1], in_channels=SHAPE[0], num_class_embeds=None)

    def forward(self, x: Tensor, t: Tensor, **_: Any) -> tuple[Tensor]:
        return (self.told(x, t),)


SOURCE = Checkout("huggingface/diffusers", "58eb52c0803ea9af3abec60841c2a093bdf1f951", "dd588518b9eead90")
