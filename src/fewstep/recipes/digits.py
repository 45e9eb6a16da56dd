"""The 1,797 handwritten digits of 8×8 pixels that come with the package: every method in a minute or two on a CPU.

`digits-ect` and `digits-ict` start from nothing; `digits-cd`, `digits-ct` and `digits-pd` take `digits-edm` as their
teacher (`--teacher runs/digits-edm`).
"""

from dataclasses import replace

from fewstep.distances import PseudoHuber, Squared
from fewstep.images import Data
from fewstep.networks import CompactShape
from fewstep.objectives import Diffusion, ProgressiveDistillation
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe

SHAPE = CompactShape(image_channels=1, image_size=8, num_classes=10, widths=(64, 96), blocks=1, patch=2)
TIMES = ((80.0,), (80.0, 1.0))


def edm() -> Recipe:
    """The teacher. A tenth of the labels is hidden, so that it can be guided."""
    return Recipe(
        name="digits-edm",
        objective=Diffusion(p_mean=-0.4, p_std=1.4),
        data=Data("digits"),
        architecture=SHAPE,
        optimizer=AdamW(lr=2e-3, betas=(0.9, 0.99), warmup=50, decay="cosine"),
        steps=1000,
        label_drop=0.1,
        ema=(0.99,),
    )


def _student(name: str, objective, **changes) -> Recipe:
    optimizer = AdamW(lr=2e-3, betas=(0.9, 0.99), warmup=30, decay="cosine")
    return replace(edm(), name=name, objective=objective, optimizer=optimizer, label_drop=0.0, times=TIMES, **changes)


def cd() -> Recipe:
    """Consistency distillation with Heun steps."""
    return replace(_student("digits-cd", parts.cd(PseudoHuber(0.03), n=18, mu=0.9)), optimizer=RAdam(lr=5e-4))


def ct() -> Recipe:
    """Consistency training, the first method's N(k) and μ(k), from nothing."""
    return _student("digits-ct", parts.ct(Squared(), s_0=2, s_1=20))


def ict() -> Recipe:
    """Improved consistency training, from nothing."""
    return _student("digits-ict", parts.ict(s_0=10, s_1=80, p_mean=-0.4, p_std=1.6, c=0.03))


def ect() -> Recipe:
    """Easy consistency training, from nothing: the demo's."""
    return _student("digits-ect", parts.ect(q=2.0, stages=4, p_mean=-0.4, p_std=1.6, c=0.03))


def pd() -> Recipe:
    """Progressive distillation: 16 steps, 8, … 1."""
    return _student("digits-pd", ProgressiveDistillation(first_steps=16))


RECIPES = {f"digits-{make.__name__}": make for make in (edm, cd, ct, ict, ect, pd)}
