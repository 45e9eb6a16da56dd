"""Every sampler of `Model.sample`, against the published formulas written out from the same noise, in float64.

The model is a closed form: the denoiser of a mixture of Gaussians, whose estimates reach beyond [-1, 1].
"""

import math
from itertools import pairwise

import pytest
import torch
from model_helpers import random_model
from oracle import EPS, Mixture, T
from torch import nn

from fewstep.model import SAMPLERS, Model
from fewstep.sampling import Churn
from fewstep.tensors import noise

DATA = Mixture(means=(-1.1, 0.9), stds=(0.3, 0.4))


class Exact(nn.Module):
    """The exact denoiser, or the exact consistency function."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x, t, **cond):
        return self.f(x, t)


@pytest.fixture(scope="module")
def model() -> Model:
    model = random_model(consistent=False)
    model.denoiser = Exact(DATA.denoise)  # type: ignore[assignment]
    return model


def D(x, t):
    return DATA.denoise(x, t).clamp(-1, 1)


def slope(x, t):
    return (x - D(x, t)) / t


def karras(n):
    """Karras et al. 2022, eq. 5."""
    high, low = T ** (1 / 7), EPS ** (1 / 7)
    return [(high + i / (n - 1) * (low - high)) ** 7 for i in range(n)]


def fresh(i, n=3):
    """The noise of draw i of pictures 0 … n − 1 of seed 5."""
    return noise(5, range(n), (1, 8, 8), a=i).double()


def heun(x, t, s):
    d = slope(x, t)
    x_s = x + (s - t) * d
    return x_s if s == 0 else x + (s - t) * (d + slope(x_s, s)) / 2


def euler(x, t, s):
    return x + (s - t) * slope(x, t)


def dpm(x, t, s):
    m = ((t ** (1 / 3) + s ** (1 / 3)) / 2) ** 3
    return x + (s - t) * slope(x + (m - t) * slope(x, t), m)


def midpoint(x, t, s):
    m = (t + s) / 2
    return x + (s - t) * slope(x + (m - t) * slope(x, t), m)


def walk(step, times, churn=None):
    """Karras et al. 2022, Algorithm 2, with any step."""
    x = T * fresh(0)
    for i, (t, s) in enumerate(pairwise(times)):
        if churn and churn.s_tmin <= t <= churn.s_tmax:
            t_hat = t * (1 + min(churn.s_churn / (len(times) - 1), math.sqrt(2) - 1))
            x = x + math.sqrt(t_hat**2 - t**2) * churn.s_noise * fresh(i + 1)
            t = t_hat
        x = step(x, t, s)
    return x.clamp(-1, 1)


def same(got, wanted):
    torch.testing.assert_close(got.double(), wanted, atol=1e-4, rtol=0)


CHURN = Churn(s_churn=30.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)


@pytest.mark.parametrize("step", [heun, euler, dpm, midpoint])
@pytest.mark.parametrize("churn", [None, CHURN])
def test_walks_along_the_ode(model, step, churn):
    wanted = walk(step, [*karras(10), 0.0], churn)
    same(model.sample(3, seed=5, steps=10, sampler=step.__name__, churn=churn), wanted)


def test_churn_draws_noise(model):
    still, churned = (model.sample(3, seed=5, steps=10, churn=churn) for churn in (None, CHURN))
    assert (still - churned).abs().max() > 0.01


def test_progdist_ends_at_t_min(model):
    times = karras(5)
    assert model.walk_times("progdist", 4) == pytest.approx(times)
    same(model.sample(3, seed=5, steps=4, sampler="progdist"), walk(euler, times))
    same(model.sample(3, seed=5, times=[80.0, 2.0], sampler="progdist"), walk(euler, [80.0, 2.0]))
    with pytest.raises(ValueError, match="at least two times"):
        model.sample(1, times=[80.0], sampler="progdist")


def test_ancestral(model):
    x = T * fresh(0)
    for i, (t, s) in enumerate(pairwise([*karras(10), 0.0])):
        up = math.sqrt(s**2 * (t**2 - s**2) / t**2)
        x = x + (math.sqrt(s**2 - up**2) - t) * slope(x, t) + up * fresh(i + 1)
    same(model.sample(3, seed=5, steps=10, sampler="ancestral"), x.clamp(-1, 1))


@pytest.mark.parametrize(("ts", "steps"), [((0, 39), 40), ((0, 22, 39), 40), ((0, 67, 100, 150), 151)])
def test_onestep_and_multistep(model, ts, steps):
    """Their stochastic_iterative_sampler, from indices of a grid; with (0, steps − 1) it is their onestep."""
    grid = karras(steps)
    x = T * fresh(0)
    for i, (now, then) in enumerate(pairwise(ts)):
        x = D(x, grid[now]) + math.sqrt(grid[then] ** 2 - EPS**2) * fresh(i + 1)
    got = model.sample(3, seed=5, times=[grid[i] for i in ts[:-1]], sampler="consistency")
    same(got, x.clamp(-1, 1))


def test_unclipped_estimates(model):
    x = T * fresh(0)
    for t, s in pairwise([*karras(6), 0.0]):
        x = x + (s - t) * (x - DATA.denoise(x, t)) / t
    assert x.abs().max() > 1
    same(model.sample(3, seed=5, steps=6, sampler="euler", clip=False), x)


def test_what_cannot_be_asked(model):
    for sampler in ("consistency", "ancestral"):
        with pytest.raises(ValueError, match=f"Churn is for walks along the ODE .*, not for {sampler}"):
            model.sample(1, sampler=sampler, churn=CHURN)
    with pytest.raises(ValueError, match="steps=3 and 2 times contradict"):
        model.sample(1, steps=3, times=[80.0, 1.0], sampler="heun")
    assert SAMPLERS == ("consistency", "heun", "euler", "dpm", "midpoint", "dpm++", "progdist", "ancestral")
