"""What a user does with a model; every picture a function of (seed, index, label) alone."""

import pytest
import torch
from model_helpers import random_model

import fewstep
from fewstep.editing import Colorize, Inpaint, SuperResolve
from fewstep.model import pick_device
from fewstep.sampling import spaced_times
from fewstep.tensors import noise


@pytest.fixture(scope="module")
def model():
    return random_model(times={"2": (80.0, 0.9)})


@pytest.fixture(scope="module")
def teacher():
    return random_model(consistent=False)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"steps": 3}, {"times": [20.0, 1.0]}, {"labels": 4}])
def test_a_picture_does_not_depend_on_its_batch(model, options):
    whole = model.sample(8, seed=5, **options)
    assert whole.shape == (8, 1, 8, 8)
    assert whole.dtype == torch.float32
    assert whole.flatten(1).std(0).mean() > 0.01  # they differ from each other
    for batch in (1, 3, 8):
        close(model.sample(8, seed=5, batch=batch, **options), whole)
    close(model.sample(3, seed=5, first=4, **options), whole[4:7])
    assert not torch.allclose(model.sample(8, seed=6, **options), whole, atol=1e-2)


@pytest.mark.parametrize("sampler", ["heun", "euler", "dpm", "ancestral"])
def test_nor_does_that_of_a_teacher(teacher, sampler):
    whole = teacher.sample(5, seed=5, steps=4, sampler=sampler)
    close(teacher.sample(5, seed=5, steps=4, sampler=sampler, batch=2), whole)
    close(teacher.sample(2, seed=5, steps=4, sampler=sampler, first=3), whole[3:])


def test_labels_left_out_are_drawn_from_the_seed(model):
    drawn = model.design.condition.ask(None, 2, range(6))
    assert torch.equal(model.sample(6, seed=2), model.sample(6, seed=2, labels=drawn))
    assert torch.equal(model.sample(6, seed=2), model.sample(6, seed=2, labels=drawn.tolist()))
    assert not torch.allclose(model.sample(6, seed=2), model.sample(6, seed=2, labels=(drawn + 1) % 10), atol=1e-3)


def test_one_step_is_the_consistency_function_itself(model):
    z = noise(7, range(4), (1, 8, 8))
    labels = torch.tensor([1, 2, 3, 4])
    with torch.no_grad():
        wanted = model.denoiser(80 * z, 80.0, labels=labels).clamp(-1, 1)
    close(model.sample(4, seed=7, labels=labels), wanted)
    close(model.sample(4, seed=7, labels=labels, clip=False).clamp(-1, 1), wanted)


def test_times(model, teacher):
    assert model.times() == [80.0]
    assert model.times(2) == [80.0, 0.9]  # stored with the model
    assert model.times(3) == spaced_times(model.schedule, 3)
    assert model.times(times=(10.0, 1.0)) == [10.0, 1.0]
    assert model.times(2, (10.0, 1.0)) == [10.0, 1.0]
    for steps, times, words in [
        (3, [10.0, 1.0], "contradict"),
        (None, [1.0, 10.0], "decrease"),
        (None, [], "at least one"),
        (None, [100.0], "within"),
        (None, [1.0, 0.0], "within"),
        (0, None, "at least 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.sample(1, steps=steps, times=times)
    for steps, times, words in [
        (3, [10.0, 1.0], "contradict"),
        (None, [1.0, 10.0], "decrease"),
        (None, [100.0], "within"),
    ]:
        with pytest.raises(ValueError, match=words):
            teacher.sample(1, steps=steps, times=times)


def test_a_walk_ends_at_zero(teacher):
    ended = teacher.sample(2, times=[80.0, 1.0, 0.0])
    assert torch.equal(teacher.sample(2, times=[80.0, 1.0]), ended)
    assert torch.equal(teacher.sample(2, steps=2, times=[80.0, 1.0]), ended)


def test_what_cannot_be_asked(model):
    with pytest.raises(ValueError, match="There is no sampler 'magic'; there are: consistency, heun"):
        model.sample(1, sampler="magic")
    with pytest.raises(ValueError, match="0 to 9"):
        model.sample(1, labels=10)
    with pytest.raises(ValueError, match="unconditional"):
        random_model(classes=0).sample(1, labels=1)
    with pytest.raises(ValueError, match="batch is at least 1"):
        model.sample(1, batch=0)
    with pytest.raises(ValueError, match=r"Pictures for this model are \(n, 1, 8, 8\)"):
        model.redraw(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="The picture to edit"):
        model.edit(torch.zeros(1, 1, 9, 9), Inpaint(torch.ones(9, 9)))


def test_progress_counts_the_pictures(model):
    seen = []
    assert model.sample(7, batch=3, progress=seen.append).shape[0] == 7
    assert seen == [3, 3, 1]
    assert model.sample(0).shape == (0, 1, 8, 8)


def pictures(n, channels=1):
    return (torch.randn(n, channels, 8, 8, generator=torch.Generator().manual_seed(3)) * 0.5).clamp(-1, 1)


def test_inpainting_keeps_what_is_known_exactly(model):
    mask = torch.zeros(8, 8)
    mask[2:6, 3:7] = 1
    x = pictures(5)
    y = model.edit(x, Inpaint(mask), seed=1)
    assert torch.equal(y[..., mask == 0], x[..., mask == 0])
    assert not torch.allclose(y[..., mask == 1], x[..., mask == 1], atol=1e-2)
    close(model.edit(x, Inpaint(mask), seed=1, batch=2), y)
    close(model.edit(x[3:], Inpaint(mask), seed=1, first=3), y[3:])
    masks = torch.stack([mask.roll(i, 1)[None] for i in range(5)])
    each = model.edit(x, Inpaint(masks), seed=1, batch=2)
    kept = (masks == 0).expand_as(x)
    assert torch.equal(each[kept], x[kept])
    close(each[:1], y[:1])


def test_super_resolution_keeps_the_means(model):
    x = pictures(3)
    measurement = SuperResolve(2)
    y = model.edit(x, measurement, steps=2)
    torch.testing.assert_close(measurement.measure(y), measurement.measure(x), rtol=0, atol=1e-6)
    small = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(model.edit(small, measurement, steps=2), y, rtol=0, atol=1e-5)


def test_colorization_keeps_the_luminance():
    model, x = random_model(channels=3), pictures(3, 3)
    y = model.edit(x, Colorize(), times=[80.0, 5.0])
    torch.testing.assert_close(Colorize().measure(y), Colorize().measure(x), rtol=0, atol=1e-6)


def test_an_edit_takes_eight_calls_unless_told_otherwise(model):
    x, measurement = pictures(2), Inpaint(torch.ones(8, 8))
    close(model.edit(x, measurement), model.edit(x, measurement, steps=8))
    with pytest.raises(ValueError, match="at least 1"):
        model.edit(x, measurement, steps=0)


def test_redraw_starts_at_the_painting(model):
    x = pictures(4)
    y = model.redraw(x, seed=9)
    close(model.redraw(x[2:], seed=9, first=2), y[2:])
    almost = model.redraw(x, times=[0.01], seed=9)
    assert (almost - x).abs().max() < 0.1
    assert (y - x).abs().max() > 0.1


def test_denoise_is_one_call(model):
    x, labels = pictures(3) * 3, torch.tensor([1, 2, 3])
    with torch.no_grad():
        wanted = model.denoiser(x, 2.0, labels=labels).clamp(-1, 1)
    close(model.denoise(x, 2.0, labels=labels), wanted)
    with pytest.raises(ValueError, match="within"):
        model.denoise(x, 100.0)


@pytest.mark.parametrize("steps", [1, 2])
def test_interpolation_joins_the_pictures_of_two_seeds(model, steps):
    path = model.interpolate(3, 4, 5, steps=steps)
    label = int(model.design.condition.ask(None, 3, range(1)))
    assert path.shape == (5, 1, 8, 8)
    close(path[:1], model.sample(1, seed=3, steps=steps))
    close(path[-1:], model.sample(1, seed=4, steps=steps, labels=label))
    between = model.interpolate(3, 4, 3, steps=steps, labels=[1, 2, 3])
    close(between[:1], model.sample(1, seed=3, labels=1, steps=steps))
    close(between[-1:], model.sample(1, seed=4, labels=3, steps=steps))


def test_a_saved_model_is_the_same_model(model, tmp_path):
    model.save(tmp_path / "m")
    again = fewstep.load(tmp_path / "m", device="cpu")
    assert again.design == model.design
    assert torch.equal(again.sample(3, steps=2, seed=1), model.sample(3, steps=2, seed=1))


def test_a_model_is_not_trained_by_using_it(model):
    assert not model.denoiser.training
    assert not any(p.requires_grad for p in model.denoiser.parameters())


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match="'toaster' is no kind of device: use 'auto'"):
        pick_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="sees no CUDA device"):
            pick_device("cuda")
    if not torch.accelerator.is_available():
        assert pick_device("auto") == torch.device("cpu")
        with pytest.raises(ValueError, match="no device 'mps' here"):
            pick_device("mps")


def test_weights_of_another_network_are_refused(model):
    from fewstep.model import build

    weights = dict(model.denoiser.network.state_dict())
    with pytest.raises(ValueError, match=r"do not fit the network: of \d+ tensors 3 of another shape \(stem.weight"):
        build(random_model(channels=3).design, weights)
    del weights["stem.weight"]
    with pytest.raises(ValueError, match=r"1 missing \(stem.weight\)"):
        build(model.design, weights)
