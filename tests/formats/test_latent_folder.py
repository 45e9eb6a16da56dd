"""Folders of latent diffusion: what fewstep reads out of stock ones, and what stock diffusers reads out of its own."""

import json
from dataclasses import replace
from pathlib import Path

import diffusers
import latent_helpers as tiny
import pytest
import torch
from safetensors.torch import load_file

from fewstep.conditions import Nothing, Prompts
from fewstep.formats import latent_folder, load
from fewstep.formats.ddpm_scheduler import parameterization_of, schedule_of, scheduler_of
from fewstep.formats.writing import write
from fewstep.parameterizations import EDM, Epsilon, Latched, Sample, Velocity
from fewstep.schedules import Discrete, Karras
from fewstep.spaces import Latents

SCHEDULERS = {
    "DDIMScheduler": {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"},
    "PNDMScheduler": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "EulerDiscreteScheduler": {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"},
    "DPMSolverMultistepScheduler": {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"},
    "LCMScheduler": {"original_inference_steps": 25, "prediction_type": "v_prediction"},
    "DDPMScheduler": {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_noise_levels_of_every_scheduler(name):
    made = getattr(diffusers, name)(**SCHEDULERS[name])
    plain = {"_class_name": name, **json.loads(made.to_json_string())}
    schedule = schedule_of(plain, "here")
    theirs = made.alphas_cumprod
    torch.testing.assert_close(schedule.alphas_cumprod.float(), theirs, atol=1e-6, rtol=1e-5)
    kind = {"v_prediction": Velocity(), "sample": Sample()}.get(plain["prediction_type"], Epsilon())
    seen = parameterization_of(plain, "here")
    assert seen == (Latched(kind) if name == "LCMScheduler" else kind)
    assert schedule.origin == (25 if name == "LCMScheduler" else 50)


def test_zero_terminal_snr_is_read():
    made = diffusers.DDIMScheduler(rescale_betas_zero_snr=True)
    schedule = schedule_of({"_class_name": "DDIMScheduler", **json.loads(made.to_json_string())}, "here")
    torch.testing.assert_close(schedule.alphas_cumprod.float(), made.alphas_cumprod, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seen", [Epsilon(), Velocity(), Sample(), Latched(), Latched(Velocity(), 0.5, 7.0)])
def test_a_written_scheduler_is_stock_and_comes_back(seen, tmp_path):
    tiny_design = latent_design(seen, Discrete(beta_start=0.001, origin=25, zero_snr=isinstance(seen, Velocity)))
    plain = scheduler_of(tiny_design)
    (tmp_path / "scheduler_config.json").write_text(json.dumps(plain))
    stock = getattr(diffusers, plain["_class_name"]).from_pretrained(tmp_path)
    torch.testing.assert_close(stock.alphas_cumprod, tiny_design.schedule.alphas_cumprod.float(), atol=1e-6, rtol=1e-4)
    assert set(plain) - {"_class_name"} == {name for name in json.loads(stock.to_json_string()) if name[0] != "_"}
    again = schedule_of(plain, "x"), parameterization_of(plain, "x")
    origin = 25 if seen.consistent else 50
    assert again == (replace(tiny_design.schedule, origin=origin), seen)
    steps = 4 if seen.consistent else 20
    stock.set_timesteps(steps)
    ours = tiny_design.schedule
    assert stock.timesteps.tolist() == (ours.jumps(steps) if seen.consistent else ours.walk(steps)[:-1])


def latent_design(seen, schedule):
    from fewstep.design import Design
    from fewstep.networks.adapters import LatentUNetShape

    return Design(LatentUNetShape({}), seen, schedule, Prompts("x"), Latents("x"))


def test_what_diffusers_cannot_say_is_refused():
    with pytest.raises(ValueError, match="Karras"):
        scheduler_of(latent_design(Epsilon(), Karras()))
    with pytest.raises(ValueError, match="EDM"):
        scheduler_of(latent_design(EDM(), Discrete()))
    with pytest.raises(ValueError, match=r"sigma_data than 0\.5"):
        scheduler_of(latent_design(Latched(sigma_data=1.0), Discrete()))
    with pytest.raises(ValueError, match=r"here names a FlowMatchEulerDiscreteScheduler"):
        schedule_of({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "here")
    with pytest.raises(ValueError, match=r"here: prediction_type is 'v'; did you mean 'v_prediction'|there are"):
        parameterization_of({"_class_name": "DDIMScheduler", "prediction_type": "v"}, "here")
    with pytest.raises(ValueError, match="beta_schedule is 'scaled'; did you mean 'scaled_linear'"):
        schedule_of({"_class_name": "DDIMScheduler", "beta_schedule": "scaled"}, "here")
    with pytest.raises(ValueError, match="damaged"):
        schedule_of([], "here")


@pytest.mark.parametrize("kind", ["sd", "lcm", "sdxl"])
def test_a_stock_folder_is_read_and_written_again(kind, tmp_path):
    pipe = tiny.pipeline(tmp_path / "stock", kind)
    model = load(tmp_path / "stock")
    design = model.design
    assert design.parameterization.consistent == (kind == "lcm")
    assert (design.space, design.condition.source) == (Latents(str(tmp_path / "stock")), str(tmp_path / "stock"))
    assert (design.condition.size, design.condition.zero_empty) == ((16, True) if kind == "sdxl" else (None, False))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([19.0, 999.0])
    cond = design.condition(design.condition.ask("a three", 0, range(2)))
    told = {"text_embeds": cond["pooled"], "time_ids": cond["sizes"]} if kind == "sdxl" else None
    with torch.no_grad():
        ours = model.denoiser.network(x, t, **cond)
        torch.testing.assert_close(ours, pipe.unet(x, t, cond["prompt"], added_cond_kwargs=told).sample)
    latent_folder.write(tmp_path / "ours", design, model.denoiser.network.state_dict())
    again = type(pipe).from_pretrained(tmp_path / "ours")
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if hasattr(pipe, part):
            theirs, own = getattr(pipe, part).state_dict(), getattr(again, part).state_dict()
            assert theirs.keys() == own.keys()
            assert all(torch.equal(theirs[n], own[n]) for n in own)
    assert again.tokenizer("a three").input_ids == pipe.tokenizer("a three").input_ids
    index = json.loads((tmp_path / "ours" / "model_index.json").read_text())
    stock = json.loads((tmp_path / "stock" / "model_index.json").read_text())
    scheduler = {"scheduler": ["diffusers", "LCMScheduler" if kind == "lcm" else "DDIMScheduler"]}
    assert {n: v for n, v in stock.items() if n[:2] != "_d"} | scheduler == index


def test_shards_halves_and_what_is_missing(tmp_path):
    pipe = tiny.pipeline(tmp_path / "stock")
    wanted = load(tmp_path / "stock").denoiser.network.state_dict()
    unet = tmp_path / "stock" / "unet"
    whole = unet / "diffusion_pytorch_model.safetensors"
    size = whole.stat().st_size
    whole.unlink()
    with pytest.raises(FileNotFoundError, match="diffusion_pytorch_model"):
        latent_folder.read(tmp_path / "stock")
    pipe.unet.save_pretrained(unet, max_shard_size=size // 3)
    assert len(list(unet.glob("*.safetensors"))) > 1
    _, weights = latent_folder.read(tmp_path / "stock")
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(weights[n], wanted[n]) for n in wanted)
    assert_same_model(tmp_path / "stock", wanted)


def assert_same_model(folder, wanted):
    own = load(folder).denoiser.network.state_dict()
    assert all(torch.equal(own[n], wanted[n]) for n in wanted)


def test_a_folder_with_other_files_is_not_replaced(tmp_path):
    tiny.pipeline(tmp_path / "stock")
    model = load(tmp_path / "stock")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match=r"thesis\.txt"):
        latent_folder.write(tmp_path / "mine", model.design, model.denoiser.network.state_dict())
    with pytest.raises(ValueError, match="latent U-Net"):
        latent_folder.write(tmp_path / "x", replace(model.design, condition=Nothing()), {})


def test_a_lora_of_elsewhere_says_that_its_model_is_not_known(tmp_path):
    from safetensors.torch import save_file

    save_file({"unet.a.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "pytorch_lora_weights.safetensors")
    with pytest.raises(ValueError, match="does not say of which model"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("unet/config.json", None, [], r"config\.json is damaged: it is no JSON object"),
        ("unet/config.json", "sample_size", [None], "sample_size is a whole number from 1, not None"),
        ("unet/config.json", "act_fn", {}, "diffusers cannot build a UNet2DConditionModel"),
        ("unet/config.json", "time_embedding_dim", -1, "No network can have these sizes: .*negative dimension"),
        ("scheduler/scheduler_config.json", "beta_end", "x", r"scheduler_config\.json is damaged: a number is"),
        ("model_index.json", None, None, r"model_index\.json is damaged"),
        ("fewstep.json", None, {"times": {"2": "x"}}, r"fewstep\.json is damaged: times are lists of numbers"),
        ("vae/config.json", "in_channels", "x", r"vae/config\.json is damaged: block_out_channels or in_channels"),
    ],
)
def test_descriptions_that_make_no_sense(file, key, value, message, tmp_path):
    tiny.pipeline(tmp_path / "m", "sdxl")
    path = tmp_path / "m" / file
    plain = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(value if key is None else plain | {key: value}))
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "m")


def test_a_lora_whose_base_is_itself(tmp_path):
    from safetensors.torch import save_file

    save_file({"unet.a.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "pytorch_lora_weights.safetensors")
    about = {"base": str(tmp_path), "lora_scale": 1.0}
    for plain, message in (
        ([], "no JSON object"),
        ({"about": {}}, "names no base"),
        ({"about": about}, "names no scheduler"),
        ({"about": about, "scheduler": {"_class_name": "LCMScheduler"}}, "its base is itself a change of this LoRA"),
    ):
        (tmp_path / "fewstep.json").write_text(json.dumps(plain))
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_what_is_fetched_of_a_repository():
    files = [
        "README.md", "model_index.json", "v1-5-pruned.safetensors", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.non_ema.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.bin", "text_encoder/config.json", "text_encoder/model.fp16.safetensors",
        "tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
        "safety_checker/model.safetensors",
    ]  # fmt: skip
    assert set(latent_folder.needed(files)) == {
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.bin", "text_encoder/config.json", "text_encoder/model.fp16.safetensors",
        "tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
    }  # fmt: skip
    shards = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = "unet/diffusion_pytorch_model.safetensors.index.json"
    assert set(latent_folder.needed([*shards, index])) == {*shards, index}


def test_kept_weights_are_the_stock_files(tmp_path):
    tiny.pipeline(tmp_path / "stock")
    _, weights = latent_folder.read(tmp_path / "stock")
    stock = load_file(Path(tmp_path, "stock", "unet", "diffusion_pytorch_model.safetensors"))
    assert {f"unet.{n}" for n in stock} == set(weights)


@pytest.mark.parametrize("kind", ["sd", "lcm", "sdxl"])
def test_a_folder_keeps_every_part_in_its_dtype_and_computes_in_float32(kind, tmp_path):
    pipe = tiny.pipeline(tmp_path / "stock", kind)
    write("diffusers", tmp_path / "half", *latent_folder.read(tmp_path / "stock"), torch.float16)
    write("diffusers", tmp_path / "again", *latent_folder.read(tmp_path / "half"))
    files = sorted(path.relative_to(tmp_path / "half") for path in (tmp_path / "half").rglob("*.safetensors"))
    assert len(files) == (4 if kind == "sdxl" else 3)
    for file in files:
        whole, half, again = (load_file(tmp_path / name / file) for name in ("stock", "half", "again"))
        assert whole.keys() == half.keys() == again.keys()
        for name, w in whole.items():
            assert half[name].dtype == again[name].dtype == (torch.float16 if w.is_floating_point() else w.dtype)
            assert torch.equal(half[name], w.to(half[name].dtype))
            assert torch.equal(half[name], again[name])
        sizes = [(tmp_path / name / file).stat().st_size for name in ("half", "stock")]
        assert 0.45 < sizes[0] / sizes[1] < 0.6
    for parts, dtype in (({}, torch.float32), ({"torch_dtype": torch.float16}, torch.float16)):
        stock = type(pipe).from_pretrained(tmp_path / "half", **parts)
        assert {stock.unet.dtype, stock.vae.dtype} == {dtype}
    assert stock.text_encoder.dtype == torch.float16
    model = load(tmp_path / "half")
    assert {w.dtype for w in model.denoiser.network.parameters()} == {torch.float32}
    cond = model.design.condition(model.design.condition.ask("a three", 0, range(1)))
    assert cond["prompt"].dtype == torch.float32
    assert model.sample(prompts="a three", steps=1).shape == (1, 3, 16, 16)


def test_forms_that_no_latent_model_has(tmp_path):
    tiny.pipeline(tmp_path / "stock")
    design, weights = latent_folder.read(tmp_path / "stock")
    for form, why in {"fewstep": "no form of its own for a latent model", "openai": "one network of pixels"}.items():
        with pytest.raises(ValueError, match=f"{why}.*: write it with the form diffusers"):
            write(form, tmp_path / "x", design, weights)
    large = dict(weights) | {"unet.conv_out.bias": weights["unet.conv_out.bias"] + 1e6}
    with pytest.raises(ValueError, match=r"unet\.conv_out\.bias has values beyond the range of float16"):
        write("diffusers", tmp_path / "x", design, large, torch.float16)
    assert not (tmp_path / "x").exists()
