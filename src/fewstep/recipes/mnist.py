"""MNIST, class-conditional, 28×28 grey: `--data mnist-train.zip` (class folders of pictures, or an .npz).

The compact network of 0.9 million parameters, one CPU core each. Scores, costs and the commands are in docs/results.md.

What differs from the papers, and why: the budget is some minutes on one core. Noise levels lean to larger t, and the
neighbours of iCT and ECT stay far apart. The distance of CT, iCT and ECT is Huber's of every value by itself, not a
norm of the whole picture, which was much slower here (docs/peers.md has what it changed). PD was not measured here.
"""

from dataclasses import replace

from fewstep.distances import Huber, PseudoHuber
from fewstep.images import Data
from fewstep.networks import CompactShape
from fewstep.objectives import Diffusion, ProgressiveDistillation
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe

TIMES = ((80.0,), (80.0, 2.6))
"""Sampling times of the distilled model; the second was found with `fewstep times`."""

UNSEARCHED = ((80.0,), (80.0, 1.0))
"""Those of the others."""

STUDENT = RAdam(lr=7e-4, betas=(0.9, 0.99), decay="cosine")


def edm() -> Recipe:
    """The teacher. A tenth of the labels is hidden, so that it can be guided."""
    return Recipe(
        name="mnist-edm",
        objective=Diffusion(p_mean=-0.6, p_std=1.4),
        data=Data("mnist-train.zip", size=28, channels=1),
        architecture=CompactShape(image_channels=1, image_size=28, num_classes=10, skips="block"),
        optimizer=AdamW(lr=2e-3, betas=(0.9, 0.99), warmup=50, decay="cosine"),
        steps=3000,
        label_drop=0.1,
        ema=(0.998,),
    )


def cd() -> Recipe:
    """Consistency distillation of the teacher guided with scale 1.35, by Heun steps on 18 times."""
    return replace(
        edm(),
        name="mnist-cd",
        objective=parts.cd(PseudoHuber(0.03), n=18, mu=0.95),
        optimizer=STUDENT,
        teacher="runs/mnist-edm",
        guidance=1.35,
        steps=1200,
        label_drop=0.0,
        ema=(0.995,),
        times=TIMES,
    )


def ect() -> Recipe:
    """Easy consistency tuning of the teacher: its weights are the start, it is not asked again."""
    pairs = parts.ect(q=2.0, stages=2, p_mean=0.3, p_std=1.8)
    return replace(
        cd(),
        name="mnist-ect",
        objective=replace(pairs, distance=Huber(0.03)),
        guidance=1.0,
        steps=1400,
        times=UNSEARCHED,
    )


def ct() -> Recipe:
    """Consistency training with the paper's N(k) and μ(k), from the teacher's weights, as OpenAI's commands do."""
    objective = parts.ct(Huber(0.03), s_0=2, s_1=20, mu_0=0.9)
    return replace(cd(), name="mnist-ct", objective=objective, guidance=1.0, steps=1300, times=UNSEARCHED)


def ict() -> Recipe:
    """Improved consistency training, from nothing: the longest way."""
    pairs = parts.ict(s_0=5, s_1=20, p_mean=0.3, p_std=1.8)
    return replace(
        cd(),
        name="mnist-ict",
        objective=replace(pairs, distance=Huber(0.03)),
        optimizer=replace(STUDENT, lr=1e-3),
        teacher=None,
        guidance=1.0,
        steps=1600,
        ema=(0.998,),
        times=UNSEARCHED,
    )


def pd() -> Recipe:
    """Progressive distillation of the teacher, from 16 steps down to one: the paper's baseline."""
    return replace(cd(), name="mnist-pd", objective=ProgressiveDistillation(first_steps=16), steps=2100, times=())


RECIPES = {f"mnist-{make.__name__}": make for make in (edm, cd, ect, ct, ict, pd)}
