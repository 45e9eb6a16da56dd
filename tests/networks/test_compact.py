"""The compact network: its sizes, its pieces, and that it can say different things at different times."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fewstep.codec import decode, encode
from fewstep.networks import CompactShape
from fewstep.networks.blocks import Attention, PixelNorm, Residual, Waves

SMALL = CompactShape(image_size=8, patch=1, widths=(8, 16), blocks=1, embedding=16, num_classes=3)


def randomized(shape: CompactShape) -> nn.Module:
    """The network with no weight left at zero, in evaluation mode."""
    network = shape.build()
    for p in network.parameters():
        nn.init.normal_(p, std=1 / max(1, p[0].numel()) ** 0.5)
    return network.eval()


@pytest.mark.parametrize(
    "shape",
    [
        CompactShape(num_classes=10),
        CompactShape(image_size=32, image_channels=3),
        CompactShape(image_size=64, image_channels=3, widths=(16, 24, 32), blocks=1),
        CompactShape(image_size=8, patch=1, widths=(8, 12)),
        CompactShape(image_size=64, widths=(8, 16, 24), blocks=1, skips="level"),
        CompactShape(image_size=8),
        CompactShape(image_size=9, patch=3, widths=(8,), attention=False),
    ],
    ids=str,
)
def test_it_keeps_the_shape_and_starts_at_zero(shape):
    x = torch.randn(2, shape.image_channels, shape.image_size, shape.image_size)
    y = shape.build()(x, torch.tensor([-1.6, 1.1]))
    assert y.shape == x.shape
    assert y.abs().max() == 0


def test_the_default_is_shippable():
    with torch.device("meta"):
        network = CompactShape(num_classes=10).build()
    assert 0.4e6 < sum(p.numel() for p in network.parameters()) < 1.25e6  # at most 5 MB in float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 30, "patch": 4}, r"image_size 30 is not a multiple of 8 \(patch 4, 2 levels\)"),
        ({"image_size": 0}, "not a multiple"),
        ({"widths": ()}, "at least 1"),
        ({"widths": (8, 0)}, "at least 1"),
        ({"patch": 0}, "at least 1"),
    ],
)
def test_shapes_that_no_network_can_have_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change).build()


def test_unknown_skips_are_refused():
    shape = replace(SMALL)
    object.__setattr__(shape, "skips", "levels")  # as a file could: the type checks of these tests do not see it
    with pytest.raises(ValueError, match='skips must be "block" or "level", not "levels"'):
        shape.build()


def test_labels_without_classes_are_refused():
    with pytest.raises(ValueError, match="has no classes"):
        replace(SMALL, num_classes=0).build()(torch.randn(1, 1, 8, 8), torch.zeros(1), torch.tensor([0]))


def test_a_label_of_minus_one_adds_nothing():
    network, x, c = randomized(SMALL), torch.randn(3, 1, 8, 8), torch.zeros(3)
    with torch.no_grad():
        bare, mixed = network(x, c), network(x, c, torch.tensor([-1, 2, -1]))
    torch.testing.assert_close(mixed[[0, 2]], bare[[0, 2]])
    assert (mixed[1] - bare[1]).abs().max() > 1e-2


def test_samples_do_not_see_each_other():
    network, x, c = randomized(SMALL), torch.randn(4, 1, 8, 8), torch.linspace(-1.6, 1.1, 4)
    labels = torch.tensor([0, 1, 2, -1])
    with torch.no_grad():
        together = network(x, c, labels)
        alone = torch.cat([network(x[i : i + 1], c[i : i + 1], labels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("skips", ["block", "level"])
def test_every_parameter_and_every_skip_is_used(skips):
    shape = replace(SMALL, skips=skips)
    network, labels = randomized(shape), torch.tensor([0, 1])
    x = torch.randn(2, 1, 8, 8)
    network(x, torch.zeros(2), labels).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    with torch.no_grad():
        before = network(x, torch.zeros(2), labels)
        network.middle.forward = lambda h, e: torch.zeros_like(h)  # only the skips are left
        cut = network(x, torch.zeros(2), labels)
    assert (cut - before).abs().max() > 1e-3
    assert (cut[0] - cut[1]).abs().max() > 1e-3


@pytest.mark.parametrize("attention", [True, False])
def test_attention_lets_every_pixel_see_every_other(attention):
    shape = replace(SMALL, image_size=64, widths=(8, 8), blocks=1, attention=attention)
    network, x = randomized(shape), torch.randn(1, 1, 64, 64, requires_grad=True)
    network(x, torch.zeros(1))[0, 0, 0, 0].backward()
    assert (x.grad[0, 0, -1, -1] != 0) == attention


def test_memory_layout_changes_nothing():
    network, x = randomized(SMALL), torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        plain = network(x, torch.zeros(2))
        network.to(memory_format=torch.channels_last)
        last = network(x.to(memory_format=torch.channels_last), torch.zeros(2))
    torch.testing.assert_close(plain, last)


def test_the_shape_survives_json():
    assert decode(encode(SMALL), [CompactShape]) == SMALL


def test_pixel_norm_is_layer_norm_over_channels():
    norm, x = PixelNorm(6), torch.randn(2, 6, 3, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected)


def test_attention_is_the_formula():
    attention, x = Attention(12, width=6), torch.randn(2, 12, 3, 2)
    nn.init.normal_(attention.out.weight)
    pixels = x.flatten(2).transpose(1, 2)
    q, k, v = (part.unflatten(2, (2, 6)).transpose(1, 2) for part in attention.qkv(attention.norm(pixels)).chunk(3, 2))
    mixed = (q @ k.transpose(-1, -2) / 6**0.5).softmax(-1) @ v
    expected = pixels + attention.out(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x), expected.transpose(1, 2).view_as(x))


def test_the_waves_tell_neighbouring_noise_levels_apart():
    c = torch.linspace(-1.6, 1.1, 400)  # the whole range of ln(t) / 4, in steps of 2.7% of t
    features = Waves(64, 0.8, 25.0)(c)
    assert features.shape == (400, 64)
    distance = torch.cdist(features, features)
    gaps = distance.diagonal(1)
    assert gaps.min() > 0.2
    assert gaps.max() < 1.0  # and still smooth
    assert (distance + 10 * torch.eye(400)).min() > 0.99 * gaps.min()  # no two far levels look alike


def test_the_dropout_mask_follows_the_seed():
    block = Residual(4, 4, 8, dropout=0.5)
    nn.init.normal_(block.second.weight)
    x, e = torch.randn(2, 4, 5, 5), torch.randn(2, 8)

    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return block(x, e)

    torch.testing.assert_close(drawn(1), drawn(1), rtol=0, atol=0)
    assert (drawn(1) - drawn(2)).abs().max() > 0.1
    block.eval()
    torch.testing.assert_close(drawn(1), drawn(2), rtol=0, atol=0)
