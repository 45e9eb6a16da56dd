"""The curricula against published tables and formulas; what every pair of times must be."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steady import steady

from fewstep.discretizations import (
    Doubling,
    Grid,
    Growing,
    OnGrid,
    Shrinking,
    karras_position,
    lognormal,
)
from fewstep.schedules import Karras
from fewstep.targets import AdaptiveEma, Ema, Same, StopGradient

KARRAS = Karras()


def evenly(n: int) -> torch.Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


@pytest.mark.parametrize(
    ("s_0", "s_1", "table"),
    [
        # N at k/K = 0, 1/4, 1/2, 3/4, 1, from ⌈√(k/K ((s_1+1)² − s_0²) + s_0²) − 1⌉ + 1 by hand
        (2, 150, (2, 76, 107, 131, 151)),
        (2, 200, (2, 101, 143, 175, 201)),
    ],
)
def test_growing_counts(s_0, s_1, table):
    assert tuple(Growing(s_0, s_1).count(k / 4) for k in range(5)) == table


@pytest.mark.parametrize(
    ("s_1", "mu_0", "rule", "first", "last"),
    [
        (200, 0.95, "paper", 0.95, 0.95 ** (2 / 201)),
        (200, 0.95, "openai", 0.9025, 0.99949),  # what their code does
        (150, 0.9, "paper", 0.9, 0.9 ** (2 / 151)),
        (150, 0.9, "openai", 0.81, 0.9986),
        (150, 0.95, "openai", 0.9025, 0.99932),
    ],
)
def test_adaptive_rate(s_1, mu_0, rule, first, last):
    """μ(k) = exp(s_0 ln μ_0 / N(k)), and the published code's variant with N − 1."""
    target, grid = AdaptiveEma(mu_0, rule), Growing(2, s_1)
    assert target.rate(0.0, grid) == pytest.approx(first, abs=5e-6)
    assert target.rate(1.0, grid) == pytest.approx(last, abs=5e-6)
    rates = [target.rate(k / 50, grid) for k in range(51)]
    assert rates == sorted(rates)


def test_other_rates():
    assert Ema(0.3).rate(0.5, Grid()) == 0.3
    assert StopGradient().rate(0.5, Grid()) == Same().rate(0.5, Grid()) == 0
    assert Same().gradient
    assert not StopGradient().gradient
    with pytest.raises(ValueError, match="Shrinking has no grid"):
        AdaptiveEma().rate(0.5, Shrinking())


def test_doubling_counts():
    """N = min(10 · 2^⌊k/K'⌋, 1280) + 1, K' = ⌊K/(log2(1280/10) + 1)⌋: eight equal stages."""
    counts = [Doubling().count((i + 0.5) / 8) for i in range(8)]
    assert counts == [11, 21, 41, 81, 161, 321, 641, 1281]
    assert Doubling().count(1.0) == 1281
    k, total = 37_499, 300_000
    stage = total // 8
    assert Doubling().count(k / total) == 10 * 2 ** (k // stage) + 1 == 11
    assert Doubling().count((k + 1) / total) == 10 * 2 ** ((k + 1) // stage) + 1 == 21


def test_doubling_masses_are_the_lognormals():
    grid = KARRAS.grid(11).tolist()
    edge = [math.erf((math.log(t) + 1.1) / (math.sqrt(2) * 2.0)) for t in grid]
    wanted = torch.tensor([(edge[i] - edge[i + 1]) / (edge[0] - edge[-1]) for i in range(10)], dtype=torch.float64)
    torch.testing.assert_close(Doubling().mass(KARRAS.grid(11)), wanted)
    t, s = Doubling().pairs(evenly(100_000), KARRAS, 0.0)
    share = torch.tensor([(t == a).double().mean().item() for a in grid[:-1]], dtype=torch.float64)
    torch.testing.assert_close(share, wanted, atol=2e-5, rtol=0)
    assert set(zip(t.tolist(), s.tolist(), strict=True)) <= {(grid[i], grid[i + 1]) for i in range(10)}


def test_grid_pairs_are_neighbours_equally_often():
    t, s = Grid(18).pairs(evenly(1700), KARRAS, 0.3)
    grid = KARRAS.grid(18)
    for i in range(17):
        here = t == grid[i]
        assert here.sum() == 100
        assert (s[here] == grid[i + 1]).all()


def test_shrinking_follows_easy_consistency_tuning():
    """r(t, a) = max(t (1 − n(t)/q^(a+1)), t_min), n(t) = 1 + 8 sigmoid(−t); stage a an eighth of the run."""
    d = Shrinking()
    t, s = d.pairs(evenly(50), KARRAS, 0.4)  # stage 3
    for now, before in zip(t.tolist(), s.tolist(), strict=True):
        wider = 1 + 8 / (1 + math.exp(now))
        assert before == pytest.approx(max(now * max(1 - wider / 2**4, 0), 0.002))
    assert [d.stage(k / 8) for k in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, 7]
    assert Shrinking(stages=3, first=4).stage(1.0) == 6


def test_shrinking_begins_as_diffusion_and_ends_close():
    small = lambda progress: Shrinking().pairs(evenly(200), KARRAS, progress)  # noqa: E731
    t, s = small(0.0)
    assert (s[t < 1] == KARRAS.t_min).all()
    t, s = small(1.0)
    assert ((t - s) / t).max() < 9 / 2**8 + 1e-9


def test_lognormal_times():
    t = lognormal(evenly(20_000), -1.2, 1.2, KARRAS)
    assert t.log().mean().item() == pytest.approx(-1.2, abs=0.01)
    assert t.log().std().item() == pytest.approx(1.2, abs=0.01)
    ends = lognormal(torch.tensor([0.0, 1 - 1e-16], dtype=torch.float64), -1.1, 2.0, KARRAS)
    assert KARRAS.t_min < ends[0] < ends[1] <= KARRAS.t_max


every = st.one_of(
    st.builds(Grid, n=st.integers(2, 300)),
    st.builds(Growing, s_0=st.integers(2, 10), s_1=st.integers(11, 300)),
    st.builds(Doubling, s_0=st.sampled_from([5, 10]), s_1=st.sampled_from([40, 160, 1280])),
    st.builds(Shrinking, q=st.floats(1.5, 256), stages=st.integers(1, 8), first=st.integers(0, 4)),
)


@steady
@given(
    discretization=every,
    progress=st.floats(0, 1),
    u=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=8),
    t_min=st.sampled_from([0.002, 0.01]),
)
def test_every_pair_is_ordered_and_a_pure_function(discretization, progress, u, t_min):
    schedule, u = Karras(t_min=t_min), torch.tensor(u, dtype=torch.float64)
    t, s = discretization.pairs(u, schedule, progress)
    assert t.dtype == s.dtype == torch.float64
    assert (t > s).all()
    assert (s >= t_min).all()
    assert (t <= schedule.t_max).all()
    assert (t.float() > s.float()).all()  # still apart in the network's precision
    torch.manual_seed(int(1000 * progress))
    again = discretization.pairs(u, schedule, progress)
    assert torch.equal(t, again[0])
    assert torch.equal(s, again[1])
    alone = discretization.pairs(u[:1], schedule, progress)  # row by row: no sample depends on another
    assert alone[0][0] == t[0]
    assert alone[1][0] == s[0]


@steady
@given(discretization=every, progress=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_grids_only_grow_finer(discretization, progress):
    if isinstance(discretization, OnGrid | Doubling):
        assert discretization.count(min(progress)) <= discretization.count(max(progress))


@steady
@given(u=st.floats(0, 1))
def test_position_inverts_the_grid(u):
    t = KARRAS.at(torch.tensor(u, dtype=torch.float64))
    assert karras_position(KARRAS, t).item() == pytest.approx(u, abs=1e-9)
