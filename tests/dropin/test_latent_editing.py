"""Image to image and inpainting in latents, held against diffusers' own class and against written-out loops."""

import json

import diffusers
import latent_helpers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import fewstep

Ours, Stock = fewstep.LatentConsistencyModelImg2ImgPipeline, diffusers.LatentConsistencyModelImg2ImgPipeline
Fill = fewstep.LatentConsistencyModelInpaintPipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each shape, written by diffusers."""
    folder = tmp_path_factory.mktemp("pipes")
    for kind in ("lcm", "sd", "sdxl"):
        latent_helpers.pipeline(folder / kind, kind)
    return folder


@pytest.fixture
def pipe(folders):
    def make(cls=Ours, kind="lcm"):
        made = cls.from_pretrained(folders / kind)
        made.set_progress_bar_config(disable=True)
        return made

    return make


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def far(a, b) -> float:
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).max())


def picture(size=(16, 16), mode="RGB", seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], len(mode.replace("L", "1"))), np.uint8)
    return Image.fromarray(values.squeeze(), mode=mode if mode != "L" else None)


def hole(size=(16, 16), box=(4, 6, 10, 12)):
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


# -- image to image ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "strength"), [(1, 0.8), (2, 0.3), (4, 1.0)])
def test_the_pictures_are_those_of_diffusers(pipe, steps, strength):
    ours, stock = pipe(), pipe(Stock)
    kinds = [
        picture((33, 19)),
        np.asarray(picture()) / np.float32(255),
        torch.rand(1, 3, 16, 16),
        torch.randn(1, 4, 8, 8),
    ]
    for image in kinds:
        asked = {"prompt": "a seven", "image": image, "num_inference_steps": steps, "strength": strength}
        asked |= {"output_type": "np", "guidance_scale": 4.0}
        made, wanted = (each(**asked, generator=seeded()).images for each in (ours, stock))
        assert far(made, wanted) < 1e-4
    for each in (ours, stock):
        each.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
        each.vae.enable_tiling()
    asked["image"] = [picture((64, 32), seed=1), picture((64, 32), seed=2)]
    asked["prompt"] = ["a seven", "a zero"]
    for generators in (seeded, lambda: [seeded(0), seeded(1)]):
        made, wanted = (each(**asked, generator=generators()).images for each in (ours, stock))
        assert far(made, wanted) < 1e-4
    assert far(made[0], made[1]) > 1e-3


def test_variants_keep_to_their_picture(pipe):
    pictures = [picture(seed=1), picture(seed=2)]
    asked = {"num_inference_steps": 1, "strength": 0.02, "output_type": "np"}
    made = pipe()(["a", "a"], pictures, num_images_per_prompt=2, generator=[seeded() for _ in range(4)], **asked).images
    assert far(made[0], made[1]) < 1e-5
    assert far(made[2], made[3]) < 1e-5
    assert far(made[0], made[2]) > 0.05


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_models_that_are_not_told_the_scale(pipe, kind):
    ours = pipe(kind=kind)
    asked = {
        "prompt": "a seven",
        "image": picture(),
        "num_inference_steps": 2,
        "strength": 0.6,
        "output_type": "latent",
    }
    made = ours(**asked, guidance_scale=1.8, negative_prompt="thin", generator=seeded()).images

    scheduler, random = diffusers.LCMScheduler.from_config(ours.scheduler.config), seeded()
    x = torch.from_numpy(np.asarray(picture())).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        x_0 = ours.vae.encode(x).latent_dist.sample(random) * ours.vae.config.scaling_factor
        parts = ours.encode_prompt("a seven", "cpu", 1, True, negative_prompt="thin")
    scheduler.set_timesteps(2, strength=0.6)
    x = scheduler.add_noise(x_0, torch.randn(x_0.shape, generator=random), scheduler.timesteps[:1])
    for t in scheduler.timesteps:
        raw = []
        for i in (1, 0):
            more = (
                {"text_embeds": parts[2 + i], "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]])}
                if kind == "sdxl"
                else None
            )
            with torch.no_grad():
                raw.append(ours.unet(x, t, parts[i], added_cond_kwargs=more).sample)
        x, denoised = scheduler.step(raw[0] + 1.8 * (raw[1] - raw[0]), t, x, random, return_dict=False)
    assert far(made, denoised) < 1e-4


def test_custom_timesteps_with_a_strength_end_without_noise(pipe):
    ours = pipe()
    asked = {"prompt": "a", "image": picture(), "timesteps": [999, 759, 499, 259], "output_type": "latent"}
    seen = []
    asked["callback_on_step_end_tensor_inputs"] = ["latents", "denoised"]
    out = ours(**asked, strength=0.5, callback_on_step_end=lambda pipe, i, t, kept: seen.append((t.item(), kept)))
    assert [t for t, _ in seen] == [499, 259]
    assert torch.equal(seen[-1][1]["latents"], seen[-1][1]["denoised"])
    assert torch.equal(out.images, seen[-1][1]["denoised"])
    for strength in (0.0, 1.2, 0.1):
        with pytest.raises(ValueError, match="strength"):
            ours(**asked, strength=strength)


def test_a_small_strength_does_as_many_steps_as_it_leaves(pipe):
    ours = pipe()
    assert len(ours("a", picture(), strength=0.05).images) == 1
    assert ours.num_timesteps == 2


def test_every_kind_of_picture(pipe):
    ours = pipe()
    asked = {"strength": 0.5, "num_inference_steps": 1, "output_type": "np"}
    draw = lambda image: ours("a", image, generator=seeded(), **asked).images  # noqa: E731
    clear = picture(mode="RGBA")
    white = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")
    assert far(draw(clear), draw(white)) < 1e-6
    assert far(draw(np.asarray(clear)), draw(white)) < 0.02
    grey = picture(mode="L")
    assert far(draw(grey), draw(grey.convert("RGB"))) < 1e-6
    assert draw(picture().convert("P")).shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match="2 pictures were given for 1 prompts"):
        draw([picture(), picture()])
    with pytest.raises(ValueError, match="2 pictures were given for 3 prompts"):
        ours(["a"] * 3, [picture(), picture()])
    with pytest.raises(ValueError, match="at least 2 pixels"):
        draw(Image.new("RGB", (1, 5)))
    with pytest.raises(TypeError, match="`image`"):
        ours("a")
    with pytest.raises(TypeError, match="height"):
        ours("a", picture(), height=16)


def test_latents_are_where_it_starts(pipe):
    ours, stock = pipe(), pipe(Stock)
    z = torch.randn(1, 4, 8, 8, generator=seeded(1))
    asked = {"prompt": "a", "image": picture(), "latents": z, "output_type": "np"}
    assert far(ours(**asked, generator=seeded()).images, stock(**asked, generator=seeded()).images) < 1e-4
    with pytest.raises(ValueError, match="latents"):
        ours("a", picture((18, 16)), latents=z)


def test_a_tiny_autoencoder_draws_nothing(pipe):
    ours, stock = pipe(), pipe(Stock)
    ours.vae = stock.vae = latent_helpers.tiny_autoencoder()
    asked = {"prompt": "a", "image": picture(), "output_type": "np"}
    assert far(ours(**asked, generator=seeded()).images, stock(**asked, generator=seeded()).images) < 1e-4


# -- inpainting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lcm", "sd", "sdxl"])
def test_what_is_known_is_kept(pipe, kind):
    fill, image, mask = pipe(Fill, kind), picture(), hole()
    known = np.asarray(mask) == 0
    made = [np.asarray(x) for x in fill("a seven", image, mask, num_images_per_prompt=2, generator=seeded()).images]
    for x in made:
        assert np.array_equal(x[known], np.asarray(image)[known])
        assert (x[~known] != np.asarray(image)[~known]).mean() > 0.5
    assert far(*made) > 3
    exact = fill("a seven", image, mask, output_type="pt", generator=seeded()).images[0].permute(1, 2, 0).numpy()
    assert far(exact[known], np.asarray(image)[known] / 255) < 1e-6


def test_algorithm_4_in_latents(pipe):
    fill, image = pipe(Fill), picture()
    asked = {"num_inference_steps": 3, "strength": 0.9, "output_type": "latent", "guidance_scale": 3.0}
    made = fill("a seven", image, hole(box=(5, 6, 10, 12)), generator=seeded(), **asked).images

    scheduler, random = diffusers.LCMScheduler.from_config(fill.scheduler.config), seeded()
    x = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        posterior = fill.vae.encode(x).latent_dist
        prompt = fill.encode_prompt("a seven", "cpu", 1, False)[0]
    scale = fill.vae.config.scaling_factor
    known, start = posterior.mean * scale, posterior.sample(random) * scale
    unknown = torch.zeros(8, 8, dtype=torch.bool)
    unknown[3:6, 2:5] = True  # pixels 5 … 9 across touch the latents 2 … 4
    scheduler.set_timesteps(3, strength=0.9)
    told = fill.get_guidance_scale_embedding(torch.tensor([2.0]), 32)
    for i, t in enumerate(scheduler.timesteps):
        noise = torch.randn(start.shape, generator=random)
        x = scheduler.add_noise(start if i == 0 else x_0, noise, t[None])
        with torch.no_grad():
            raw = fill.unet(x, t, prompt, timestep_cond=told).sample
        scheduler._step_index = i
        denoised = scheduler.step(raw, t, x, seeded(9), return_dict=False)[1]
        x_0 = torch.where(unknown, denoised, known)
    assert far(made, x_0) < 1e-4
    assert far(made[0, :, ~unknown], known[0, :, ~unknown]) < 1e-6


def test_a_strength_of_one_forgets_what_was_in_the_hole(pipe):
    fill, mask = pipe(Fill), hole(box=(0, 0, 16, 16))
    made = [fill("a", picture(seed=seed), mask, strength=strength, generator=seeded(), output_type="np").images
            for strength in (1.0, 0.9) for seed in (1, 2)]  # fmt: skip
    assert far(made[0], made[1]) < 1e-6
    assert far(made[2], made[3]) > 1e-3


def test_masks(pipe):
    fill = pipe(Fill)
    asked = {"num_inference_steps": 1, "output_type": "np"}
    draw = lambda *images, **more: fill(*images, generator=seeded(), **asked, **more).images  # noqa: E731
    wanted = draw("a", picture(), hole())
    array = np.asarray(hole())
    for mask in (array, array / np.float32(255), torch.from_numpy(array / np.float32(255)), hole().convert("RGB")):
        assert far(draw("a", picture(), mask), wanted) == 0
    large = draw("a", picture((17, 17)), hole((17, 17)))
    assert large.shape == (1, 16, 16, 3)
    for mask, what in ((hole((8, 8)), "8×8"), ([hole()] * 3, "3 masks were given for 2")):
        with pytest.raises(ValueError, match=what):
            draw(["a", "b"], picture(), mask)
    with pytest.raises(ValueError, match="as many channels as latents"):
        draw("a", torch.zeros(1, 4, 8, 8), hole())
    with pytest.raises(TypeError, match="mask_image"):
        draw("a", picture())
    two = draw(["a", "a"], picture(), [hole(), hole(box=(0, 0, 2, 2))])
    kept = np.asarray(picture())[8, 8] / 255
    assert far(two[1, 8, 8], kept) < 1e-6
    assert far(two[0, 8, 8], kept) > 1e-3


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"), [("lcm", "LatentConsistencyModel"), ("sd", "StableDiffusion"), ("sdxl", "StableDiffusionXL")]
)
def test_what_is_saved_names_diffusers_classes(pipe, tmp_path, kind, name):
    for cls, task in ((Ours, "Img2Img"), (Fill, "")):
        made = pipe(cls, kind)
        made.save_pretrained(tmp_path / task)
        index = json.loads((tmp_path / task / "model_index.json").read_text())
        assert index["_class_name"] == f"{name}{task}Pipeline"
        back = diffusers.DiffusionPipeline.from_pretrained(tmp_path / task)
        assert type(back) is getattr(diffusers, f"{name}{task}Pipeline")
    drawing = fewstep.LatentConsistencyModelPipeline.from_pipe(made)
    assert drawing.unet is made.unet
    assert Fill.from_pipe(Ours.from_pipe(drawing)).vae is made.vae
    if kind == "lcm":
        assert isinstance(pipe(), Stock)
        assert type(diffusers.AutoPipelineForImage2Image.from_pipe(drawing)) is Stock


def test_an_inpainting_unet_is_for_another_class(pipe):
    fill = pipe(Fill)
    fill.unet = latent_helpers.unet(in_channels=9, time_cond_proj_dim=32)
    with pytest.raises(ValueError, match="9 channels"):
        fill("a", picture(), hole())


def test_the_latent_mask_covers_every_hole():
    mask = (torch.rand(1, 1, 16, 16, generator=seeded()) > 0.8).float()
    for factor in (1, 2, 4, 8):
        small = F.max_pool2d(mask, factor)
        assert bool((F.interpolate(small, scale_factor=factor) >= mask).all())
