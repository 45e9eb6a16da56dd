"""Text to image, held against diffusers' own pipelines with the same parts and the same noise."""

import inspect
import json
import logging

import diffusers
import latent_helpers
import numpy as np
import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput, StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig

import fewstep
from fewstep.dropin.latent_parts import as_lcm
from fewstep.dropin.latent_said import check_text

Ours, Stock = fewstep.LatentConsistencyModelPipeline, diffusers.LatentConsistencyModelPipeline
STOCK = {"lcm": Stock, "sd": diffusers.StableDiffusionPipeline, "sdxl": diffusers.StableDiffusionXLPipeline}
ASKED = {"prompt": ["a thick seven", "a zero"], "output_type": "np"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each shape, written by diffusers."""
    folder = tmp_path_factory.mktemp("pipes")
    for kind in STOCK:
        latent_helpers.pipeline(folder / kind, kind)
    latent_helpers.pipeline(folder / "grey", "lcm", channels=1)
    return folder


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def both(folders):
    """(ours, stock) of one shape, with parts of their own."""

    def make(kind="lcm", ours=Ours, stock=None):
        theirs = quiet((stock or STOCK[kind]).from_pretrained(folders / kind))
        theirs.scheduler = diffusers.LCMScheduler.from_config(theirs.scheduler.config)
        return quiet(ours.from_pretrained(folders / kind)), theirs

    return make


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def far(a, b) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


def adapt(pipe, seed=3):
    """A LoRA adapter with weights that matter, on the U-Net's attention and the text encoder's."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipe.unet.add_adapter(config)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    pipe.text_encoder.add_adapter(config)


def lora_file(pipe, folder):
    """The same, as diffusers saves it."""
    from peft import get_peft_model_state_dict

    adapt(pipe)
    layers = [get_peft_model_state_dict(part) for part in (pipe.unet, pipe.text_encoder)]
    type(pipe).save_lora_weights(folder, unet_lora_layers=layers[0], text_encoder_lora_layers=layers[1])
    return folder


# -- the same pictures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(("kind", "scale"), [("lcm", 8.0), ("lcm", 1.0), ("sd", 1.7), ("sd", 1.0), ("sdxl", 1.7)])
def test_the_pictures_are_those_of_diffusers(both, kind, scale, steps):
    ours, stock = both(kind)
    asked = ASKED | {"num_inference_steps": steps, "guidance_scale": scale, "num_images_per_prompt": 2}
    wanted = stock(**asked, generator=seeded()).images
    made = ours(**asked, generator=seeded()).images
    assert wanted.shape == (4, 16, 16, 3)
    assert made.dtype == np.float32
    assert far(made, wanted) < 1e-4
    assert far(made[0], made[2]) > 1e-3
    generators = [[seeded(seed) for seed in range(4)] for _ in range(2)]
    assert far(ours(**asked, generator=generators[0]).images, stock(**asked, generator=generators[1]).images) < 1e-4


def test_the_defaults_are_those_of_diffusers(both):
    ours, stock = both()
    assert far(ours("a seven", generator=seeded()).images[0], stock("a seven", generator=seeded()).images[0]) <= 1
    ours_names = list(inspect.signature(Ours.__call__).parameters)
    names = [name for name in inspect.signature(Stock.__call__).parameters if name != "kwargs"]
    assert ours_names[: len(names)] == names
    assert ours.guidance_scale == 8.5
    assert (ours.num_timesteps, ours.clip_skip, ours.cross_attention_kwargs) == (4, None, None)
    assert not ours.do_classifier_free_guidance


def test_negative_prompts_guide_where_the_network_is_not_told_the_scale(both):
    for kind in ("sd", "sdxl"):
        ours, stock = both(kind)
        asked = ASKED | {"guidance_scale": 2.0, "num_inference_steps": 2}
        plain = ours(**asked, generator=seeded()).images
        for negative in ("thin", ["thin", "one"]):
            words = negative if isinstance(negative, list) else [negative] * 2
            wanted = stock(**asked, negative_prompt=words, generator=seeded()).images
            made = ours(**asked, negative_prompt=negative, generator=seeded()).images
            assert far(made, wanted) < 1e-4
            assert far(made, plain) > 1e-4


def test_sdxl_is_told_sizes_and_second_prompts(both):
    ours, stock = both("sdxl")
    asked = ASKED | {"guidance_scale": 1.5, "num_inference_steps": 2, "negative_prompt": ["one", "two"]}
    asked |= {"original_size": (64, 32), "crops_coords_top_left": (3, 4), "target_size": (20, 30)}
    asked |= {"prompt_2": ["thin", "large"], "negative_prompt_2": ["small", "zero"]}
    wanted = stock(**asked, generator=seeded()).images
    made = ours(**asked, generator=seeded()).images
    assert far(made, wanted) < 1e-4
    assert far(ours(**asked | {"original_size": None}, generator=seeded()).images, made) > 1e-5
    embeds = ours.encode_prompt(["a thick seven", "a zero"], "cpu", 1, False)
    names = ("prompt_embeds", "pooled_prompt_embeds")
    told = dict(zip(names, (embeds[0], embeds[2]), strict=True))
    plain = {"guidance_scale": 1.0, "output_type": "np"}
    said = ours(**plain, prompt=ASKED["prompt"], generator=seeded()).images
    assert far(ours(**plain, **told, generator=seeded()).images, said) < 1e-6
    with pytest.raises(ValueError, match="pooled_prompt_embeds"):
        ours(prompt_embeds=embeds[0])


def test_adapters_load_scale_fuse_and_unfuse_as_in_diffusers(both, tmp_path):
    for kind in ("lcm", "sd", "sdxl"):
        ours, stock = both(kind)
        folder = lora_file(both(kind)[1], tmp_path / kind)
        asked = ASKED | {"num_inference_steps": 2, "guidance_scale": 1.5}
        before = ours(**asked, generator=seeded()).images
        for pipe in (ours, stock):
            pipe.load_lora_weights(folder)
        seen = {}
        for scale in (0.0, 0.5, 1.0):
            told = {"cross_attention_kwargs": {"scale": scale}}
            seen[scale] = ours(**asked, **told, generator=seeded()).images
            assert far(seen[scale], stock(**asked, **told, generator=seeded()).images) < 1e-4
        assert far(seen[0.0], before) < 1e-5
        assert far(seen[0.5], before) > 1e-4
        assert far(ours(**asked, generator=seeded()).images, seen[1.0]) < 1e-5
        for pipe in (ours, stock):
            pipe.fuse_lora(lora_scale=0.5)
        fused = ours(**asked, generator=seeded()).images
        assert far(fused, seen[0.5]) < 1e-4
        assert far(fused, stock(**asked, generator=seeded()).images) < 1e-4
        for pipe in (ours, stock):
            pipe.unfuse_lora()
        assert far(ours(**asked, generator=seeded()).images, stock(**asked, generator=seeded()).images) < 1e-4
        assert set(ours.get_list_adapters()) == {"unet", "text_encoder"}
        ours.set_adapters("default_0", 0.5)
        assert far(ours(**asked, generator=seeded()).images, seen[0.5]) < 1e-4
        ours(**asked, cross_attention_kwargs={"scale": 0.0})  # after which diffusers' own has forgotten the 0.5
        assert far(ours(**asked, generator=seeded()).images, seen[0.5]) < 1e-4
        ours.unload_lora_weights()
        assert far(ours(**asked, generator=seeded()).images, before) < 1e-5


def test_freeu_and_an_autoencoder_that_saves_memory(both):
    ours, stock = both()
    asked = ASKED | {"num_inference_steps": 2, "height": 64, "width": 48}
    plain = ours(**asked, generator=seeded()).images
    for pipe in (ours, stock):
        pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    free = ours(**asked, generator=seeded()).images
    assert far(free, plain) > 1e-4
    assert far(free, stock(**asked, generator=seeded()).images) < 1e-4
    for pipe in (ours, stock):
        pipe.disable_freeu()
    ours.enable_vae_slicing()
    assert ours.vae.use_slicing
    assert far(ours(**asked, generator=seeded()).images, plain) < 1e-5
    ours.disable_vae_slicing()
    ours.enable_vae_tiling()
    stock.vae.enable_tiling()
    tiled = ours(**asked, generator=seeded()).images
    assert far(tiled, plain) > 1e-4
    assert far(tiled, stock(**asked, generator=seeded()).images) < 1e-4
    ours.disable_vae_tiling()
    assert not ours.vae.use_tiling
    assert not ours.vae.use_slicing
    assert far(ours(**asked, generator=seeded()).images, plain) < 1e-6


def adapter(unet):
    """An IP-adapter for pictures embedded in 8 numbers, as its files hold it."""
    torch.manual_seed(4)
    widths = [name for name in unet.attn_processors if "attn2" in name]
    keys = {}
    for place, name in enumerate(widths):
        module = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("k", "v"):
            keys[f"{2 * place + 1}.to_{part}_ip.weight"] = torch.randn(module.to_k.out_features, 32)
    projection = {"proj.weight": torch.randn(4 * 32, 8), "proj.bias": torch.zeros(4 * 32),
                  "norm.weight": torch.ones(32), "norm.bias": torch.zeros(32)}  # fmt: skip
    return {"image_proj": projection, "ip_adapter": keys}


@pytest.mark.parametrize("kind", ["lcm", "sd"])
def test_ip_adapters_see_their_pictures(both, kind):
    ours, stock = both(kind)
    asked = {"prompt": "a seven", "num_inference_steps": 2, "guidance_scale": 1.5, "output_type": "np"}
    plain = ours(**asked, generator=seeded()).images
    for pipe in (ours, stock):
        pipe.unet._load_ip_adapter_weights([adapter(pipe.unet)])
        pipe.set_ip_adapter_scale(2.0)
    embeds = [torch.randn(2 if kind == "sd" else 1, 1, 8, generator=seeded())]
    made, wanted = (pipe(**asked, ip_adapter_image_embeds=embeds, generator=seeded()).images for pipe in (ours, stock))
    assert far(made, wanted) < 1e-4
    assert far(made, plain) > 1e-4
    with pytest.raises(ValueError, match="ip_adapter_image"):
        ours("a", ip_adapter_image=Image.new("RGB", (8, 8)), ip_adapter_image_embeds=embeds)
    with pytest.raises(ValueError, match="list of tensors"):
        ours("a", ip_adapter_image_embeds=[embeds[0][0]])


# -- what is mended ----------------------------------------------------------------------------------------------------


def test_unknown_arguments_are_refused_with_the_nearest(both):
    ours, _ = both()
    with pytest.raises(TypeError, match=r"num_inference_step'.*num_inference_steps"):
        ours("a seven", num_inference_step=1)
    with pytest.raises(ValueError, match=r"latent"):
        ours("a seven", output_type="latents")
    with pytest.raises(ValueError, match="w_embedding"):
        ours("a seven", callback_on_step_end_tensor_inputs=["w_embeddings"])
    with pytest.raises(ValueError, match="callback_steps"):
        ours("a seven", callback_steps=0)


def test_negative_prompts_that_could_do_nothing_are_refused(both):
    with pytest.raises(ValueError, match="told its guidance scale"):
        both()[0]("a seven", negative_prompt="thin")
    with pytest.raises(ValueError, match="guidance_scale"):
        both("sd")[0]("a seven", negative_prompt="thin")
    with pytest.raises(ValueError, match="Only SDXL"):
        both("sd")[0]("a seven", prompt_2="thin")
    with pytest.raises(ValueError, match="Only SDXL"):
        both()[0]("a seven", original_size=(8, 8))
    with pytest.raises(ValueError, match="3 of `negative_prompt` were given for 2"):
        both("sd")[0](**ASKED, negative_prompt=["a"] * 3, guidance_scale=2)


@pytest.mark.parametrize("kind", ["lcm", "sd"])
def test_guidance_scales_one_a_picture(both, kind):
    ours, _ = both(kind)
    z = torch.randn(2, 4, 8, 8, generator=seeded())
    asked = {"num_inference_steps": 1, "output_type": "np"}
    alone = [ours(prompt, latents=z[i : i + 1], guidance_scale=scale, **asked).images[0]
             for i, (prompt, scale) in enumerate(zip(ASKED["prompt"], (1.2, 1.9), strict=True))]  # fmt: skip
    for scales in ([1.2, 1.9], torch.tensor([1.2, 1.9], dtype=torch.float64), np.array([1.2, 1.9])):
        together = ours(ASKED["prompt"], latents=z, guidance_scale=scales, **asked).images
        assert far(together, np.stack(alone)) < 1e-5
    asked |= {"num_images_per_prompt": 2, "latents": z.repeat_interleave(2, 0)}
    pairs = ours(ASKED["prompt"], guidance_scale=(1.2, 1.9), **asked)
    assert far(pairs.images[::2], together) < 1e-5
    for wrong in ([1.0, 2.0, 3.0], float("nan")):
        with pytest.raises(ValueError, match="guidance_scale"):
            ours(ASKED["prompt"], guidance_scale=wrong)


def test_clip_skip_reads_an_earlier_layer(both):
    ours, _ = both()
    encoder, ids = ours.text_encoder, ours.tokenizer(["a seven"], padding="max_length", return_tensors="pt").input_ids
    states = encoder(ids, output_hidden_states=True).hidden_states
    for skip in (0, 1, 2):
        wanted = encoder.final_layer_norm(states[-1 - skip])
        assert far(ours.encode_prompt("a seven", "cpu", 1, False, clip_skip=skip)[0].detach(), wanted.detach()) < 1e-6
    usual = ours("a seven", generator=seeded(), output_type="np").images
    assert far(ours("a seven", clip_skip=1, generator=seeded(), output_type="np").images, usual) > 1e-5
    assert ours.clip_skip == 1
    with pytest.raises(ValueError, match="clip_skip"):
        ours("a seven", clip_skip=9)
    sdxl, stock = both("sdxl")
    asked = ASKED | {"clip_skip": 1, "num_inference_steps": 1, "guidance_scale": 1.5}
    assert far(sdxl(**asked, generator=seeded()).images, stock(**asked, generator=seeded()).images) < 1e-4


def test_latents_sizes_and_numbers(both, folders):
    ours, _ = both()
    for size, wrong in (((10, 6), None), ((17, 16), "divisible by 2"), ((0, 16), None)):
        asked = {"height": size[0], "width": size[1], "output_type": "np", "num_inference_steps": 1}
        if wrong:
            with pytest.raises(ValueError, match=wrong):
                ours("a", **asked)
    assert ours("a", height=10, width=np.int64(6), output_type="np").images.shape == (1, 10, 6, 3)
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\)"):
        ours("a", latents=torch.zeros(1, 4, 9, 8))
    with pytest.raises(ValueError, match="generators"):
        ours("a", generator=[seeded(), seeded()])
    with pytest.raises(ValueError, match="num_images_per_prompt"):
        ours("a", num_images_per_prompt=0)
    assert len(ours(("a", "a seven"), num_images_per_prompt=np.int64(2), num_inference_steps=np.int64(1)).images) == 4
    for wrong in (3, [], ["a", 3]):
        with pytest.raises(ValueError, match="prompt"):
            check_text(wrong, "prompt")
    for wrong in ({}, {"prompt": "a", "prompt_embeds": torch.zeros(1, 12, 32)}):
        with pytest.raises(ValueError, match="prompt_embeds"):
            ours(**wrong)
    assert quiet(Ours.from_pretrained(folders / "grey"))("a", output_type="np").images.shape == (1, 16, 16, 1)


def test_embedded_prompts_and_custom_levels(both):
    ours, stock = both()
    embeds = stock.encode_prompt("a thick seven", "cpu", 1, False)[0]
    asked = {"output_type": "np", "timesteps": [999, 499, 259], "original_inference_steps": 25}
    wanted = stock(prompt_embeds=embeds, generator=seeded(), **asked).images
    assert far(ours(prompt_embeds=embeds, generator=seeded(), **asked).images, wanted) < 1e-4
    assert far(ours("a thick seven", generator=seeded(), **asked).images, wanted) < 1e-4
    assert ours.num_timesteps == 3
    sd, stock = both("sd")
    parts = sd.encode_prompt("a seven", "cpu", 1, True, negative_prompt="thin")
    told = {"prompt_embeds": parts[0], "negative_prompt_embeds": parts[1], "guidance_scale": 2, "output_type": "np"}
    wanted = stock(**told, num_inference_steps=4, generator=seeded()).images
    assert far(sd(**told, generator=seeded()).images, wanted) < 1e-4
    with pytest.raises(ValueError, match="alike"):
        sd(**told | {"negative_prompt_embeds": parts[1][:, :3]})


def test_pure_noise_is_finite(both):
    ours, _ = both()
    for kind in (diffusers.LCMScheduler, fewstep.LCMScheduler):
        ours.scheduler = kind.from_config(ours.scheduler.config, rescale_betas_zero_snr=True)
        assert np.isfinite(ours("a", output_type="np", num_inference_steps=2).images).all()


def test_other_schedulers(both):
    ours, _ = both("sd")
    assert type(ours.scheduler) is fewstep.LCMScheduler
    assert ours.scheduler.config.beta_start == 0.00085
    fresh = Ours(**ours.components | {"scheduler": diffusers.DDIMScheduler(beta_start=0.002)})
    assert (fresh.scheduler.config.beta_start, fresh.scheduler.config.beta_end) == (0.002, 0.02)
    ours.scheduler = diffusers.DDIMScheduler()
    with pytest.raises(TypeError, match=r"LCMScheduler.from_config"):
        ours("a")
    theirs = ours.scheduler = diffusers.LCMScheduler()
    ours("a")
    assert type(ours.scheduler) is fewstep.LCMScheduler
    assert theirs.num_inference_steps is None


@pytest.mark.parametrize("kind", ["lcm", "sd", "sdxl"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(folders, kind, dtype):
    pipe = quiet(Ours.from_pretrained(folders / kind, torch_dtype=dtype))
    wanted = quiet(Ours.from_pretrained(folders / kind))
    z = torch.randn(1, 4, 8, 8, generator=seeded())
    asked = {"prompt": "a seven", "num_inference_steps": 1, "guidance_scale": 1.5, "output_type": "np"}
    made = pipe(**asked, latents=z).images
    assert made.dtype == np.float32
    assert far(made, wanted(**asked, latents=z).images) < 0.03
    assert pipe.vae.dtype == dtype


# -- callbacks ---------------------------------------------------------------------------------------------------------


def test_callbacks_old_and_new(both):
    ours, stock = both()
    told = {ours: [], stock: []}
    for pipe in (ours, stock):
        pipe(
            "a seven", generator=seeded(), callback_steps=2, callback=lambda i, t, x, p=pipe: told[p].append((i, t, x))
        )
    assert [i for i, _, _ in told[ours]] == [0, 2]
    for (_, t, x), (_, stock_t, stock_x) in zip(told[ours], told[stock], strict=True):
        assert t == stock_t
        assert far(x, stock_x) < 1e-4

    def watch(pipe, i, t, tensors):
        assert sorted(tensors) == ["denoised", "latents", "prompt_embeds", "w_embedding"]
        assert tensors["w_embedding"].shape == (1, 32)
        return {"denoised": torch.zeros_like(tensors["denoised"])} if i == 3 else None

    names = ours._callback_tensor_inputs
    out = ours("a", callback_on_step_end=watch, callback_on_step_end_tensor_inputs=names, output_type="latent")
    assert not out.images.any()

    def change(pipe, i, t, tensors):
        return {name: 0.5 * value for name, value in tensors.items()}

    for name in names[:1] + names[2:]:
        asked = {"callback_on_step_end": change, "callback_on_step_end_tensor_inputs": [name], "output_type": "np"}
        made = [pipe("a", generator=seeded(), **asked).images for pipe in (ours, stock)]
        assert far(*made) < 1e-4


def test_guidance_can_be_cut_off(both):
    for kind, cutoff in (("sd", SDCFGCutoffCallback), ("sdxl", SDXLCFGCutoffCallback)):
        made = []
        for pipe in both(kind):
            asked = {"guidance_scale": 1.9, "num_inference_steps": 4, "output_type": "np"}
            callback = cutoff(cutoff_step_ratio=None, cutoff_step_index=1)
            asked["callback_on_step_end_tensor_inputs"] = cutoff.tensor_inputs
            made.append(pipe("a seven", callback_on_step_end=callback, generator=seeded(), **asked).images)
        assert far(*made) < 1e-4


# -- outputs, files ----------------------------------------------------------------------------------------------------


def test_outputs(both):
    ours, stock = both()
    asked = {"prompt": "a seven", "num_inference_steps": 1}
    made = {kind: ours(**asked, output_type=kind, generator=seeded()) for kind in ("pil", "np", "pt", "latent")}
    assert isinstance(made["np"], fewstep.StableDiffusionPipelineOutput)
    assert fewstep.StableDiffusionPipelineOutput is StableDiffusionPipelineOutput
    assert made["pil"].images[0].size == (16, 16)
    assert far(made["pil"].images[0], made["np"].images[0] * 255) <= 0.51
    assert far(made["pt"].images.permute(0, 2, 3, 1), made["np"].images) == 0
    assert far(made["latent"].images, stock(**asked, output_type="latent", generator=seeded()).images) < 1e-4
    assert made["np"].nsfw_content_detected is None
    pictures, flags = ours(**asked, return_dict=False)
    assert len(pictures) == 1
    assert flags is None


def test_what_the_safety_checker_flags_is_black(both):
    ours, _ = both()
    ours.run_safety_checker = lambda image, device, dtype: (torch.zeros_like(image), [True])
    out = ours("a", output_type="np")
    assert out.nsfw_content_detected == [True]
    assert not out.images.any()
    small = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1}
    checker = StableDiffusionSafetyChecker(CLIPConfig(text_config=small, vision_config=small, projection_dim=8))
    with pytest.raises(ValueError, match="feature_extractor"):
        Ours(**ours.components | {"safety_checker": checker})


@pytest.mark.parametrize("kind", list(STOCK))
def test_what_is_saved_loads_where_fewstep_is_not(both, kind, tmp_path, caplog):
    ours, stock = both(kind)
    ours.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == STOCK[kind].__name__
    assert index["scheduler"] == ["diffusers", "LCMScheduler"]
    with caplog.at_level(logging.WARNING):
        back = quiet(diffusers.DiffusionPipeline.from_pretrained(tmp_path))
    assert "not expected" not in caplog.text
    assert type(back) is STOCK[kind]
    asked = {"prompt": "a seven", "num_inference_steps": 2, "output_type": "np", "guidance_scale": 1.5}
    wanted = stock(**asked, generator=seeded()).images
    again = quiet(Ours.from_pretrained(tmp_path))
    made = (Ours.from_pipe(back), STOCK[kind].from_pipe(ours), STOCK[kind](**ours.components))
    for pipe in (back, again, *made):
        assert far(quiet(pipe)(**asked, generator=seeded()).images, wanted) < 1e-4
    assert isinstance(again, Stock)


def test_loading_pieces(both, folders):
    ours, stock = both()
    tiny = latent_helpers.tiny_autoencoder()
    for pipe in (Ours.from_pretrained(folders / "lcm", vae=tiny), Ours.from_pipe(ours, vae=tiny)):
        pipe = quiet(pipe)
        assert pipe.vae is tiny
        stock.vae, stock.vae_scale_factor = tiny, 2
        asked = {"prompt": "a", "output_type": "np"}
        assert far(pipe(**asked, generator=seeded()).images, stock(**asked, generator=seeded()).images) < 1e-4
    pipe = quiet(Ours.from_pretrained(folders / "lcm", text_encoder=None, tokenizer=None))
    embeds = ours.encode_prompt("a", "cpu", 1, False)[0].detach()
    assert pipe(prompt_embeds=embeds).images[0].size == (16, 16)
    with pytest.raises(ValueError, match="no text encoder"):
        pipe("a")


@pytest.mark.parametrize("kind", ["lcm", "sdxl"])
def test_single_files_go_through_diffusers_loader(folders, tmp_path, kind):
    parts = STOCK[kind].from_pretrained(folders / kind).components
    given = {name: part for name, part in parts.items() if name.startswith(("unet", "vae", "text_", "tokenizer"))}
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    pipe = Ours.from_single_file(str(tmp_path / "model.safetensors"), config=str(folders / kind), **given)
    assert type(pipe) is Ours
    assert pipe.unet is parts["unet"]
    assert quiet(pipe)("a", num_inference_steps=1).images[0].size == (16, 16)


# -- remembered prompts ------------------------------------------------------------------------------------------------


def counted(encoder):
    calls = []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_prompts_are_embedded_once(both):
    ours, _ = both("sd")
    calls = counted(ours.text_encoder)
    asked = {"guidance_scale": 1.5, "output_type": "np", "num_inference_steps": 1}
    first = ours("a seven", generator=seeded(), **asked).images
    assert len(calls) == 2
    assert np.array_equal(ours(["a seven"], generator=seeded(), **asked).images, first)
    assert len(calls) == 2
    ours("a seven", clip_skip=1, **asked)
    assert len(calls) == 3
    ours.memory_of_prompts(1)
    ours("a seven", **asked | {"guidance_scale": 1})
    ours("a seven", **asked | {"guidance_scale": 1})
    assert len(calls) == 4
    ours("a zero", **asked | {"guidance_scale": 1})
    ours("a seven", **asked | {"guidance_scale": 1})
    assert len(calls) == 6
    ours.memory_of_prompts(0)
    ours("a seven", **asked | {"guidance_scale": 1})
    ours("a seven", **asked | {"guidance_scale": 1})
    assert len(calls) == 8


def test_what_changes_a_text_encoder_is_noticed(both):
    ours, _ = both()
    calls, told = counted(ours.text_encoder), {"output_type": "latent", "num_inference_steps": 1}

    def read(**more):
        before = len(calls)
        ours("a seven", generator=seeded(), **told, **more)
        return len(calls) - before

    assert [read(), read()] == [1, 0]
    with torch.no_grad():
        ours.text_encoder.embeddings.token_embedding.weight[3, 5] += 1e-3
    assert [read(), read()] == [1, 0]
    ours.text_encoder.encoder.layers[0].mlp.fc1.weight.data[0, 0] += 1e-3  # unseen by autograd's counters
    assert [read(), read()] == [1, 0]
    adapt(ours)
    assert [read(), read()] == [1, 0]
    assert read(cross_attention_kwargs={"scale": 0.5}) == 1
    assert read() == 0
    ours.fuse_lora()
    assert [read(), read()] == [1, 0]
    ours.unfuse_lora()
    ours.disable_lora()
    assert [read(), read()] == [1, 0]
    with torch.autocast("cpu", torch.bfloat16):
        assert [read(), read()] == [1, 0]
    assert read() == 0
    ours.text_encoder.train()
    assert [read(), read()] == [1, 1]
    ours.text_encoder.eval().bfloat16()
    assert [read(), read()] == [1, 0]
    ours.load_textual_inversion({"<digit>": torch.ones(32)}, token="<digit>")
    assert [read(), read()] == [1, 0]
    with torch.enable_grad():
        assert both()[0].encode_prompt("a seven", "cpu", 1, False)[0].requires_grad


@pytest.mark.parametrize("kind", [diffusers.EDMEulerScheduler, diffusers.FlowMatchEulerDiscreteScheduler])
def test_schedulers_of_other_noise_levels_are_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}, whose noise levels are no DDPM's"):
        as_lcm(kind())
