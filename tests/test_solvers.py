"""ODE steps against closed forms: gains on Gaussian data, orders of convergence, DDIM."""

import itertools

import pytest
import torch
from oracle import EPS, Gaussian, Mixture, T

from fewstep.schedules import Discrete, Karras
from fewstep.solvers import Euler, Heun, Midpoint, toward

DATA, KARRAS = Gaussian(0.2, 0.5), Karras()


def walk(solver, schedule, f, x, times):
    for t, s in itertools.pairwise(times):
        x = solver(f, schedule, x, t, s)
    return x


@pytest.mark.parametrize(("solver", "gain"), [(Euler(), DATA.euler), (Heun(), DATA.heun)])
def test_one_step_scales_gaussian_data_by_the_closed_form(solver, gain):
    x = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    t = torch.tensor([80.0, 20.0, 1.0, 0.5, 0.01], dtype=torch.float64)
    s = torch.tensor([40.0, 0.002, 0.9, 0.1, 0.002], dtype=torch.float64)
    wanted = 0.2 + (x - 0.2) * gain(t, s)[:, None, None, None]
    torch.testing.assert_close(solver(DATA.denoise, KARRAS, x, t, s), wanted)


def test_midpoint_is_the_rho_3_midpoint_rule():
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    t, s = 7.0, 2.0
    mid = ((t ** (1 / 3) + s ** (1 / 3)) / 2) ** 3
    x_mid = x + (mid - t) * (x - DATA.denoise(x, t)) / t
    wanted = x + (s - t) * (x_mid - DATA.denoise(x_mid, mid)) / mid
    times = torch.tensor(t).double(), torch.tensor(s).double()
    torch.testing.assert_close(Midpoint()(DATA.denoise, KARRAS, x, *times), wanted)


@pytest.mark.parametrize(("solver", "order"), [(Euler(), 1), (Heun(), 2), (Midpoint(), 2)])
def test_order_of_convergence_on_a_mixture(solver, order):
    """When the number of steps doubles the error falls by 2^order (to within 2%)."""
    data = Mixture()
    x = torch.linspace(-100, 100, 9, dtype=torch.float64).reshape(9, 1, 1, 1)
    wanted = data.jump(x, T)
    errors = [
        (walk(solver, KARRAS, data.denoise, x, KARRAS.grid(n + 1)) - wanted).abs().mean().item()
        for n in (160, 320, 640)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2**order, rel=0.02)


@pytest.mark.parametrize(
    ("solver", "wanted"),
    [(Euler(), (0.301, 0.228, 0.154, 0.078, 0.039)), (Heun(), (0.278, 0.141, 0.055, 0.012, 0.003))],
)
def test_errors_of_a_distilled_model_by_grid(solver, wanted):
    """Relative error of f(·, T) on N(0, 0.5²) data for N = 9, 12, 18, 36, 72."""
    data, x = Gaussian(0.0, 0.5), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for n, error in zip((9, 12, 18, 36, 72), wanted, strict=True):
        got = walk(solver, KARRAS, data.denoise, x, KARRAS.grid(n)).item() / data.gain(T)
        assert abs(got - 1) == pytest.approx(error, abs=1.1e-3)


@pytest.mark.parametrize("solver", [Euler(), Heun(), Midpoint()])
def test_steps_count_their_calls(solver):
    calls = []

    def f(x, t, **cond):
        calls.append(cond)
        return DATA.denoise(x, t)

    solver(f, KARRAS, torch.randn(2, 1, 1, 1).double(), torch.tensor(3.0), torch.tensor(1.0), labels="asked")
    assert len(calls) == solver.calls
    assert all(cond == {"labels": "asked"} for cond in calls)


def test_heun_ends_with_an_euler_step_at_zero():
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    t, zero = torch.tensor(0.5).double(), torch.tensor(0.0).double()
    torch.testing.assert_close(Heun()(DATA.denoise, KARRAS, x, t, zero), DATA.denoise(x, 0.5))


@pytest.mark.parametrize("zero_snr", [False, True])
def test_ddim_step_is_its_published_formula(zero_snr):
    """x_s = α_s x̂_0 + σ_s ε̂ (Song et al. 2021, eq. 12 with η = 0), also from a level without any signal."""
    schedule = Discrete(zero_snr=zero_snr)
    x_t, x_0 = torch.randn(3, 1, 2, 2).double(), torch.rand(3, 1, 2, 2).double()
    t, s = torch.tensor([999.0, 500.0, 21.0]).double(), torch.tensor([500.0, 0.0, 20.0]).double()
    (a_t, s_t), (a_s, s_s) = ([c.reshape(3, 1, 1, 1) for c in schedule(u)] for u in (t, s))
    wanted = a_s * x_0 + s_s * (x_t - a_t * x_0) / s_t
    torch.testing.assert_close(toward(schedule, x_t, x_0, t, s), wanted)
    torch.testing.assert_close(Euler()(lambda x, t, **cond: x_0, schedule, x_t, t, s), wanted)


def test_ddim_is_exact_for_a_single_point():
    """Data that is one point ξ: the trajectories are straight, so one step of any length is exact."""
    schedule, xi = Discrete(), 0.3
    z = torch.randn(2, 1, 2, 2).double()
    t, s = torch.tensor(999.0).double(), torch.tensor(100.0).double()
    point = torch.full_like(z, xi)
    x_t, x_s = schedule.perturb(point, z, t), schedule.perturb(point, z, s)
    for solver in (Euler(), Heun(), Midpoint()):
        torch.testing.assert_close(solver(lambda x, t, **cond: point, schedule, x_t, t, s), x_s)


@pytest.mark.parametrize("solver", [Euler(), Heun()])
def test_discrete_ode_on_gaussian_data(solver):
    """x̄ = x/α, τ = σ/α make it the variance-exploding ODE, whose exact gain is √((s² + τ_s²)/(s² + τ_t²))."""
    schedule, data = Discrete(), Gaussian(0.0, 0.5)

    def denoise(x, t, **cond):
        alpha, sigma = schedule(t)
        return data.denoise(x / alpha, sigma / alpha)

    x, times = torch.ones(1, 1, 1, 1).double(), torch.linspace(999, 0, 1000).double()
    end = walk(solver, schedule, denoise, x, times).item()
    (a_t, s_t), (a_s, s_s) = schedule(times[0]), schedule(times[-1])
    wanted = (a_s / a_t * data.gain(s_t / a_t, s_s / a_s)).item()
    assert end == pytest.approx(wanted, rel=5e-3 if solver.calls == 1 else 1e-4)


def test_times_may_differ_in_a_batch():
    x = torch.randn(2, 1, 2, 2).double()
    t, s = torch.tensor([9.0, 1.0]).double(), torch.tensor([3.0, EPS]).double()
    for solver in (Euler(), Heun(), Midpoint()):
        together = solver(DATA.denoise, KARRAS, x, t, s)
        alone = torch.cat([solver(DATA.denoise, KARRAS, x[i : i + 1], t[i], s[i]) for i in range(2)])
        torch.testing.assert_close(together, alone)
