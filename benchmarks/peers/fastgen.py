"""NVlabs/FastGen: consistency training, `CMModel._compute_cm_loss` around `EDMPrecond`, with its callbacks.

Published: `config_cm_cifar10.py`: RAdam(1e-4), average 0.9996 (the shortest of its three), a new stage every 6.4
million of 350,000 · 512 pictures with q = 2 up to a ratio of 0.999, P_mean −1.1, P_std 2, Huber constant 1e-8; from
nothing, not from EDM's weights, and without its dropout (0.2). Two steps at 80 and 0.821, as its configuration says.
"""

import copy
import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .checkouts import Checkout, bare_package, importing
from .method import SHAPE, Peer, Settings, Told, Way, in_parts, ours

PUBLISHED = Settings(ema=0.9996, knobs={"stages": 350_000 * 512 / 6_400_000, "huber": 1e-8, "weighting": "default"})
OURS = ours(stages=2, huber=0.03, weighting="default", p_mean=0.3, p_std=1.8)

ABSENT = (
    "loguru", "omegaconf", "attrs", "ftfy", "einops", "imageio", "imageio.v3", "boto3", "botocore",
    "botocore.exceptions", "wandb", "hydra", "requests",
)  # fmt: skip
TIMES = {1: [80.0, 0.0], 2: [80.0, 0.821, 0.0]}


class FastGen(Peer):
    """Its CM: ECT's pairs with a truncated noise distribution."""

    FILES = (
        "fastgen/methods/consistency_model/CM.py", "fastgen/methods/model.py", "fastgen/networks/EDM/network.py",
        "fastgen/networks/noise_schedule.py", "fastgen/callbacks/ct_schedule.py", "fastgen/callbacks/ema.py",
    )  # fmt: skip

    @staticmethod
    def load(folder: Path) -> None:
        global cm, base, edm, schedules, averages
        import diffusers  # before anything is stood in for

        diffusers.DDIMScheduler, diffusers.CogVideoXDPMScheduler  # noqa: B018
        with importing(folder, ABSENT):
            methods = bare_package("fastgen.methods", folder / "fastgen" / "methods")
            base = importlib.import_module("fastgen.methods.model")
            methods.FastGenModel = base.FastGenModel
            cm = importlib.import_module("fastgen.methods.consistency_model.CM")
            edm = importlib.import_module("fastgen.networks.EDM.network")
            schedules = importlib.import_module("fastgen.callbacks.ct_schedule")
            averages = importlib.import_module("fastgen.callbacks.ema")

    def begin(self) -> None:
        knobs = self.settings.knobs
        self.times = {"time_dist_type": "lognormal", "min_t": 0.002, "max_t": 80.0,
                      "train_p_mean": knobs.get("p_mean", -1.1), "train_p_std": knobs.get("p_std", 2.0)}  # fmt: skip
        self.model = cm.CMModel.__new__(cm.CMModel)
        nn.Module.__init__(self.model)
        self.model.net = wrapped(self.network).train()
        self.model.ema = wrapped(copy.deepcopy(self.network)).eval().requires_grad_(False)
        self.model.device = torch.device("cpu")
        self.model.sample_t_cfg = SimpleNamespace(min_r=0.0, quantize=False)
        self.model.loss_config = SimpleNamespace(use_cd=False, huber_const=knobs["huber"], use_squared_l2=False,
                                                 weighting_ct_loss=knobs["weighting"])  # fmt: skip
        self.curriculum = schedules.CTScheduleCallback(kimg_per_stage=1, batch_size=1)
        self.curriculum.on_train_begin(self.model)
        self.average = averages.EMACallback(type="constant", beta=self.settings.ema, ema_name="ema")
        self.k = 0

    def step(self, x_0: Tensor, share: float) -> float:
        net, nothing = self.model.net, {"data_batch": None, "output_batch": None, "loss_dict": None}
        t = net.noise_scheduler.sample_t(len(x_0), **self.times, device=self.model.device)
        loss, _, _ = self.model._compute_cm_loss(net=net, real_data=x_0, t=t)
        loss = self.update(loss.mean(), share)
        self.k += 1
        self.average.on_training_step_end(self.model, **nothing, iteration=self.k)
        # A thousand pictures of the callback's count are a stage here: progress is told in stages.
        self.curriculum.on_training_step_end(
            self.model, **nothing, iteration=int(share * self.settings.knobs["stages"] * 1000)
        )
        return loss

    def ways(self) -> dict[str, Way]:
        return {"averaged": self._way(self.model.ema), "live": self._way(self.model.net)}

    def _way(self, net: Any) -> Way:
        def sample(steps: int, n: int) -> Tensor:
            return in_parts(lambda m: base.FastGenModel.generator_fn(
                net, torch.randn(m, *SHAPE), student_sample_steps=steps, t_list=TIMES[steps]).clone(), n)  # fmt: skip

        def function(x: Tensor, t: float) -> Tensor:
            return net(x, torch.full((len(x),), t, dtype=torch.float64), fwd_pred_type="x0")

        return Way(net.model.network, sample, function, 0.002)


def wrapped(network: nn.Module) -> Any:
    """Its preconditioning around ours."""
    edm.Given = lambda **_: Told(network)
    return edm.EDMPrecond(SHAPE[1], SHAPE[0], model_type="Given")


SOURCE = Checkout("NVlabs/FastGen", "34f30e8ff1a563555fc0c7d59f1c1409dacd8af2", "ce5e91d50423257d")
