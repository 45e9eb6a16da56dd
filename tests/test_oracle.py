"""The closed forms agree with integration and with sampling: what the other tests lean on."""

import numpy as np
import pytest
import torch
from oracle import EPS, Gaussian, Mixture, T, squares
from scipy.integrate import solve_ivp


@pytest.mark.parametrize("data", [Gaussian(0.2, 0.5), Mixture()])
def test_jump_is_the_end_of_the_ode(data):
    start = torch.tensor([-90.0, -20.0, 0.5, 3.0, 70.0], dtype=torch.float64)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        return ((torch.from_numpy(x) - data.denoise(torch.from_numpy(x), t)) / t).numpy()

    path = solve_ivp(slope, (T, EPS), start.numpy(), method="DOP853", rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(data.jump(start, T).numpy(), path.y[:, -1], atol=2e-9)


@pytest.mark.parametrize("data", [Gaussian(0.2, 0.5), Mixture()])
def test_jump_is_the_identity_at_the_start(data):
    x = torch.linspace(-1.2, 1.2, 7, dtype=torch.float64)
    torch.testing.assert_close(data.jump(x, EPS), x, atol=1e-9, rtol=0)


def test_jump_from_any_point_of_a_trajectory_is_the_same():
    data = Mixture()
    x = torch.tensor([-60.0, 3.0, 50.0], dtype=torch.float64)
    for s in (40.0, 3.0, 0.3):
        torch.testing.assert_close(data.jump(data.jump(x, T, to=s), s), data.jump(x, T), atol=1e-9, rtol=0)


def test_denoise_is_the_conditional_mean():
    data, t = Mixture(), 0.5
    x_0 = data.draw((2_000_000,), torch.Generator().manual_seed(1))
    x_t = x_0 + t * torch.randn(len(x_0), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    near = (x_t - 0.1).abs() < 0.02
    assert data.denoise(torch.tensor([0.1]), t).item() == pytest.approx(x_0[near].mean().item(), abs=0.01)
    assert data.std == pytest.approx(x_0.std().item(), abs=1e-3)


def test_consistency_functions_solve_their_differential_equation():
    """∂_t f + ∂_x f · (x − D)/t = 0 (Song et al. 2023, remark 10)."""
    h = 1e-5
    for data in (Gaussian(0.2, 0.5), Mixture()):
        x, t = torch.tensor([-1.0, 0.3, 1.5], dtype=torch.float64), 0.7
        in_t = (data.jump(x, t + h) - data.jump(x, t - h)) / (2 * h)
        in_x = (data.jump(x + h, t) - data.jump(x - h, t)) / (2 * h)
        along = in_t + in_x * (x - data.denoise(x, t)) / t
        torch.testing.assert_close(along, torch.zeros(3).double(), atol=1e-8, rtol=0)


def test_quadrature_knows_the_moments():
    a, b, weight = squares()
    assert (weight * a**4 * b**2).sum().item() == pytest.approx(3)
    assert (weight * a * b).sum().item() == pytest.approx(0, abs=1e-12)
