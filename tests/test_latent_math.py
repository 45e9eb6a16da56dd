"""The mathematics of latent consistency models: schedules, the latched parameterization, guidance, solvers, against
diffusers' schedulers and closed forms for Gaussian data."""

import itertools

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from oracle import Mixture, T

from fewstep.denoiser import Denoiser, Guided
from fewstep.discretizations import Skipping
from fewstep.parameterizations import Epsilon, Latched, Sample, Velocity
from fewstep.sampling import ancestral, solve, trajectory
from fewstep.schedules import Discrete, Karras
from fewstep.solvers import DPMSolver, Euler, Heun, Midpoint

KINDS = {"epsilon": Epsilon(), "v_prediction": Velocity(), "sample": Sample()}


class Linear(torch.nn.Module):
    """F(x, c) = a x + b c + p, told a condition p of its own."""

    def forward(self, x, c_noise, *, prompt=None):
        shift = 0 if prompt is None else prompt[:, None, None, None]
        return 0.7 * x + 1e-3 * c_noise[:, None, None, None].to(x.dtype) + shift


def test_jumps_are_the_schedulers_of_latent_consistency_models():
    stock = LCMScheduler()
    for n in range(1, 51):
        stock.set_timesteps(n)
        assert Discrete().jumps(n) == stock.timesteps.tolist()
    for original in (10, 25, 100):
        stock.set_timesteps(4, original_inference_steps=original)
        assert Discrete(origin=original).jumps(4) == stock.timesteps.tolist()


@pytest.mark.parametrize("n", [1, 2, 4, 7, 50, 1000])
def test_walks_are_the_trailing_timesteps(n):
    stock = DDIMScheduler(timestep_spacing="trailing")
    stock.set_timesteps(n)
    assert Discrete().walk(n) == [*stock.timesteps.tolist(), -1.0]
    assert Karras().walk(18) == [*Karras().grid(18).tolist(), 0.0]


def test_numbers_of_steps_that_no_schedule_has_are_refused():
    for schedule in (Karras(), Discrete()):
        for times in (schedule.jumps, schedule.walk):
            with pytest.raises(ValueError, match="at least 1"):
                times(0)
    with pytest.raises(ValueError, match="50 levels"):
        Discrete().jumps(51)
    with pytest.raises(ValueError, match="1000 levels"):
        Discrete().walk(1001)


def test_minus_one_is_clean():
    alpha, sigma = Discrete()(torch.tensor([-1.0, 0.0], dtype=torch.float64))
    assert (alpha[0], sigma[0]) == (1, 0)
    assert sigma[1].item() == pytest.approx(0.00085**0.5)
    with pytest.raises(ValueError, match="-2"):
        Discrete()(torch.tensor([-2.0]))


def test_betas_of_ones_own():
    betas = tuple(torch.linspace(1e-4, 0.02, 10, dtype=torch.float64).tolist())
    same = Discrete(steps=10, beta_start=1e-4, beta_end=0.02, spacing="linear")
    torch.testing.assert_close(Discrete(steps=10, betas=betas).alphas_cumprod, same.alphas_cumprod)
    with pytest.raises(ValueError, match="3 betas"):
        Discrete(steps=10, betas=(0.1, 0.1, 0.1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_the_latched_function_is_the_schedulers_denoised(kind, zero_snr):
    """The trainer's prediction, at every time of the origin grid, against the stock scheduler's."""
    if kind == "epsilon" and zero_snr:
        pytest.skip("the stock scheduler divides by zero there")
    schedule = Discrete(zero_snr=zero_snr)
    f = Denoiser(Linear(), schedule, Latched(KINDS[kind]))
    stock = LCMScheduler(prediction_type=kind, rescale_betas_zero_snr=zero_snr)
    stock.set_timesteps(50)
    x = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    for t in stock.timesteps:
        theirs = stock.step(Linear()(x, t.expand(2).float()), t, x, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(f(x, float(t)), theirs.denoised, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_algorithm_1_is_the_schedulers_loop(n):
    schedule, draws = Discrete(), torch.randn(n, 2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    f = Denoiser(Linear(), schedule, Latched())
    *_, ours = trajectory(f, schedule, draws[0], schedule.jumps(n), noise=lambda i, like: draws[i], clip=False)
    x, ahead, last = draws[0].double(), torch.tensor(schedule.jumps(n)), None
    for i, t in enumerate(ahead):  # x ← α_τ f(x, t) + σ_τ z, written out
        a = Discrete().alphas_cumprod[int(t)]
        x_0 = (x - (1 - a).sqrt() * Linear()(x, t.expand(2))) / a.sqrt()
        last = 0.25 / (100 * t**2 + 0.25) * x + 10 * t / (100 * t**2 + 0.25).sqrt() * x_0
        if i + 1 < n:
            b = Discrete().alphas_cumprod[int(ahead[i + 1])]
            x = b.sqrt() * last + (1 - b).sqrt() * draws[i + 1]
    torch.testing.assert_close(ours, last.float(), atol=1e-4, rtol=1e-4)


def test_a_latched_function_is_the_identity_at_zero_in_every_dtype():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.randn(2, 1, 3, 3).to(dtype)
        for inner in KINDS.values():
            assert torch.equal(Denoiser(Linear(), Discrete(), Latched(inner))(x, 0.0), x)


def test_pure_noise_is_divided_by_nothing():
    schedule = Discrete(zero_snr=True)
    x = torch.randn(2, 1, 3, 3)
    t, s = torch.tensor(999.0), torch.tensor(979.0)
    for kind in KINDS.values():
        f = Denoiser(Linear(), schedule, kind)
        assert f(x, 999.0).isfinite().all()
        for solver in (Euler(), Heun(), Midpoint(), DPMSolver()):
            assert solver(f, schedule, x, t, s).isfinite().all()


def test_skipping_compares_levels_k_apart():
    u = torch.arange(50, dtype=torch.float64) / 50 + 1e-9
    t, s = Skipping(20).pairs(u, Discrete(), 0.3)
    assert t.tolist() == [20.0 * i - 1 for i in range(1, 51)]
    assert s.tolist() == [max(20.0 * i - 21, 0) for i in range(1, 51)]
    assert Skipping(100).pairs(u, Discrete(), 0.0)[1].tolist() == [max(20.0 * i - 101, 0) for i in range(1, 51)]
    with pytest.raises(TypeError, match="Karras"):
        Skipping().pairs(u, Karras(), 0.0)
    with pytest.raises(ValueError, match="k=0"):
        Skipping(0)
    with pytest.raises(ValueError, match=r"k = 50 leads .* take a multiple of 20 or schedule.origin = 20"):
        Skipping(50).pairs(u, Discrete(), 0.0)
    trained = set(Discrete(origin=100).origins().tolist())
    assert set(Skipping(50).pairs(u, Discrete(origin=100), 0.0)[1].long().tolist()) <= trained | {0}


@pytest.mark.parametrize("kind", KINDS)
def test_solve_and_ancestral_are_ddim(kind):
    """With η = 0 and η = 1 (Song et al. 2021), 20 trailing steps down to clean data."""
    schedule, net, n = Discrete(), Linear(), 20
    draws = torch.randn(n + 1, 2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    f = Denoiser(net, schedule, KINDS[kind])
    for eta, walk in ((0.0, lambda *a, **k: solve(*a, solver=Euler(), **k)), (1.0, ancestral)):
        stock = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              prediction_type=kind, timestep_spacing="trailing")  # fmt: skip
        stock.set_timesteps(n)
        x = draws[0]
        for i, t in enumerate(stock.timesteps):
            out = net(x, t.expand(2).double())
            x = stock.step(out, t, x, eta=eta, variance_noise=draws[i + 1]).prev_sample
        ours = walk(f, schedule, draws[0], schedule.walk(n), noise=lambda i, like: draws[i], clip=False)
        # the scheduler leaves some noise with η = 1 in its last step, where σ_s = 0
        torch.testing.assert_close(ours, x, atol=2e-5, rtol=2e-5)


def test_guidance_of_each_sample():
    """D_w for Gaussian data of two means, and its DDIM step, in closed form."""
    schedule, std, asked, free = Discrete(), 0.5, torch.tensor([0.4, -0.3]), 0.1

    def denoise(x, t, *, mean):
        a, s = (c.reshape(-1, 1, 1, 1) for c in schedule(torch.as_tensor(t).double().expand(len(x))))
        return (std**2 * a * x + s**2 * mean.reshape(-1, 1, 1, 1)) / (std**2 * a**2 + s**2)

    class Two(torch.nn.Module):
        def forward(self, x, t, **cond):
            return denoise(x, t, **cond)

    guided = Guided(Two(), 0.0, lambda cond: {"mean": torch.full_like(cond["mean"], free)})
    x, w = torch.randn(2, 1, 2, 2, dtype=torch.float64), torch.tensor([7.0, 2.0], dtype=torch.float64)
    t, s = torch.tensor(499.0), torch.tensor(479.0)
    ours = Euler()(guided, schedule, x, t, s, mean=asked.double(), guidance=w)
    a_t, a_s = (schedule(torch.tensor(i).double()) for i in (499, 479))
    for i in range(2):
        mean = asked[i] + w[i] * (asked[i] - free)  # D is affine in the mean
        d = (std**2 * a_t[0] * x[i] + a_t[1] ** 2 * mean) / (std**2 * a_t[0] ** 2 + a_t[1] ** 2)
        torch.testing.assert_close(ours[i], a_s[0] * d + a_s[1] / a_t[1] * (x[i] - a_t[0] * d))
    plain = guided(x, t, mean=asked.double())
    torch.testing.assert_close(plain, denoise(x, t, mean=asked.double()))


def test_dpm_solver_is_of_second_order():
    data, schedule, x = Mixture(), Karras(), torch.linspace(-100, 100, 9, dtype=torch.float64).reshape(9, 1, 1, 1)
    errors = []
    for n in (160, 320, 640):
        y = x
        for t, s in itertools.pairwise(schedule.grid(n + 1)):
            y = DPMSolver()(data.denoise, schedule, y, t, s)
        errors.append((y - data.jump(x, T)).abs().mean().item())
    assert [a / b for a, b in itertools.pairwise(errors)] == pytest.approx([4, 4], rel=0.05)


@pytest.mark.parametrize("schedule", [Karras(), Discrete()])
def test_dpm_solver_written_out(schedule):
    def f(x, t, **cond):
        return x.sin() + 1e-3 * torch.as_tensor(t).reshape(-1, 1)

    x, t, s = torch.randn(3, 2, dtype=torch.float64), torch.tensor(60.0).double(), torch.tensor(20.0).double()
    m = torch.tensor(40.0).double() if isinstance(schedule, Discrete) else torch.tensor(1200.0).double().sqrt()
    (a_t, s_t), (a_m, s_m), (a_s, s_s) = (schedule(time) for time in (t, m, s))
    level_t, level_m, level_s = (a_t / s_t).log(), (a_m / s_m).log(), (a_s / s_s).log()
    h, r = level_s - level_t, (level_m - level_t) / (level_s - level_t)
    u = s_m / s_t * x - a_m * ((-r * h).exp() - 1) * f(x, t)
    d = (1 - 1 / (2 * r)) * f(x, t) + f(u, m) / (2 * r)
    wanted = s_s / s_t * x - a_s * ((-h).exp() - 1) * d
    torch.testing.assert_close(DPMSolver()(f, schedule, x, t, s), wanted)
    clean = torch.tensor(schedule.clean).double()
    torch.testing.assert_close(DPMSolver()(f, schedule, x, t, clean), f(x, t))
