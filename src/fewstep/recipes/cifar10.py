"""CIFAR-10, 32×32 in colour: recipes for one GPU or a patient CPU, and the papers' own settings (`…-paper`).

`cifar10-{edm,cd,ct,ict,ect,pd}`: class-conditional, the compact network. ECT, iCT and CT start from nothing unless they
are given `--teacher`. Nobody has trained them to the end yet: their numbers are scaled down from the papers'.

`cifar10-{edm,cd,ct,pd,cd-continuous,ct-continuous}-paper` are those of Song et al. 2023 (appendix C, table 3; the JAX
code's configurations), `cifar10-ict-paper` of Song & Dhariwal 2023, `cifar10-ect-paper` the one-hour setting of Geng et
al. 2024, all unconditional. Their network, NCSN++, is approached by `PAPER`: equal are 128 channels, multipliers 2, 2,
2, four blocks a level, one-headed attention at 16×16, resampling inside the blocks. NCSN++ differs by FIR filters
[1, 3, 3, 1] for resampling (here means and nearest neighbours), a residual pyramid of the input, random Fourier
features of ¼ ln t at scale 16 (here sinusoids of 250 ln t), skips scaled by 1/√2, a stem of 128 channels (here 256),
and one attention a level on the way up (here after each block).

Where paper and code disagree:

| | taken here | elsewhere |
|---|---|---|
| CT, μ(k) | exp(s_0 ln μ_0 / N(k)) (paper) | N(k) − 1 for N(k) (code): `AdaptiveEma(rule="openai")` |
| CT, learning rate | 4e-4 (paper, launch script) | 2e-4 (configuration file) |
| CT, steps | 800,000 (paper) | the released model is the 74th of 80 checkpoints (code) |
| continuous time, steps | 800,000 (configuration) | released are the 40th of 80 checkpoints, CT with ℓ2 the last |
| CD with ℓ1 | not here | 2e-4 in the place of 4e-4 (launch script) |
| LPIPS | max pooling, always at 224 (JAX code) | average pooling in the PyTorch code, a different function |
| PD, decay | linear over the run | linear in each stage, anew (code) |
"""

from dataclasses import replace

from fewstep.distances import PseudoHuber, Squared
from fewstep.images import Data
from fewstep.lpips import LPIPS
from fewstep.networks import CompactShape, UNetShape
from fewstep.objectives import Diffusion, Objective, ProgressiveDistillation
from fewstep.recipes import parts
from fewstep.training.optimizers import AdamW, Optimizer, RAdam
from fewstep.training.recipe import Recipe

DATA = Data("uoft-cs/cifar10", size=32, channels=3, flip=True)
UNCONDITIONAL = replace(DATA, labels=False)
SHAPE = CompactShape(image_channels=3, image_size=32, num_classes=10, widths=(96, 192, 288), blocks=2, dropout=0.1)
PAPER = UNetShape(
    image_size=32,
    model_channels=128,
    num_res_blocks=4,
    channel_mult=(2, 2, 2),
    attention_resolutions=(16,),
    num_heads=1,
    use_scale_shift_norm=False,
)
METRIC = LPIPS(pooling="max", below=None)
"""The JAX code's LPIPS."""
TIMES = ((80.0,), (80.0, 0.821))
"""ECT's second time."""


def edm() -> Recipe:
    """The teacher. A tenth of the labels is hidden, so that it can be guided."""
    return Recipe(
        name="cifar10-edm",
        objective=Diffusion(p_mean=-1.2, p_std=1.2),
        data=DATA,
        architecture=SHAPE,
        optimizer=AdamW(lr=1e-3, betas=(0.9, 0.99), warmup=500, decay="cosine"),
        steps=100_000,
        label_drop=0.1,
        ema=(0.9995,),
        checkpoint_every=1000,
        preview_every=1000,
    )


def _student(name: str, objective: Objective, lr: float, steps: int, dropout: float = 0.0) -> Recipe:
    return replace(
        edm(),
        name=name,
        objective=objective,
        architecture=replace(SHAPE, dropout=dropout),
        optimizer=RAdam(lr=lr, betas=(0.9, 0.99), decay="cosine"),
        steps=steps,
        label_drop=0.0,
        times=TIMES,
    )


def cd() -> Recipe:
    """Consistency distillation with Heun steps, without LPIPS."""
    return _student("cifar10-cd", parts.cd(PseudoHuber(), n=18, mu=0.95), lr=4e-4, steps=50_000)


def ct() -> Recipe:
    """Consistency training with the first paper's N(k) and μ(k), without LPIPS."""
    return _student("cifar10-ct", parts.ct(PseudoHuber()), lr=4e-4, steps=100_000)


def ict() -> Recipe:
    """Improved consistency training."""
    return _student("cifar10-ict", parts.ict(), lr=4e-4, steps=100_000, dropout=0.3)


def ect() -> Recipe:
    """Easy consistency tuning: with `--teacher runs/cifar10-edm` from that model, else from nothing."""
    return _student("cifar10-ect", parts.ect(), lr=4e-4, steps=100_000, dropout=0.2)


def pd() -> Recipe:
    """Progressive distillation from 64 steps to one."""
    return replace(
        _student("cifar10-pd", ProgressiveDistillation(first_steps=64), lr=2e-4, steps=80_000),
        times=(),
    )


def _paper(
    name: str, objective: Objective, optimizer: Optimizer, *, steps: int, ema: float, dropout: float = 0.0, **others
) -> Recipe:
    """The papers' setting: unconditional, no clipping, batch 512."""
    options = {"data": UNCONDITIONAL, "batch": 512, "micro_batch": 64, "clip": None, **others}
    return Recipe(
        name=f"cifar10-{name}-paper",
        objective=objective,
        architecture=replace(PAPER, dropout=dropout),
        noise_scale=250.0,
        optimizer=optimizer,
        steps=steps,
        ema=(ema,),
        checkpoint_every=2000,
        preview_every=2000,
        **options,
    )


def edm_paper() -> Recipe:
    """The teacher: FID 2.04 with 35 calls in the paper. Warm-up and average count pictures, 10 and half a million."""
    optimizer = AdamW(lr=1e-3, warmup=int(10e6 / 512))
    return _paper(
        "edm", Diffusion(p_mean=-1.2, p_std=1.2), optimizer, steps=400_000, ema=0.5 ** (512 / 0.5e6), dropout=0.13
    )


def cd_paper() -> Recipe:
    """Consistency distillation: FID 3.55 in one step, 2.93 in two in the paper. The second time is the notebook's."""
    objective = parts.cd(METRIC, n=18, mu=0.0)
    return _paper("cd", objective, RAdam(lr=4e-4), steps=800_000, ema=0.9999, times=((80.0,), (80.0, 0.5853)))


def ct_paper() -> Recipe:
    """Consistency training: FID 8.70 in one step, 5.83 in two in the paper."""
    objective = parts.ct(METRIC, s_0=2, s_1=150, mu_0=0.9)
    return _paper("ct", objective, RAdam(lr=4e-4), steps=800_000, ema=0.9999, start="random")


def cd_continuous_paper() -> Recipe:
    """Consistency distillation in continuous time, the better of the paper's two ways: no gradient through ḟ.

    The other is `--objective.no-stop-gradient`, in the code with 1e-3 and the norm: `PseudoHuber(0.0)`.
    """
    return _paper("cd-continuous", parts.continuous_cd(METRIC), RAdam(lr=5e-6), steps=800_000, ema=0.9999, dropout=0.3)


def ct_continuous_paper() -> Recipe:
    """Consistency training in continuous time, which begins with the weights of `--teacher`."""
    return _paper("ct-continuous", parts.continuous_ct(METRIC), RAdam(lr=5e-6), steps=800_000, ema=0.9999, dropout=0.3)


def ict_paper() -> Recipe:
    """Improved consistency training: FID 2.83 in one step, 2.46 in two in its paper, whose Fourier scale is 0.02."""
    optimizer = RAdam(lr=1e-4)
    return _paper("ict", parts.ict(), optimizer, steps=400_000, ema=0.99993, dropout=0.3, batch=1024, start="random")


def ect_paper() -> Recipe:
    """Easy consistency tuning in an hour of one A100: 8,000 steps from `--teacher`, the gap fixed at q = 256.

    Its network is DDPM++, nearer to ours than NCSN++; FID 2.73 in two steps in its paper.
    """
    objective = parts.ect(q=256.0, stages=1)
    data = replace(UNCONDITIONAL, flip=False)
    options = {"steps": 8000, "ema": 0.9993, "dropout": 0.2, "batch": 128, "times": TIMES, "data": data}
    return _paper("ect", objective, RAdam(lr=1e-4), **options)


def pd_paper() -> Recipe:
    """Progressive distillation with ℓ2: FID 8.34 in one step, 5.58 in two in the paper.

    4096 steps to one, 50,000 training steps a stage, twice that for the last two; no average of the weights.
    """
    objective = ProgressiveDistillation(first_steps=4096, distance=Squared())
    optimizer = AdamW(lr=5e-5, decay="linear", floor=0.0)
    return _paper("pd", objective, optimizer, steps=15 * 50_000, ema=0.0, clip=1.0)


RECIPES = {
    make().name: make
    for make in (
        *(edm, cd, ct, ict, ect, pd),
        *(edm_paper, cd_paper, ct_paper, cd_continuous_paper, ct_continuous_paper, ict_paper, ect_paper, pd_paper),
    )
}
