import json

import diffusers
import numpy as np
import pytest
import torch
from consistency_pipes import loop, noise, pipe_of, seeded, unet
from diffusers.callbacks import PipelineCallback

from fewstep.dropin import consistency_pipeline, consistency_run, consistency_scheduler
from fewstep.dropin.consistency_editing import ConsistencyModelInpaintPipeline

Stock, Ours = diffusers.ConsistencyModelPipeline, consistency_pipeline.ConsistencyModelPipeline
SCHEDULERS = (diffusers.CMStochasticIterativeScheduler, consistency_scheduler.CMStochasticIterativeScheduler)


@pytest.mark.parametrize(
    "levels", [{}, {"num_inference_steps": 2}, {"num_inference_steps": None, "timesteps": [22, 0]}]
)
@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_pictures_are_those_of_diffusers(levels, classes, scheduler):
    labels = None if classes is None else [3, 9]
    asked = {"batch_size": 2, "latents": noise(2, 3, 16, 16), "class_labels": labels, "output_type": "np", **levels}
    stock = pipe_of(Stock, classes=classes)(**asked, generator=seeded()).images
    ours = pipe_of(Ours, scheduler, classes=classes)(**asked, generator=seeded()).images
    assert ours.dtype == np.float32
    assert np.abs(ours - stock).max() < 1e-5
    assert np.abs(ours - 0.5).max() > 0.05


def test_one_generator_gives_what_it_gives_in_diffusers():
    for generators in (lambda: seeded(5), lambda: [seeded(5), seeded(6)]):
        asked = {"batch_size": 2, "num_inference_steps": 2, "output_type": "np"}
        stock = pipe_of(Stock)(**asked, generator=generators()).images
        assert np.abs(pipe_of(Ours)(**asked, generator=generators()).images - stock).max() < 1e-5


def test_bit_for_bit_the_same_from_both_schedulers():
    asked = {"num_inference_steps": 3, "output_type": "pt"}
    first, second = (pipe_of(Ours, scheduler)(**asked, generator=seeded()).images for scheduler in SCHEDULERS)
    assert torch.equal(first, second)


def test_sigmas_are_real_noise_levels():
    z, draw = noise(2, 3, 16, 16), torch.randn(2, 3, 16, 16, generator=seeded(3))
    for first in (80.0, 20.0):
        drawn = pipe_of(Ours)(2, sigmas=[first, 1.38], latents=z, generator=seeded(3), output_type="latent").images
        written = loop(unet(), first * z, [first, 1.38], [draw])
        torch.testing.assert_close(drawn, written, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("levels", "what"),
    [
        ({"sigmas": [1.0, 2.0]}, None),
        ({"sigmas": [90.0]}, None),
        ({"sigmas": []}, None),
        ({"timesteps": []}, None),
        ({"timesteps": [0, 22]}, "decreasing"),
        ({"timesteps": [22, 0], "sigmas": [80.0]}, "contradict"),
        ({"num_inference_steps": None}, "num_inference_steps"),
        ({"num_inference_steps": 0}, None),
        ({"num_inference_steps": 41}, "41"),
    ],
)
def test_levels_that_cannot_be_are_refused(levels, what, scheduler):
    with pytest.raises(ValueError, match=what):
        pipe_of(Ours, scheduler)(**levels)


def test_timesteps_alone_warn_of_nothing(caplog):
    caplog.set_level("WARNING", logger="diffusers")  # which other code may have silenced
    diffusers.utils.logging.enable_propagation()
    try:
        pipe_of(Ours)(timesteps=[22, 0])
        assert not caplog.records
        pipe_of(Ours)(timesteps=[22, 0], num_inference_steps=3)
        assert "num_inference_steps=3 is ignored" in caplog.text
    finally:
        diffusers.utils.logging.disable_propagation()


@pytest.mark.parametrize("generators", [lambda: seeded(1), lambda: [seeded(1), seeded(2), seeded(3), seeded(4)]])
def test_labels_come_from_the_generator(generators):
    pipe = pipe_of(Ours, classes=10)
    torch.manual_seed(0)
    first = pipe(4, generator=generators(), output_type="np").images
    torch.manual_seed(1)
    assert np.array_equal(first, pipe(4, generator=generators(), output_type="np").images)


def test_each_picture_of_a_list_of_generators_is_its_own():
    pipe = pipe_of(Ours, classes=10)
    together = pipe(2, generator=[seeded(1), seeded(2)], output_type="np", num_inference_steps=2).images
    alone = pipe(1, generator=[seeded(2)], output_type="np", num_inference_steps=2).images
    assert np.abs(together[1] - alone[0]).max() < 1e-5


def test_labels_of_every_kind():
    pipe = pipe_of(Ours, classes=10)
    z = noise(2, 3, 16, 16)
    drawn = [
        pipe(2, class_labels=labels, latents=z, output_type="np").images
        for labels in (4, np.int64(4), [4, 4], np.array([4, 4]), torch.tensor([4, 4]), torch.tensor([4, 4]).int())
    ]
    assert all(np.array_equal(drawn[0], other) for other in drawn)
    assert not np.array_equal(drawn[0], pipe(2, class_labels=5, latents=z, output_type="np").images)


@pytest.mark.parametrize("labels", [[1, 2, 3], 10, -1, torch.tensor(1.5), np.array("cat"), [1, 11]])
def test_labels_that_cannot_be_are_refused(labels):
    with pytest.raises(ValueError, match="class.label"):
        pipe_of(Ours, classes=10)(2, class_labels=labels)


def test_an_unconditional_model_takes_no_labels():
    with pytest.raises(ValueError, match="unconditional"):
        pipe_of(Ours)(class_labels=1)


@pytest.mark.parametrize(("size", "channels"), [(16, 1), ((8, 16), 3), ((16, 8), 4), (16, 2)])
def test_any_channels_and_sizes(size, channels):
    pipe = pipe_of(Ours, size=size, channels=channels)
    height, width = (size, size) if isinstance(size, int) else size
    z = noise(2, channels, height, width)
    out = pipe(2, latents=z, output_type="latent", num_inference_steps=1).images
    torch.testing.assert_close(out, loop(pipe.unet, 80 * z, [80.0], []), atol=1e-4, rtol=0)
    assert pipe(2, latents=z, output_type="np").images.shape == (2, height, width, channels)
    if channels != 2:
        assert pipe(latents=z[:1]).images[0].size == (width, height)


def test_channels_that_pillow_has_not_are_said():
    with pytest.raises(ValueError, match="2 channels"):
        pipe_of(Ours, channels=2)()


def test_half_precision_to_pictures():
    pipe = pipe_of(Ours)
    whole = pipe(generator=seeded(), latents=noise(1, 3, 16, 16), output_type="np").images
    for dtype in (torch.bfloat16, torch.float16):
        pipe.to(dtype)
        half = pipe(generator=seeded(), latents=noise(1, 3, 16, 16), output_type="np").images
        assert half.dtype == np.float32
        assert np.abs(half - whole).max() < 0.05
        assert pipe(num_inference_steps=2).images[0].size == (16, 16)


def test_the_outputs_agree():
    pipe, z = pipe_of(Ours), noise(2, 3, 16, 16)
    pil, array, tensor, latent = (pipe(2, latents=z, output_type=kind).images for kind in ("pil", "np", "pt", "latent"))
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    assert torch.equal((latent / 2 + 0.5).clamp(0, 1), tensor)
    assert np.array_equal(np.stack([np.asarray(one) for one in pil]), (array * 255).round().astype(np.uint8))
    assert torch.equal(pipe(2, latents=z, output_type="pt", return_dict=False)[0], tensor)


def test_unknown_arguments_are_refused_with_the_nearest():
    with pytest.raises(TypeError, match=r"'class_label'; did you mean 'class_labels'\?"):
        pipe_of(Ours)(class_label=3)
    with pytest.raises(TypeError, match="has no argument 'guidance_scale'"):
        pipe_of(Ours)(guidance_scale=3)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"output_type": "jpg"}, "output_type"),
        ({"callback_steps": 0}, "callback_steps"),
        ({"batch_size": 0}, "from 1"),
        ({"batch_size": 2, "generator": [seeded()]}, "1 generators"),
        ({"latents": noise(1, 3, 8, 8)}, "shape of latents"),
        ({"callback_on_step_end": print, "callback_on_step_end_tensor_inputs": ["latent"]}, "did you mean 'latents'"),
    ],
)
def test_what_cannot_be_is_said(asked, what):
    with pytest.raises(ValueError, match=what):
        pipe_of(Ours)(**asked)


def test_a_unet_without_a_size_says_so():
    with pytest.raises(ValueError, match="sample_size"):
        pipe_of(Ours, size=None)()


def test_other_components_are_refused():
    with pytest.raises(TypeError, match="CMStochasticIterativeScheduler as scheduler, not DDIMScheduler"):
        Ours(unet=unet(), scheduler=diffusers.DDIMScheduler())
    with pytest.raises(TypeError, match="UNet2DModel as unet, not Linear"):
        consistency_run.check_components("P", torch.nn.Linear(1, 1), SCHEDULERS[0]())
    pipe = pipe_of(Ours)
    pipe.scheduler = diffusers.DDIMScheduler()
    with pytest.raises(TypeError, match="not DDIMScheduler"):
        pipe()


def test_the_old_callback_hears_what_diffusers_says():
    def heard(kind):
        told = []
        pipe_of(kind)(num_inference_steps=5, latents=noise(1, 3, 16, 16), generator=seeded(), callback_steps=2,
                      callback=lambda i, t, x: told.append((i, t.item(), x.clone())))  # fmt: skip
        return told

    ours, stock = heard(Ours), heard(Stock)
    assert [i for i, _, _ in ours] == [0, 2, 4]
    for (_, t, x), (_, t_stock, x_stock) in zip(ours, stock, strict=True):
        assert t == pytest.approx(t_stock)
        torch.testing.assert_close(x, x_stock, atol=1e-4, rtol=0)


def test_the_new_callback_is_told_and_may_change_the_latents():
    told = []

    def watch(pipe, i, t, tensors):
        told.append((i, sorted(tensors), pipe.num_timesteps))
        return {"latents": torch.zeros_like(tensors["latents"])} if i == 1 else None

    pipe = pipe_of(Ours)
    out = pipe(num_inference_steps=2, callback_on_step_end=watch, output_type="latent",
               callback_on_step_end_tensor_inputs=["latents", "denoised"])  # fmt: skip
    assert told == [(0, ["denoised", "latents"], 2), (1, ["denoised", "latents"], 2)]
    assert not out.images.any()


def test_callbacks_of_diffusers_own_class():
    class Watch(PipelineCallback):
        tensor_inputs = ["denoised"]  # noqa: RUF012
        seen = 0

        def callback_fn(self, pipeline, step_index, timesteps, callback_kwargs):
            Watch.seen += list(callback_kwargs) == ["denoised"]
            return callback_kwargs

    pipe_of(Ours)(num_inference_steps=2, callback_on_step_end=Watch(cutoff_step_ratio=None, cutoff_step_index=0))
    assert Watch.seen == 2


def test_nothing_is_drawn_after_the_last_call():
    one, two = seeded(), seeded()
    pipe_of(Ours)(num_inference_steps=2, generator=one)
    torch.randn(2, 3, 16, 16, generator=two)
    assert torch.equal(torch.randn(4, generator=one), torch.randn(4, generator=two))


@pytest.mark.parametrize("kind", [Ours, ConsistencyModelInpaintPipeline])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_what_is_saved_loads_where_fewstep_is_not(tmp_path, kind, scheduler):
    pipe = pipe_of(kind, scheduler, classes=10)
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "ConsistencyModelPipeline"
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    assert index["scheduler"] == ["diffusers", "CMStochasticIterativeScheduler"]
    asked = {"latents": noise(1, 3, 16, 16), "class_labels": 3, "output_type": "np"}
    wanted = pipe_of(Ours, classes=10)(**asked).images
    for loader in (diffusers.DiffusionPipeline, Stock):
        stock = loader.from_pretrained(tmp_path)
        assert type(stock) is Stock
        assert type(stock.scheduler) is diffusers.CMStochasticIterativeScheduler
        assert np.abs(stock(**asked).images - wanted).max() < 1e-5


def test_a_folder_of_diffusers_loads_and_pipes_are_made_of_pipes(tmp_path):
    stock = pipe_of(Stock)
    stock.save_pretrained(tmp_path)
    z = noise(1, 3, 16, 16)
    wanted = stock(latents=z, output_type="np").images
    for pipe in (Ours.from_pretrained(tmp_path), Ours.from_pipe(stock), Ours(**stock.components)):
        assert type(pipe) is Ours
        assert np.abs(pipe(latents=z, output_type="np").images - wanted).max() < 1e-5
    edit = ConsistencyModelInpaintPipeline.from_pretrained(tmp_path)
    assert type(edit) is ConsistencyModelInpaintPipeline
    assert type(Stock.from_pipe(edit)) is Stock
    assert Ours.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).unet.dtype is torch.bfloat16
    assert Ours.model_cpu_offload_seq == "unet"
