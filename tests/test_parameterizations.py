"""The boundary condition in every dtype, EDM's unit variances, and each parameterization inverted."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steady import steady
from torch import nn

from fewstep.denoiser import Denoiser
from fewstep.parameterizations import EDM, Boundary, Epsilon, Velocity
from fewstep.schedules import Discrete, Karras

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]

schedules = st.one_of(
    st.builds(Karras, t_min=st.floats(1e-3, 0.1), t_max=st.floats(1.0, 200.0), rho=st.floats(1, 10)),
    st.builds(Discrete, steps=st.integers(2, 50)),
)
boundaries = st.builds(Boundary, sigma_data=st.floats(0.05, 2.0), noise_scale=st.sampled_from([0.25, 250.0]))


class Wild(nn.Module):
    """A network whose answer is large, so that a coefficient that is not exactly zero shows."""

    def forward(self, x, c_noise, **cond):
        return 50 * x + 100


@steady
@given(schedule=schedules, boundary=boundaries, dtype=st.sampled_from(DTYPES), data=st.data())
def test_a_consistency_function_is_the_identity_at_t_min(schedule, boundary, dtype, data):
    values = data.draw(st.lists(st.floats(-3, 3, width=16), min_size=4, max_size=4))
    x = torch.tensor(values, dtype=dtype).reshape(2, 1, 1, 2)
    f = Denoiser(Wild(), schedule, boundary)
    told_in = data.draw(st.sampled_from([None, *DTYPES]))  # a number, or a tensor
    t = schedule.t_min if told_in is None else torch.full((2,), schedule.t_min, dtype=told_in)
    assert torch.equal(f(x, t), x)
    assert f(x, t).dtype == dtype


@steady
@given(sigma_data=st.floats(0.05, 2.0), t_min=st.floats(1e-3, 0.1))
def test_boundary_tends_to_edm_far_from_t_min(sigma_data, t_min):
    schedule, t = Karras(t_min, 80.0), torch.tensor([80.0], dtype=torch.float64)
    ours, edm = Boundary(sigma_data)(schedule, t), EDM(sigma_data)(schedule, t)
    gap = 80 - t_min
    assert ours.skip.item() == pytest.approx(sigma_data**2 / (gap**2 + sigma_data**2))
    assert ours.out.item() == pytest.approx(gap * sigma_data / (80**2 + sigma_data**2) ** 0.5)
    assert ours.into.item() == edm.into.item()
    assert ours.noise.item() == edm.noise.item()


@steady
@given(sigma_data=st.floats(0.05, 2.0), t=st.floats(0.002, 80.0))
def test_edm_gives_the_network_unit_variance_in_and_out(sigma_data, t):
    """Var[c_in x_t] = 1 and Var[(x_0 − c_skip x_t)/c_out] = 1 (Karras et al. 2022, appendix B.6)."""
    c = EDM(sigma_data)(Karras(), torch.tensor([t], dtype=torch.float64))
    assert (c.into**2 * (sigma_data**2 + t**2)).item() == pytest.approx(1)
    asked = ((1 - c.skip) ** 2 * sigma_data**2 + c.skip**2 * t**2) / c.out**2
    assert asked.item() == pytest.approx(1)


@pytest.mark.parametrize("parameterization", [EDM(), Boundary(), Epsilon(), Velocity()])
@pytest.mark.parametrize("schedule", [Karras(), Discrete()])
def test_the_right_answer_of_the_network_gives_the_data(schedule, parameterization):
    """Epsilon's network says z, Velocity's α z − σ x_0; any other says what its own equation asks."""
    if isinstance(parameterization, Velocity) and isinstance(schedule, Karras):
        pytest.skip("velocity means α² + σ² = 1")
    x_0, z = torch.rand(3, 1, 2, 2).double(), torch.randn(3, 1, 2, 2).double()
    t = schedule.grid(5)[1:4]
    alpha, sigma = (c.reshape(3, 1, 1, 1) for c in schedule(t))
    x_t = alpha * x_0 + sigma * z
    c = parameterization(schedule, t)
    answer = {Epsilon: z, Velocity: alpha * z - sigma * x_0}.get(
        type(parameterization), (x_0 - c.skip.reshape(3, 1, 1, 1) * x_t) / c.out.reshape(3, 1, 1, 1)
    )

    class Knows(nn.Module):
        def forward(self, x, c_noise):
            return answer

    torch.testing.assert_close(Denoiser(Knows(), schedule, parameterization)(x_t, t), x_0)


def test_the_network_is_told_a_scaled_logarithm():
    t = torch.tensor([0.002, 80.0])
    torch.testing.assert_close(EDM()(Karras(), t).noise, t.log() / 4)
    theirs = Boundary(noise_scale=250.0)(Karras(), t).noise  # the range of OpenAI's network input
    torch.testing.assert_close(theirs, torch.tensor([-1553.65, 1095.51]), atol=0.01, rtol=0)
    assert torch.isfinite(EDM()(Karras(), torch.zeros(1)).noise).all()
    zero = EDM(noise_scale=250.0)(Karras(), torch.zeros(1)).noise.item()
    assert zero == pytest.approx(250 * -101.33, rel=1e-3)  # what OpenAI's code says at 0


def test_coefficients_stay_in_float32_for_half_precision_times():
    for parameterization in (EDM(), Boundary(), Epsilon(), Velocity()):
        c = parameterization(Discrete(), torch.tensor([7.0], dtype=torch.bfloat16))
        assert {part.dtype for part in c} == {torch.float32}
    exact = Boundary(noise_scale=250.0)(Karras(), torch.tensor([80.0])).noise
    assert exact.item() == pytest.approx(1095.5, abs=0.1)  # bfloat16 would say 1096


def test_only_the_boundary_is_consistent():
    assert Boundary().consistent
    assert not any(p.consistent for p in (EDM(), Epsilon(), Velocity()))


def test_whole_times_are_times():
    whole, exact = (Boundary()(Karras(), torch.tensor([t])) for t in (1, 1.0))
    assert torch.equal(whole.skip, exact.skip)
    assert torch.equal(whole.out, exact.out)
