"""Latent models behind `Model`: the stock pipelines' pictures from one noise, and what holds whatever they draw."""

import math
import shutil

import diffusers
import latent_helpers as tiny
import pytest
import torch
from diffusers.schedulers import scheduling_lcm
from model_helpers import random_model

import fewstep
from fewstep.conditions import Prompts
from fewstep.editing import Colorize, Inpaint, SuperResolve
from fewstep.formats import latent_folder
from fewstep.model import build
from fewstep.tensors import noise

PROMPTS = ["a thick slanted three", "the small zero"]
KINDS = {"sd": {}, "lcm": {}, "sdxl": {"kind": "sdxl"}, "v": {"prediction": "v_prediction"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pipelines and models, made when first asked for."""
    known = {}

    def make(name):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            pipe = tiny.pipeline(folder, **{"kind": name if name in ("lcm", "sdxl") else "sd", **KINDS[name]})
            known[name] = pipe, build(*latent_folder.read(folder), "cpu")
        return known[name]

    return make


@pytest.fixture(scope="module")
def lcm(made):
    return made("lcm")[1]


@pytest.fixture(scope="module")
def teacher(made):
    return made("sd")[1]


def z(n, draw=0, size=(8, 8), seed=0):
    return noise(seed, range(n), (4, *size), a=draw)


def close(a, b, tolerance=1e-4):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def signed(stock):
    """Pictures in [-1, 1] of output_type="pt"."""
    return stock.images * 2 - 1


@pytest.fixture
def our_noise(monkeypatch):
    """Stock's LCMScheduler draws what our models draw."""

    def use(n, seed=0):
        draws = iter(z(n, i, seed=seed) for i in range(1, 100))
        monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *a, **k: next(draws))

    return use


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_a_consistency_model_draws_as_the_stock_pipeline(made, our_noise, steps, guidance):
    pipe, model = made("lcm")
    our_noise(2)
    wanted = pipe(PROMPTS, num_inference_steps=steps, guidance_scale=guidance, latents=z(2), output_type="pt")
    close(model.sample(2, steps=steps, prompts=PROMPTS, guidance=guidance), signed(wanted))
    assert model.shape == (3, 16, 16)


@pytest.mark.parametrize("name", ["sd", "v", "sdxl"])
@pytest.mark.parametrize("negative", [None, "the large nine"])
def test_a_diffusion_model_draws_as_the_stock_pipeline(made, name, negative):
    pipe, model = made(name)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    told = {"negative_prompt": None if negative is None else [negative] * 2}
    wanted = pipe(PROMPTS, num_inference_steps=5, guidance_scale=4.0, latents=z(2), output_type="pt", **told)
    close(model.sample(2, steps=5, prompts=PROMPTS, guidance=4.0, negative=negative), signed(wanted))


def test_an_sdxl_model_asked_for_nothing_is_told_zeros_as_in_training(made):
    model = made("sdxl")[1]
    condition = model.design.condition
    told = condition(condition.ask(None, 0, range(2)))
    assert not told["prompt"].any()
    assert not told["pooled"].any()
    assert told["sizes"].any()
    assert condition(condition.ask("", 0, range(2)))["prompt"].any()  # as in diffusers, where words are words
    options = {"seed": 3, "steps": 2}
    close(model.sample(2, guidance=1.0, **options), model.sample(2, guidance=5.0, **options), 1e-5)  # nothing to leave


def test_the_usual_guidance_and_steps(lcm, teacher):
    one = {"prompts": PROMPTS[0], "seed": 3}
    close(lcm.sample(1, **one), lcm.sample(1, steps=4, guidance=8, **one), 0)
    close(teacher.sample(1, **one), teacher.sample(1, steps=50, sampler="euler", guidance=7.5, **one), 0)
    assert lcm.times() == [999.0, 759.0, 499.0, 259.0]
    assert [len(teacher.walk_times(name)) for name in ("euler", "ancestral", "dpm++", "heun")] == [51, 51, 26, 26]
    close(lcm.sample(1, seed=3), lcm.sample(1, seed=3, prompts=""), 0)


def test_an_untold_consistency_model_is_not_guided_unless_asked(made, tmp_path):
    from dataclasses import replace

    from fewstep.parameterizations import Latched

    design, weights = latent_folder.read(made("sd")[1].design.space.source)
    model = build(replace(design, parameterization=Latched()), weights, "cpu")
    close(model.sample(1, prompts=PROMPTS[0]), model.sample(1, prompts=PROMPTS[0], steps=4, guidance=1.0), 0)
    guided = model.sample(1, prompts=PROMPTS[0], guidance=2.0)
    assert (guided - model.sample(1, prompts=PROMPTS[0])).abs().max() > 1e-3
    away = model.sample(1, prompts=PROMPTS[0], guidance=2.0, negative=PROMPTS[1])
    assert (away - guided).abs().max() > 1e-3
    with pytest.raises(ValueError, match="negative prompt does nothing without guidance"):
        model.sample(1, prompts=PROMPTS[0], negative=PROMPTS[1])


@pytest.mark.parametrize("name", ["lcm", "sd"])
def test_a_picture_depends_on_its_own_wish_alone(made, name):
    model = made(name)[1]
    n, options = 5, {"seed": 7, "steps": 2}
    prompts, guidance = [PROMPTS[i % 2] for i in range(n)], [1.0, 2.0, 4.0, 8.0, 8.0]
    whole = model.sample(prompts=prompts, guidance=guidance, **options)
    assert whole.shape == (n, 3, 16, 16)
    assert whole.abs().max() <= 1
    close(model.sample(n, prompts=prompts, guidance=guidance, batch=2, **options), whole, 1e-5)
    for i in range(n):
        alone = model.sample(1, prompts=prompts[i], guidance=guidance[i], first=i, **options)
        close(alone, whole[i : i + 1], 1e-5)
    other = model.sample(n, prompts=prompts, guidance=[8.0] * n, **options)
    different = (other - whole).abs().flatten(1).amax(1) > 1e-4
    assert different.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("sampler", ["heun", "dpm++", "ancestral", "midpoint", "progdist"])
def test_other_samplers_draw_nearly_the_same(teacher, sampler):
    x = teacher.sample(2, prompts=PROMPTS, guidance=2.0, steps=60)
    y = teacher.sample(2, prompts=PROMPTS, guidance=2.0, steps=40, sampler=sampler)
    assert y.isfinite().all()
    if sampler != "ancestral":
        assert (x - y).abs().mean() < 0.05


def test_other_sizes(made):
    for name in ("lcm", "sdxl"):
        pipe, model = made(name)
        x = model.sample(1, prompts=PROMPTS[0], height=24, width=16, steps=1, guidance=2.0, times=None)
        assert x.shape == (1, 3, 24, 16)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    wanted = pipe(PROMPTS[0], height=24, width=16, num_inference_steps=1, guidance_scale=2.0, latents=z(1, 0, (12, 8)),
                  output_type="pt")  # fmt: skip
    close(x, signed(wanted))
    with pytest.raises(ValueError, match="multiples of 2; these are"):
        model.sample(1, height=15)
    with pytest.raises(ValueError, match=r"Pictures for this model are \(n, 1, 8, 8\)"):
        random_model().sample(1, height=16)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"labels": 3}, "in words: give prompts, not labels"),
        ({"prompts": PROMPTS, "n": 3}, "3 images need one prompt or 3, not 2"),
        ({"prompts": 7}, "words"),
        ({"guidance": [1.0, 2.0], "n": 3}, "3 images need one guidance scale or 3, not 2"),
        ({"guidance": float("nan")}, "finite"),
        ({"guidance": "much"}, "is a number"),
        ({"negative": "nine"}, "told its guidance scale"),
        ({"sampler": "dpm"}, "there is dpm\\+\\+"),
        ({"steps": 51}, "distilled on 50 levels"),
    ],
)
def test_what_cannot_be_asked_of_a_latent_model(lcm, asked, words):
    with pytest.raises(ValueError, match=words):
        lcm.sample(**{"n": 1, **asked})


def test_unknown_words_are_refused(lcm):
    with pytest.raises(TypeError, match="no option 'promt'; did you mean 'prompts'"):
        lcm.sample(1, promt="a")


def test_pixel_models_take_no_words():
    with pytest.raises(ValueError, match="it takes labels, 0 to 9"):
        random_model().sample(1, prompts="a")
    with pytest.raises(ValueError, match="it is unconditional"):
        random_model(classes=0).sample(1, prompts="a")
    with pytest.raises(ValueError, match="no negative prompts"):
        random_model().sample(1, negative="a")


def test_pixel_models_are_guided_away_from_no_class():
    model = random_model(consistent=False, about={"label_drop": 0.1})
    plain = model.sample(2, labels=4, steps=3, sampler="euler")
    close(model.sample(2, labels=4, steps=3, sampler="euler", guidance=1.0), plain, 0)
    x = 80 * noise(0, range(2), (1, 8, 8))
    with torch.no_grad():
        four, none = (model.denoiser(x, 80.0, labels=torch.tensor([k, k])) for k in (4, -1))
    guided = model.sample(2, labels=4, times=[80.0], guidance=[3.0, 1.0], sampler="consistency")
    close(guided, (four + torch.tensor([2.0, 0.0]).reshape(2, 1, 1, 1) * (four - none)).clamp(-1, 1))
    with pytest.raises(ValueError, match="never saw a hidden label"):
        random_model(about={"label_drop": 0.0}).sample(1, guidance=2.0)
    with pytest.raises(ValueError, match="unconditional"):
        random_model(classes=0).sample(1, guidance=2.0)


# -- edits -----------------------------------------------------------------------------------------------------------


def pictures(n, size=16):
    return torch.nn.functional.interpolate(torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(3)).clamp(
        -1, 1), size)  # fmt: skip


@pytest.mark.parametrize(("steps", "strength"), [(1, 0.5), (4, 0.5), (4, 0.9)])
def test_img2img_is_the_stock_pipelines(made, our_noise, steps, strength):
    pipe, model = made("lcm")
    x = pictures(2)
    stock = diffusers.LatentConsistencyModelImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    levels = model.schedule.jumps(steps, strength)
    latents = stock.scheduler.add_noise(model.design.space.encode(x), z(2), torch.tensor([int(levels[0])]))
    our_noise(2)
    wanted = stock(PROMPTS, image=(x + 1) / 2, num_inference_steps=steps, strength=strength, guidance_scale=8.0,
                   latents=latents, output_type="pt")  # fmt: skip
    close(model.img2img(x, strength, steps=steps, prompts=PROMPTS), signed(wanted))
    close(model.redraw(x, times=levels, prompts=PROMPTS), signed(wanted))


def test_img2img_of_a_diffusion_model_walks_its_last_steps(made):
    pipe, model = made("sd")
    x = pictures(1)
    levels = model.walk_times("euler", 10)[5:]
    y = model.img2img(x, 0.5, steps=10, prompts=PROMPTS[0], guidance=3.0)
    stock = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    stock.set_timesteps(10)
    cond = model.design.condition(model.design.condition.ask(PROMPTS[0], 0, range(1)))["prompt"]
    free = model.design.condition(model.design.condition.ask("", 0, range(1)))["prompt"]
    latents = stock.add_noise(model.design.space.encode(x), z(1), stock.timesteps[5:6])
    assert stock.timesteps[5:].tolist() == levels[:-1]
    with torch.no_grad():
        for t in stock.timesteps[5:]:
            asked, unasked = (pipe.unet(latents, t, c).sample for c in (cond, free))
            latents = stock.step(unasked + 3.0 * (asked - unasked), t, latents).prev_sample
        close(y, model.design.space.decode(latents).clamp(-1, 1))


def test_a_weaker_img2img_keeps_more(lcm):
    x = lcm.design.space.decode(lcm.design.space.encode(pictures(3))).clamp(-1, 1)
    far = [(lcm.img2img(x, s, steps=1, prompts="a nine") - x).abs().mean().item() for s in (0.02, 0.3, 1.0)]
    assert far[0] < far[1] < far[2]
    whole = lcm.img2img(x, 0.5, prompts=["a nine", "a two", "a one"], guidance=[1.0, 4.0, 8.0])
    close(lcm.img2img(x[1:], 0.5, prompts=["a two", "a one"], guidance=[4.0, 8.0], first=1, batch=1), whole[1:], 1e-5)


@pytest.mark.parametrize("name", ["lcm", "sd"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_keeps_what_is_known_exactly(made, name, strength):
    model, x = made(name)[1], pictures(3)
    mask = torch.zeros(16, 16)
    mask[3:12, 5:9] = 1
    options = {"strength": strength, "steps": 4, "prompts": PROMPTS[0], "seed": 2}
    y = model.inpaint(x, mask, **options)
    assert torch.equal(y[..., mask == 0], x[..., mask == 0])
    assert (y - x)[..., mask == 1].abs().mean() > 0.01
    close(model.inpaint(x, mask, batch=2, **options), y, 1e-5)
    close(model.inpaint(x[2:], mask, first=2, **options), y[2:], 1e-5)
    other = torch.where(mask == 1, 0.9, x)
    same = torch.equal(model.inpaint(other, mask, **options), y)
    assert same == (strength == 1.0)  # what was in the hole has no influence, unless it is what is redrawn
    if strength == 1:
        close(model.edit(x, Inpaint(mask), steps=4, prompts=PROMPTS[0], seed=2), y, 0)
    masks = torch.stack([mask.roll(i, 1)[None] for i in range(3)])
    each = model.inpaint(x, masks, batch=2, **options)
    assert torch.equal(each[(masks == 0).expand_as(x)], x[(masks == 0).expand_as(x)])
    close(each[:1], y[:1], 1e-5)


def test_masks_of_latents_cover_what_they_touch():
    mask = torch.zeros(6, 6)
    mask[1, 2] = mask[5, 5] = 1
    wanted = torch.tensor([[0.0, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert torch.equal(Inpaint(mask).coarser(2).mask[0, 0], wanted)
    channels = torch.stack([mask, mask.flip(0), 0 * mask])
    both = Inpaint(channels).coarser(2).mask
    assert torch.equal(both, Inpaint(torch.maximum(mask, mask.flip(0))).coarser(2).mask)
    assert Inpaint(channels.expand(4, 3, 6, 6)).coarser(3).mask.shape == (4, 1, 2, 2)


def test_what_cannot_be_edited(lcm):
    x = pictures(1)
    for measurement in (Colorize(), SuperResolve(2)):
        with pytest.raises(ValueError, match=f"{type(measurement).__name__} fixes values of pixels"):
            lcm.edit(x, measurement)
    with pytest.raises(ValueError, match="img2img with a small strength"):
        lcm.denoise(x, 0.5)
    with pytest.raises(ValueError, match="see img2img"):
        lcm.redraw(x)
    with pytest.raises(ValueError, match="strength is more than 0"):
        lcm.img2img(x, 0.0)
    with pytest.raises(ValueError, match="5 of them at strength 0.1"):
        lcm.img2img(x, 0.1, steps=6)
    with pytest.raises(ValueError, match="strength and times contradict"):
        lcm.inpaint(x, torch.ones(16, 16), strength=0.5, times=[499.0])
    with pytest.raises(ValueError, match="multiples of 2"):
        lcm.img2img(torch.zeros(1, 3, 15, 16))
    with pytest.raises(ValueError, match="redraw"):
        random_model().img2img(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="strength and sampler"):
        random_model().inpaint(torch.zeros(1, 1, 8, 8), torch.ones(8, 8), strength=0.5)


def test_inpainting_of_pixels_is_the_edit():
    model, mask = random_model(), torch.zeros(8, 8)
    mask[2:5] = 1
    x = torch.zeros(2, 1, 8, 8)
    assert torch.equal(model.inpaint(x, mask, labels=3), model.edit(x, Inpaint(mask), labels=3))


@pytest.mark.parametrize("name", ["lcm", "sd"])
def test_interpolation_joins_the_pictures_of_two_seeds(made, name):
    model = made(name)[1]
    path = model.interpolate(3, 4, 5, steps=2, prompts=PROMPTS[0])
    for i, seed in ((0, 3), (-1, 4)):
        close(path[i], model.sample(1, seed=seed, steps=2, prompts=PROMPTS[0])[0], 1e-5)
    assert (path[2] - path[0]).abs().max() > 1e-3


def test_a_prompt_of_many_pictures_is_read_once(lcm, monkeypatch):
    from fewstep import conditions

    read, encoder = [], conditions._encoder(lcm.design.condition.source)
    monkeypatch.setattr(encoder, "forward", lambda tokens, f=encoder.forward: read.append(len(tokens)) or f(tokens))
    words = lcm.design.condition
    assert isinstance(words, Prompts)
    cond = words(words.ask([PROMPTS[1], PROMPTS[0], PROMPTS[1]], 0, range(3)))
    assert read == [2]
    close(cond["prompt"][0], cond["prompt"][2], 0)
    close(cond["prompt"][1:2], words(words.ask(PROMPTS[0], 0, range(1)))["prompt"], 1e-6)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_a_lora_is_the_stock_pipelines(made, tmp_path, name, form):
    from fewstep.networks.adapters import Lora

    pipe, known = made(name)
    lora, unet = Lora(rank=2, alpha=4.0, targets=("to_q", "to_v", "proj_in")), tiny.unet(**dict(pipe.unet.config))
    lora.add_to(unet)
    torch.manual_seed(5)
    low = {f"unet.{n}".replace(".default.", "."): 0.1 * torch.randn_like(w) for n, w in unet.state_dict().items()
           if ".lora_" in n}  # fmt: skip
    lora.save(tmp_path, low)
    file = tmp_path / f"pytorch_lora_weights{'' if form == 'diffusers' else '.kohya'}.safetensors"
    folder = known.design.space.source
    model, stock = build(*latent_folder.read(folder), "cpu"), type(pipe).from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    stock.load_lora_weights(str(file))
    stock.fuse_lora(lora_scale=0.7)
    stock.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    wanted = stock(PROMPTS, num_inference_steps=5, guidance_scale=3.0, latents=z(2), output_type="pt")
    options = {"steps": 5, "prompts": PROMPTS, "guidance": 3.0}
    model.add_lora(file, 0.7)
    found = model.sample(2, **options)
    close(found, signed(wanted))
    assert (found - known.sample(2, **options)).abs().max() > 1e-3
    assert list(model.denoiser.network.state_dict()) == list(known.denoiser.network.state_dict())
    model.add_lora(file, -0.7, consistent=True)  # taken back, and seen as a consistency function
    assert model.consistent
    close(model.sample(2, sampler="euler", **options), known.sample(2, **options), 1e-3)
    assert model.times() == [999.0, 759.0, 499.0, 259.0]


def test_loras_that_do_not_fit(made, tmp_path):
    from safetensors.torch import save_file

    known = made("sd")[1]
    model = build(*latent_folder.read(known.design.space.source), "cpu")
    with pytest.raises(ValueError, match="LoRAs are for latent models"):
        random_model().add_lora("x.safetensors")
    with pytest.raises(OSError, match="none"):
        model.add_lora(tmp_path / "none.safetensors")
    name = "up_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    for start, words in (("text_encoder", "changes text_encoder too"), ("unet", "does not fit")):
        layers = {f"{start}.{name}.lora_A.weight": torch.ones(2, 7), f"{start}.{name}.lora_B.weight": torch.ones(7, 2)}
        save_file(layers, str(tmp_path / f"{start}.safetensors"))
        with pytest.raises(ValueError, match=words):
            model.add_lora(tmp_path / f"{start}.safetensors")
    fits, other = "up_blocks.0.resnets.0.conv1", "up_blocks.9.resnets.0.conv1"
    weight = model.denoiser.network.get_submodule(f"unet.{fits}").weight
    a, b = torch.ones(2, weight.shape[1], 3, 3), torch.ones(weight.shape[0], 2, 1, 1)
    pairs = {f"unet.{n}.lora_{side}.weight": w.clone() for n in (fits, other) for side, w in (("A", a), ("B", b))}
    save_file(pairs, str(tmp_path / "part.safetensors"))
    before = {name: w.clone() for name, w in model.denoiser.network.state_dict().items()}
    with pytest.raises(ValueError, match="of its 4 tensors only 2 have a place here"):
        model.add_lora(tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="a finite number, such as 1, not nan"):
        model.add_lora(tmp_path / "part.safetensors", math.nan)
    after = model.denoiser.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], w) for name, w in before.items())


def test_a_saved_model_needs_nothing_of_its_source(tmp_path):
    """It is a folder of diffusers with all of its parts: the source may go."""
    tiny.pipeline(tmp_path / "source", "lcm")
    model = fewstep.load(tmp_path / "source")
    wanted = model.sample(2, prompts="a thick three", steps=2, seed=3)
    model.save(tmp_path / "mine")
    assert not (tmp_path / "mine" / "model.json").exists()
    shutil.rmtree(tmp_path / "source")
    assert torch.equal(fewstep.load(tmp_path / "mine").sample(2, prompts="a thick three", steps=2, seed=3), wanted)


def test_a_folder_that_is_written_anew_is_read_anew(tmp_path):
    """In one process: its autoencoder and text encoder too, not only the U-Net."""
    from safetensors.torch import load_file, save_file

    asked, drawn = {"prompts": "a thick three", "steps": 1, "seed": 3}, []
    for name, more in (("one", 0.0), ("two", 0.02)):
        tiny.pipeline(tmp_path / name, "lcm")
        weights = tmp_path / name / "vae" / "diffusion_pytorch_model.safetensors"
        save_file({n: w + more for n, w in load_file(weights).items()}, weights)
        fewstep.load(tmp_path / name).save(tmp_path / "out")
        drawn.append(fewstep.load(tmp_path / "out").sample(1, **asked))
        assert torch.equal(drawn[-1], fewstep.load(tmp_path / name).sample(1, **asked))
    assert not torch.allclose(*drawn)
