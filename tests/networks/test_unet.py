"""The papers' U-Net: sizes of the released weights, equality with diffusers' network, and its switches."""

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from fewstep.formats.diffusers_names import to_diffusers
from fewstep.formats.diffusers_unet import config_of
from fewstep.networks import UNet, UNetShape

IMAGENET_64 = UNetShape(
    image_size=64,
    model_channels=192,
    num_res_blocks=3,
    channel_mult=(1, 2, 3, 4),
    attention_resolutions=(32, 16, 8),
    num_head_channels=64,
    num_classes=1000,
)
LSUN_256 = UNetShape(
    image_size=256,
    model_channels=256,
    num_res_blocks=2,
    channel_mult=(1, 1, 2, 2, 4, 4),
    attention_resolutions=(32, 16, 8),
    num_head_channels=64,
    use_scale_shift_norm=False,
)
TINY = UNetShape(
    image_size=16,
    model_channels=32,
    num_res_blocks=2,
    channel_mult=(1, 2),
    attention_resolutions=(8,),
    num_head_channels=16,
    num_classes=5,
)


def randomized(network: nn.Module) -> nn.Module:
    """The network with no weight left at zero or one, in evaluation mode."""
    for p in network.parameters():
        nn.init.normal_(p, std=0.5 / max(1, p[0].numel()) ** 0.5)
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=5.0)
    return network.eval()


def batch(shape: UNetShape, n: int = 3) -> tuple[Tensor, Tensor]:
    """A picture and noise levels in the form that OpenAI's network takes, 250 ln t."""
    x = torch.randn(n, shape.image_channels, shape.image_size, shape.image_size)
    return x, 250 * torch.linspace(0.002, 80, n).log()


@pytest.mark.parametrize(
    ("shape", "tensors", "parameters"),
    [(IMAGENET_64, 541, 295_899_267), (LSUN_256, 566, 526_304_771)],
    ids=["imagenet64", "lsun256"],
)
def test_as_many_tensors_and_parameters_as_the_released_weights(shape, tensors, parameters):
    with torch.device("meta"):
        state = shape.build().state_dict()
    assert len(state) == tensors
    assert sum(value.numel() for value in state.values()) == parameters


def test_the_keys_and_shapes_are_openais():
    with torch.device("meta"):
        state = {name: tuple(value.shape) for name, value in IMAGENET_64.build().state_dict().items()}
    expected = {
        "time_embed.0.weight": (768, 192),
        "time_embed.2.weight": (768, 768),
        "label_emb.weight": (1000, 768),
        "input_blocks.0.0.weight": (192, 3, 3, 3),
        "input_blocks.1.0.in_layers.0.weight": (192,),
        "input_blocks.1.0.in_layers.2.weight": (192, 192, 3, 3),
        "input_blocks.1.0.emb_layers.1.weight": (384, 768),
        "input_blocks.1.0.out_layers.0.bias": (192,),
        "input_blocks.1.0.out_layers.3.weight": (192, 192, 3, 3),
        "input_blocks.4.0.out_layers.3.bias": (192,),  # the block that halves
        "input_blocks.5.0.skip_connection.weight": (384, 192, 1, 1),
        "input_blocks.5.1.norm.weight": (384,),
        "input_blocks.5.1.qkv.weight": (1152, 384, 1, 1),
        "input_blocks.5.1.proj_out.weight": (384, 384, 1, 1),
        "middle_block.1.qkv.bias": (2304,),
        "middle_block.2.out_layers.3.weight": (768, 768, 3, 3),
        "output_blocks.0.0.skip_connection.weight": (768, 1536, 1, 1),
        "output_blocks.3.2.in_layers.2.weight": (768, 768, 3, 3),  # doubles, after the attention at .1
        "output_blocks.15.0.skip_connection.weight": (192, 384, 1, 1),
        "out.0.weight": (192,),
        "out.2.weight": (3, 192, 3, 3),
    }
    assert {name: state.get(name) for name in expected} == expected


def test_plain_resizing_has_openais_keys():
    with torch.device("meta"):
        state = replace(LSUN_256, resblock_updown=False).build().state_dict()
    assert state["input_blocks.3.0.op.weight"].shape == (256, 256, 3, 3)
    assert state["output_blocks.2.2.conv.weight"].shape == (1024, 1024, 3, 3)  # level 8: index 2, after attention
    assert state["output_blocks.14.1.conv.weight"].shape == (256, 256, 3, 3)  # level 128: no attention, index 1


def diffusers_network(shape: UNetShape) -> UNet2DModel:
    """Stock diffusers' network of this shape, from the config that fewstep writes."""
    return UNet2DModel.from_config(config_of(shape)).eval()


@pytest.mark.parametrize("num_classes", [0, 5], ids=["unconditional", "conditional"])
@pytest.mark.parametrize("updown", [True, False], ids=["residual", "plain"])
@pytest.mark.parametrize("scale_shift", [True, False], ids=["scale-shift", "additive"])
def test_it_is_the_network_of_diffusers(scale_shift, updown, num_classes):
    shape = replace(TINY, use_scale_shift_norm=scale_shift, resblock_updown=updown, num_classes=num_classes)
    ours, theirs = randomized(shape.build()), diffusers_network(shape)
    theirs.load_state_dict(to_diffusers(shape, ours.state_dict()))  # strict: every name is there
    x, c_noise = batch(shape)
    labels = torch.tensor([0, 4, 2]) if num_classes else None
    with torch.no_grad():
        mine, other = ours(x, c_noise, labels), theirs(x, c_noise, labels).sample
    assert mine.std() > 0.1
    torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_a_label_of_minus_one_adds_nothing():
    network = randomized(TINY.build())
    x, c_noise = batch(TINY)
    with torch.no_grad():
        bare = network(x, c_noise)
        torch.testing.assert_close(network(x, c_noise, torch.full((3,), -1)), bare)
        mixed = network(x, c_noise, torch.tensor([-1, 2, -1]))
    torch.testing.assert_close(mixed[[0, 2]], bare[[0, 2]])
    assert (mixed[1] - bare[1]).abs().max() > 1e-2


def test_heads_by_count_are_heads_by_width():
    shape = replace(TINY, num_classes=0, channel_mult=(1, 1))
    by_width, by_count = shape.build(), replace(shape, num_head_channels=None, num_heads=2).build()
    by_count.load_state_dict(randomized(by_width).state_dict())
    x, c_noise = batch(shape)
    with torch.no_grad():
        torch.testing.assert_close(by_width(x, c_noise), by_count.eval()(x, c_noise), rtol=0, atol=0)
        one_head = replace(shape, num_head_channels=None, num_heads=1).build().eval()
        one_head.load_state_dict(by_width.state_dict())
        assert (one_head(x, c_noise) - by_width(x, c_noise)).abs().max() > 1e-4


def gradients(network: UNet, x: Tensor, c_noise: Tensor) -> list[Tensor]:
    torch.manual_seed(3)  # the dropout mask
    network(x, c_noise).square().mean().backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_changes_no_gradient(dropout):
    shape = replace(TINY, num_classes=0, dropout=dropout)
    kept, again = shape.build(), replace(shape, use_checkpoint=True).build()
    again.load_state_dict(randomized(kept).state_dict())
    x, c_noise = batch(shape)
    one, two = gradients(kept.train(), x, c_noise), gradients(again.train(), x, c_noise)
    assert len(one) == len(two) == len(list(kept.parameters()))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_dropout_mask_follows_the_seed():
    shape = replace(TINY, num_classes=0, dropout=0.5)
    network = randomized(shape.build())
    x, c_noise = batch(shape)

    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return network(x, c_noise)

    with torch.no_grad():
        torch.testing.assert_close(drawn(1), drawn(2), rtol=0, atol=0)  # evaluation: no dropout
        network.train()
        torch.testing.assert_close(drawn(1), drawn(1), rtol=0, atol=0)
        assert (drawn(1) - drawn(2)).abs().max() > 1e-2


def test_it_starts_at_zero():
    x, c_noise = batch(TINY)
    assert TINY.build()(x, c_noise).abs().max() == 0


def test_half_precision_keeps_the_time_and_the_dtype():
    network = randomized(replace(TINY, num_classes=0).build())
    x, c_noise = batch(TINY)
    with torch.no_grad():
        exact = network(x, c_noise)
        rounded = network.to(torch.bfloat16)(x, c_noise)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_resolutions": (7,)}, r"attention_resolutions has 7, but the grids are \[16, 8\]"),
        ({"image_size": 15, "attention_resolutions": ()}, "image_size 15 is not a multiple of 2"),
        ({"num_head_channels": 48}, "num_head_channels 48 does not divide the 64 channels at grid 8"),
        ({"num_head_channels": None, "num_heads": 3}, "num_heads 3 does not divide the 64 channels"),
        ({"model_channels": 40}, "make model_channels a multiple of 32, not 40"),
        ({"channel_mult": ()}, "must all be at least 1"),
        ({"num_res_blocks": 0}, "must all be at least 1"),
    ],
)
def test_shapes_that_no_network_can_have_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change).build()


def test_labels_without_classes_are_refused():
    x, c_noise = batch(TINY)
    with pytest.raises(ValueError, match="has no classes"):
        replace(TINY, num_classes=0).build()(x, c_noise, torch.tensor([0, 1, 2]))
