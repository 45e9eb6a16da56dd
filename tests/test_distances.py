"""Distances by hand: one value a sample, zero for equal inputs, the published reductions."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fewstep.distances import L1, Huber, LearnedFilters, PseudoHuber, RandomFilters, Squared, _drawn

ALL = [L1(), Squared(), Squared(size=32), PseudoHuber(), PseudoHuber(c=0.5), Huber(), Huber(c=0.1), RandomFilters()]


def pictures(n=3, size=8):
    return torch.randn(n, 3, size, size), torch.randn(n, 3, size, size)


def test_means_are_over_everything_but_the_batch():
    x, y = pictures()
    torch.testing.assert_close(L1()(x, y), torch.stack([(a - b).abs().sum() / 192 for a, b in zip(x, y, strict=True)]))
    torch.testing.assert_close(
        Squared()(x, y), torch.stack([(a - b).norm() ** 2 / 192 for a, b in zip(x, y, strict=True)])
    )


def test_pseudo_huber_is_over_the_whole_sample():
    """√(‖x − y‖² + c²) − c with c = 0.00054 √D; at 32 × 32 × 3 that is iCT's 0.03."""
    x, y = pictures()
    for c in (0.1, 3.0):
        wanted = torch.stack([((a - b).norm() ** 2 + c * c).sqrt() - c for a, b in zip(x, y, strict=True)])
        torch.testing.assert_close(PseudoHuber(c)(x, y), wanted)
    x, y = pictures(size=32)
    torch.testing.assert_close(PseudoHuber()(x, y), PseudoHuber(0.00054 * 3072**0.5)(x, y))
    torch.testing.assert_close(PseudoHuber()(x, y), PseudoHuber(0.03)(x, y), rtol=1e-5, atol=0)
    apart = ((x - y) ** 2 + 0.03**2).sqrt().flatten(1).mean(1)  # the per-element kind is another function
    assert (PseudoHuber()(x, y) / apart).min() > 10


def test_l2_32_compares_resized_pictures():
    x, y = pictures(size=64)
    down = lambda a: F.interpolate(a, (32, 32), mode="bilinear", align_corners=False)  # noqa: E731
    torch.testing.assert_close(Squared(size=32)(x, y), ((down(x) - down(y)) ** 2).mean((1, 2, 3)))


@pytest.mark.parametrize("distance", ALL, ids=str)
def test_every_distance(distance):
    x, y = pictures()
    assert distance(x, y).shape == (3,)
    assert (distance(x, y) > 0).all()
    torch.testing.assert_close(distance(x, x), torch.zeros(3))
    torch.testing.assert_close(distance(x, y), distance(y, x))
    changed = y.clone()
    changed[0] += 1
    assert torch.equal(distance(x, changed)[1:], distance(x, y)[1:])


@pytest.mark.parametrize("distance", ALL, ids=str)
def test_gradients_are_finite_where_both_agree(distance):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    distance(x, x.detach()).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


@pytest.mark.parametrize("c", [0.001, 0.3])
def test_huber_is_of_each_value_by_itself(c):
    x, y = pictures()
    torch.testing.assert_close(Huber(c)(x, y), (torch.hypot(x - y, torch.tensor(c)) - c).mean((1, 2, 3)))


def test_random_filters_compare_directions_of_features_at_every_scale():
    """By hand for one scale: 1 × 1 pictures of two channels see one weight a filter, the one in the middle."""
    x, y = torch.randn(3, 2, 1, 1), torch.randn(3, 2, 1, 1)
    ((weight, bias),) = _drawn((5,), 2, 3, x.device, x.dtype)
    sees = lambda a: F.normalize(F.relu(a.flatten(1) @ weight[:, :, 1, 1].T + bias), dim=1)  # noqa: E731
    wanted = ((sees(x) - sees(y)) ** 2).sum(1)
    torch.testing.assert_close(RandomFilters((5,), seed=3)(x, y), wanted, rtol=1e-4, atol=1e-5)
    x, y = pictures()
    assert not torch.equal(RandomFilters(seed=1)(x, y), RandomFilters()(x, y))
    torch.testing.assert_close(RandomFilters()(x, y)[:1], RandomFilters()(x[:1], y[:1]))
    assert (RandomFilters()(x, y) < 2 * 3).all()  # three scales, features that are never negative


def test_random_filters_give_a_gradient_to_both_sides():
    x, y = (a.requires_grad_(True) for a in pictures())
    RandomFilters()(x, y).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert float(x.grad.norm()) > 0 < float(y.grad.norm())


def test_a_file_without_filters_is_named(tmp_path):
    x, y = pictures()
    with pytest.raises(FileNotFoundError, match="no learned filters at 'nowhere'"):
        LearnedFilters("nowhere")(x, y)
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    save_file({"weight": x}, tmp_path / "other.safetensors")
    for name in ("cut", "other"):
        with pytest.raises(ValueError, match=f"{name}.safetensors holds no filters"):
            LearnedFilters(str(tmp_path / f"{name}.safetensors"))(x, y)


def test_learned_filters_are_read_from_their_file(tmp_path):
    layers = _drawn((4, 6), 3, 7, torch.device("cpu"), torch.float32)
    named = {
        f"{i}.{kind}": t for i, layer in enumerate(layers) for kind, t in zip(("weight", "bias"), layer, strict=True)
    }
    save_file(named, tmp_path / "filters.safetensors")
    x, y = pictures()
    assert torch.equal(LearnedFilters(str(tmp_path / "filters.safetensors"))(x, y), RandomFilters((4, 6), seed=7)(x, y))
