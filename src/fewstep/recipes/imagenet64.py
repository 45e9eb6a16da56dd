"""ImageNet at 64×64, class-conditional: Song et al. 2023 (appendix C, table 3) on the papers' U-Net (296M parameters).

`--data.path` is a folder of 1,000 class folders; files of any size are resized and cropped. These are the published
settings for 64 GPUs; nobody has trained them with this package. `--teacher edm_imagenet64_ema` takes OpenAI's teacher.
ECT is a single GPU's: P_mean, P_std, q, c and the second time are those of Geng et al. 2024 for another network of this
data, the rest is chosen here.

Where the paper and OpenAI's launch script disagree:

| | taken here | elsewhere |
|---|---|---|
| CT, learning rate | 8e-6 (paper) | 1e-4 (script) |
| CT, start | random (paper) | the EDM model (script): `--start runs/imagenet64-edm` |
| CT, μ(k) | exp(s_0 ln μ_0 / N(k)) (paper) | N(k) − 1 for N(k) (code): `AdaptiveEma(rule="openai")` |
| CD, ℓ2 | ℓ2 (paper) | the script's --loss_norm never arrives, so its command trains LPIPS |
| EMA | 0.999943 (paper) | that, 0.9999 and 0.999, all kept (script) |
| EDM, steps | 610,000: EDM's own 2,500 million pictures | no number in paper or script |
"""

from dataclasses import replace

from fewstep.distances import Distance, Squared
from fewstep.formats.releases import IMAGENET as SHAPE
from fewstep.images import Data
from fewstep.lpips import LPIPS
from fewstep.objectives import Diffusion
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe

EMA = 0.5 ** (4096 / 50e6)
"""0.999943: at batch 4096 the average's memory has a half-life of 50 million pictures."""


def edm() -> Recipe:
    """The teacher, after Karras et al. 2022."""
    return Recipe(
        name="imagenet64-edm",
        objective=Diffusion(p_mean=-1.2, p_std=1.2),
        data=Data("imagenet64-train", size=64, channels=3, flip=True, labels=True, classes=1000),
        architecture=replace(SHAPE, dropout=0.1),
        noise_scale=250.0,
        optimizer=AdamW(lr=1e-4),
        steps=610_000,
        batch=4096,
        micro_batch=32,
        clip=None,
        ema=(EMA,),
        precision="fp16",
        checkpoint_every=5000,
        preview_every=5000,
        workers=8,
    )


def _student(name: str, objective, steps: int, middle: float, start: str | None = None) -> Recipe:
    """What CD and CT share; `middle` is the published second time."""
    return replace(
        edm(),
        name=name,
        objective=objective,
        architecture=SHAPE,
        optimizer=RAdam(lr=8e-6),
        start=start,
        steps=steps,
        batch=2048,
        times=((80.0,), (80.0, middle)),
    )


def _cd(name: str, distance: Distance) -> Recipe:
    return _student(name, parts.cd(distance, n=40, mu=0.95), steps=600_000, middle=1.3824)


def cd_l2() -> Recipe:
    """Consistency distillation with ℓ2."""
    return _cd("imagenet64-cd-l2", Squared())


def cd_lpips() -> Recipe:
    """Consistency distillation with LPIPS: FID 6.20 in one step, 4.70 in two in the paper."""
    return _cd("imagenet64-cd-lpips", LPIPS())


def ct() -> Recipe:
    """Consistency training with LPIPS: FID 13.0 in one step, 11.1 in two in the paper."""
    objective = parts.ct(LPIPS(), s_0=2, s_1=200, mu_0=0.95)
    return _student("imagenet64-ct", objective, steps=800_000, middle=1.9128, start="random")


def ect() -> Recipe:
    """Easy consistency tuning, with `--teacher edm_imagenet64_ema` from OpenAI's model; not measured here."""
    return replace(
        edm(),
        name="imagenet64-ect",
        objective=parts.ect(q=4.0, stages=4, p_mean=-0.8, p_std=1.6, c=0.06),
        architecture=replace(SHAPE, dropout=0.1),
        optimizer=RAdam(lr=1e-4),
        steps=100_000,
        batch=128,
        ema=(0.9999,),
        times=((80.0,), (80.0, 1.526)),
    )


RECIPES = {make().name: make for make in (edm, cd_l2, cd_lpips, ct, ect)}
