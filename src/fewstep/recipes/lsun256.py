"""LSUN at 256×256, unconditional: Song et al. 2023 (appendix C, table 3) on the papers' U-Net (526M parameters).

`--data.path` is a folder or zip of pictures (bedrooms, cats, yours). These are the published settings for 64 GPUs;
nobody has trained them with this package.

Where the paper and OpenAI's launch script disagree:

| | taken here | elsewhere |
|---|---|---|
| batch, all runs | 2048 (paper) | 256 (script; perhaps a node's share) |
| CT, learning rate | 1e-5 (paper) | 5e-5 (script) |
| CT, start | random (paper) | the EDM model (script): `--start runs/lsun256-edm` |
| CT, μ(k) | exp(s_0 ln μ_0 / N(k)) (paper) | N(k) − 1 for N(k) (code): `AdaptiveEma(rule="openai")` |
| CD, ℓ2 | ℓ2 (paper) | the script's --loss_norm never arrives, so its command trains LPIPS |
| EMA | 0.999943 (paper) | that, 0.99994 and 0.9999, all kept (script); CD on bedrooms was better with none (paper) |
| EDM, steps | 600,000, for bedrooms (paper) | 300,000 for cats (paper) |

The second times are those published for bedrooms; for cats CT has 5.2485.
"""

from dataclasses import replace

from fewstep.distances import Distance, Squared
from fewstep.formats.releases import LSUN as SHAPE
from fewstep.images import Data
from fewstep.lpips import LPIPS
from fewstep.objectives import Diffusion
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe

EMA = 0.5 ** (4096 / 50e6)
"""0.999943, ImageNet-64's rate, used unchanged."""


def edm() -> Recipe:
    """The teacher, after Karras et al. 2022."""
    return Recipe(
        name="lsun256-edm",
        objective=Diffusion(p_mean=-1.2, p_std=1.2),
        data=Data("lsun-bedroom-train", size=256, channels=3, flip=True, labels=False),
        architecture=replace(SHAPE, dropout=0.1),
        noise_scale=250.0,
        optimizer=AdamW(lr=1e-4),
        steps=600_000,
        batch=2048,
        micro_batch=4,
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
        optimizer=RAdam(lr=1e-5),
        start=start,
        steps=steps,
        times=((80.0,), (80.0, middle)),
    )


def _cd(name: str, distance: Distance, middle: float) -> Recipe:
    return _student(name, parts.cd(distance, n=40, mu=0.95), steps=600_000, middle=middle)


def cd_l2() -> Recipe:
    """Consistency distillation with ℓ2."""
    return _cd("lsun256-cd-l2", Squared(), middle=3.5197)


def cd_lpips() -> Recipe:
    """Consistency distillation with LPIPS: FID 7.80 in one step, 5.22 in two on bedrooms in the paper."""
    return _cd("lsun256-cd-lpips", LPIPS(), middle=4.3656)


def ct() -> Recipe:
    """Consistency training with LPIPS: FID 16.0 in one step, 7.85 in two on bedrooms in the paper."""
    objective = parts.ct(LPIPS(), s_0=2, s_1=150, mu_0=0.95)
    return _student("lsun256-ct", objective, steps=1_000_000, middle=3.9912, start="random")


RECIPES = {make().name: make for make in (edm, cd_l2, cd_lpips, ct)}
