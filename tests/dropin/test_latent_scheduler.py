"""The drop-in scheduler of latent consistency models against diffusers' own; what it mends, and what it refuses."""

import copy
import inspect
import json
import logging
import pickle

import diffusers
import latent_helpers
import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging

import fewstep
from fewstep.denoiser import Denoiser
from fewstep.dropin.latent_levels import custom, original, spread
from fewstep.parameterizations import Epsilon, Latched, Sample, Velocity
from fewstep.sampling import trajectory
from fewstep.schedules import Discrete

Ours, Theirs = fewstep.LCMScheduler, diffusers.LCMScheduler
KINDS = {"epsilon": Epsilon(), "v_prediction": Velocity(), "sample": Sample()}
CONFIGS = [
    {},
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample"},
    {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
    {"clip_sample": True},
    {"clip_sample": True, "clip_sample_range": 0.3},
    {"thresholding": True},
    {"thresholding": True, "sample_max_value": 2.5, "dynamic_thresholding_ratio": 0.7, "clip_sample": True},
    {"thresholding": True, "sample_max_value": 0.5},
    {"timestep_scaling": 0.01},
    {"trained_betas": np.linspace(1e-4, 0.03, 200).tolist(), "num_train_timesteps": 200},
    {"num_train_timesteps": 100, "original_inference_steps": 25, "set_alpha_to_one": False},
]


def both(**config):
    return Ours(**config), Theirs(**config)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


@pytest.fixture
def warnings_of(caplog):
    """The messages of diffusers' loggers while a function runs."""
    diffusers_logging.enable_propagation()

    def call(function):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "diffusers"):
            function()
        return [record.getMessage() for record in caplog.records]

    yield call
    diffusers_logging.disable_propagation()


def run(scheduler, x, generator=None, start=0):
    """Samples and estimates of a whole run with some network that is told the time."""
    seen = []
    for i, t in enumerate(scheduler.timesteps[start:]):
        raw = torch.sin(3 * scheduler.scale_model_input(x, t)) + 0.3 * randn(*x.shape, seed=i + 1, dtype=x.dtype)
        output = scheduler.step(raw, t, x, generator=generator)
        x = output.prev_sample
        seen += [x, output.denoised]
    return seen


def assert_same_run(ours, theirs, shape=(2, 4, 5, 3), dtype=torch.float32, start=0, generator=seeded):
    x = randn(*shape, dtype=dtype)
    pairs = zip(run(ours, x, generator(), start), run(theirs, x, generator(), start), strict=True)
    for mine, stock in pairs:
        assert mine.dtype == stock.dtype == dtype
        torch.testing.assert_close(mine, stock, rtol=1e-4, atol=2e-5)


# -- as in diffusers ---------------------------------------------------------------------------------------------------


def test_signatures_are_diffusers():
    functions = ("__init__", "set_timesteps", "scale_model_input", "index_for_timestep", "step", "add_noise",
                 "get_velocity", "previous_timestep", "set_begin_index",
                 "get_scalings_for_boundary_condition_discrete")  # fmt: skip
    for name in functions:
        ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (Ours, Theirs))
        assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]
    public = {name for name in dir(Theirs()) if not name.startswith("_")}
    assert public <= {name for name in dir(Ours()) if not name.startswith("_")}


@pytest.mark.parametrize("config", CONFIGS)
def test_before_set_timesteps(config):
    ours, theirs = both(**config)
    for name in ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod"):
        mine, stock = getattr(ours, name), getattr(theirs, name)
        assert mine.dtype == stock.dtype == torch.float32
        torch.testing.assert_close(mine, stock, rtol=2e-5, atol=1e-5)
    assert torch.equal(ours.timesteps, theirs.timesteps)
    assert ours.timesteps.dtype == theirs.timesteps.dtype == torch.int64
    assert len(ours) == len(theirs)
    for name in ("order", "init_noise_sigma", "num_inference_steps", "custom_timesteps", "step_index", "begin_index"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.previous_timestep(7) == theirs.previous_timestep(7) == 6


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers and tensors
@pytest.mark.parametrize(
    ("asked", "levels"),
    [
        ({"num_inference_steps": 1}, [999]),
        ({"num_inference_steps": 3}, [999, 679, 339]),
        ({"num_inference_steps": 4}, [999, 759, 499, 259]),
        ({"num_inference_steps": 8}, [999, 879, 759, 639, 499, 379, 259, 139]),
        ({"num_inference_steps": 4, "strength": 0.8}, [799, 599, 399, 199]),
        ({"num_inference_steps": 4, "strength": 0.5}, [499, 379, 259, 139]),
        ({"num_inference_steps": 4, "original_inference_steps": 100}, [999, 749, 499, 249]),
        ({"num_inference_steps": 4, "original_inference_steps": 300}, [899, 674, 449, 224]),
        ({"timesteps": [999, 499]}, [999, 499]),
        ({"timesteps": [900, 600, 300, 100], "strength": 0.5}, [300, 100]),
        ({"timesteps": np.array([999, 0])}, [999, 0]),
        ({"timesteps": torch.tensor([999, 0])}, [999, 0]),
    ],
)
def test_levels_written_out(asked, levels):
    ours, theirs = both()
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(**asked)
        assert scheduler.timesteps.tolist() == levels
        assert scheduler.timesteps.dtype == torch.int64
        assert scheduler.custom_timesteps == ("timesteps" in asked)
    assert ours.num_inference_steps == len(levels)


@pytest.mark.parametrize("grid", [20, 100, 999, 1000])
@pytest.mark.parametrize("origin", [1, 7, 25, 50, 100, 300, 1000])
def test_levels_equal_diffusers(grid, origin):
    ours, theirs = both(num_train_timesteps=grid)
    for strength in (0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 0.8, 0.9, 1.0):
        for n in (1, 2, 3, 4, 6, 8, 20, 50):
            if n <= int(origin * strength) and origin <= grid:
                for scheduler in (ours, theirs):
                    scheduler.set_timesteps(n, original_inference_steps=origin, strength=strength)
                assert torch.equal(ours.timesteps, theirs.timesteps)
                assert ours.num_inference_steps == theirs.num_inference_steps == n


def test_levels_are_those_of_the_library():
    for origin in (10, 30, 50):
        schedule = Discrete(origin=origin)
        for n in range(1, origin + 1):
            scheduler = Ours(original_inference_steps=origin)
            scheduler.set_timesteps(n)
            assert scheduler.timesteps.tolist() == schedule.jumps(n)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("n", [1, 4])
def test_runs_equal_diffusers(config, n):
    ours, theirs = both(**config)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(n)
    assert_same_run(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_step_of_fifty_equals_diffusers(kind, dtype):
    ours, theirs = both(prediction_type=kind)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(50)
    for i, t in enumerate(theirs.timesteps):
        x, raw = randn(2, 3, seed=i, dtype=dtype), randn(2, 3, seed=i + 50, dtype=dtype)
        outputs = [scheduler.step(raw, t, x, seeded(i)) for scheduler in (ours, theirs)]
        for mine, stock in zip(*(output.to_tuple() for output in outputs), strict=True):
            assert mine.dtype == stock.dtype == dtype
            torch.testing.assert_close(mine, stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 7), (2, 1, 3), (2, 4, 3, 5, 5)])
def test_samples_of_any_rank(shape):
    ours, theirs = both()
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(3)
    assert_same_run(ours, theirs, shape)


def test_one_generator_a_row_and_the_global_one():
    for generator in (lambda: [seeded(3), seeded(4)], lambda: [seeded(3)], lambda: torch.manual_seed(5) and None):
        ours, theirs = both()
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(3)
        assert_same_run(ours, theirs, generator=generator)


def test_runs_from_the_middle_and_from_a_begin_index_equal_diffusers():
    for begin in (None, 2):
        ours, theirs = both()
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(5)
            if begin is not None:
                scheduler.set_begin_index(begin)
        assert_same_run(ours, theirs, start=2)
        assert ours.step_index == theirs.step_index == 5
        assert ours.begin_index == theirs.begin_index == begin
        ours.set_timesteps(5)
        assert (ours.step_index, ours.begin_index) == (None, None)


def test_a_tuple_of_two_when_asked():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(2)
    answer = copy.deepcopy(scheduler).step(x, 999, x, seeded(), False)
    output = scheduler.step(x, 999, x, seeded())
    assert isinstance(answer, tuple)
    assert len(answer) == 2
    assert isinstance(output, fewstep.LCMSchedulerOutput)
    assert list(output) == ["prev_sample", "denoised"]
    assert torch.equal(answer[0], output.prev_sample)
    assert torch.equal(answer[1], output.denoised)
    assert fewstep.LCMSchedulerOutput(x).denoised is None


@pytest.mark.parametrize("n", [1, 2, 4])
def test_noise_is_drawn_between_steps_only(n):
    scheduler, generator, expected, x = Ours(), seeded(7), seeded(7), randn(2, 3)
    scheduler.set_timesteps(n)
    for i, t in enumerate(scheduler.timesteps):
        output = scheduler.step(0.1 * x, t, x, generator=generator)
        if i < n - 1:
            a = Discrete().alphas_cumprod[scheduler.timesteps[i + 1]].float()
            noise = torch.randn((2, 3), generator=expected)
            torch.testing.assert_close(output.prev_sample, a.sqrt() * output.denoised + (1 - a).sqrt() * noise)
        else:
            assert torch.equal(output.prev_sample, output.denoised)
    assert torch.equal(generator.get_state(), expected.get_state())


def test_scalings_equal_diffusers():
    ours, theirs = both(timestep_scaling=3.0)
    for t in (0, 19, 999, torch.tensor(0), torch.tensor(19), torch.tensor([0, 499, 999])):
        answers = [s.get_scalings_for_boundary_condition_discrete(t) for s in (ours, theirs)]
        for mine, stock in zip(*answers, strict=True):
            assert type(mine) is type(stock)
            torch.testing.assert_close(torch.as_tensor(mine), torch.as_tensor(stock), rtol=1e-6, atol=0)
    assert Ours().get_scalings_for_boundary_condition_discrete(0) == (1.0, 0.0)
    assert Ours().get_scalings_for_boundary_condition_discrete(19) == pytest.approx((6.925e-6, 1.0), rel=1e-3)
    assert ours.sigma_data == theirs.sigma_data == 0.5


@pytest.mark.parametrize("config", CONFIGS)
def test_noised_and_velocity_equal_diffusers(config):
    ours, theirs = both(**config)
    x, z, t = randn(3, 2, 4), randn(3, 2, 4, seed=1), torch.tensor([len(ours) - 1, 0, 57])
    for name in ("add_noise", "get_velocity"):
        for timesteps in (t, t[1:2], t[:1].int(), t[2]):
            mine, stock = (getattr(s, name)(x, z, timesteps) for s in (ours, theirs))
            assert mine.dtype == torch.float32
            torch.testing.assert_close(mine, stock, rtol=1e-6, atol=1e-5)  # theirs are float32 throughout


def test_the_noisy_picture_is_the_trainers():
    x, z, t = randn(2, 3, 4, 4), randn(2, 3, 4, 4, seed=1), torch.tensor([999, 19])
    torch.testing.assert_close(Ours().add_noise(x, z, t), Discrete().perturb(x, z, t.float()))
    v = Ours().get_velocity(x, z, t)
    c = Velocity()(Discrete(), t.float())
    noisy = Ours().add_noise(x, z, t)
    torch.testing.assert_close(c.skip.reshape(-1, 1, 1, 1) * noisy + c.out.reshape(-1, 1, 1, 1) * v, x)


def test_previous_timestep_equals_diffusers():
    ours, theirs = both()
    for asked in ({"num_inference_steps": 4}, {"timesteps": [999, 87, 50, 0]}):
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(**asked)
        for t in ours.timesteps:
            mine, stock = ours.previous_timestep(t), theirs.previous_timestep(t)
            assert torch.equal(mine, stock)
        assert ours.previous_timestep(ours.timesteps[-1]) == -1
        assert [ours.index_for_timestep(t) for t in ours.timesteps] == [0, 1, 2, 3]


def test_arguments_without_effect_have_none_in_diffusers_either():
    for cls in (Ours, Theirs):
        plain = cls()
        for other in (cls(steps_offset=1), cls(timestep_spacing="trailing"), cls(set_alpha_to_one=False)):
            for scheduler in (plain, other):
                scheduler.set_timesteps(4)
            assert torch.equal(plain.timesteps, other.timesteps)
            for mine, same in zip(run(plain, randn(1, 2), seeded()), run(other, randn(1, 2), seeded()), strict=True):
                assert torch.equal(mine, same)
        assert cls(set_alpha_to_one=False).final_alpha_cumprod == pytest.approx(1 - 0.00085)


def test_the_docstring_has_every_argument():
    for name in inspect.signature(Ours).parameters:
        assert name in str(Ours.__doc__)


# -- one function: trainer, sampler, scheduler -------------------------------------------------------------------------


class Network(torch.nn.Module):
    """Some function of the sample and of the time it is told."""

    def forward(self, x, t):
        return torch.tanh(2 * x) + 0.001 * t.float().reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_trainer_sampler_and_scheduler_agree(kind, zero_snr):
    """One raw network: the Denoiser that is trained, the trajectory that samples, the steps; at all 50 origin times."""
    network, schedule = Network(), Discrete(zero_snr=zero_snr)
    f = Denoiser(network, schedule, Latched(KINDS[kind]))
    scheduler = Ours(prediction_type=kind, rescale_betas_zero_snr=zero_snr)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == schedule.origins().flip(0).tolist()
    x, generator, steps = randn(2, 3, 4, 4, dtype=torch.float64), seeded(1), seeded(1)
    sampled = trajectory(f, schedule, x, schedule.jumps(50), clip=False, noise=lambda i, like: torch.randn(
        like.shape, generator=generator, dtype=like.dtype))  # fmt: skip
    for t, estimate in zip(scheduler.timesteps, sampled, strict=True):
        torch.testing.assert_close(f(x, float(t)), estimate, rtol=1e-9, atol=1e-9)
        output = scheduler.step(network(x, t.reshape(1)), t, x, generator=steps)
        torch.testing.assert_close(output.denoised, estimate, rtol=1e-9, atol=1e-9)
        x = output.prev_sample
    assert torch.equal(x, output.denoised)


# -- files -------------------------------------------------------------------------------------------------------------


def test_files_are_diffusers_own(tmp_path):
    config = {"prediction_type": "v_prediction", "original_inference_steps": 25, "trained_betas": [0.1] * 1000}
    for who, scheduler in zip(("ours", "theirs"), both(**config), strict=True):
        scheduler.save_pretrained(tmp_path / who)
    written = [(tmp_path / who / "scheduler_config.json").read_text() for who in ("ours", "theirs")]
    assert written[0] == written[1]
    assert json.loads(written[0])["_class_name"] == "LCMScheduler"
    assert Theirs.from_pretrained(tmp_path / "ours").config == Theirs.from_pretrained(tmp_path / "theirs").config
    ours = Ours.from_pretrained(tmp_path / "theirs", timestep_scaling=5.0)
    assert (ours.config.prediction_type, ours.config.timestep_scaling) == ("v_prediction", 5.0)
    assert torch.equal(ours.betas, Ours(**config).betas)


@pytest.mark.parametrize(
    "stock",
    [
        diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                                set_alpha_to_one=False, steps_offset=1),
        diffusers.PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
                                set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction"),
        diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                         steps_offset=1, timestep_spacing="trailing", rescale_betas_zero_snr=True),
        diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True),
        diffusers.LCMScheduler(original_inference_steps=25),
        diffusers.TCDScheduler(),
    ],
)  # fmt: skip
def test_made_from_the_schedulers_of_stock_pipelines(stock):
    """As for LCM-LoRA: `LCMScheduler.from_config(pipe.scheduler.config)`, and back."""
    ours, theirs = (cls.from_config(stock.config) for cls in (Ours, Theirs))
    assert type(ours) is Ours
    known = set(inspect.signature(Theirs).parameters)
    assert {k: v for k, v in ours.config.items() if k in known} == {
        k: v for k, v in theirs.config.items() if k in known
    }
    back = type(stock).from_config(ours.config)
    assert back.config.num_train_timesteps == stock.config.num_train_timesteps
    assert ours.compatibles == [Ours, *theirs.compatibles]


def test_copies_keep_the_place_in_the_run():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(3)
    scheduler.step(x, 999, x)
    for other in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert type(other) is Ours
        assert other.step_index == 1
        assert torch.equal(other.step(x, 679, x, seeded())[0], copy.deepcopy(scheduler).step(x, 679, x, seeded())[0])


def test_the_configuration_may_be_changed_afterwards():
    for name, value in (("prediction_type", "v_prediction"), ("clip_sample", True)):
        ours, theirs = both()
        for scheduler in (ours, theirs):
            scheduler.register_to_config(**{name: value})
            scheduler.set_timesteps(2)
        assert_same_run(ours, theirs)


# -- inside stock pipelines --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def pipes(kind, tmp_path_factory):
    made = {name: latent_helpers.pipeline(tmp_path_factory.mktemp(name), name, prediction=kind)
            for name in ("sd", "lcm", "sdxl")}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        control = diffusers.ControlNetModel.from_unet(made["sd"].unet, conditioning_embedding_out_channels=(4, 8))
    for block in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        torch.nn.init.normal_(block.weight, std=0.1)  # zeros, at first
    parts = {"lcm": made["lcm"].components, "sd": made["sd"].components, "sdxl": made["sdxl"].components}
    made["lcm img2img"] = diffusers.LatentConsistencyModelImg2ImgPipeline(
        **{k: v for k, v in parts["lcm"].items() if k != "image_encoder"}, requires_safety_checker=False
    )
    made["sd img2img"] = diffusers.StableDiffusionImg2ImgPipeline(**parts["sd"], requires_safety_checker=False)
    made["sd inpaint"] = diffusers.StableDiffusionInpaintPipeline(**parts["sd"], requires_safety_checker=False)
    made["sdxl img2img"] = diffusers.StableDiffusionXLImg2ImgPipeline(**parts["sdxl"])
    made["controlnet"] = diffusers.StableDiffusionControlNetPipeline(
        **parts["sd"], controlnet=control, requires_safety_checker=False
    )
    for pipe in made.values():
        pipe.set_progress_bar_config(disable=True)
    return made


PICTURE = {"image": torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))}
MASK = {"mask_image": (torch.arange(256).reshape(1, 1, 16, 16) % 32 < 16).float(), "height": 16, "width": 16}
CALLS = {
    "lcm 1 step": ("lcm", {"num_inference_steps": 1}),
    "lcm 4 steps": ("lcm", {"num_inference_steps": 4, "original_inference_steps": 100}),
    "lcm custom": ("lcm", {"timesteps": [999, 499, 19]}),
    "lcm img2img": ("lcm img2img", {"num_inference_steps": 4, "strength": 0.5, **PICTURE}),
    "sd": ("sd", {"num_inference_steps": 4, "guidance_scale": 1.5}),
    "sd custom": ("sd", {"timesteps": [999, 499], "guidance_scale": 1.0}),
    "sd img2img": ("sd img2img", {"num_inference_steps": 4, "strength": 0.6, "guidance_scale": 1.5, **PICTURE}),
    "sd inpaint": ("sd inpaint", {"num_inference_steps": 4, "strength": 0.8, **PICTURE, **MASK}),
    "sd inpaint, all": ("sd inpaint", {"num_inference_steps": 2, "strength": 1.0, **PICTURE, **MASK}),
    "sdxl": ("sdxl", {"num_inference_steps": 4, "guidance_scale": 1.0, "height": 16, "width": 16}),
    "sdxl, in part": ("sdxl", {"num_inference_steps": 4, "denoising_end": 0.6, "height": 16, "width": 16}),
    "sdxl img2img": ("sdxl img2img", {"num_inference_steps": 4, "strength": 0.6, **PICTURE}),
    "sdxl, the rest": ("sdxl img2img", {"num_inference_steps": 4, "denoising_start": 0.6, **PICTURE}),
    "controlnet": ("controlnet", {"num_inference_steps": 2, **PICTURE}),
}


@pytest.mark.parametrize("call", CALLS)
def test_inside_stock_pipelines_the_same_pictures(pipes, call):
    name, options = CALLS[call]
    pipe, pictures = pipes[name], []
    for cls in (Ours, Theirs):
        pipe.scheduler = cls.from_config(pipe.scheduler.config)
        pictures.append(pipe("a thick two", generator=seeded(5), output_type="pt", **options).images)
    assert pictures[0].std() > 0.01
    torch.testing.assert_close(*pictures, rtol=0, atol=1e-4)


def test_a_stock_pipeline_that_holds_ours_loads_where_fewstep_is_not_installed(pipes, tmp_path):
    pipe = pipes["lcm"]
    pipe.scheduler = Ours.from_config(pipe.scheduler.config)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "LCMScheduler"]
    stock = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    assert type(stock.scheduler) is Theirs
    ours = Ours.from_pretrained(tmp_path, subfolder="scheduler")
    assert type(diffusers.LatentConsistencyModelPipeline.from_pretrained(tmp_path, scheduler=ours).scheduler) is Ours


# -- mended ------------------------------------------------------------------------------------------------------------


def test_custom_timesteps_with_strength_end_without_noise():
    ours, theirs = both()
    outputs = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(timesteps=[999, 759, 499, 259], strength=0.5)
        assert scheduler.timesteps.tolist() == [499, 259]
        outputs.append([scheduler.step(randn(1, 2), t, randn(1, 2, seed=1), seeded()) for t in scheduler.timesteps][-1])
    assert (ours.num_inference_steps, theirs.num_inference_steps) == (2, 4)
    assert torch.equal(outputs[0].prev_sample, outputs[0].denoised)
    assert not torch.equal(outputs[1].prev_sample, outputs[1].denoised)
    torch.testing.assert_close(outputs[0].denoised, outputs[1].denoised)


def test_a_low_strength_does_the_steps_that_are_left(warnings_of):
    scheduler = Ours()
    said = warnings_of(lambda: scheduler.set_timesteps(4, strength=0.05))
    assert scheduler.timesteps.tolist() == [39, 19]
    assert scheduler.num_inference_steps == 2
    assert said == ["strength=0.05 leaves 2 of 50 levels: 2 steps are done, not 4, which need strength=0.08 or more."]
    assert not warnings_of(lambda: scheduler.set_timesteps(4, strength=0.08))
    with pytest.raises(ValueError, match="is smaller than `num_inference_steps`"):
        Theirs().set_timesteps(4, strength=0.05)


def test_a_low_strength_works_inside_the_stock_pipeline(pipes):
    pipe = pipes["lcm img2img"]
    pipe.scheduler = Ours.from_config(pipe.scheduler.config)
    near, far = (
        pipe("a thick two", num_inference_steps=4, strength=s, generator=seeded(), output_type="latent", **PICTURE)[0]
        for s in (0.05, 0.9)
    )
    code = pipe.vae.encode(2 * PICTURE["image"] - 1).latent_dist.mean * pipe.vae.config.scaling_factor
    assert (near - code).norm() < (far - code).norm()
    with pytest.raises(ValueError, match="leaves none of these 2 timesteps: take at least 0.5"):
        pipe("a thick two", num_inference_steps=None, timesteps=[999, 499], strength=0.4, **PICTURE)


def test_shares_are_counted_without_the_error_of_binary_fractions():
    for strength in range(1, 101):
        for origin in (50, 100, 200):
            if origin * strength >= 100:
                levels = spread(Discrete(origin=origin), 1, strength / 100)
                assert levels == [origin * strength // 100 * (1000 // origin) - 1]


@pytest.mark.parametrize("kind", KINDS)
def test_pure_noise_is_divided_by_nothing(kind):
    ours, theirs = both(prediction_type=kind, rescale_betas_zero_snr=True)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(2)
    output = ours.step(randn(1, 3), 999, randn(1, 3, seed=1), seeded())
    assert output.prev_sample.isfinite().all()
    assert output.denoised.isfinite().all()
    if kind == "epsilon":
        assert not theirs.step(randn(1, 3), 999, randn(1, 3, seed=1), seeded()).denoised.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    x, raw, eps = randn(2, 3, 5, 5, dtype=dtype), randn(2, 3, 5, 5, seed=1, dtype=dtype), torch.finfo(dtype).eps
    schedule, network = Discrete(), lambda x, t: raw.double()
    scheduler, stock = both()
    for scheduler_ in (scheduler, stock):
        scheduler_.set_timesteps(2)
    denoised = Latched()(schedule, torch.tensor(999.0).double())
    exact = denoised.skip * x.double() + denoised.out * network(x, 0)
    noise = torch.randn(x.shape, generator=seeded(), dtype=dtype).double()
    following = schedule.perturb(exact, noise, torch.tensor(499.0).double())
    outputs = [s.step(raw, 999, x, seeded()) for s in (scheduler, stock)]
    for value, wanted in ((outputs[0].denoised, exact), (outputs[0].prev_sample, following)):
        assert value.dtype == dtype
        assert ((value.double() - wanted).abs() <= 0.501 * eps * wanted.abs() + 2e-5).all()
    torch.testing.assert_close(outputs[1].denoised.double(), exact, rtol=0.1, atol=0.1)
    noisy = scheduler.add_noise(x, raw, torch.tensor([999, 19]))
    wanted = schedule.perturb(x.double(), raw.double(), torch.tensor([999.0, 19.0]))
    assert noisy.dtype == dtype
    assert ((noisy.double() - wanted).abs() <= 0.501 * eps * wanted.abs() + 1e-6).all()


def test_mixed_precision_is_that_of_diffusers():
    ours, theirs = both()
    for model, sample in ((torch.float16, torch.float32), (torch.float32, torch.bfloat16)):
        outputs = []
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(2)
            outputs.append(scheduler.step(randn(1, 3, dtype=model), 999, randn(1, 3, seed=1, dtype=sample), seeded()))
        assert outputs[0].prev_sample.dtype == outputs[1].prev_sample.dtype == torch.float32
        torch.testing.assert_close(outputs[0].prev_sample, outputs[1].prev_sample, rtol=1e-3, atol=1e-3)
        mixed = [
            s.add_noise(randn(1, 3, dtype=model), randn(1, 3, dtype=sample), torch.tensor([9])) for s in (ours, theirs)
        ]
        assert mixed[0].dtype == mixed[1].dtype


def test_nothing_moves_to_another_device():
    scheduler, x = Ours(), torch.empty(2, 3, device="meta")
    scheduler.set_timesteps(2, device="meta")
    assert scheduler.timesteps.device.type == "meta"
    scheduler.timesteps = torch.tensor([999, 499])
    output = scheduler.step(x, 999, x)
    assert output.prev_sample.device.type == output.denoised.device.type == "meta"
    for name in ("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod"):
        assert getattr(scheduler, name).device.type == "cpu"


def test_custom_timesteps_is_forgotten():
    scheduler = Ours()
    scheduler.set_timesteps(timesteps=[999])
    scheduler.set_timesteps(2)
    assert not scheduler.custom_timesteps


def test_timesteps_that_the_model_has_not_seen_are_warned_of(warnings_of):
    scheduler = Ours(original_inference_steps=2)
    said = warnings_of(lambda: scheduler.set_timesteps(timesteps=[900, 499, 3]))
    assert said == [
        "The first of these timesteps is 900: a run from pure noise starts at 999.",
        "This model was not distilled at the timesteps [900, 3]: expect less of it there.",
        "These are 3 timesteps, and this model was distilled on 2.",
    ]
    assert not warnings_of(lambda: scheduler.set_timesteps(timesteps=[999, 499]))
    assert not warnings_of(lambda: scheduler.set_timesteps(timesteps=[998, 499], strength=0.5))  # 998 is not done


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "says how to sample; neither were given"),
        ({"num_inference_steps": 2, "timesteps": [999, 0]}, "says how to sample; both were given"),
        ({"num_inference_steps": 0}, "between 1 and original_inference_steps=50"),
        ({"num_inference_steps": -1}, "between 1 and original_inference_steps=50"),
        ({"num_inference_steps": 51}, "between 1 and original_inference_steps=50"),
        ({"num_inference_steps": 2, "original_inference_steps": 0}, "between 1 and num_train_timesteps=1000"),
        ({"num_inference_steps": 2, "original_inference_steps": 1001}, "set_timesteps.*original_inference_steps=50"),
        ({"num_inference_steps": 2, "strength": 0.0}, r"strength is more than 0 .*, not 0"),
        ({"num_inference_steps": 2, "strength": -0.5}, "not -0.5"),
        ({"num_inference_steps": 2, "strength": 1.5}, "at most 1 .*, not 1.5"),
        ({"num_inference_steps": 2, "strength": float("nan")}, "not nan"),
        ({"timesteps": [999], "strength": 1.5}, "at most 1 .*, not 1.5"),
        ({"num_inference_steps": 2, "strength": 0.019}, "leaves none of the 50 levels .* at least 0.02"),
        ({"timesteps": [999, 499], "strength": 0.4}, "leaves none of these 2 timesteps: take at least 0.5"),
        ({"timesteps": []}, "at least one number"),
        ({"timesteps": [0, 999]}, "strictly decreasing"),
        ({"timesteps": [999, 999, 0]}, "strictly decreasing"),
        ({"timesteps": [999, -1]}, "between 0 and 999, and these reach from 999 to -1"),
        ({"timesteps": [1000, 0]}, "between 0 and 999"),
        ({"timesteps": [22.5, 0]}, "22.5 is none"),
        ({"timesteps": [float("nan")]}, "nan is none"),
    ],
)
def test_levels_that_cannot_be_are_refused_and_change_nothing(asked, message):
    scheduler = Ours()
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match=message):
        scheduler.set_timesteps(**asked)
    assert len(scheduler.timesteps) == scheduler.num_inference_steps == 2


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"num_train_timesteps": 1}, ValueError, "at least 2 num_train_timesteps or trained_betas, not 1"),
        ({"trained_betas": []}, ValueError, "trained_betas, not 0"),
        ({"beta_schedule": "scaled-linear"}, NotImplementedError, "did you mean 'scaled_linear'?"),
        ({"prediction_type": "v-prediction"}, ValueError, "did you mean 'v_prediction'?"),
        ({"timestep_scalling": 10.0}, TypeError, "did you mean 'timestep_scaling'?"),
    ],
)
def test_configurations_that_cannot_be_are_refused(config, error, message):
    with pytest.raises(error, match=message):
        Ours(**config)


def test_betas_of_another_number_are_refused_at_the_run():
    scheduler = Ours(trained_betas=[0.1, 0.3])
    with pytest.raises(ValueError, match="There are 2 trained_betas for .*: make the scheduler with .*=2"):
        scheduler.set_timesteps(1)
    with pytest.raises(ValueError, match="cannot be 50: .*original_inference_steps=2"):
        Ours(trained_betas=[0.1, 0.3], num_train_timesteps=2).set_timesteps(1)
    with pytest.raises(ValueError, match="between 1 and num_train_timesteps"):
        original(Discrete(), 1000, 0)


def test_what_is_no_number_of_steps_and_no_list_is_refused():
    with pytest.raises(ValueError, match="whole numbers, and 2.5"):
        spread(Discrete(), 2.5, 1.0)
    with pytest.raises(ValueError, match=r"list of numbers such as \[999, 759"):
        custom(Discrete(), 999, 1.0)


def test_a_run_begins_with_set_timesteps():
    with pytest.raises(ValueError, match=r"scheduler.set_timesteps\(4\)"):
        Ours().step(randn(1, 2), 999, randn(1, 2))


def test_timesteps_of_no_step_and_steps_past_the_end_are_refused():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(2)
    for t in (998, 19, 998.5, torch.tensor(5)):
        with pytest.raises(ValueError, match=r"is none of the timesteps .*\(999, 499\)"):
            scheduler.step(x, t, x)
    for ask in (scheduler.index_for_timestep, scheduler.previous_timestep):
        with pytest.raises(ValueError, match="is none of the timesteps"):
            ask(998)
    x = scheduler.step(x, torch.tensor([999]), x).prev_sample
    with pytest.raises(ValueError, match="Step 1 of this run is at timestep 499, not 999"):
        scheduler.step(x, 999, x)
    x = scheduler.step(x, 499.0, x).prev_sample  # a whole number, whatever its type
    with pytest.raises(ValueError, match="ends after step 1, .*call set_timesteps"):
        scheduler.step(x, 499, x)
    scheduler.set_timesteps(2)
    scheduler.set_begin_index(1)
    with pytest.raises(ValueError, match="Step 1 of this run is at timestep 499, not 999"):
        scheduler.step(x, 999, x)


@pytest.mark.parametrize("t", [[1000], [-1], [0.5], [float("nan")]])
def test_noise_of_levels_that_are_not_is_refused(t):
    for function in (Ours().add_noise, Ours().get_velocity):
        with pytest.raises(ValueError, match="whole numbers 0 … 999; these are not"):
            function(randn(1, 2), randn(1, 2), torch.tensor(t))


def test_a_list_of_too_few_generators_is_refused_and_the_step_can_be_repeated():
    scheduler, x = Ours(), randn(3, 2)
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match="each of the 3 samples, not 2"):
        scheduler.step(x, 999, x, generator=[seeded(), seeded()])
    assert scheduler.step(x, 999, x, generator=[seeded(i) for i in range(3)]).prev_sample.shape == x.shape
