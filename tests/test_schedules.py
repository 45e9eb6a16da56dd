"""Noise levels against the formulas, published numbers, and the three ways of adding noise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steady import steady

from fewstep.schedules import Discrete, Karras, check_strength


def test_karras_grid_is_equation_5():
    grid = Karras().grid(40)
    i = np.arange(40)
    wanted = (80 ** (1 / 7) + i / 39 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(grid.numpy(), wanted, rtol=1e-12)
    assert grid[0].item() == 80.0
    assert grid[-1].item() == 0.002
    assert (grid.diff() < 0).all()
    assert grid.dtype == torch.float64


@pytest.mark.parametrize(
    ("index", "n", "sigma"),
    [
        *[(22, 40, 1.3824), (106, 201, 1.9128), (17, 40, 4.3656), (18, 40, 3.5197), (67, 151, 3.9912)],
        *[(62, 151, 5.2485), (11, 18, 0.5853), (16, 40, 5.38), (20, 40, 2.24)],
    ],
)
def test_karras_grid_has_the_published_middle_times(index, n, sigma):
    """The second times of the published two-step samplers, and the two times of the stroke figure."""
    assert Karras().grid(n)[index].item() == pytest.approx(sigma, abs=2e-3)


@steady
@given(t_min=st.floats(1e-4, 0.5), factor=st.floats(1.5, 1e5), rho=st.floats(0.5, 20), n=st.integers(2, 60))
def test_any_karras_grid_decreases_between_its_ends(t_min, factor, rho, n):
    schedule = Karras(t_min, t_min * factor, rho)
    grid = schedule.grid(n)
    assert (grid[0].item(), grid[-1].item()) == (schedule.t_max, schedule.t_min)
    assert (grid.diff() < 0).all()


def test_karras_perturb_start_and_again():
    schedule, x_0, z = Karras(), torch.rand(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    t = torch.tensor([0.002, 1.0, 80.0], dtype=torch.float64)
    torch.testing.assert_close(schedule.perturb(x_0, z, t), x_0 + t.float()[:, None, None, None] * z)
    assert torch.equal(schedule.start(z), 80 * z)
    back = schedule.again(x_0, z, t)
    assert torch.equal(back[0], x_0[0])  # at t_min nothing is added
    torch.testing.assert_close(back[1], x_0[1] + (1 - 0.002**2) ** 0.5 * z[1])


def test_karras_refuses_nonsense():
    with pytest.raises(ValueError, match="t_min < t_max"):
        Karras(t_min=2.0, t_max=1.0)
    with pytest.raises(ValueError, match="at least 2"):
        Karras().grid(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", [Karras(), Discrete()])
def test_levels_are_never_in_half_precision(schedule, dtype):
    levels = schedule(torch.tensor([3.0], dtype=dtype))
    assert all(c.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) for c in levels)


def test_discrete_levels_are_the_published_ones():
    """Stable Diffusion ends at ᾱ = 0.00466, DDPM's linear schedule at 4.036e-5."""
    sd = Discrete().alphas_cumprod
    assert sd[0].item() == pytest.approx(1 - 0.00085)
    assert sd[-1].item() == pytest.approx(0.00466, abs=5e-6)
    ddpm = Discrete(beta_start=1e-4, beta_end=0.02, spacing="linear").alphas_cumprod
    assert ddpm[-1].item() == pytest.approx(4.036e-5, rel=1e-3)
    wanted = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    np.testing.assert_allclose(ddpm.numpy(), wanted, rtol=1e-10)


def test_cosine_levels():
    """ᾱ_t = cos²((t/T + 0.008)/1.008 · π/2) relative to its start, each β at most 0.999."""
    cumulative = Discrete(steps=100, spacing="cosine").alphas_cumprod.numpy()
    level = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cumulative[:99], (level / level[0])[1:100], rtol=1e-10)
    assert cumulative[99] == pytest.approx(cumulative[98] * 1e-3)


def test_zero_snr_keeps_the_first_level_and_ends_in_noise():
    plain, zero = Discrete().alphas_cumprod, Discrete(zero_snr=True).alphas_cumprod
    assert zero[0].item() == pytest.approx(plain[0].item())
    assert zero[-1].item() == 0
    assert (zero.diff() < 0).all()


@pytest.mark.parametrize("spacing", ["scaled_linear", "linear", "cosine"])
def test_discrete_preserves_variance(spacing):
    alpha, sigma = Discrete(spacing=spacing)(torch.arange(1000).double())
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(1000).double())
    assert (sigma.diff() > 0).all()


def test_discrete_times_are_indices():
    schedule = Discrete()
    assert torch.equal(schedule(torch.tensor([500.4]))[0], schedule(torch.tensor([500.0]))[0])
    assert schedule.grid(5).tolist() == [999.0, 749.0, 500.0, 250.0, 0.0]
    with pytest.raises(ValueError, match="indices 0 … 999"):
        schedule(torch.tensor([1000.0]))
    with pytest.raises(ValueError, match="at least 2 noise levels"):
        Discrete(steps=1)


def test_discrete_again_is_perturb():
    schedule, x_0, z = Discrete(), torch.rand(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    t = torch.tensor([10.0, 900.0])
    assert torch.equal(schedule.again(x_0, z, t), schedule.perturb(x_0, z, t))
    assert torch.equal(schedule.start(z), z)  # DDPM's prior is N(0, I)


def test_a_share_of_levels_has_no_binary_error():
    assert check_strength(0.58, 50) == 29
    assert check_strength(1.0, 50) == 50
    with pytest.raises(ValueError, match="leaves none of 50 levels: take at least 0.02"):
        check_strength(0.01, 50)
