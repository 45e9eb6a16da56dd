"""Algorithm 1 and the teachers' samplers, against closed forms and against the formulas written out again."""

import math
from itertools import pairwise

import pytest
import torch
from oracle import EPS, Gaussian, Mixture, T
from torch.utils._python_dispatch import TorchDispatchMode

from fewstep.editing import SuperResolve, edit, slerp
from fewstep.sampling import (
    Churn,
    ancestral,
    begin,
    check_times,
    last,
    sample,
    solve,
    spaced_times,
    teacher_times,
    trajectory,
)
from fewstep.schedules import Discrete, Karras
from fewstep.solvers import Euler, Heun, Midpoint

KARRAS, DATA = Karras(), Gaussian(0.1, 0.3)


class Counted:
    """A denoiser that remembers its calls."""

    def __init__(self, f):
        self.f = f
        self.inputs, self.times, self.cond = [], [], []

    def __call__(self, x, t, **cond):
        self.inputs.append(x)
        self.times.append(float(t.max()) if isinstance(t, torch.Tensor) else t)
        self.cond.append(cond)
        return self.f(x, t)


def stream(seed=0):
    """A source of noise that gives draw i the same numbers every time, and a list of the draws made."""
    drawn = []

    def noise(draw, like):
        drawn.append(draw)
        generator = torch.Generator().manual_seed(1000 * seed + draw)
        return torch.randn(like.shape, dtype=like.dtype, generator=generator)

    return noise, drawn


def test_one_step_is_one_call_and_no_noise():
    noise, drawn = stream()
    f, z = Counted(DATA.jump), torch.randn(3, 1, 2, 2).double()
    x = sample(f, KARRAS, z, [80.0], noise=noise, clip=False)
    assert (f.times, drawn) == ([80.0], [])
    torch.testing.assert_close(f.inputs[0], 80 * z)
    assert torch.equal(x, DATA.jump(80 * z, 80.0))


def test_multistep_is_algorithm_1():
    noise, drawn = stream()
    f, z, times = Counted(DATA.jump), torch.randn(3, 1, 2, 2).double(), [80.0, 5.0, 0.5]
    estimates = list(trajectory(f, KARRAS, 80 * z, times, noise=noise, clip=False, labels="asked"))
    again, _ = stream()
    x_0 = DATA.jump(80 * z, 80.0)
    torch.testing.assert_close(estimates[0], x_0)
    for i, t in ((1, 5.0), (2, 0.5)):
        x_0 = DATA.jump(x_0 + math.sqrt(t**2 - EPS**2) * again(i, z), t)
        torch.testing.assert_close(estimates[i], x_0)
    assert drawn == [1, 2]  # one draw before each later call, none after the last
    assert f.times == times
    assert f.cond == [{"labels": "asked"}] * 3


def test_nothing_is_noised_after_the_last_call():
    """A function that knows the picture returns it to the bit, from any last time."""
    picture = torch.rand(2, 3, 4, 4) * 2 - 1
    for times in ([80.0], [80.0, 40.0], [80.0, 3.0, 1.0]):
        assert torch.equal(sample(lambda x, t: picture, KARRAS, torch.randn_like(picture), times), picture)


def test_variance_after_multistep_sampling():
    """v ← (s² + ε²)/(s² + τ²) · (v + τ² − ε²): each further call contracts the error towards s² + ε²."""
    data, times = Gaussian(0.0, 0.5), [80.0, 1.38, 0.5]
    z = torch.randn(200_000, 1, 1, 1, dtype=torch.float64)
    for n in (1, 2, 3):
        x = sample(data.jump, KARRAS, z, times[:n], clip=False)
        assert x.var().item() == pytest.approx(data.variance_after(times[:n]), rel=0.015)
    start = 3.0  # far from 0.25, so that the contraction shows
    x = start**0.5 * torch.randn_like(z)
    x = data.jump(KARRAS.again(x, torch.randn_like(x), torch.tensor(1.38).double()), 1.38)
    contraction = (0.25 + EPS**2) / (0.25 + 1.38**2)
    assert contraction == pytest.approx(0.116, abs=1e-3)
    assert x.var().item() - 0.25 == pytest.approx(contraction * (start - 0.25), rel=0.03)


def test_exact_consistency_function_samples_a_mixture():
    data = Mixture()
    z = torch.randn(20_000, 1, 1, 1, dtype=torch.float64)
    for times in ([80.0], [80.0, 0.8]):
        x = sample(data.jump, KARRAS, z, times, clip=False).flatten().sort().values
        quantile = (torch.arange(20_000).double() + 0.5) / 20_000
        assert (data.cdf(x, EPS) - quantile).abs().max() < 0.015  # Kolmogorov-Smirnov, 5% level: 0.0096


def test_estimates_are_clipped_then_projected_and_never_clipped_again():
    wild = lambda x, t: torch.full_like(x, 5.0)  # noqa: E731
    x = torch.randn(2, 1, 2, 2)
    assert sample(wild, KARRAS, x, [80.0]).max() == 1
    assert sample(wild, KARRAS, x, [80.0], clip=False).max() == 5
    seen = []
    last(trajectory(wild, KARRAS, x, [80.0, 1.0], project=lambda a: seen.append(a.max().item()) or a * 3))
    assert seen == [1.0, 1.0]
    assert last(trajectory(wild, KARRAS, x, [80.0], project=lambda a: a * 3)).max() == 3


def test_a_later_start_begins_at_its_own_noise_level():
    z = torch.randn(2, 1, 2, 2)
    assert torch.equal(begin(KARRAS, z, [80.0, 1.0]), 80 * z)
    torch.testing.assert_close(begin(KARRAS, z, [5.0]), 5 * z)
    assert torch.equal(begin(Discrete(), z, [500.0]), z)  # data of unit variance keep it at every time


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([], "at least one time"),
        ([1.0, 2.0], "decrease strictly"),
        ([2.0, 2.0], "decrease strictly"),
        ([90.0, 2.0], "within 0.002 to 80"),
        ([80.0, 0.0], "within 0.002 to 80"),
    ],
)
def test_unusable_times_are_refused(times, message):
    with pytest.raises(ValueError, match=message):
        check_times(times, KARRAS)
    with pytest.raises(ValueError, match=message):
        next(trajectory(DATA.jump, KARRAS, torch.zeros(1, 1, 1, 1), times))


def test_spaced_times_leave_out_the_identity():
    grid = KARRAS.grid(4).tolist()
    assert spaced_times(KARRAS, 3) == grid[:3]
    assert spaced_times(KARRAS, 1) == [80.0]
    assert teacher_times(KARRAS, 4) == [*grid, 0.0]
    assert teacher_times(KARRAS, 1) == [80.0, 0.0]
    with pytest.raises(ValueError, match="at least 1"):
        spaced_times(KARRAS, 0)


def test_heun_with_18_times_costs_35_calls():
    f = Counted(DATA.denoise)
    solve(f, KARRAS, torch.randn(1, 1, 1, 1).double(), teacher_times(KARRAS, 18))
    assert len(f.times) == 35
    assert f.times[0] == 80.0
    assert min(f.times) == pytest.approx(EPS)


CLAMPED = lambda x, t: DATA.denoise(x, t).clamp(-1, 1)  # noqa: E731


def slope(x, t):
    return (x - CLAMPED(x, t)) / t


def their_heun(x, times, noise, churn):
    """Karras et al. 2022, Algorithm 2."""
    n = len(times) - 1
    for i in range(n):
        t, s = times[i], times[i + 1]
        inside = churn.s_tmin <= t <= churn.s_tmax
        gamma = min(churn.s_churn / n, math.sqrt(2) - 1) if inside else 0.0
        t_hat = t + gamma * t
        if gamma > 0:
            x = x + math.sqrt(t_hat**2 - t**2) * churn.s_noise * noise(i + 1, x)
        d = slope(x, t_hat)
        x_next = x + (s - t_hat) * d
        if s != 0:
            x_next = x + (s - t_hat) * (d / 2 + slope(x_next, s) / 2)
        x = x_next
    return x


def their_euler(x, times, noise, churn):
    for t, s in pairwise(times):
        x = x + (s - t) * slope(x, t)
    return x


def their_dpm(x, times, noise, churn):
    n = len(times) - 1
    for i, (t, s) in enumerate(pairwise(times)):
        gamma = min(churn.s_churn / n, math.sqrt(2) - 1) if churn.s_tmin <= t <= churn.s_tmax else 0.0
        t_hat = t * (1 + gamma)
        x = x + math.sqrt(t_hat**2 - t**2) * churn.s_noise * noise(i + 1, x)
        mid = ((t_hat ** (1 / 3) + s ** (1 / 3)) / 2) ** 3
        x = x + (s - t_hat) * slope(x + (mid - t_hat) * slope(x, t_hat), mid)
    return x


@pytest.mark.parametrize(
    ("solver", "written_out", "churn"),
    [
        (Heun(), their_heun, Churn()),
        (Heun(), their_heun, Churn(s_churn=40.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)),
        (Heun(), their_heun, Churn(s_churn=3.0)),
        (Euler(), their_euler, Churn()),
        (Midpoint(), their_dpm, Churn()),
        (Midpoint(), their_dpm, Churn(s_churn=40.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)),
    ],
)
def test_teacher_samplers_are_their_formulas(solver, written_out, churn):
    x, times = 80 * torch.randn(4, 1, 2, 2).double(), teacher_times(KARRAS, 12)
    wanted = written_out(x, times, stream()[0], churn)
    got = solve(DATA.denoise, KARRAS, x, times, solver=solver, churn=churn, noise=stream()[0])
    torch.testing.assert_close(got, wanted)


def test_ancestral_is_its_formula():
    x = 80 * torch.randn(4, 1, 2, 2).double()
    times = teacher_times(KARRAS, 12)
    noise, drawn = stream()
    got = ancestral(DATA.denoise, KARRAS, x, times, noise=noise)
    again, _ = stream()
    for i, (t, s) in enumerate(pairwise(times)):
        up = math.sqrt(s**2 * (t**2 - s**2) / t**2)
        x = x + (math.sqrt(s**2 - up**2) - t) * slope(x, t) + up * again(i + 1, x)
    torch.testing.assert_close(got, x)
    assert drawn == list(range(1, 12))  # none for the last step, to 0


@pytest.mark.parametrize("how", ["heun", "churn", "euler", "midpoint", "ancestral"])
def test_teacher_samplers_reach_the_mixture(how):
    data, x = Mixture(), 80 * torch.randn(4000, 1, 1, 1).double()
    churn, times = Churn(s_churn=20.0), teacher_times(KARRAS, 40)
    end = {
        "heun": lambda: solve(data.denoise, KARRAS, x, times),
        "churn": lambda: solve(data.denoise, KARRAS, x, times, churn=churn),
        "euler": lambda: solve(data.denoise, KARRAS, x, times, solver=Euler()),
        "midpoint": lambda: solve(data.denoise, KARRAS, x, times, solver=Midpoint()),
        "ancestral": lambda: ancestral(data.denoise, KARRAS, x, times),
    }[how]()
    ordered = end.flatten().sort().values
    quantile = (torch.arange(4000).double() + 0.5) / 4000
    assert (data.cdf(ordered, EPS) - quantile).abs().max() < (0.06 if how in ("euler", "ancestral") else 0.035)


def test_solving_the_mixture_agrees_with_its_closed_form():
    data, x = Mixture(), torch.linspace(-150, 150, 50).double().reshape(50, 1, 1, 1)
    times = KARRAS.grid(200).tolist()
    torch.testing.assert_close(solve(data.denoise, KARRAS, x, times, clip=False), data.jump(x, T), atol=2e-3, rtol=0)


def test_solve_clips_estimates_unless_told_not_to():
    wild, x = lambda a, t: torch.full_like(a, 5.0), torch.randn(2, 1, 2, 2)
    for solver in (Heun(), Euler(), Midpoint()):
        torch.testing.assert_close(solve(wild, KARRAS, x, [80.0, 1.0, 0.0], solver=solver), torch.ones_like(x))
        free = solve(wild, KARRAS, x, [80.0, 1.0, 0.0], solver=solver, clip=False)
        torch.testing.assert_close(free, torch.full_like(x, 5.0))
    assert ancestral(wild, KARRAS, x, [80.0, 0.0]).max() == 1


def test_the_published_midpoint_sampler_leaves_the_noise_where_it_is():
    """It adds 1/N of the denoiser's output N times, as if that were a velocity; the midpoint rule needs the slope.

    So `midpoint` is here the rule with the slope, at the middle of every step, and reaches the data.
    """
    x, times = 80 * torch.randn(4, 1, 2, 2).double(), teacher_times(KARRAS, 40)
    theirs, step = x, 1 / len(times)
    for t in times:
        half = theirs + step / 2 * CLAMPED(theirs, max(t, 1e-9))
        theirs = theirs + step * CLAMPED(half, t + step / 2)
    assert (theirs - x).abs().max() <= 1  # clamped: noise, black and white
    ours = solve(DATA.denoise, KARRAS, x, times, solver=Midpoint(rho=1.0))
    torch.testing.assert_close(ours, DATA.jump(x, T), atol=0.02, rtol=0)


def test_progressive_students_walk_the_grid_without_the_zero():
    """`progdist` of the published code: DDIM on n + 1 grid times."""
    x = torch.full((1, 1, 1, 1), 2.0).double()
    times = KARRAS.grid(5).tolist()
    end = solve(Gaussian(0.0, 0.5).denoise, KARRAS, x, times, solver=Euler(), clip=False)
    gain = math.prod(Gaussian(0.0, 0.5).euler(t, s) for t, s in pairwise(times))
    assert end.item() == pytest.approx(2.0 * gain)


class WithoutFloat64(TorchDispatchMode):
    """As an Apple GPU, here the device "meta": it has no float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta" and tensor.dtype == torch.float64:
                raise TypeError("This device has no float64.")
        return out


def test_devices_without_float64():
    z = torch.zeros(2, 1, 4, 4, device="meta")
    noise = lambda draw, like: torch.zeros_like(like)  # noqa: E731
    with WithoutFloat64():
        for schedule, times in ((Karras(), [80.0, 1.0]), (Discrete(), [999.0, 499.0])):
            x = last(trajectory(lambda x, t: x, schedule, z, times, noise=noise))
            assert (x.shape, x.device.type) == (z.shape, "meta")
        edited = edit(lambda x, t: x, Karras(), SuperResolve(2), z, [80.0, 1.0], noise=noise)
        assert edited.dtype == torch.float32
        assert slerp(torch.zeros(2, 3), torch.ones(2, 3), 0.5).dtype == torch.float32
