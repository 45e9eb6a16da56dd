"""The 1,797 handwritten digits of 8×8 pixels that come with the package: every method in under a minute on a CPU.

`digits-ect` and `digits-ict` start from nothing; `digits-cd`, `digits-ct` (both also in continuous time, `-continuous`)
and `digits-pd` take `digits-edm` as their teacher (`--teacher runs/digits-edm`), CT as its start only. 0.44 million
parameters.

What they reach, by `OMP_NUM_THREADS=1 python benchmarks/digits.py`: of 1,000 digits the share that the features
`digits` read as asked, their Fréchet distance in them from the data, and the seconds of training on one (busy) core:

| | steps | seconds | one step | two steps |
|---|---|---|---|---|
| edm | 1500 | 35 | 97.2%, 8.8 with 35 calls of Heun | |
| cd, guided by 1.5 | 800 | 38 | 99.5%, 7.6 | 99.5%, 10.1 |
| cd-continuous, guided by 1.5 | 1000 | 57 | 99.8%, 23.6 | 99.9%, 9.0 |
| ct, from edm | 1500 | 42 | 99.5%, 19.5 | 99.1%, 13.1 |
| ct-continuous, from edm | 1200 | 57 | 99.1%, 14.9 | 98.2%, 9.8 |
| ict | 1500 | 48 | 98.1%, 35.0 | 97.5%, 31.1 |
| ect | 1200 | 38 | 99.3%, 14.1 | 98.9%, 13.6 |
| pd | 1500 | 53 | 99.5%, 25.4 | 93.6%, 23.4 |

A progressively distilled model is sampled at its own times: `--sampler euler --times 80 0`, or `--times 80 2.515 0`.
The first paper's CT learns slowly from random weights: here it is given the teacher's to start from.
"""

from dataclasses import replace

from fewstep.distances import PseudoHuber, Squared
from fewstep.images import Data
from fewstep.networks import CompactShape
from fewstep.objectives import Diffusion, Objective, ProgressiveDistillation
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, RAdam
from fewstep.training.recipe import Recipe

SHAPE = CompactShape(image_channels=1, image_size=8, num_classes=10, widths=(48, 64), blocks=1, skips="level")
TIMES = ((80.0,), (80.0, 1.0))
CAREFUL = RAdam(lr=1.5e-4, betas=(0.9, 0.99), decay="cosine")
"""Of continuous time, where steps must be small."""


def edm() -> Recipe:
    """The teacher. A tenth of the labels is hidden, so that it can be guided."""
    return Recipe(
        name="digits-edm",
        objective=Diffusion(p_mean=-0.4, p_std=1.4),
        data=Data("digits"),
        architecture=SHAPE,
        optimizer=AdamW(lr=4e-3, betas=(0.9, 0.99), warmup=30, decay="cosine"),
        steps=1500,
        batch=64,
        label_drop=0.1,
        ema=(0.99,),
    )


def _student(name: str, objective: Objective, **changes) -> Recipe:
    """What the students share: the teacher's settings, all labels told."""
    return replace(edm(), **{"name": name, "objective": objective, "label_drop": 0.0, "times": TIMES, **changes})


def cd() -> Recipe:
    """Consistency distillation of the guided teacher, with Heun steps."""
    optimizer = RAdam(lr=1e-3, betas=(0.9, 0.99), decay="cosine")
    return _student(
        "digits-cd", parts.cd(PseudoHuber(0.03), n=18, mu=0.9), optimizer=optimizer, guidance=1.5, steps=800
    )


def ct() -> Recipe:
    """Consistency training with the first paper's N(k) and μ(k), from a teacher's weights."""
    return _student("digits-ct", parts.ct(PseudoHuber(0.03), s_0=2, s_1=20), steps=1500)


def cd_continuous() -> Recipe:
    """Consistency distillation of the guided teacher in continuous time."""
    return _student("digits-cd-continuous", parts.continuous_cd(Squared()), optimizer=CAREFUL, guidance=1.5, steps=1000)


def ct_continuous() -> Recipe:
    """Consistency training in continuous time, from a teacher's weights."""
    return _student("digits-ct-continuous", parts.continuous_ct(Squared()), optimizer=CAREFUL, steps=1200)


def ict() -> Recipe:
    """Improved consistency training, from nothing."""
    return _student("digits-ict", parts.ict(s_0=10, s_1=40, p_mean=-0.4, p_std=1.6, c=0.03), steps=1500)


def ect() -> Recipe:
    """Easy consistency training, from nothing: what the demo trains."""
    return _student("digits-ect", parts.ect(stages=4, p_mean=-0.4, p_std=1.6, c=0.03), steps=1200)


def pd() -> Recipe:
    """Progressive distillation: 16 steps, 8, 4, 2, one."""
    return _student("digits-pd", ProgressiveDistillation(first_steps=16), steps=1500, times=())


RECIPES = {make().name: make for make in (edm, cd, cd_continuous, ct, ct_continuous, ict, ect, pd)}
