"""MNIST, class-conditional, 28×28 grey: `--data mnist-train.zip` (class folders of pictures, or an .npz).

Scores and costs are in docs/results.md.
"""

from dataclasses import replace

from fewstep.distances import PseudoHuber
from fewstep.images import Data
from fewstep.networks import CompactShape
from fewstep.objectives import Diffusion
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe

SHAPE = CompactShape(image_channels=1, image_size=28, num_classes=10)
TIMES = ((80.0,), (80.0, 1.0))


def edm() -> Recipe:
    """The teacher. A tenth of the labels is hidden, so that it can be guided."""
    return Recipe(
        name="mnist-edm",
        objective=Diffusion(p_mean=-0.6, p_std=1.4),
        data=Data("mnist-train.zip", size=28, channels=1),
        architecture=SHAPE,
        optimizer=AdamW(lr=2e-3, betas=(0.9, 0.99), warmup=50, decay="cosine"),
        steps=4000,
        label_drop=0.1,
        ema=(0.998,),
    )


def cd() -> Recipe:
    """Consistency distillation of the guided teacher, with Heun steps."""
    return replace(
        edm(),
        name="mnist-cd",
        objective=parts.cd(PseudoHuber(0.03), n=18, mu=0.95),
        optimizer=RAdam(lr=5e-4, betas=(0.9, 0.99), decay="cosine"),
        guidance=1.5,
        steps=2000,
        label_drop=0.0,
        ema=(0.995,),
        times=TIMES,
    )


RECIPES = {f"mnist-{make.__name__}": make for make in (edm, cd)}
