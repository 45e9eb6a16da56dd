"""The drop-in scheduler against diffusers' own, step for step; what it adds, and what it refuses."""

import copy
import inspect
import json
import logging
import pickle
import runpy
import sys

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import retrieve_timesteps

import fewstep
import fewstep.dropin
from fewstep.dropin.levels import indices, noise_levels, spaced
from fewstep.sampling import trajectory

Ours, Theirs = fewstep.CMStochasticIterativeScheduler, diffusers.CMStochasticIterativeScheduler
GRIDS = (2, 40, 151, 201, 1000)


def both(**config):
    return Ours(**config), Theirs(**config)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


def run(scheduler, x, generator=None, quiet_end=False, start=0):
    """Inputs of the network and samples of a whole run. quiet_end: diffusers without its noise after the last step."""
    seen = []
    for i, t in enumerate(scheduler.timesteps[start:]):
        if quiet_end and i + start == len(scheduler.timesteps) - 1:
            scheduler.register_to_config(s_noise=0.0)
        scaled = scheduler.scale_model_input(x, t)
        raw = torch.sin(3 * scaled) + randn(*x.shape, seed=i + 1, dtype=x.dtype)
        x = scheduler.step(raw, t, x, generator=generator).prev_sample
        seen += [scaled, x]
    return seen


def assert_same_run(ours, theirs, shape=(2, 3, 5, 4), dtype=torch.float32, start=0, generator=seeded):
    x = theirs.sigmas[start].to(dtype) * randn(*shape, dtype=dtype)
    pairs = zip(run(ours, x, generator(), start=start), run(theirs, x, generator(), True, start), strict=True)
    for mine, stock in pairs:
        assert mine.dtype == stock.dtype == dtype
        torch.testing.assert_close(mine, stock, rtol=1e-6, atol=1e-6)


# -- as in diffusers ---------------------------------------------------------------------------------------------------


def test_signatures_are_diffusers_and_one_argument_more():
    for name in ("__init__", "scale_model_input", "index_for_timestep", "step", "add_noise", "set_begin_index"):
        ours, theirs = (inspect.signature(getattr(cls, name)).parameters for cls in (Ours, Theirs))
        assert [(p.name, p.default) for p in ours.values()] == [(p.name, p.default) for p in theirs.values()]
    ours, theirs = (list(inspect.signature(cls.set_timesteps).parameters) for cls in (Ours, Theirs))
    assert ours == [*theirs, "sigmas"]
    public = {name for name in dir(Theirs()) if not name.startswith("_")}
    assert public <= {name for name in dir(Ours()) if not name.startswith("_")}


@pytest.mark.parametrize("grid", GRIDS)
def test_before_set_timesteps_the_whole_grid(grid):
    ours, theirs = both(num_train_timesteps=grid)
    assert len(ours) == len(theirs) == grid
    assert ours.order == theirs.order == 1
    assert ours.init_noise_sigma == theirs.init_noise_sigma == 80.0
    assert ours.sigmas.dtype == ours.timesteps.dtype == theirs.sigmas.dtype == theirs.timesteps.dtype == torch.float64
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=0, atol=1e-9)
    for name in ("num_inference_steps", "custom_timesteps", "is_scale_input_called", "step_index", "begin_index"):
        assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize("grid", GRIDS)
def test_evenly_spaced_levels_equal_diffusers_bit_for_bit(grid):
    ours, theirs = both(num_train_timesteps=grid)
    for n in {1, 2, 3, 7, 18, 30, grid - 1, grid} & set(range(1, grid + 1)):
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(n)
        assert torch.equal(ours.sigmas, theirs.sigmas)
        assert ours.sigmas.dtype == torch.float32
        torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=0, atol=1e-10)
        assert (ours.num_inference_steps, ours.custom_timesteps) == (n, False)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers and tensors
@pytest.mark.parametrize("timesteps", [[22, 0], (39, 0), np.array([30, 12, 1, 0]), torch.tensor([7, 3]), [22.0, 0.0]])
def test_custom_indices_equal_diffusers(timesteps):
    ours, theirs = both()
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(timesteps=timesteps)
    assert torch.equal(ours.sigmas, theirs.sigmas)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=0, atol=1e-10)
    assert ours.custom_timesteps
    assert ours.num_inference_steps is None
    assert_same_run(ours, theirs)


def test_the_published_levels():
    """[22, 0] of 40 are the two levels of OpenAI's ImageNet-64 model, run from sigma_max."""
    scheduler = Ours()
    scheduler.set_timesteps(timesteps=[22, 0])
    assert scheduler.sigmas.tolist() == pytest.approx([80.0, 1.38240, 0.002], abs=1e-4)
    assert scheduler.timesteps.tolist() == pytest.approx([1095.507, 80.949], abs=1e-3)


def test_timesteps_go_to_the_device():
    scheduler = Ours()
    scheduler.set_timesteps(2, device="meta")
    assert (scheduler.timesteps.device.type, scheduler.sigmas.device.type) == ("meta", "cpu")


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_runs_equal_diffusers(grid, n):
    if n <= grid:
        ours, theirs = both(num_train_timesteps=grid)
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(n)
        assert_same_run(ours, theirs)


@pytest.mark.parametrize(
    "config",
    [
        {"clip_denoised": False},
        {"s_noise": 1.007},
        {"sigma_min": 0.01, "sigma_max": 14.6, "sigma_data": 1.3, "rho": 3.0},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_runs_equal_diffusers_in_every_setting(config, dtype):
    ours, theirs = both(**config)
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(4)
    assert_same_run(ours, theirs, dtype=dtype)


def test_samples_of_any_rank():
    for shape in [(4, 7), (2, 1, 3), (2, 4, 3, 5, 5)]:
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


def test_runs_without_set_timesteps_equal_diffusers():
    ours, theirs = both(num_train_timesteps=6)
    assert_same_run(ours, theirs)


def test_runs_from_a_begin_index_equal_diffusers():
    ours, theirs = both()
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(5)
        scheduler.set_begin_index(2)
    assert_same_run(ours, theirs, start=2)
    assert ours.step_index == 5
    assert ours.begin_index == 2
    ours.set_timesteps(5)
    assert (ours.step_index, ours.begin_index) == (None, None)


def test_runs_from_the_middle_equal_diffusers():
    ours, theirs = both()
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(5)
    assert_same_run(ours, theirs, start=3)


def test_a_tuple_of_one_when_asked():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(1)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    answer = copy.deepcopy(scheduler).step(x, scheduler.timesteps[0], x, return_dict=False)
    output = scheduler.step(x, scheduler.timesteps[0], x)
    assert isinstance(answer, tuple)
    assert len(answer) == len(output.to_tuple()) == 1
    assert isinstance(output, fewstep.CMStochasticIterativeSchedulerOutput)
    assert torch.equal(output[0], answer[0])
    assert list(output) == ["prev_sample"]


def test_scalings_equal_diffusers():
    ours, theirs = both(sigma_data=0.7)
    sigma = torch.logspace(-2.7, 1.9, 30, dtype=torch.float64)
    for name in ("get_scalings", "get_scalings_for_boundary_condition"):
        for mine, stock in zip(getattr(ours, name)(sigma), getattr(theirs, name)(sigma), strict=True):
            torch.testing.assert_close(mine, stock, rtol=1e-12, atol=1e-15)
    for dtype in (torch.float32, torch.float64):
        at_the_end = ours.get_scalings_for_boundary_condition(torch.tensor(0.002, dtype=dtype))
        assert [c.item() for c in at_the_end] == [1.0, 0.0]


def test_sigma_to_t_equals_diffusers():
    ours, theirs = both()
    levels = np.array([[80.0, 1.0], [0.002, 0.0]])
    np.testing.assert_allclose(ours.sigma_to_t(levels), theirs.sigma_to_t(levels), rtol=1e-14, atol=1e-12)
    for level in (80.0, 3, 0.0):
        mine, stock = ours.sigma_to_t(level), theirs.sigma_to_t(level)
        assert type(mine) is type(stock)
        assert mine == pytest.approx(stock, rel=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_add_noise_in_its_three_modes_equals_diffusers(dtype):
    x, z = randn(3, 2, 4, dtype=dtype), randn(3, 2, 4, seed=1, dtype=dtype)
    for prepare in (
        lambda scheduler: None,  # training: a level for each sample
        lambda scheduler: scheduler.set_begin_index(2),  # image to image
        lambda scheduler: (scheduler.set_begin_index(1), scheduler.step(x, scheduler.timesteps[1], x)),  # inpainting
    ):
        ours, theirs = both()
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(4)
            prepare(scheduler)
        timesteps = theirs.timesteps[[3, 0, 1]]
        assert torch.equal(ours.add_noise(x, z, timesteps), theirs.add_noise(x, z, timesteps))
        assert torch.equal(ours.add_noise(x, z, timesteps[:1]), theirs.add_noise(x, z, timesteps[:1]))


def test_index_for_timestep_takes_the_second_of_several():
    ours, theirs = both()
    schedule = torch.tensor([5.0, 3.0, 3.0, 3.0, 1.0])
    for t in (5.0, 3.0, torch.tensor(1.0)):
        assert ours.index_for_timestep(t, schedule) == theirs.index_for_timestep(t, schedule)


def test_forgetting_to_scale_is_warned_of(caplog):
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(2)
    with caplog.at_level(logging.WARNING, "diffusers.fewstep"):
        logging.getLogger("diffusers").addHandler(caplog.handler)
        try:
            scheduler.step(x, scheduler.timesteps[0], x)
            assert "scale_model_input" in caplog.text
            caplog.clear()
            scheduler.step(x, scheduler.timesteps[1], scheduler.scale_model_input(x, scheduler.timesteps[1]))
        finally:
            logging.getLogger("diffusers").removeHandler(caplog.handler)
    assert not caplog.text


# -- files and pipelines -----------------------------------------------------------------------------------------------


def test_files_are_diffusers_own(tmp_path):
    Ours(num_train_timesteps=151, rho=5.0, clip_denoised=False).save_pretrained(tmp_path / "ours")
    Theirs(num_train_timesteps=151, rho=5.0, clip_denoised=False).save_pretrained(tmp_path / "theirs")
    written = [(tmp_path / who / "scheduler_config.json").read_text() for who in ("ours", "theirs")]
    assert written[0] == written[1]
    assert json.loads(written[0])["_class_name"] == "CMStochasticIterativeScheduler"
    assert Theirs.from_pretrained(tmp_path / "ours").config == Theirs.from_pretrained(tmp_path / "theirs").config
    ours = Ours.from_pretrained(tmp_path / "theirs", sigma_max=20.0)
    assert (len(ours), ours.config.rho, ours.config.clip_denoised, ours.init_noise_sigma) == (151, 5.0, False, 20.0)


def test_made_from_each_others_configs():
    ours = Ours.from_config(Theirs(num_train_timesteps=201).config)
    assert type(ours) is Ours
    assert len(ours) == 201
    assert len(Theirs.from_config(ours.config)) == 201
    assert ours.compatibles == [Ours, Theirs]


def test_copies_keep_the_place_in_the_run():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(3)
    scheduler.step(scheduler.scale_model_input(x, scheduler.timesteps[0]), scheduler.timesteps[0], x)
    for other in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        assert type(other) is Ours
        assert other.step_index == 1
        assert torch.equal(other.sigmas, scheduler.sigmas)


def tiny_pipeline(scheduler):
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=3,
    )  # fmt: skip
    pipe = diffusers.ConsistencyModelPipeline(unet, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("options", [{}, {"num_inference_steps": 3}, {"timesteps": [22, 0]}])
def test_inside_the_stock_pipeline_the_same_pictures(options):
    ours, theirs = (
        tiny_pipeline(scheduler)(2, class_labels=[0, 2], generator=seeded(), output_type="np", **options).images
        for scheduler in both()
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6)


def test_a_stock_pipeline_that_holds_ours_loads_where_fewstep_is_not_installed(tmp_path):
    tiny_pipeline(Ours()).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["scheduler"] == ["diffusers", "CMStochasticIterativeScheduler"]
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path).scheduler) is Theirs
    assert type(diffusers.ConsistencyModelPipeline.from_pretrained(tmp_path, scheduler=Ours()).scheduler) is Ours


def test_stock_pipelines_that_know_sigmas_can_pass_them():
    timesteps, n = retrieve_timesteps(Ours(), device="cpu", sigmas=[80.0, 1.0])
    assert n == 2
    assert timesteps.tolist() == pytest.approx([1095.5067, 0.0], abs=1e-3)


# -- beyond diffusers --------------------------------------------------------------------------------------------------


def test_real_noise_levels():
    scheduler = Ours()
    for sigmas in ([80.0, 1.38], (80, 1.38), np.array([80.0, 1.38]), torch.tensor([80.0, 1.38])):
        scheduler.set_timesteps(sigmas=sigmas)
        assert scheduler.sigmas.tolist() == pytest.approx([80.0, 1.38, 0.002], rel=1e-7)
        assert scheduler.timesteps.tolist() == pytest.approx([250 * np.log(80.0), 250 * np.log(1.38)], rel=1e-7)
        assert scheduler.custom_timesteps
        assert scheduler.num_inference_steps is None
    scheduler.set_timesteps(3)
    levels = scheduler.sigmas[:-1]
    scheduler.set_timesteps(sigmas=levels)
    assert torch.equal(scheduler.sigmas[:-1], levels)


def test_the_scale_of_the_start_is_that_of_the_first_level():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(timesteps=[22])
    assert scheduler.init_noise_sigma == pytest.approx(1.38240, abs=1e-4)
    scheduler.step(scheduler.scale_model_input(x, scheduler.timesteps[0]), scheduler.timesteps[0], x)
    assert scheduler.init_noise_sigma == 80.0  # for pipelines that scale their noise before they set the levels
    scheduler.set_timesteps(sigmas=[5.0, 1.0])
    assert scheduler.init_noise_sigma == 5.0
    scheduler.set_timesteps(4)
    assert scheduler.init_noise_sigma == 80.0


@pytest.mark.parametrize("n", [1, 2, 4])
def test_noise_is_drawn_between_steps_and_nothing_is_left_after_the_last(n):
    scheduler, generator, expected = Ours(clip_denoised=False), seeded(7), seeded(7)
    scheduler.set_timesteps(n)
    x = 80 * randn(2, 3)
    for i, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(x, t)
        sigma, raw = scheduler.sigmas[i].double(), randn(2, 3, seed=i)
        total = sigma**2 + 0.25
        exact = 0.25 / ((sigma - 0.002) ** 2 + 0.25) * x + (sigma - 0.002) * 0.5 / total.sqrt() * raw
        if i < n - 1:
            exact = exact + (scheduler.sigmas[i + 1] ** 2 - 0.002**2).sqrt() * torch.randn((2, 3), generator=expected)
        x = scheduler.step(raw, t, x, generator=generator).prev_sample
        torch.testing.assert_close(x, exact.float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(generator.get_state(), expected.get_state())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    """Ours is the exact result, rounded; diffusers' is near it."""
    ours, theirs = both(clip_denoised=False)
    x, raw = randn(2, 3, 5, 5, dtype=dtype), randn(2, 3, 5, 5, seed=1, dtype=dtype)
    for place in range(3):
        steps = []
        for scheduler in (ours, theirs):
            scheduler.set_timesteps(3)
            scheduler.set_begin_index(place)
            assert scheduler.scale_model_input(x, scheduler.timesteps[place]).dtype == dtype
            steps.append(scheduler.step(raw, scheduler.timesteps[place], x, generator=seeded()).prev_sample)
        exact = sum(c * v.double() for c, v in zip(
            ours.get_scalings_for_boundary_condition(ours.sigmas[place]), (x, raw), strict=True))  # fmt: skip
        if place < 2:
            noise = torch.randn(x.shape, generator=seeded(), dtype=dtype).double()
            exact = exact + (ours.sigmas[place + 1].double() ** 2 - 0.002**2).sqrt() * noise
        eps = torch.finfo(dtype).eps
        assert steps[0].dtype == steps[1].dtype == dtype
        assert ((steps[0].double() - exact).abs() <= 0.501 * eps * exact.abs() + 1e-6).all()
        torch.testing.assert_close(steps[1].double(), exact, rtol=4 * eps, atol=4 * eps)


def test_timesteps_rounded_to_float32_are_found():
    scheduler = Ours(num_train_timesteps=1000)
    for i, t in enumerate(scheduler.timesteps.float()):
        assert scheduler.index_for_timestep(t) == i
        assert scheduler.index_for_timestep(t.item()) == i


class Network(torch.nn.Module):
    """Some function of the scaled sample and of what it is told of the noise level."""

    def forward(self, x, t):
        return torch.tanh(2 * x) + 0.001 * t.float().reshape(-1, *[1] * (x.ndim - 1))


def test_trainer_sampler_and_scheduler_agree():
    """One raw network: the Denoiser that is trained, the trajectory that samples, and the steps of the scheduler."""
    network, schedule, levels = Network(), fewstep.Karras(), [80.0, 24.4, 1.38, 0.1]
    denoiser = fewstep.Denoiser(network, schedule, fewstep.Boundary(noise_scale=250.0))
    z, generator = randn(2, 3, 4, 4), seeded(1)
    scheduler = Ours()
    scheduler.set_timesteps(sigmas=levels)
    x = scheduler.init_noise_sigma * z
    torch.testing.assert_close(x, schedule.start(z), rtol=1e-6, atol=0)
    sampled = trajectory(
        denoiser, schedule, x, levels, noise=lambda i, like: torch.randn(like.shape, generator=generator)
    )
    steps = seeded(1)
    for i, (t, estimate) in enumerate(zip(scheduler.timesteps, sampled, strict=True)):
        torch.testing.assert_close(denoiser(x, levels[i]).clamp(-1, 1), estimate, rtol=1e-6, atol=1e-6)
        raw = network(scheduler.scale_model_input(x, t), t)
        alone = Ours()
        alone.set_timesteps(sigmas=levels[i : i + 1])  # one step alone adds no noise: its result is the estimate
        alone.scale_model_input(x, t)
        torch.testing.assert_close(alone.step(raw, t, x).prev_sample, estimate, rtol=1e-6, atol=1e-6)
        x = scheduler.step(raw, t, x, generator=steps).prev_sample
    torch.testing.assert_close(x, estimate, rtol=1e-6, atol=1e-6)


def test_noised_as_the_trainer_does():
    x, z, schedule, scheduler = randn(2, 3), randn(2, 3, seed=1), fewstep.Karras(), Ours()
    scheduler.set_timesteps(sigmas=[80.0, 1.38])
    noisy = scheduler.add_noise(x, z, scheduler.timesteps)
    torch.testing.assert_close(noisy, schedule.perturb(x, z, torch.tensor([80.0, 1.38])), rtol=1e-6, atol=1e-6)


def test_without_diffusers_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'fewstep\[latent\]'"):
        runpy.run_path(fewstep.dropin.__file__)


# -- refused -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "Exactly one of"),
        ({"num_inference_steps": 2, "timesteps": [22, 0]}, "Exactly one of"),
        ({"num_inference_steps": 2, "sigmas": [80.0]}, "2 of them were given"),
        ({"num_inference_steps": 0}, "between 1 and num_train_timesteps=40"),
        ({"num_inference_steps": -1}, "between 1 and"),
        ({"num_inference_steps": 41}, "between 1 and"),
        ({"timesteps": []}, "at least one number"),
        ({"timesteps": [0, 22]}, "strictly decreasing"),
        ({"timesteps": [22, 22, 0]}, "strictly decreasing"),
        ({"timesteps": [22, -1]}, "indices from 39"),
        ({"timesteps": [40, 0]}, r"sigmas=\[80.0, 1.38\]"),
        ({"timesteps": [22.5, 0]}, "22.5 is none"),
        ({"sigmas": []}, "at least one number"),
        ({"sigmas": [80.0, 80.0]}, "strictly decreasing"),
        ({"sigmas": [1.0, 80.0]}, "strictly decreasing"),
        ({"sigmas": [80.0, 0.0]}, "between sigma_min=0.002 and sigma_max=80"),
        ({"sigmas": [80.0, -1.0]}, "between sigma_min"),
        ({"sigmas": [81.0, 1.0]}, "between sigma_min"),
        ({"sigmas": [float("nan")]}, "between sigma_min"),
        ({"sigmas": [80.0, float("nan"), 1.0]}, "strictly decreasing"),
    ],
)
def test_levels_that_cannot_be_are_refused_and_change_nothing(asked, message):
    scheduler = Ours()
    scheduler.set_timesteps(2)
    with pytest.raises(ValueError, match=message):
        scheduler.set_timesteps(**asked)
    assert len(scheduler.timesteps) == scheduler.num_inference_steps == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda: indices(22, 40), r"such as \[22, 0\], not 22"),
        (lambda: indices("22,0", 40), "list of numbers"),
        (lambda: indices([[22, 0]], 40), "list of at least one number"),
        (lambda: noise_levels(["high"], 0.002, 80.0), "list of numbers"),
        (lambda: spaced(2.5, 40), "whole numbers, and 2.5"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        asked()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_train_timesteps": 1}, "at least 2"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_min": 90.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_data": 0.0}, "positive"),
        ({"rho": -1.0}, "positive"),
    ],
)
def test_grids_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Ours(**config)


def test_unknown_arguments_are_refused_with_the_nearest():
    with pytest.raises(TypeError, match="no argument 'sigma_mx'; did you mean 'sigma_max'?"):
        Ours(sigma_mx=3.0)
    with pytest.raises(TypeError, match="no argument 'timesteps'"):
        Ours(timesteps=[22, 0])


@pytest.mark.parametrize("t", [0, np.int64(3), torch.tensor(3), torch.tensor(3, dtype=torch.int16), np.array(2)])
def test_integers_are_no_timesteps(t):
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(3)
    with pytest.raises(ValueError, match="not an integer"):
        scheduler.step(x, t, x)


def test_an_unknown_timestep_names_the_known_ones():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(timesteps=[22, 0])
    for call in (scheduler.scale_model_input, lambda x, t: scheduler.step(x, t, x)):
        with pytest.raises(
            ValueError, match=r"500 is none .* \(1095.51, 80.9\d+\): pass values of scheduler.timesteps"
        ):
            call(x, 500.0)
    scheduler.set_timesteps(20)
    with pytest.raises(ValueError, match=r"\(1095.51, .*, …, "):
        scheduler.index_for_timestep(torch.tensor(1.5))


def test_stepping_past_the_end_is_refused():
    scheduler, x = Ours(), randn(1, 2)
    scheduler.set_timesteps(1)
    t = scheduler.timesteps[0]
    scheduler.step(scheduler.scale_model_input(x, t), t, x)
    for call in (scheduler.scale_model_input, lambda x, t: scheduler.step(x, t, x)):
        with pytest.raises(ValueError, match="ends after step 0, .*call set_timesteps"):
            call(x, t)
    with pytest.raises(ValueError, match="counts the steps from 0"):
        scheduler.set_begin_index(-1)


def test_add_noise_says_how_random_levels_are_drawn():
    scheduler, x = Ours(), randn(2, 3)
    indices = torch.tensor([0, 7])
    with pytest.raises(ValueError, match=r"pass scheduler.timesteps\[indices\], where index 0 is the noisiest"):
        scheduler.add_noise(x, x, indices)
    noisy = scheduler.add_noise(x, torch.ones_like(x), scheduler.timesteps[indices])
    torch.testing.assert_close(noisy, x + scheduler.sigmas[indices].float()[:, None])
    with pytest.raises(ValueError, match="is none of the timesteps"):
        scheduler.add_noise(x, x, torch.tensor([3.0, 4.0]))


def test_a_list_of_too_few_generators_is_refused_and_the_step_can_be_repeated():
    scheduler, x = Ours(), randn(3, 2)
    scheduler.set_timesteps(2)
    t = scheduler.timesteps[0]
    scheduler.scale_model_input(x, t)
    with pytest.raises(ValueError, match="each of the 3 samples, not 2"):
        scheduler.step(x, t, x, generator=[seeded(), seeded()])
    assert scheduler.step(x, t, x, generator=[seeded(i) for i in range(3)]).prev_sample.shape == x.shape
