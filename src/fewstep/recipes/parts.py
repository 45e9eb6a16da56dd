"""The published objectives as values: which parts make which method.

| method | discretization | neighbour | distance | weighting | target |
|---|---|---|---|---|---|
| CD (Song et al. 2023, Algorithm 2) | fixed grid | teacher's Heun step | LPIPS, ℓ2, ℓ1 | 1 | EMA |
| CT (Song et al. 2023, Algorithm 3) | N(k) | same data and noise | LPIPS, ℓ2 | 1 | EMA, μ(k) |
| iCT (Song & Dhariwal 2023) | doubling, lognormal | same data and noise | pseudo-Huber | 1/(t − s) | stop-gradient |
| ECT (Geng et al. 2024) | shrinking r(t) | same data and noise | ‖·‖, c | 1/(t − s) | stop-gradient |
| CD, CT in continuous time (Song et al. 2023, appendix B) | t = s | at t itself | ℓ2, LPIPS | 1 | stop-gradient |
| LCD (Luo et al. 2023, Algorithm 1) | k levels apart | teacher's guided DDIM step | Huber, ℓ2 | 1 | EMA |
| LCF (Luo et al. 2023, Algorithm 4) | k levels apart | same data and noise | Huber, ℓ2 | 1 | EMA |
"""

from fewstep.discretizations import Doubling, Grid, Growing, Shrinking, Skipping
from fewstep.distances import Distance, Huber, PseudoHuber
from fewstep.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousDistillation,
    ContinuousTraining,
)
from fewstep.solvers import Euler, Heun, Solver
from fewstep.targets import AdaptiveEma, Ema, StopGradient
from fewstep.weightings import InverseGap, Uniform


def cd(distance: Distance, *, n: int = 18, mu: float = 0.95, solver: Solver | None = None) -> ConsistencyDistillation:
    """Consistency distillation on a grid of n times; mu = 0 is a stop-gradient target."""
    target = Ema(mu) if mu else StopGradient()
    return ConsistencyDistillation(Grid(n), distance, Uniform(), target, solver or Heun())


def ct(distance: Distance, *, s_0: int = 2, s_1: int = 150, mu_0: float = 0.9) -> ConsistencyTraining:
    """Consistency training with the paper's N(k) and μ(k)."""
    return ConsistencyTraining(Growing(s_0, s_1), distance, Uniform(), AdaptiveEma(mu_0))


def ict(
    *, s_0: int = 10, s_1: int = 1280, p_mean: float = -1.1, p_std: float = 2.0, c: float | None = None
) -> ConsistencyTraining:
    """Improved consistency training."""
    return ConsistencyTraining(Doubling(s_0, s_1, p_mean, p_std), PseudoHuber(c), InverseGap(), StopGradient())


def ect(
    *, q: float = 2.0, stages: int = 8, first: int = 0, p_mean: float = -1.1, p_std: float = 2.0, c: float = 0.0
) -> ConsistencyTraining:
    """Easy consistency tuning: from a diffusion model (or a diffusion loss) to a consistency model."""
    pairs = Shrinking(q, stages, first, p_mean, p_std)
    return ConsistencyTraining(pairs, PseudoHuber(c), InverseGap(), StopGradient())


def continuous_cd(distance: Distance, *, stop_gradient: bool = True) -> ContinuousDistillation:
    """Consistency distillation in continuous time."""
    return ContinuousDistillation(distance, Uniform(), stop_gradient)


def continuous_ct(distance: Distance) -> ContinuousTraining:
    """Consistency training in continuous time, which begins with a diffusion model's weights in the paper."""
    return ContinuousTraining(distance, Uniform())


def lcd(
    distance: Distance | None = None, *, k: int = 20, mu: float = 0.95, solver: Solver | None = None
) -> ConsistencyDistillation:
    """Latent consistency distillation; mu = 0 is a stop-gradient target, as the published LoRA scripts have it.

    The solver is Euler's step unless given, which on a DDPM's levels is the DDIM step: in σ/α the two are one formula.
    Heun and DPMSolver (DPM-Solver++(2S)) ask the teacher twice a step.
    """
    target = Ema(mu) if mu else StopGradient()
    return ConsistencyDistillation(Skipping(k), distance or Huber(), Uniform(), target, solver or Euler())


def lcf(distance: Distance | None = None, *, k: int = 20, mu: float = 0.95) -> ConsistencyTraining:
    """Latent consistency fine-tuning: from a latent consistency model, without a teacher."""
    return ConsistencyTraining(Skipping(k), distance or Huber(), Uniform(), Ema(mu) if mu else StopGradient())
