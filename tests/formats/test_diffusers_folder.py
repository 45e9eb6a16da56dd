"""diffusers' folders: stock diffusers draws the same pictures from ours, fewstep reads stock ones, no bit changes."""

import json
import re
from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel
from model_helpers import random_model
from safetensors.torch import load_file, save_file
from unet_helpers import IMAGENET, LSUN, design_of, random_weights

from fewstep.design import Design
from fewstep.files import sha256
from fewstep.formats import load, read
from fewstep.formats.diffusers_folder import write_folder
from fewstep.formats.diffusers_unet import config_of, shape_of
from fewstep.formats.load import weights_files
from fewstep.formats.writing import write
from fewstep.model import build
from fewstep.networks import UNetShape
from fewstep.parameterizations import EDM, Boundary
from fewstep.sampling import begin, last, trajectory
from fewstep.schedules import Discrete, Karras

MIDDLE = Karras().grid(40)[22].item()
TIMES = {"1": (80.0,), "2": (80.0, MIDDLE)}
SHAPES = {
    "imagenet": IMAGENET,
    "lsun": LSUN,
    "lsun-classes": replace(LSUN, num_classes=3),
    "imagenet-free": replace(IMAGENET, num_classes=0),
    "convolutions": replace(LSUN, resblock_updown=False, attention_resolutions=(16, 4)),
    "one-head": replace(IMAGENET, num_head_channels=None, num_heads=1),
    "heads-by-number": replace(IMAGENET, num_head_channels=None, num_heads=4),
    "one-level": replace(IMAGENET, channel_mult=(1,), attention_resolutions=()),
}
SCHEDULES = {"published": (Karras(), 0.5), "others": (Karras(0.01, 40.0, 5.0), 0.4)}


def start(shape: UNetShape) -> torch.Tensor:
    size = shape.image_size
    return torch.randn(3, shape.image_channels, size, size, generator=torch.Generator().manual_seed(2))


def ours(model, times) -> torch.Tensor:
    """Pictures in [-1, 1] from `start`, and for more steps noise in the order in which the pipeline draws it."""
    source = torch.Generator().manual_seed(7)
    cond = {"labels": torch.tensor([0, 2, 1])} if model.num_classes else {}
    x = begin(model.schedule, start(model.design.architecture), times)
    noise = lambda draw, like: torch.randn(like.shape, generator=source)  # noqa: E731
    with torch.no_grad():
        return last(trajectory(model.denoiser, model.schedule, x, times, noise=noise, **cond))


def theirs(folder, shape: UNetShape, **options) -> torch.Tensor:
    pipe = ConsistencyModelPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    labels = [0, 2, 1] if shape.num_classes else None
    images = pipe(3, class_labels=labels, latents=start(shape), generator=torch.Generator().manual_seed(7),
                  output_type="pt", **options).images  # fmt: skip
    return 2 * images - 1


def assert_same_tensors(found, wanted):
    assert found.keys() == wanted.keys()
    for name, w in wanted.items():
        assert found[name].dtype == w.dtype, name
        assert torch.equal(found[name], w), name


@pytest.mark.parametrize("noise", SCHEDULES)
@pytest.mark.parametrize("name", SHAPES)
def test_stock_diffusers_draws_the_same_pictures(name, noise, tmp_path):
    shape, (schedule, sigma_data) = SHAPES[name], SCHEDULES[noise]
    design = design_of(shape, schedule=schedule, parameterization=Boundary(sigma_data, 250.0))
    weights = random_weights(shape)
    write_folder(tmp_path / "m", design, weights)
    model, again = build(design, weights, "cpu"), load(tmp_path / "m", device="cpu")
    two = [schedule.t_max, schedule.grid(40)[22].item()]
    one_step = theirs(tmp_path / "m", shape, num_inference_steps=1)
    two_steps = theirs(tmp_path / "m", shape, num_inference_steps=None, timesteps=[22, 0])
    assert one_step.std() > 0.05
    assert (two_steps - one_step).abs().max() > 0.01
    for mine in (model, again):
        torch.testing.assert_close(ours(mine, two[:1]), one_step, atol=1e-4, rtol=0)
        torch.testing.assert_close(ours(mine, two), two_steps, atol=1e-4, rtol=0)


def test_stock_diffusers_says_nothing_about_it(tmp_path, capfd):
    write_folder(tmp_path / "m", design_of(IMAGENET, times=TIMES, class_names=tuple("abcde")), random_weights(IMAGENET))
    diffusers.utils.logging.disable_progress_bar()
    try:
        ConsistencyModelPipeline.from_pretrained(tmp_path / "m").save_pretrained(tmp_path / "theirs")
        UNet2DModel.from_pretrained(tmp_path / "m", subfolder="unet")
    finally:
        diffusers.utils.logging.enable_progress_bar()
    assert capfd.readouterr().err == ""
    mine = json.loads((tmp_path / "m" / "unet" / "config.json").read_text())
    stock = json.loads((tmp_path / "theirs" / "unet" / "config.json").read_text())
    assert mine == {key: value for key, value in stock.items() if key not in ("_diffusers_version", "_name_or_path")}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, "mixed"], ids=str)
@pytest.mark.parametrize("forms", ["diffusers", "openai diffusers openai", "diffusers openai fewstep diffusers"])
@pytest.mark.parametrize("name", ["imagenet", "lsun", "convolutions", "heads-by-number"])
def test_no_bit_changes_through_the_forms(name, forms, dtype, tmp_path):
    shape = replace(SHAPES[name], dropout=0.1, use_checkpoint=True)
    weights = random_weights(shape, torch.float32 if dtype == "mixed" else dtype)
    if dtype == "mixed":
        weights = {name: w.half() if w.ndim > 1 and "qkv" not in name else w for name, w in weights.items()}
    about = {"name": "It", "text": "What it is.", "scores": {"FID": 3.5}}
    kept = design = design_of(shape, times={"2": (80.0, 0.8123)}, class_names=tuple("abcde"), about=about)
    found = weights
    for i, form in enumerate(["fewstep", *forms.split(), "fewstep"]):
        path = tmp_path / (f"{i}.pt" if form == "openai" else str(i))
        write(form, path, design, found)
        stored = read(path)
        design, found = stored.design, stored.weights
        assert stored.format == form
        assert design == kept
        assert_same_tensors(found, weights)


def test_queries_keys_and_values_are_the_three_thirds_of_qkv(tmp_path):
    weights = random_weights(IMAGENET)
    write_folder(tmp_path / "m", design_of(IMAGENET), weights)
    written = load_file(tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors")
    qkv = weights["input_blocks.3.1.qkv.weight"]
    for i, part in enumerate("qkv"):
        there = written[f"down_blocks.1.attentions.0.to_{part}.weight"]
        assert torch.equal(there, qkv[64 * i : 64 * (i + 1), :, 0, 0])


# -- folders of others -----------------------------------------------------------------------------------------------

PUBLISHED = {  # as diffusers' conversion script writes its small test network
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 2,
    "num_class_embeds": 10,
    "block_out_channels": [32, 64],
    "attention_head_dim": 8,
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "resnet_time_scale_shift": "scale_shift",
    "attn_norm_num_groups": 32,
    "upsample_type": "resnet",
    "downsample_type": "resnet",
}


@pytest.fixture(scope="module")
def stock() -> ConsistencyModelPipeline:
    torch.manual_seed(3)
    unet = UNet2DModel(**PUBLISHED)
    for p in unet.parameters():
        torch.nn.init.normal_(p, std=0.5 / max(1, p[0].numel()) ** 0.5)
    return ConsistencyModelPipeline(unet, CMStochasticIterativeScheduler(num_train_timesteps=40))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"safe_serialization": False},
        {"variant": "fp16"},
        {"max_shard_size": "1MB"},
        {"variant": "fp16", "safe_serialization": False},
        {"variant": "fp16", "max_shard_size": "1MB"},
        {"safe_serialization": False, "max_shard_size": "1MB"},
    ],
    ids=str,
)
def test_a_folder_that_stock_diffusers_saved(stock, options, tmp_path):
    folder = tmp_path / "diffusers-cd_imagenet64_l2"
    stock.save_pretrained(folder, **options)
    model = load(folder, device="cpu")
    assert model.design.architecture == UNetShape(
        image_size=32, model_channels=32, num_res_blocks=2, channel_mult=(1, 2), attention_resolutions=(16,),
        num_head_channels=8, num_classes=10,
    )  # fmt: skip
    assert model.design.parameterization == Boundary(noise_scale=250.0)
    assert model.times(1) == [80.0]
    assert model.times(2) == [80.0, pytest.approx(1.3824, abs=5e-5)]
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([1.0, 30.0])
    labels = torch.tensor([9, 0])
    with torch.no_grad():
        wanted = stock.unet(x, 250 * t.log(), labels).sample
        torch.testing.assert_close(model.denoiser.network(x, 250 * t.log(), labels), wanted, atol=1e-4, rtol=0)


def test_the_network_alone_takes_the_defaults_of_the_scheduler(stock, tmp_path):
    stock.unet.save_pretrained(tmp_path / "unet")
    assert load(tmp_path / "unet").design == replace(
        load_pipeline(stock, tmp_path / "other"), about={"levels": 40}, times={}
    )


def load_pipeline(pipe, folder) -> Design:
    pipe.save_pretrained(folder)
    return read(folder).design


def test_weights_are_found_by_their_own_path_too(stock, tmp_path):
    design = load_pipeline(stock, tmp_path / "m")
    assert read(tmp_path / "m" / "unet").design == design
    assert read(tmp_path / "m" / "unet" / "diffusion_pytorch_model.safetensors").design == design


def test_what_somebody_changed_in_diffusers_files_holds(tmp_path):
    design = design_of(IMAGENET, times=TIMES, about={"name": "It"})
    write_folder(tmp_path / "m", design, random_weights(IMAGENET))
    edit(tmp_path / "m" / "scheduler" / "scheduler_config.json", sigma_max=40.0)
    edit(tmp_path / "m" / "unet" / "config.json", dropout=0.2)
    changed = read(tmp_path / "m").design
    assert changed.schedule == Karras(t_max=40.0)
    assert changed.architecture == replace(IMAGENET, dropout=0.2)
    assert changed.about == {"name": "It"}


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSED = [
    ({"center_input_sample": True}, "center_input_sample = True, which fewstep's U-Net cannot express: it has False"),
    ({"time_embedding_type": "fourier"}, "time_embedding_type = 'fourier'"),
    ({"freq_shift": 1}, "freq_shift = 1"),
    ({"flip_sin_to_cos": False}, "flip_sin_to_cos = False"),
    ({"mid_block_type": None}, "mid_block_type = None"),
    ({"add_attention": False}, "add_attention = False"),
    ({"mid_block_scale_factor": 2.0}, "mid_block_scale_factor = 2.0"),
    ({"act_fn": "gelu"}, "act_fn = 'gelu'"),
    ({"norm_num_groups": 16}, "norm_num_groups = 16"),
    ({"norm_eps": 1e-6}, "norm_eps = 1e-06"),
    ({"class_embed_type": "timestep"}, "class_embed_type = 'timestep'"),
    ({"attn_norm_num_groups": None}, "attn_norm_num_groups = None"),
    ({"time_embedding_dim": 64}, "time_embedding_dim = 64.*it has 128"),
    ({"out_channels": 6}, "out_channels = 6, but in_channels = 3"),
    ({"resnet_time_scale_shift": "spatial"}, "resnet_time_scale_shift = 'spatial'"),
    ({"block_out_channels": [64, 96]}, r"block_out_channels = \[64, 96\].*multiples of the first"),
    ({"block_out_channels": "wide"}, "block_out_channels = 'wide', where a list of whole numbers belongs"),
    ({"sample_size": [32, 64]}, r"sample_size = \[32, 64\], where the side of square pictures belongs"),
    ({"sample_size": None}, "sample_size = None"),
    ({"layers_per_block": 0}, "layers_per_block = 0, where a whole number from 1 belongs"),
    ({"down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"]}, "down_block_types = .*SkipDownBlock2D.*2 of these"),
    ({"down_block_types": ["AttnDownBlock2D"]}, "where 2 of these belong"),
    ({"down_block_types": 3}, "down_block_types = 3, where 2 of these belong"),
    ({"down_block_types": [{}, {}]}, "where 2 of these belong"),
    ({"up_block_types": ["ResnetUpsampleBlock2D", "AttnUpBlock2D"]}, "up_block_types = .*does not attend at the same"),
    ({"down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}, "down_block_types = .*conv, resnet; it is 'resnet' or"),
    ({"dropout": "some"}, "dropout = 'some', where a number belongs"),
    ({"attention_bias": 3}, "attention_bias = 3, which fewstep does not know"),
    ({"_class_name": "UNet2DConditionModel"}, "is not the config of .*UNet2DModel, but of UNet2DConditionModel"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_a_config_that_our_network_cannot_express_is_refused_by_its_key(change, message):
    plain = {"_class_name": "UNet2DModel", **PUBLISHED}
    assert shape_of(plain, "config.json").model_channels == 32
    with pytest.raises(ValueError, match=f"^config.json .*{message}"):
        shape_of(plain | change, "config.json")


def test_configs_say_the_same_thing_in_several_ways():
    plain = {"_class_name": "UNet2DModel", **PUBLISHED}
    shape = shape_of(plain, "")
    for same in ({"sample_size": [32, 32]}, {"time_embedding_dim": 128}, {"new": None}, {"num_train_timesteps": 9}):
        assert shape_of(plain | same, "") == shape
    # the coarsest level is not resized, so that its kind says nothing
    ends = {"down_block_types": ["ResnetDownsampleBlock2D", "DownBlock2D"],
            "up_block_types": ["ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"]}  # fmt: skip
    assert shape_of(plain | ends, "") == replace(shape, attention_resolutions=())
    for shape in SHAPES.values():
        assert config_of(shape_of(config_of(shape), "")) == config_of(shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"s_noise": 1.1}, "s_noise = 1.1, which is no part of a model here: write 1.0 to load it without"),
        ({"clip_denoised": False}, "clip_denoised = False, which is no part of a model here"),
        (
            {"_class_name": "DDPMScheduler"},
            "is not the config of diffusers' CMStochasticIterativeScheduler, but of DDPM",
        ),
        ({"sigma_min": 0.0}, "Karras needs 0 < t_min < t_max"),
        ({"num_train_timesteps": 1.5}, "num_train_timesteps = 1.5, where a whole number from 1 belongs"),
    ],
)
def test_a_scheduler_that_means_something_else_is_refused(change, message, tmp_path):
    write_folder(tmp_path / "m", design_of(IMAGENET), random_weights(IMAGENET))
    edit(tmp_path / "m" / "scheduler" / "scheduler_config.json", **change)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "m")


def test_damaged_folders_are_refused_in_one_sentence(tmp_path):
    folder = tmp_path / "m"

    def fresh():
        write_folder(folder, design_of(IMAGENET), random_weights(IMAGENET))
        return folder / "unet" / "diffusion_pytorch_model.safetensors"

    file = fresh()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"diffusion_pytorch_model\.safetensors is damaged"):
        load(folder)
    file = fresh()
    tensors = load_file(file)
    tensors["conv_in.bias"] = tensors["conv_in.bias"][:5].clone()
    tensors["extra"] = tensors.pop("conv_out.bias")
    save_file(tensors, file)
    wanted = (
        r"do not fit the config: of \d+ tensors 1 missing \(conv_out.bias\); 1 that .* \(extra\); 1 of another shape"
    )
    with pytest.raises(ValueError, match=wanted):
        load(folder)
    fresh().unlink()
    with pytest.raises(
        FileNotFoundError, match=r"unet holds no weights: diffusion_pytorch_model\.safetensors is missing"
    ):
        load(folder)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"conv_in.bias": "../../secret"}}')
    with pytest.raises(ValueError, match="index.json is damaged: it names no files beside it"):
        load(folder)
    fresh()
    (folder / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is damaged: it is not JSON"):
        load(folder)
    fresh()
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"scheduler_config\.json is missing"):
        load(folder)
    fresh()
    edit(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(ValueError, match="names a StableDiffusionPipeline: fewstep reads the folders of Consistency"):
        load(folder)


# -- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (design_of(IMAGENET, parameterization=EDM(noise_scale=250.0)), "a diffusion model, not a consistency model"),
        (design_of(IMAGENET, parameterization=Boundary()), r"250 ln σ, and this one was trained with 0\.25 ln σ"),
        (design_of(IMAGENET, schedule=Discrete()), "a diffusion model, not"),
        (random_model().design, "diffusers has no Compact network"),
        (design_of(replace(IMAGENET, channel_mult=(2, 4))), r"channel_mult begins with 1, not \(2"),
        (design_of(replace(LSUN, attention_resolutions=(16, 8), num_head_channels=None, num_heads=2)),
         r"heads of one width, but 2 heads at every level of \[32, 64\] channels have several"),
    ],
    ids=["edm", "noise_scale", "discrete", "compact", "first-level", "heads"],
)  # fmt: skip
def test_what_diffusers_cannot_say_is_refused_and_nothing_written(design, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_folder(tmp_path / "m", design, {})
    assert not list(tmp_path.iterdir())


def test_other_files_are_not_replaced(tmp_path):
    design, weights = design_of(IMAGENET), random_weights(IMAGENET)
    folder = tmp_path / "m"
    write_folder(folder, design, weights)
    write_folder(folder, design, weights)  # an old model is
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "fewstep.json", "model_index.json", "scheduler", "unet",
    ]  # fmt: skip
    (folder / "photo.jpg").touch()
    with pytest.raises(
        FileExistsError, match=r"holds other files \(photo\.jpg\), which would be lost: choose another folder"
    ):
        write_folder(folder, design, weights)


def python_of(folder) -> str:
    (code,) = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    return code


@pytest.mark.parametrize(
    ("times", "grid", "call"),
    [
        (TIMES, 40, "timesteps=[22, 0]"),
        ({"2": (80.0, 1.9128)}, 201, "timesteps=[106, 0]"),
        ({"2": (80.0, 3.9912)}, 151, "timesteps=[67, 0]"),
        ({"2": (80.0, 0.82)}, 1001, "timesteps=[616, 0]"),
        ({"2": (40.0, 0.82)}, 1001, None),  # the pipeline's noise is always that of sigma_max
        ({}, 40, None),
    ],
)
def test_the_card_calls_the_pipeline_with_the_models_own_times(times, grid, call, tmp_path):
    write_folder(tmp_path / "m", design_of(IMAGENET, times=times), random_weights(IMAGENET))
    scheduler = CMStochasticIterativeScheduler.from_pretrained(tmp_path / "m" / "scheduler")
    assert scheduler.config.num_train_timesteps == grid
    code = python_of(tmp_path / "m")
    assert re.findall(r"timesteps=\[.*?\]", code) == ([call] if call else [])
    if call:
        scheduler.set_timesteps(timesteps=json.loads(call.removeprefix("timesteps=")))
        assert scheduler.sigmas[:2].tolist() == pytest.approx(times["2"], rel=5e-3)


@pytest.mark.parametrize("shape", [IMAGENET, LSUN], ids=["classes", "free"])
def test_the_python_of_the_card_runs(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folder("this folder", design_of(shape, times=TIMES, about={"name": "It", "text": "A test."}),
                 random_weights(shape))  # fmt: skip
    text = (tmp_path / "this folder" / "README.md").read_text()
    front = text.split("---")[1]
    assert "library_name: diffusers" in front
    assert "tags: [consistency-models]" in front
    assert "license" not in text
    assert "# It" in text
    assert ("5 classes" if shape.num_classes else "unconditional") in text
    made = {}
    exec(python_of(tmp_path / "this folder"), made)
    assert made["image"].size == (16, 16)


def test_weights_in_shards_are_all_of_their_files(stock, tmp_path):
    """An index says nothing of what its files hold, so other weights under it would pass for the same."""
    stock.save_pretrained(tmp_path, max_shard_size="1MB")
    files = weights_files(tmp_path)
    assert len(files) > 2
    assert files[0].name.endswith(".index.json")
    before = sha256(files)
    content = bytearray(files[-1].read_bytes())
    content[-1] ^= 1
    files[-1].write_bytes(content)
    assert sha256(files) != before
