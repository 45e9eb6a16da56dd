"""SDXL-shaped models and pictures for IP-adapters, in all three pipelines, held against diffusers' own.

Where theirs and ours differ on purpose: `strength` of ours is Luo et al.'s (a share of the levels that were distilled,
of which all steps are then taken), of StableDiffusionXLImg2ImgPipeline a share of the steps. Told the same timesteps,
both draw the same. StableDiffusionXLInpaintPipeline noises what is known anew with its first noise before every step;
ours puts it into the estimate (Algorithm 4), so only a single step can agree.
"""

import diffusers
import latent_helpers as tiny
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

import fewstep

TASKS = {
    "draw": (fewstep.LatentConsistencyModelPipeline, diffusers.StableDiffusionXLPipeline),
    "redraw": (fewstep.LatentConsistencyModelImg2ImgPipeline, diffusers.StableDiffusionXLImg2ImgPipeline),
    "fill": (fewstep.LatentConsistencyModelInpaintPipeline, diffusers.StableDiffusionXLInpaintPipeline),
}
SAID = {"prompt": ["a thick seven", "a zero"], "prompt_2": ["thin", "large"], "output_type": "np"}
AGAINST = {"guidance_scale": 1.7, "negative_prompt": ["one", "two"], "negative_prompt_2": ["small", "zero"]}
SIZES = {"original_size": (64, 32), "crops_coords_top_left": (3, 4), "target_size": (20, 30)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipes")
    for kind in ("lcm", "sd", "sdxl"):
        tiny.pipeline(folder / kind, kind)
    tiny.pipeline(folder / "told", "sdxl", told=32)
    return folder


def loaded(folder, *classes, **parts):
    """A pipeline of each class, with parts of its own, stepping as an LCM."""
    made = [cls.from_pretrained(folder, **parts) for cls in classes]
    for pipe in made:
        pipe.set_progress_bar_config(disable=True)
        if not type(pipe).__module__.startswith("fewstep"):
            pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    return made


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def far(a, b) -> float:
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


def picture(seed=0, size=16):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


def stock_levels(strength, steps=4):
    """The timesteps of diffusers' SDXL image to image: the last ⌊strength · steps⌋ of all."""
    scheduler = diffusers.LCMScheduler()
    scheduler.set_timesteps(steps)
    return scheduler.timesteps[steps - int(steps * strength) :].tolist()


@pytest.mark.parametrize("kind", ["sdxl", "told"])
def test_drawn_pictures_are_those_of_diffusers(folders, kind):
    ours, stock = loaded(folders / kind, *TASKS["draw"])
    told = {"guidance_scale": 4.0} if kind == "told" else AGAINST
    asked = SAID | SIZES | told | {"num_inference_steps": 2, "num_images_per_prompt": 2, "height": 24, "width": 16}
    made, wanted = (pipe(**asked, generator=seeded()).images for pipe in (ours, stock))
    assert made.shape == (4, 24, 16, 3)
    assert far(made, wanted) < 1e-4
    for less in ({"prompt_2": None}, {"original_size": None}):
        assert far(ours(**asked | less, generator=seeded()).images, made) > 1e-5


def test_pooled_prompts_may_be_given_beside_prompts(folders):
    ours, stock = loaded(folders / "sdxl", *TASKS["draw"])
    asked = SAID | AGAINST | {"num_inference_steps": 1, "pooled_prompt_embeds": torch.randn(2, 32, generator=seeded())}
    asked |= {"negative_pooled_prompt_embeds": torch.randn(2, 32, generator=seeded(6))}
    made, wanted = (pipe(**asked, generator=seeded()).images for pipe in (ours, stock))
    assert far(made, wanted) < 1e-4
    assert far(ours(**asked | {"pooled_prompt_embeds": None}, generator=seeded()).images, made) > 1e-5
    with pytest.raises(ValueError, match=r"`pooled_prompt_embeds` is \(1, 32\), and .* \(2, 32\) is needed"):
        ours(**asked | {"pooled_prompt_embeds": torch.ones(1, 32)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_2": "thin"}, "one of `prompt_2` and `prompt_embeds`; both"),
        ({"pooled_prompt_embeds": torch.ones(1, 32)}, "are 2, `pooled_prompt_embeds` 1: give as many"),
        ({"pooled_prompt_embeds": torch.ones(32)}, r"`pooled_prompt_embeds` has 2 axes, \(n, P\), not \(32,\)"),
        ({"prompt_embeds": torch.ones(77, 64)}, r"`prompt_embeds` has 3 axes, \(n, L, D\), not \(77, 64\)"),
        ({"negative_prompt_embeds": torch.ones(2, 77, 64), "negative_prompt_2": "no"}, "`negative_prompt_2` and `neg"),
        ({"negative_pooled_prompt_embeds": torch.ones(2, 32)}, "goes with `negative_prompt_embeds`"),
    ],
)
def test_embeddings_that_would_be_left_aside_are_refused(folders, given, message):
    ours = loaded(folders / "sdxl", TASKS["draw"][0])[0]
    embedded = {"prompt_embeds": torch.ones(2, 77, 64), "pooled_prompt_embeds": torch.ones(2, 32)}
    with pytest.raises(ValueError, match=message):
        ours(**embedded | {"guidance_scale": 2.0} | given)


def test_an_adapter_of_the_second_text_encoder_is_saved(folders, tmp_path):
    from peft import LoraConfig, get_peft_model_state_dict

    ours, again, stock = loaded(folders / "sdxl", TASKS["draw"][0], *TASKS["draw"])
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], init_lora_weights=False)
    ours.text_encoder_2.add_adapter(config)
    layers = get_peft_model_state_dict(ours.text_encoder_2)
    ours.save_lora_weights(tmp_path, text_encoder_2_lora_layers=layers)
    made = [ours(**SAID, num_inference_steps=1, generator=seeded()).images]
    for pipe in (again, stock):
        pipe.load_lora_weights(tmp_path)
        made.append(pipe(**SAID, num_inference_steps=1, guidance_scale=1.0, generator=seeded()).images)
    assert far(made[0], made[1]) < 1e-5
    assert far(made[0], made[2]) < 1e-4


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_redrawn_pictures_are_those_of_diffusers(folders, strength):
    ours, stock = loaded(folders / "sdxl", *TASKS["redraw"])
    asked = SAID | SIZES | AGAINST | {"image": [picture(1), picture(2)]}
    wanted = stock(**asked, num_inference_steps=4, strength=strength, generator=seeded()).images
    made = ours(**asked, timesteps=stock_levels(strength), strength=1.0, generator=seeded()).images
    assert far(made, wanted) < 1e-4
    if strength == 1:
        assert far(ours(**asked, num_inference_steps=4, strength=1.0, generator=seeded()).images, wanted) < 1e-4
    assert far(ours(**asked | {"target_size": None}, timesteps=stock_levels(strength), strength=1.0,
                    generator=seeded()).images, made) > 1e-5  # fmt: skip


def test_filled_pictures_are_those_of_diffusers(folders):
    ours, stock = loaded(folders / "sdxl", *TASKS["fill"])
    ours.vae = stock.vae = tiny.tiny_autoencoder()  # whose latents are certain: ours keeps means, theirs a draw
    mask = Image.new("L", (16, 16), 0)
    mask.paste(255, (4, 6, 10, 12))
    asked = SAID | SIZES | AGAINST | {"image": picture(), "mask_image": mask, "output_type": "latent"}
    asked |= {"prompt": "a seven", "prompt_2": "thin", "negative_prompt": "one", "negative_prompt_2": "two"}
    wanted = stock(**asked, num_inference_steps=4, strength=0.25, height=16, width=16, generator=seeded()).images
    asked |= {"num_inference_steps": 1, "strength": 0.26}  # the thirteenth of fifty levels
    assert stock_levels(0.25) == [20 * 13 - 1]
    made = ours(**asked, generator=seeded()).images
    assert far(made, wanted) < 1e-4
    kept = ours(**asked | {"output_type": "np"}, generator=seeded()).images[0]
    known = np.asarray(mask) == 0
    assert far(kept[known], np.asarray(picture())[known] / 255) < 1e-6


def test_each_text_encoder_has_its_own_precision(folders):
    for cls, _ in TASKS.values():
        (pipe,) = loaded(folders / "sdxl", cls)
        more = {"image": picture()} if cls is not TASKS["draw"][0] else {}
        more |= {"mask_image": Image.new("L", (16, 16), 255)} if cls is TASKS["fill"][0] else {}
        asked = {"prompt": "a seven", "output_type": "np", "guidance_scale": 1.5, "num_inference_steps": 1, **more}
        wanted = pipe(**asked, generator=seeded()).images
        for first, second in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
            pipe.text_encoder.to(first)
            pipe.text_encoder_2.to(second)
            assert far(pipe(**asked, generator=seeded()).images, wanted) < 0.02
            assert (pipe.text_encoder.dtype, pipe.text_encoder_2.dtype) == (first, second)
            assert {part.dtype for part in pipe.encode_prompt("a seven", "cpu", 1, True)} == {torch.float32}


# -- IP-adapters -------------------------------------------------------------------------------------------------------


def eyes():
    """A tiny image encoder and its preprocessor."""
    torch.manual_seed(6)
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                              projection_dim=8, image_size=12, patch_size=4)  # fmt: skip
    size = {"shortest_edge": 12}
    crop = {"height": 12, "width": 12}
    return {"image_encoder": CLIPVisionModelWithProjection(config).eval(),
            "feature_extractor": CLIPImageProcessor(size=size, crop_size=crop)}  # fmt: skip


def adapter(unet):
    """An IP-adapter for pictures embedded in 8 numbers, as its files hold it."""
    torch.manual_seed(4)
    width, keys = unet.config.cross_attention_dim, {}
    for place, name in enumerate(name for name in unet.attn_processors if "attn2" in name):
        module = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("k", "v"):
            keys[f"{2 * place + 1}.to_{part}_ip.weight"] = torch.randn(module.to_k.out_features, width)
    projection = {"proj.weight": torch.randn(4 * width, 8), "proj.bias": torch.zeros(4 * width),
                  "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}  # fmt: skip
    return {"image_proj": projection, "ip_adapter": keys}


STOCK = {
    "lcm": (diffusers.LatentConsistencyModelPipeline, diffusers.LatentConsistencyModelImg2ImgPipeline),
    "sd": (diffusers.StableDiffusionPipeline, None),
    "sdxl": (diffusers.StableDiffusionXLPipeline, diffusers.StableDiffusionXLImg2ImgPipeline),
}


@pytest.mark.parametrize("kind", STOCK)
def test_pictures_shown_to_an_ip_adapter(folders, kind):
    for (ours_class, _), stock_class in zip(TASKS.values(), STOCK[kind], strict=False):
        if stock_class is None:
            continue
        ours, stock = loaded(folders / kind, ours_class, stock_class, **eyes())
        for pipe in (ours, stock):
            pipe.unet._load_ip_adapter_weights([adapter(pipe.unet)])
            pipe.set_ip_adapter_scale(2.0)
        asked = {"prompt": ["a seven", "a zero"], "guidance_scale": 1.5, "output_type": "np"}
        asked["num_inference_steps"] = 2
        if ours_class is TASKS["draw"][0]:
            asked["num_images_per_prompt"] = 2
        else:
            asked |= {"image": [picture(1), picture(2)], "strength": 1.0}
        shown = [{"ip_adapter_image": picture(seed, 20)} for seed in (3, 4)]
        made = [ours(**asked, **more, generator=seeded()).images for more in shown]
        wanted = stock(**asked, **shown[0], generator=seeded()).images
        assert far(made[0], wanted) < 1e-4
        assert far(made[0], made[1]) > 1e-4
        embeds = stock.prepare_ip_adapter_image_embeds(shown[0]["ip_adapter_image"], None, "cpu", 1, kind != "lcm")
        assert far(ours(**asked, ip_adapter_image_embeds=embeds, generator=seeded()).images, wanted) < 1e-4


def test_an_ip_adapter_fills(folders):
    (fill,) = loaded(folders / "sdxl", TASKS["fill"][0], **eyes())
    fill.unet._load_ip_adapter_weights([adapter(fill.unet)])
    fill.set_ip_adapter_scale(2.0)
    asked = {"prompt": "a seven", "image": picture(), "mask_image": Image.new("L", (16, 16), 255), "output_type": "np"}
    asked |= {"num_inference_steps": 1, "guidance_scale": 1.5}
    made = [fill(**asked, ip_adapter_image=picture(seed, 20), generator=seeded()).images for seed in (3, 4)]
    embeds = fill.prepare_ip_adapter_image_embeds(picture(3, 20), None, "cpu", 1, True)
    assert far(fill(**asked, ip_adapter_image_embeds=embeds, generator=seeded()).images, made[0]) < 1e-5
    assert far(*made) > 1e-4
