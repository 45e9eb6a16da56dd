"""OpenAI's checkpoints: the network that their tensors tell, the function that it is, the errors, the way back."""

import json
from dataclasses import replace

import pytest
import torch
from model_helpers import random_model
from networks.test_unet import diffusers_network
from openai_helpers import CONFIG, assert_same, save_pt
from safetensors.torch import save_file
from unet_helpers import IMAGENET, LSUN, design_of, random_weights

from fewstep.conditions import Labels, Nothing
from fewstep.formats import load, read
from fewstep.formats.diffusers_names import to_diffusers
from fewstep.formats.openai import write
from fewstep.formats.openai_shape import flags, flags_of, shape_of
from fewstep.formats.releases import IMAGENET as IMAGENET_64
from fewstep.formats.releases import LSUN as LSUN_256
from fewstep.parameterizations import EDM, Boundary, Epsilon
from fewstep.schedules import Discrete, Karras

SHAPES = {
    "imagenet64": IMAGENET_64,
    "lsun256": LSUN_256,
    "small": IMAGENET,
    "additive": LSUN,
    "convolutions": replace(LSUN, resblock_updown=False, attention_resolutions=(16, 4)),
    "one-level": replace(IMAGENET, channel_mult=(1,), attention_resolutions=()),
    "one-level-attention": replace(IMAGENET, channel_mult=(2,), attention_resolutions=(16,), num_res_blocks=3),
    "grey": replace(LSUN, image_channels=1, num_classes=3),
    "no-attention": replace(IMAGENET, attention_resolutions=()),
    "heads-by-number": replace(IMAGENET, num_head_channels=None, num_heads=2),
    "starts-wide": replace(LSUN, channel_mult=(2, 1, 4)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_tensors_and_two_flags_tell_every_shape(name, tmp_path):
    shape = SHAPES[name]
    with torch.device("meta"):
        weights = shape.build().state_dict()
    known = {key: flags_of(shape)[key] for key in ("image_size", "num_heads", "num_head_channels")}
    assert shape_of(weights, tmp_path / "x.pt", known) == shape
    assert shape_of(weights, tmp_path / "x.pt", flags_of(shape)) == shape  # and nothing in the flags contradicts it


@pytest.mark.parametrize("name", ["small", "additive"])
def test_the_function_is_the_published_one_around_diffusers_network(name, tmp_path):
    shape = SHAPES[name]
    model = load(save_pt(tmp_path / "x.pt", shape), config=CONFIG, device="cpu")
    theirs = diffusers_network(shape)
    theirs.load_state_dict(to_diffusers(shape, random_weights(shape)))
    labels = torch.tensor([0, 2, 4]) if shape.num_classes else None
    for t in (0.002, 0.661, 17.5, 80.0):
        x_t = t * torch.randn(3, 3, 16, 16)
        gap, sd = t - 0.002, 0.5
        with torch.no_grad():
            raw = theirs(x_t / (t**2 + sd**2) ** 0.5, 1000 * 0.25 * torch.full((3,), t).log(), labels).sample
            ours = model.denoiser(x_t, t, labels=labels)
        expected = sd**2 / (gap**2 + sd**2) * x_t + gap * sd / (t**2 + sd**2) ** 0.5 * raw
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_files_own_dtype_and_float32_in_memory(dtype, tmp_path):
    weights = random_weights(IMAGENET)
    half = {n: w.to(dtype) if w.ndim == 4 and "blocks" in n else w for n, w in weights.items()}  # as OpenAI's training
    torch.save(half, tmp_path / "x.pt")
    stored = read(tmp_path / "x.pt", config=CONFIG)
    assert (stored.format, stored.path) == ("openai", tmp_path / "x.pt")
    assert_same(stored.weights, half)
    model = load(tmp_path / "x.pt", config=CONFIG, device="cpu")
    assert_same(model.denoiser.network.state_dict(), {n: w.float() for n, w in half.items()})
    assert (
        model.denoiser.network.input_blocks[1][0].in_layers[2].weight.is_contiguous(memory_format=torch.channels_last)
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("edm_imagenet64_ema.pt", EDM),
        ("teacher_model000100.pt", EDM),
        ("edm_mine.pth", EDM),
        ("cd_imagenet64_l2.pt", Boundary),
        ("ema_0.9999_000100.pt", Boundary),
        ("model000100.pt", Boundary),
        ("target_model000100.pt", Boundary),
        ("my_edm_.pt", Boundary),
    ],
)
def test_the_name_tells_teachers_from_consistency_models(name, kind, tmp_path):
    design = read(save_pt(tmp_path / name), config=CONFIG).design
    assert design.parameterization == kind(sigma_data=0.5, noise_scale=250.0)
    assert design.schedule == Karras(0.002, 80.0, 7.0)
    assert design.condition == Labels(5)
    assert design.about["label_drop"] == 0  # so that guidance, which it never learned, is refused


def test_what_is_said_goes_before_the_name(tmp_path):
    path = save_pt(tmp_path / "edm_x.pt", LSUN)
    assert read(path, config=CONFIG).design.condition == Nothing()
    for said, expected in (
        ("consistency", Boundary(noise_scale=250.0)),
        ("edm", EDM(noise_scale=250.0)),
        (Boundary(0.4, 0.25), Boundary(0.4, 0.25)),
    ):
        assert read(path, config=CONFIG, parameterization=said).design.parameterization == expected
    with pytest.raises(ValueError, match=r"no parameterization 'edn'; did you mean 'edm'\?"):
        read(path, config=CONFIG, parameterization="edn")


# -- what tensors do not tell -----------------------------------------------------------------------------------------


def test_a_release_in_the_name_tells_the_size_the_heads_and_the_times(tmp_path):
    shape = replace(IMAGENET, image_size=64, attention_resolutions=(32,), model_channels=64, num_head_channels=64)
    with torch.device("meta"):
        tensors = shape.build().state_dict()
    torch.save({name: torch.zeros(w.shape) for name, w in tensors.items()}, tmp_path / "my_cd_imagenet64_l2_fp16.pt")
    design = read(tmp_path / "my_cd_imagenet64_l2_fp16.pt").design
    assert design.architecture == shape
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    assert design.times == {"1": (80.0,), "2": (80.0, pytest.approx((high + 22 / 39 * (low - high)) ** 7))}
    assert design.about["name"] == "cd_imagenet64_l2"
    assert design.about["levels"] == 40


def test_flags_as_numbers_and_as_the_scripts_strings(tmp_path):
    path = save_pt(tmp_path / "x.pt")
    words = {
        "image_size": "16",
        "num_channels": "32",
        "num_res_blocks": "1",
        "num_heads": "4",
        "num_head_channels": "16",
        "channel_mult": "1,2",
        "attention_resolutions": "8",
        "class_cond": "True",
        "use_scale_shift_norm": "yes",
        "resblock_updown": "1",
    }
    numbers = {
        "image_size": 16,
        "num_channels": 32,
        "num_res_blocks": 1,
        "num_head_channels": 16,
        "channel_mult": (1, 2),
        "attention_resolutions": 8,
        "class_cond": True,
        "use_scale_shift_norm": True,
        "resblock_updown": True,
        "dropout": 0.1,
        "use_fp16": True,
    }
    for config in (words, numbers, CONFIG | {"channel_mult": "", "num_heads": -1}):
        assert read(path, config=config).design.architecture == IMAGENET
    assert flags({"attention_resolutions": "32, 16,8", "channel_mult": [1, 1, 2]}) == {
        "attention_resolutions": (32, 16, 8),
        "channel_mult": (1, 1, 2),
    }


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"x\.pt cannot be loaded: its tensors do not tell the image size: give config=\{'image_size': 64\}"),
        ({"image_sise": 16}, r"config has no flag 'image_sise'; did you mean 'image_size'\?"),
        ({"image_size": "big"}, "config: image_size cannot be 'big'"),
        ({"class_cond": "perhaps", "image_size": 16}, "config: class_cond cannot be 'perhaps'"),
        ({"num_channels": 64}, "config says num_channels 64, and the weights say 32"),
        ({"channel_mult": "1,2,2"}, "config says channel_mult 1,2,2, and the weights say 1,2"),
        ({"num_res_blocks": 2}, "config says num_res_blocks 2, and the weights say 1"),
        ({"attention_resolutions": "16,8"}, "config says attention_resolutions 16,8, and the weights say 8"),
        ({"class_cond": False}, "config says class_cond False, and the weights say True"),
        ({"use_scale_shift_norm": False}, "config says use_scale_shift_norm False, and the weights say True"),
        ({"resblock_updown": "false"}, "config says resblock_updown False, and the weights say True"),
        ({"num_head_channels": 48}, "num_head_channels 48 does not divide the 64 channels"),
    ],
)
def test_flags_that_are_missing_unknown_or_wrong(config, message, tmp_path):
    path = save_pt(tmp_path / "x.pt")
    config = config if config is None or "image_sise" in config else {"image_size": 16, **config}
    with pytest.raises(ValueError, match=message):
        load(path, config=config)


def test_heads_that_nobody_tells_are_openais_default_aloud(tmp_path):
    path = save_pt(tmp_path / "x.pt")
    with pytest.warns(UserWarning, match=r"do not tell the width of an attention head; OpenAI's default of 4 heads"):
        shape = read(path, config={"image_size": 16}).design.architecture
    assert (shape.num_heads, shape.num_head_channels) == (4, None)


def test_published_networks_have_heads_of_64_whatever_their_file_is_called(tmp_path):
    with torch.device("meta"):
        weights = LSUN_256.build().state_dict()
    assert shape_of(weights, tmp_path / "ema_0.9999_000100.pt", {"image_size": 256}) == LSUN_256


@pytest.mark.parametrize("name", ["x.pt.json", "config.json"])
def test_flags_in_a_file_beside(name, tmp_path):
    path = save_pt(tmp_path / "x.pt")
    (tmp_path / name).write_text(json.dumps(CONFIG | {"num_channels": "32"}))
    assert read(path).design.architecture == IMAGENET
    assert read(path, config={"num_heads": 2}).design.architecture == replace(IMAGENET, num_heads=2)
    (tmp_path / name).write_text(json.dumps(CONFIG | {"num_channels": 64}))
    with pytest.raises(ValueError, match="config says num_channels 64"):
        read(path)


def test_a_config_of_something_else_is_left_alone(tmp_path):
    path = save_pt(tmp_path / "x.pt")
    for text in ('{"_class_name": "UNet2DModel", "image_size": 16}', "no json", "[1]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match="do not tell the image size"):
            read(path)
    (tmp_path / "x.pt.json").write_text("[16]")
    with pytest.raises(ValueError, match=r"x\.pt\.json must be a JSON object of OpenAI's flags"):
        read(path)


def test_config_is_for_openais_files(tmp_path):
    random_model().save(tmp_path / "m")
    for options in ({"config": CONFIG}, {"qkv_order": "head-three-dim"}):
        with pytest.raises(ValueError, match=r"config and qkv_order are for files in OpenAI's form; .*m says itself"):
            load(tmp_path / "m", **options)
    assert not load(tmp_path / "m", parameterization="edm").consistent


# -- other orders and names -------------------------------------------------------------------------------------------


def test_guided_diffusions_order_and_convolutions(tmp_path):
    ours = random_weights(IMAGENET)
    theirs = {}
    for name, w in ours.items():
        if ".qkv." in name:  # rows (three, head, dim) to (head, three, dim), as guided-diffusion's attention reads them
            heads = len(w) // 3 // 16
            rows = torch.arange(len(w)).view(3, heads, 16).permute(1, 0, 2).reshape(-1)
            w = w[rows]
        theirs[name] = w[..., 0] if name.endswith((".qkv.weight", ".proj_out.weight")) else w
    assert theirs["middle_block.1.qkv.weight"].shape == (192, 64, 1)
    torch.save(theirs, tmp_path / "x.pt")
    assert_same(read(tmp_path / "x.pt", config=CONFIG, qkv_order="head-three-dim").weights, ours)
    plain = read(tmp_path / "x.pt", config=CONFIG, qkv_order="three-head-dim").weights
    assert plain["middle_block.1.qkv.weight"].shape == (192, 64, 1, 1)
    assert not torch.equal(plain["middle_block.1.qkv.weight"], ours["middle_block.1.qkv.weight"])
    x_t, labels = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    same = load(tmp_path / "x.pt", config=CONFIG, qkv_order="head-three-dim", device="cpu")
    wanted = load(save_pt(tmp_path / "y.pt"), config=CONFIG, device="cpu")
    assert torch.equal(same.denoiser(x_t, 1.0, labels=labels), wanted.denoiser(x_t, 1.0, labels=labels))
    with pytest.raises(ValueError, match=r"no qkv_order 'head-three'; did you mean 'head-three-dim'\?"):
        read(tmp_path / "x.pt", config=CONFIG, qkv_order="head-three")


def test_weights_in_safetensors(tmp_path):
    save_file(random_weights(IMAGENET), tmp_path / "x.safetensors")
    stored = read(tmp_path / "x.safetensors", config=CONFIG)
    assert stored.design.architecture == IMAGENET
    assert_same(stored.weights, random_weights(IMAGENET))


# -- what does not fit ------------------------------------------------------------------------------------------------


def broken(tmp_path, change) -> None:
    weights = random_weights(IMAGENET)
    change(weights)
    torch.save(weights, tmp_path / "x.pt")
    load(tmp_path / "x.pt", config=CONFIG)


def test_missing_extra_and_misshapen_tensors_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"of 145 tensors 2 missing \(input_blocks\.1\.0\.in_layers\.0\.weight, o"):
        broken(tmp_path, lambda w: [w.pop("out.0.bias"), w.pop("input_blocks.1.0.in_layers.0.weight")])
    with pytest.raises(ValueError, match=r"4 that the network does not have \(extra\.0, extra\.1, extra\.2, …\)"):
        broken(tmp_path, lambda w: w.update({f"extra.{i}": torch.ones(1) for i in range(4)}))
    with pytest.raises(ValueError, match=r"1 of another shape \(time_embed\.2\.bias \(127,\), not \(128,\)\)"):
        broken(tmp_path, lambda w: w.update({"time_embed.2.bias": torch.ones(127)}))
    with pytest.raises(
        ValueError, match=r"x\.pt cannot be loaded: this is no U-Net of OpenAI's: it has no tensor 'time_"
    ):
        broken(tmp_path, lambda w: w.pop("time_embed.0.weight"))
    with pytest.raises(ValueError, match=r"this is no U-Net of OpenAI's: of its 3 output blocks the ones \[1\] double"):
        broken(tmp_path, lambda w: [w.pop(name) for name in list(w) if name.startswith("output_blocks.3.")])


def test_other_networks_are_refused(tmp_path):
    torch.save(random_model().denoiser.network.state_dict(), tmp_path / "compact.pt")
    with pytest.raises(ValueError, match=r"compact\.pt cannot be loaded: this is no U-Net of OpenAI's"):
        load(tmp_path / "compact.pt", config=CONFIG)
    with pytest.raises(ValueError, match="tensors have other shapes"):
        broken(tmp_path, lambda w: w.update({"time_embed.0.weight": torch.ones(3)}))
    with pytest.raises(ValueError, match=r"predicts variances too \(learn_sigma\)"):
        broken(tmp_path, lambda w: w.update({"out.2.weight": torch.ones(6, 32, 3, 3), "out.2.bias": torch.ones(6)}))
    with pytest.raises(ValueError, match=r"levels of \[32, 64\] channels are no whole multiples of 24"):
        broken(tmp_path, lambda w: w.update({"time_embed.0.weight": torch.ones(96, 24)}))


# -- and back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("name", ["small", "convolutions", "grey", "heads-by-number", "starts-wide"])
def test_written_and_read_again_without_a_config(name, dtype, tmp_path):
    shape = SHAPES[name]
    weights = random_weights(shape, dtype)
    names = tuple("abcde"[: shape.num_classes])
    design = design_of(shape, times={"2": (80.0, 1.5)}, class_names=names, about={"name": "Mine", "levels": 40})
    write(tmp_path / "mine.pt", design, weights)
    stored = read(tmp_path / "mine.pt")
    assert stored.design == design
    assert_same(stored.weights, weights)
    assert_same(torch.load(tmp_path / "mine.pt", weights_only=True), weights)
    assert read(tmp_path / "mine.pt", config=flags_of(shape)).design == design  # flags tell of the network alone
    (tmp_path / "mine.pt.json").unlink()  # what any other program gives
    assert read(tmp_path / "mine.pt", config=flags_of(shape)).design.architecture == shape


def test_a_teacher_is_known_by_what_lies_beside_it(tmp_path):
    write(
        tmp_path / "teacher.pt", design_of(IMAGENET, parameterization=EDM(noise_scale=250.0)), random_weights(IMAGENET)
    )
    assert not load(tmp_path / "teacher.pt").consistent


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": random_model().design.architecture}, "holds the papers' U-Net, and this is a Compact"),
        ({"parameterization": Boundary()}, r"are told 250 ln t, .* this one was told 0\.25 ln t"),
        ({"parameterization": EDM(0.4, 250.0)}, r"at 0\.4 \(noise_scale, sigma_data\)"),
        ({"parameterization": Epsilon()}, "EDM or Boundary on the Karras schedule alone"),
        ({"schedule": Discrete()}, "EDM or Boundary on the Karras schedule alone"),
        ({"schedule": Karras(rho=5.0)}, "EDM or Boundary on the Karras schedule alone"),
    ],
)
def test_what_the_form_cannot_hold_is_not_written(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "x.pt", replace(design_of(IMAGENET), **change), random_weights(IMAGENET))
    assert list(tmp_path.iterdir()) == []
