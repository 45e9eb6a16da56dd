"""D = c_skip x + c_out F(c_in x, c_noise), and guidance as a denoiser around a denoiser."""

import pytest
import torch
from oracle import Gaussian
from torch import nn

from fewstep.denoiser import Denoiser, Guided
from fewstep.parameterizations import EDM, Boundary, Epsilon
from fewstep.schedules import Karras


class Recorder(nn.Module):
    """F = 0, and what it was told."""

    def forward(self, x, c_noise, labels=None):
        self.seen = (x, c_noise, labels)
        return torch.zeros_like(x)


def test_the_network_sees_scaled_input_and_time():
    network = Recorder()
    x, t, labels = torch.randn(3, 1, 4, 4), torch.tensor([0.1, 1.0, 80.0]), torch.tensor([1, 2, -1])
    out = Denoiser(network, Karras(), EDM(0.5))(x, t, labels=labels)
    column = t[:, None, None, None]
    seen, c_noise, seen_labels = network.seen
    torch.testing.assert_close(seen, x / (column**2 + 0.25).sqrt())
    torch.testing.assert_close(c_noise, t.log() / 4)
    assert seen_labels is labels
    torch.testing.assert_close(out, x * 0.25 / (column**2 + 0.25))


@pytest.mark.parametrize("t", [2.0, torch.tensor(2.0), torch.tensor([2.0, 2.0])])
def test_a_time_is_a_number_a_scalar_or_one_a_sample(t):
    network = Recorder()
    Denoiser(network, Karras(), Boundary())(torch.randn(2, 1, 3, 3), t)
    assert network.seen[1].shape == (2,)
    torch.testing.assert_close(network.seen[1], torch.full((2,), 2.0).log() / 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes(dtype):
    """The network computes in x's dtype, its time stays in float32 or better."""
    network = Recorder()
    out = Denoiser(network, Karras(), Boundary())(torch.randn(2, 1, 3, 3).to(dtype), 5.0)
    assert out.dtype == network.seen[0].dtype == dtype
    assert network.seen[1].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_right_network_makes_the_exact_denoiser():
    """For N(0, σ_d²) data EDM's skip alone is the exact denoiser: the network has nothing left to say."""
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    d = Denoiser(Recorder(), Karras(), EDM(0.5))
    torch.testing.assert_close(d(x, 3.0), Gaussian(0.0, 0.5).denoise(x, 3.0))


class Towards(nn.Module):
    """A denoiser that answers 10 + label, or 1 where no label is asked."""

    schedule = Karras()

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x_t, t, labels):
        self.calls += 1
        answer = torch.where(labels < 0, 1.0, 10.0 + labels)
        return answer[:, None, None, None].expand_as(x_t) + 0 * t[:, None, None, None]


def no_labels(cond):
    return {"labels": torch.full_like(cond["labels"], -1)}


def test_guidance():
    x, labels, d = torch.randn(3, 1, 2, 2), torch.tensor([0, 5, 9]), Towards()
    plain = d(x, torch.ones(3), labels=labels)
    guided = lambda w: Guided(d, w, no_labels)(x, 2.0, labels=labels)  # noqa: E731
    torch.testing.assert_close(guided(0.0), plain)
    torch.testing.assert_close(guided(-1.0), torch.ones_like(x))  # w = −1 asks for nothing
    torch.testing.assert_close(guided(2.5), plain + 2.5 * (plain - 1))
    torch.testing.assert_close(guided(3.0) - guided(1.0), 2 * (guided(1.0) - guided(0.0)))  # linear in w
    w = torch.tensor([0.0, 1.0, 4.0])
    each = torch.cat([guided(v.item())[i : i + 1] for i, v in enumerate(w)])
    torch.testing.assert_close(guided(w), each)


def test_guidance_is_one_call_on_the_bare_schedule():
    d = Towards()
    guided = Guided(d, 1.0, no_labels)
    guided(torch.randn(2, 1, 2, 2), torch.tensor([1.0, 2.0]), labels=torch.tensor([3, 4]))
    assert d.calls == 1
    assert guided.schedule is d.schedule


def test_epsilon_denoiser_removes_the_noise_it_is_told():
    z = torch.randn(2, 1, 2, 2)

    class Says(nn.Module):
        def forward(self, x, c_noise):
            return z

    x_0 = torch.rand(2, 1, 2, 2)
    torch.testing.assert_close(Denoiser(Says(), Karras(), Epsilon())(x_0 + 7 * z, 7.0), x_0, atol=1e-5, rtol=0)
