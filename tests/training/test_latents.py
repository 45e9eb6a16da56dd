"""Training in latents: what is drawn, told and learned, and the folders that runs leave, against stock diffusers."""

import itertools
import json
import math
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from latent_training_helpers import CAPTIONS, UNET, autoencoder_shape, latent, pictures, stock
from training_helpers import assert_same, small, state, train

from fewstep.codec import encode
from fewstep.distances import Huber
from fewstep.formats import load
from fewstep.images import Data
from fewstep.networks.adapters import LatentUNetShape, Lora
from fewstep.objectives import Autoencoding
from fewstep.parameterizations import Epsilon, Latched, Sample, Velocity
from fewstep.recipes import parts
from fewstep.schedules import Discrete
from fewstep.solvers import DPMSolver, Heun
from fewstep.tensors import GUIDANCE, rng
from fewstep.training.checkpoint import checkpoints
from fewstep.training.fit import fit
from fewstep.training.latent import Latent, Words
from fewstep.training.recipe import from_json, to_json
from fewstep.training.scoring import Scoring
from fewstep.training.track import watch

KINDS = {"epsilon": Epsilon(), "v_prediction": Velocity(), "sample": Sample()}
PROMPT = "a thick slanted three"


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("latents")


@pytest.fixture(scope="session")
def data(place) -> str:
    return pictures(place)


@pytest.fixture(scope="session")
def teachers(place) -> dict[str, str]:
    return {kind: stock(place / kind, prediction=kind) for kind in KINDS}


@pytest.fixture(scope="session")
def teacher(teachers) -> str:
    return teachers["epsilon"]


@pytest.fixture(scope="session")
def lcm(place) -> str:
    return stock(place / "lcm", "lcm", told=32)


@pytest.fixture(scope="session")
def sdxl(place) -> str:
    return stock(place / "sdxl", "sdxl")


def draws(run, step=0):
    """The draw of a step, as the stepper makes it."""
    images, labels = run._batches().at(step)
    z = run.stepper._noise(step, images.shape[1:])
    return run.stepper._draw(step, run.stepper.rows, images, labels, z), labels


def drawn(pipe, **options):
    """A picture of a stock pipeline, in its own numbers."""
    pipe.set_progress_bar_config(disable=True)
    options = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(0), "output_type": "pt"} | options
    return pipe(PROMPT, height=16, width=16, **options).images


# -- distillation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_distillation_leaves_a_latent_consistency_model(kind, teachers, data, tmp_path):
    run = train(latent("lcd", data, teacher=teachers[kind]), tmp_path / "run")
    assert run.design.parameterization == Latched(KINDS[kind])
    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(tmp_path / "run" / "model")
    assert (type(pipe.scheduler).__name__, pipe.scheduler.config.prediction_type) == ("LCMScheduler", kind)
    assert pipe.unet.config.time_cond_proj_dim == 16
    own = {name.removeprefix("unet."): w for name, w in run.state.averaged().items()}
    assert_same(dict(pipe.unet.state_dict()), own)
    assert drawn(pipe, guidance_scale=7.0).isfinite().all()
    again = load(tmp_path / "run")
    assert (again.design.parameterization, again.schedule) == (run.design.parameterization, run.design.schedule)
    assert_same({f"unet.{n}": w for n, w in own.items()}, dict(again.denoiser.network.state_dict()))


def test_the_trained_function_is_the_stock_schedulers(teacher, data, tmp_path):
    """What the student answers at a time, and what LCMScheduler makes of the stock U-Net's answer, are the same."""
    run = train(latent("lcd", data, teacher=teacher, ema=(0.0,), steps=2), tmp_path / "run")
    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(tmp_path / "run" / "model")
    draw, _ = draws(run)
    pipe.scheduler.set_timesteps(50)
    w = pipe.get_guidance_scale_embedding(draw.cond["guidance"], 16)
    t = torch.full((4,), 499.0)
    x_t = draw.schedule.perturb(draw.x_0, draw.z, t)
    with torch.no_grad():
        ours = run.stepper.student.eval()(x_t, t, **draw.cond)
        out = pipe.unet(x_t, t, encoder_hidden_states=draw.cond["prompt"], timestep_cond=w).sample
    theirs = pipe.scheduler.step(out, torch.tensor(499), x_t, generator=torch.Generator()).denoised
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def test_a_step_written_out(teacher, data, tmp_path):
    """Encode, w, guided DDIM, Huber: the first loss of a run, with stock networks alone."""
    recipe = latent("lcd", data, teacher=teacher, latent={"cache_precision": "fp32"})
    run = fit(recipe, tmp_path / "run")
    loss = next(iter(run)).loss
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(teacher)
    rows = [int(i) for i in run._batches()._wanted(0)[0]]
    x = torch.stack([torch.from_numpy(run.images.picture(i)).permute(2, 0, 1) for i in rows]) / 127.5 - 1
    w = torch.tensor([3 + 10 * rng(0, GUIDANCE, 0, row).random() for row in range(4)])[:, None, None, None]
    draw, _ = draws(run)
    with torch.no_grad():
        posterior = pipe.vae.encode(x).latent_dist
        spread = (draw.x_0 / pipe.vae.config.scaling_factor - posterior.mean) / posterior.std
        assert spread.std() == pytest.approx(1, abs=0.2)  # a sample of the posterior, drawn anew in each step
        hidden = [rng(0, 1, 1, row).random() < 0.2 for row in range(4)]
        assert 0 < sum(hidden) + sum(CAPTIONS[i % 4] == "" for i in rows) <= 4
        texts = ["" if hide else CAPTIONS[i % 4] for i, hide in zip(rows, hidden, strict=True)]
        embed = lambda prompts: pipe.encode_prompt(prompts, "cpu", 1, False)[0]  # noqa: E731
        asked, free = embed(texts), embed([""] * 4)
        t, s = draw.t.long(), draw.s.long()
        a_t, a_s = (pipe.scheduler.alphas_cumprod[i][:, None, None, None] for i in (t, s))
        x_t = a_t.sqrt() * draw.x_0 + (1 - a_t).sqrt() * draw.z
        out, other = (pipe.unet(x_t, t, p).sample for p in (asked, free))
        guided = out + w * (out - other)
        x_0 = (x_t - (1 - a_t).sqrt() * guided) / a_t.sqrt()
        x_s = a_s.sqrt() * x_0 + (1 - a_s).sqrt() * guided

        def consistent(x, time, a):  # at the start the student is the teacher, whatever w it is told
            scaled = 10 * time[:, None, None, None]
            clean = (x - (1 - a).sqrt() * pipe.unet(x, time, asked).sample) / a.sqrt()
            return 0.25 / (scaled**2 + 0.25) * x + scaled / (scaled**2 + 0.25).sqrt() * clean

        gap = consistent(x_t, t, a_t) - consistent(x_s, s, a_s)
    assert loss == pytest.approx(((gap**2 + 1e-6).sqrt() - 1e-3).mean().item(), abs=1e-5, rel=1e-4)


def test_guidance_is_drawn_for_each_sample_and_told_to_student_and_teacher(teacher, data, tmp_path):
    run = fit(latent("lcd", data, teacher=teacher, batch=8, micro_batch=3), tmp_path)
    first, again, other = draws(run)[0].cond["guidance"], draws(run)[0].cond["guidance"], draws(run, 1)[0].cond
    assert torch.equal(first, again)
    assert not torch.equal(first, other["guidance"])
    assert len(set(first.tolist())) == 8
    assert ((first >= 3) & (first <= 13)).all()
    assert run.stepper.teacher.w == 0
    seen = []
    run.state.network.register_forward_pre_hook(lambda _, args, told: seen.append(told["guidance"]), with_kwargs=True)
    next(iter(run))
    torch.testing.assert_close(torch.cat(seen), first)


def test_the_projection_of_guidance_starts_at_zero_and_learns(teacher, data, tmp_path):
    run = fit(latent("lcd", data, teacher=teacher), tmp_path)
    projection = run.state.network.unet.time_embedding.cond_proj.weight
    assert projection.abs().max() == 0
    theirs = load(teacher).denoiser.network.state_dict()
    own = run.state.network.state_dict()
    assert_same({name: own[name] for name in theirs}, dict(theirs))
    for _ in run:
        pass
    assert projection.abs().max() > 0


@pytest.mark.parametrize("solver", [Heun(), DPMSolver()], ids=["heun", "dpm"])
def test_other_solvers_and_a_fixed_scale(solver, teacher, data, tmp_path):
    recipe = latent("lcd", data, teacher=teacher, guidance=4.0, latent={"w": None}, steps=1)
    run = train(replace(recipe, objective=parts.lcd(Huber(), solver=solver)), tmp_path)
    assert run.stepper.teacher.w == 3
    assert "guidance" not in draws(run)[0].cond
    assert run.design.architecture.told_guidance == 0  # nothing to be told
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert (type(pipe).__name__, type(pipe.scheduler).__name__) == ("StableDiffusionPipeline", "LCMScheduler")


def test_zero_terminal_snr(place, data, tmp_path):
    """v-prediction to the last level, which is noise alone: nothing is divided by zero."""
    folder = stock(place / "zero", prediction="v_prediction")
    path = Path(folder, "scheduler", "scheduler_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rescale_betas_zero_snr": True}))
    run = train(latent("lcd", data, teacher=folder, batch=24, steps=3), tmp_path)
    assert run.recipe.schedule.zero_snr
    assert run.state.skipped == 0
    assert load(tmp_path).schedule.zero_snr


# -- LoRA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mu", [0.0, 0.9], ids=["stopped", "ema"])
def test_a_lora_is_all_that_is_trained_and_kept(mu, teacher, data, tmp_path):
    recipe = latent("lcd", data, teacher=teacher, latent={"lora": Lora(rank=2, alpha=4.0)})
    run = fit(replace(recipe, objective=parts.lcd(mu=mu)), tmp_path / "run")
    base = {name: w.clone() for name, w in run.stepper.teacher.denoiser.network.state_dict().items()}
    for _ in run:
        pass
    learned = dict(run.state.network.named_parameters())
    assert all(("lora_" in name) == p.requires_grad for name, p in learned.items())
    kept = state(tmp_path / "run")
    assert all("lora_" in name or name.startswith("optimizer/") for name in kept)
    assert any(name.startswith("target/") for name in kept) == bool(mu)
    theirs = {id(p) for p in run.stepper.teacher.parameters()}
    networks = [run.state.network] + [run.state.target] * bool(mu)
    for network in networks:  # one base, whoever uses it
        assert all(id(p) in theirs for name, p in network.named_parameters() if "lora_" not in name)
    assert_same(base, dict(run.stepper.teacher.denoiser.network.state_dict()))
    assert run.design.architecture.told_guidance == 0


def test_a_lora_is_loaded_by_stock_diffusers_in_both_forms(teacher, data, tmp_path):
    run = train(latent("lcd-lora", data, teacher=teacher, latent={"lora": Lora(rank=2, alpha=4.0)}), tmp_path / "run")
    folder, x, prompt = tmp_path / "run" / "model", torch.randn(2, 4, 8, 8), torch.randn(2, 12, 32)
    model, plain = run.model().denoiser.network, load(teacher).denoiser.network
    with torch.no_grad():
        ours = model(x, torch.tensor([19.0, 999.0]), prompt=prompt)
        assert (ours - plain(x, torch.tensor([19.0, 999.0]), prompt=prompt)).abs().max() > 1e-5
    for name in ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.kohya.safetensors"):
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(teacher)
        pipe.load_lora_weights(folder, weight_name=name)
        with torch.no_grad():
            theirs = pipe.unet(x, torch.tensor([19.0, 999.0]), prompt).sample
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        again = load(tmp_path / "run")
    with torch.no_grad():
        torch.testing.assert_close(again.denoiser.network(x, torch.tensor([19.0, 999.0]), prompt=prompt), ours)
    about = json.loads((folder / "fewstep.json").read_text())
    about["about"]["base_digest"] = "of another"
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "pytorch_lora_weights.safetensors", tmp_path / "other")
    (tmp_path / "other" / "fewstep.json").write_text(json.dumps(about))
    with pytest.warns(UserWarning, match=r"is not the model any more that this LoRA was trained on"):
        load(tmp_path / "other")
    assert again.design.parameterization == Latched(Epsilon())
    kept = load(checkpoints(tmp_path / "run")[-1].folder)
    assert_same(dict(kept.denoiser.network.state_dict()), dict(again.denoiser.network.state_dict()))


# -- fine-tuning and teachers ----------------------------------------------------------------------------------------


def test_fine_tuning_needs_no_teacher_and_keeps_the_model(lcm, data, tmp_path):
    run = train(latent("lcf", data, start=lcm), tmp_path)
    assert run.stepper.teacher is None
    assert run.design.architecture.told_guidance == 32
    assert "guidance" in draws(run)[0].cond
    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(tmp_path / "model")
    assert pipe.unet.config.time_cond_proj_dim == 32
    assert drawn(pipe).isfinite().all()


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_a_teacher_of_ones_own(prediction, teacher, data, tmp_path):
    recipe = latent("teacher", data, start="random", latent={
        "autoencoder": teacher, "text": teacher, "prediction": prediction, "told": 0,
    })  # fmt: skip
    run = train(recipe, tmp_path / "run")
    config = run.design.architecture.config
    assert (config["in_channels"], config["sample_size"], config["cross_attention_dim"]) == (4, 8, 32)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "run" / "model")
    assert type(pipe.scheduler).__name__ == "DDIMScheduler"
    assert drawn(pipe, guidance_scale=5.0).isfinite().all()
    student = train(latent("lcd", data, teacher=str(tmp_path / "run")), tmp_path / "student")
    assert student.design.parameterization == Latched(run.design.parameterization)


def test_a_teachers_first_loss_is_that_of_its_noise(teacher, data, tmp_path):
    run = fit(latent("teacher", data, start=teacher), tmp_path)
    draw, _ = draws(run)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(teacher)
    loss = next(iter(run)).loss
    with torch.no_grad():
        x_t = pipe.scheduler.add_noise(draw.x_0, draw.z, draw.t.long())
        out = pipe.unet(x_t, draw.t.long(), draw.cond["prompt"]).sample
    assert loss == pytest.approx(((out - draw.z) ** 2).mean().item(), rel=1e-4)


def test_a_text_encoder_is_trained_with_its_teacher(teacher, data, tmp_path):
    words = Words(vocabulary=600, length=8, width=16, layers=1, heads=2)
    recipe = latent("teacher", data, latent={"autoencoder": teacher, "words": words})
    run = fit(recipe, tmp_path / "run")
    before = run.state.network.text.encoders[0].state_dict()["embeddings.token_embedding.weight"].clone()
    for _ in watch(run, quiet=True):
        pass
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "run" / "model")
    after = run.state.averaged()["text.encoders.0.embeddings.token_embedding.weight"]
    assert not torch.equal(before, after)
    assert torch.equal(pipe.text_encoder.get_input_embeddings().weight, after)
    tokens = pipe.tokenizer(PROMPT, padding="max_length", max_length=8).input_ids
    assert pipe.tokenizer.convert_ids_to_tokens(tokens[1:5]) == ["a</w>", "thick</w>", "slanted</w>", "three</w>"]
    assert drawn(pipe, guidance_scale=5.0).isfinite().all()
    draw, _ = draws(run)
    assert draw.cond["tokens"].shape == (4, 8)
    own = run.model().denoiser.network
    stock_, x, t = load(tmp_path / "run").denoiser.network, torch.randn(1, 4, 8, 8), torch.tensor([500.0])
    with torch.no_grad():
        prompt = pipe.text_encoder(torch.tensor([tokens]))[0]
        torch.testing.assert_close(own(x, t, tokens=torch.tensor([tokens])), stock_(x, t, prompt=prompt))
    train(latent("lcd", data, teacher=str(tmp_path / "run"), steps=1), tmp_path / "student")


def test_captions_that_are_cut_off_are_told(teacher, tmp_path):
    said = np.array(["a thick slanted three", "a small zero " * 9, "a small one " * 9] * 2)
    np.savez(tmp_path / "data.npz", images=np.zeros((6, 16, 16, 3), np.uint8), captions=said)
    with pytest.warns(UserWarning, match=r"2 of 3 captions are too long\. Of this prompt only 12 tokens .* is cut off"):
        fit(latent("lcd", str(tmp_path / "data.npz"), teacher=teacher), tmp_path / "run")


def test_folders_with_other_files_are_not_replaced(teacher, data, tmp_path):
    lora = latent("lcd", data, teacher=teacher, latent={"lora": Lora(rank=2)}, steps=1)
    vae = small(Autoencoding(), data=Data(data), architecture=autoencoder_shape(), batch=4, steps=1)
    for name, recipe in (("lora", lora), ("vae", vae)):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "thesis.txt").touch()
        with pytest.raises(OSError, match=r"holds other files \(thesis\.txt\).* The last good state is .*00000001"):
            train(recipe, tmp_path / name)
        (tmp_path / name / "model" / "thesis.txt").unlink()
        train(recipe, tmp_path / name)  # goes on


def test_a_run_that_trains_a_text_encoder_draws_before_its_end(teacher, data, tmp_path):
    words = Words(vocabulary=600, length=8, width=16, layers=1, heads=2)
    recipe = latent("teacher", data, latent={"autoencoder": teacher, "words": words}, steps=2, ema=(0.0,))
    for _ in watch(fit(recipe, tmp_path / "run"), quiet=True):
        pass

    def pictures_of(folder):
        model = load(folder, device="cpu")
        return [model.sample(2, prompts=PROMPT, guidance=g, steps=2, seed=3).int() for g in (1.0, 4.0)]

    finished = pictures_of(tmp_path / "run")
    (tmp_path / "run" / "model").rename(tmp_path / "aside")
    (tmp_path / "run").rename(tmp_path / "elsewhere")  # its words are found where it is now
    for early, late in zip(pictures_of(tmp_path / "elsewhere"), finished, strict=True):
        assert (early - late).abs().max() <= 1


# -- autoencoders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_an_autoencoder_of_ones_own(channels, place, teacher, tmp_path):
    source = pictures(place, channels=channels)
    recipe = small(Autoencoding(beta=1e-3), data=Data(source), architecture=autoencoder_shape(), batch=4, steps=4)
    run = fit(recipe, tmp_path / "run")
    for _ in watch(run, quiet=True):
        pass
    vae = diffusers.AutoencoderKL.from_pretrained(tmp_path / "run" / "model")
    own = {name.removeprefix("vae."): w for name, w in run.state.averaged().items()}
    assert_same(dict(vae.state_dict()), own)
    x = torch.stack([torch.from_numpy(run.images.picture(i)).permute(2, 0, 1) for i in range(12)]) / 127.5 - 1
    with torch.no_grad():
        posterior = vae.encode(x).latent_dist
        latents = torch.stack([posterior.sample() for _ in range(50)]) * vae.config.scaling_factor
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    later = latent("teacher", source, latent={"autoencoder": str(tmp_path / "run"), "text": teacher}, steps=1)
    train(later, tmp_path / "teacher")
    assert len(list((tmp_path / "run" / "previews").glob("*.png"))) == 1


def test_an_autoencoders_first_loss(place, tmp_path):
    recipe = small(Autoencoding(beta=0.1), data=Data(pictures(place)), architecture=autoencoder_shape(), batch=4)
    run = fit(recipe, tmp_path)
    (draw, _), vae = draws(run), run.state.network.vae
    with torch.no_grad():
        posterior = vae.encode(draw.x_0).latent_dist
        z = draw.z.flatten(1)[:, :256].view(4, 4, 8, 8)
        again = vae.decode(posterior.mean + posterior.std * z).sample
        divergence = posterior.kl() / 768
    wanted = (again - draw.x_0).abs().mean((1, 2, 3)) + 0.1 * divergence
    assert next(iter(run)).loss == pytest.approx(wanted.mean().item(), rel=1e-4)


# -- SDXL ------------------------------------------------------------------------------------------------------------


def test_sdxl_is_told_pooled_prompts_and_sizes(sdxl, data, tmp_path):
    recipe = latent("lcd-lora", data, teacher=sdxl, latent={"lora": Lora(rank=2)})
    run = train(recipe, tmp_path / "lora")
    draw, _ = draws(run)
    assert set(draw.cond) == {"prompt", "pooled", "sizes", "guidance"}
    assert draw.cond["sizes"].tolist() == [[16, 16, 0, 0, 16, 16]] * 4
    nothing = run.stepper.condition.nothing(draw.cond)
    assert nothing["prompt"].abs().max() == nothing["pooled"].abs().max() == 0
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(sdxl)
    told = pipe.encode_prompt([PROMPT], device="cpu", do_classifier_free_guidance=False)
    ids = torch.tensor([run.rows.table.index(PROMPT)])
    torch.testing.assert_close(run.stepper.condition(ids)["prompt"], told[0], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(run.stepper.condition(ids)["pooled"], told[2], atol=2e-3, rtol=1e-3)
    pipe.load_lora_weights(tmp_path / "lora" / "model")
    pipe.scheduler = diffusers.LCMScheduler.from_config(pipe.scheduler.config)
    assert drawn(pipe, guidance_scale=1.0).isfinite().all()


def test_a_whole_sdxl_is_distilled(sdxl, data, tmp_path):
    train(latent("lcd", data, teacher=sdxl, steps=2), tmp_path)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "model")
    assert (type(pipe).__name__, type(pipe.scheduler).__name__) == ("StableDiffusionXLPipeline", "LCMScheduler")
    assert drawn(pipe, guidance_scale=5.0).isfinite().all()
    assert load(tmp_path).design.condition.size == 16


# -- going on --------------------------------------------------------------------------------------------------------

RUNS = {
    "lcd": {},
    "lcd-lora": {"latent": {"lora": Lora(rank=2, dropout=0.2)}},
    "lcf": {},
    "teacher": {"latent": {"words": Words(vocabulary=600, length=8, width=16, layers=1, heads=2)}},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on_bit_for_bit(name, teacher, lcm, data, tmp_path):
    inside = {"autoencoder": teacher} | RUNS[name].get("latent", {})
    source = {"lcf": {"start": lcm}, "teacher": {}}.get(name, {"teacher": teacher})
    recipe = latent(name, data, latent=inside, micro_batch=3, steps=5, **source)
    for _ in itertools.islice(fit(recipe, tmp_path / "stopped"), 4):  # the last checkpoint is that of step 2
        pass
    train(recipe, tmp_path / "stopped")
    train(replace(recipe, latent=replace(recipe.latent, cache=str(tmp_path / "other"))), tmp_path / "whole")
    assert_same(state(tmp_path / "stopped"), state(tmp_path / "whole"))
    unfinished = load(checkpoints(tmp_path / "whole")[0].folder)
    assert encode(unfinished.design.architecture) == encode(fit(recipe, tmp_path / "stopped").design.architecture)


def test_latents_and_prompts_are_made_once(teacher, data, tmp_path, monkeypatch):
    from fewstep.networks.adapters import Autoencoder, TextEncoder

    recipe, calls = latent("lcd", data, teacher=teacher, steps=2), []
    monkeypatch.setattr(Autoencoder, "moments", _counted(Autoencoder.moments, calls))
    monkeypatch.setattr(TextEncoder, "forward", _counted(TextEncoder.forward, calls))
    train(recipe, tmp_path / "a")
    made = len(calls)
    train(replace(recipe, seed=1), tmp_path / "b")
    assert made > 0
    assert len(calls) == made
    other = stock(tmp_path / "other", told=0, channels=3)
    weights = Path(other, "vae", "diffusion_pytorch_model.safetensors")
    from safetensors.torch import load_file, save_file

    save_file({n: w * 1.01 for n, w in load_file(weights).items()}, weights)
    train(latent("lcd", data, teacher=teacher, latent={"autoencoder": other}, steps=1), tmp_path / "c")
    assert len(calls) > made


def _counted(method, calls):
    def call(*arguments, **options):
        calls.append(1)
        return method(*arguments, **options)

    return call


def test_an_autoencoder_that_changed_is_noticed(teacher, data, tmp_path):
    from safetensors.torch import load_file, save_file

    own = stock(tmp_path / "own")
    recipe = latent("lcd", data, teacher=teacher, latent={"autoencoder": str(Path(own, "vae"))}, steps=2)
    train(recipe, tmp_path / "run")
    weights = Path(own, "vae", "diffusion_pytorch_model.safetensors")
    save_file({n: w + 0.01 for n, w in load_file(weights).items()}, weights)

    with pytest.raises(ValueError, match="The autoencoder changed since"):
        fit(recipe, tmp_path / "run")


def test_previews(teacher, lcm, data, tmp_path):
    for name, recipe in {
        "lcf": latent("lcf", data, start=lcm, steps=1, score=Scoring(n=9)),
        "teacher": latent("teacher", data, start=teacher, steps=1, score=Scoring(n=9, steps=2)),
    }.items():
        list(watch(fit(recipe, tmp_path / name), quiet=True))
        line = json.loads((tmp_path / name / "metrics.jsonl").read_text())
        assert math.isfinite(line["score"])
        assert set(line["levels"]) <= {f"{125 * i}-{125 * i + 124}" for i in range(8)}
        (path,) = (tmp_path / name / "previews").glob("*.png")
        from PIL import Image

        rows = {"lcf": 4, "teacher": 2}[name]
        assert Image.open(path).size[0] / Image.open(path).size[1] == pytest.approx(8 / rows, rel=0.05)


def test_lower_precision(teacher, data, tmp_path):
    recipe = latent("lcd", data, teacher=teacher, precision="bf16", steps=2, latent={"recompute": True})
    run = train(recipe, tmp_path)
    assert run.state.skipped == 0
    assert all(p.dtype == torch.float32 for p in run.state.network.parameters())


# -- what does not fit -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(teacher, lcm, data, place, tmp_path):
    silent, grey = pictures(place, captions=False), pictures(place, channels=1)

    def refused(error, match, name="lcd", **changes):
        recipe = latent(name, data, **({"teacher": teacher} | changes))
        with pytest.raises(error, match=match):
            fit(recipe, tmp_path / "run")

    refused(ValueError, "needs a teacher", teacher=None)
    refused(ValueError, "has no captions: add them", data=Data(silent))
    refused(ValueError, r"give --data\.channels 3", data=Data(grey))
    refused(ValueError, "is a consistency model; a teacher is a diffusion model", teacher=lcm)
    refused(ValueError, "not both", guidance=2.0)
    refused(ValueError, "LoRA changes a model", name="teacher", teacher=None, latent={"lora": Lora(2)})
    refused(ValueError, "Whose latents", name="teacher", teacher=None)
    refused(ValueError, "Who reads the prompts", name="teacher", teacher=None, latent={"autoencoder": teacher})
    refused(ValueError, r"use --latent\.prediction v", name="teacher", teacher=None, schedule=Discrete(zero_snr=True),
            latent={"autoencoder": teacher, "text": teacher})  # fmt: skip
    refused(ValueError, "w is told to consistency models", name="teacher", latent={"w": (1.0, 2.0)})
    refused(ValueError, r"say which, guidance_scale − 1, with --latent\.w", name="lcf", start=lcm, teacher=None,
            latent={"w": None})  # fmt: skip
    refused(ValueError, "this objective has none", name="lcf", start=lcm, guidance=2.0, latent={"w": None})
    refused(ValueError, r"give --data\.size 16", data=Data(data, size=32))
    refused(ValueError, "a multiple of 2", data=Data(data, size=15))
    refused(FileNotFoundError, "neither a pipeline", latent={"autoencoder": str(tmp_path)})
    with pytest.raises(ValueError, match="schedule must be Discrete"):
        latent("lcd", data, schedule=replace(small().schedule))
    for wrong in ({"w": (3.0, 1.0)}, {"told": 1}, {"timestep_scaling": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Latent(**wrong)
    with pytest.raises(ValueError, match="vocabulary"):
        Words(vocabulary=100)


def test_silent_pictures_are_empty_prompts_where_asked(teacher, place, tmp_path):
    silent = pictures(place, captions=False)
    run = train(latent("lcd", silent, teacher=teacher, steps=1, data=Data(silent, uncaptioned="empty")), tmp_path)
    assert set(run.rows.labels.tolist()) == {-1}


def test_recipes_of_latents_survive_json(data):
    words = latent("teacher", data, latent={"words": Words(), "lora": None}, architecture=LatentUNetShape(UNET))
    lora = latent("lcd", data, latent={"lora": Lora(rank=4)}, schedule=Discrete(zero_snr=True, origin=100))
    for recipe in (words, lora):
        assert to_json(from_json(json.loads(json.dumps(to_json(recipe))))) == to_json(recipe)


def test_pictures_flipped_and_many_micro_batches_change_nothing_in_what_is_drawn(teacher, data, tmp_path):
    recipe = latent("lcd", data, teacher=teacher, steps=2, batch=6, data=Data(data, flip=True), clip=None)
    whole = [step.loss for step in fit(recipe, tmp_path / "a")]
    parts_ = [step.loss for step in fit(replace(recipe, micro_batch=2), tmp_path / "b")]
    np.testing.assert_allclose(whole, parts_, rtol=1e-4)
