import diffusers
import numpy as np
import pytest
import torch
from consistency_pipes import loop, memory_of, noise, pipe_of, seeded, unet
from PIL import Image

from fewstep.dropin import consistency_editing as editing
from fewstep.dropin import consistency_scheduler
from fewstep.editing import edit_times
from fewstep.schedules import Karras

Fill, Colour, Enlarge, Redraw = (
    editing.ConsistencyModelInpaintPipeline,
    editing.ConsistencyModelColorizePipeline,
    editing.ConsistencyModelSuperResolutionPipeline,
    editing.ConsistencyModelImg2ImgPipeline,
)
SCHEDULERS = (diffusers.CMStochasticIterativeScheduler, consistency_scheduler.CMStochasticIterativeScheduler)
SIGMAS = [20.0, 3.0, 0.6]
LUMA = torch.tensor([0.2989, 0.5870, 0.1140])


def picture(n: int = 2, channels: int = 3, size: int = 16, seed: int = 1) -> torch.Tensor:
    """In [0, 1], as users hand it over."""
    return torch.rand(n, channels, size, size, generator=seeded(seed))


def mask(size: int = 16) -> torch.Tensor:
    hole = torch.zeros(1, 1, size, size)
    hole[..., 4:11, 3:12] = 1
    return hole


def draws(n: int, calls: int, seed: int) -> list[torch.Tensor]:
    generator = seeded(seed)
    return [torch.randn(n, 3, 16, 16, generator=generator) for _ in range(calls - 1)]


def means(x: torch.Tensor, factor: int = 4) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // factor, factor, w // factor, factor).mean((3, 5))


def filled(x: torch.Tensor):
    return {"image": x, "mask_image": mask()}


def written(kind: type, x: torch.Tensor):
    """What is known, in [-1, 1], and the correction x_0 → A⁻¹[(A y) ⊙ (1 − Ω) + (A x_0) ⊙ Ω] of Algorithm 4."""
    x = 2 * x - 1
    if kind is Fill:
        return x * (1 - mask()), lambda x_0: x * (1 - mask()) + x_0 * mask()
    if kind is Colour:
        basis = torch.linalg.qr(torch.stack([LUMA, torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])], 1).double())[
            0
        ]
        to = lambda y: torch.einsum("ca,nchw->nahw", basis, y.double())  # noqa: E731
        back = lambda y: torch.einsum("ca,nahw->nchw", basis, y).float()  # noqa: E731
        unknown = torch.tensor([0.0, 1, 1])[:, None, None]
        return back(to(x) * (1 - unknown)), lambda x_0: back(to(x) * (1 - unknown) + to(x_0) * unknown)
    spread = lambda y: torch.kron(means(y), torch.ones(4, 4))  # noqa: E731
    return spread(x), lambda x_0: x_0 - spread(x_0) + spread(x)


@pytest.mark.parametrize("kind", [Fill, Colour, Enlarge])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("classes", [None, 10])
def test_edits_are_algorithm_4_written_out(kind, scheduler, classes):
    x, z = picture(), noise(2, 3, 16, 16)
    labels = None if classes is None else [3, 9]
    pipe = pipe_of(kind, scheduler, classes=classes)
    given = filled(x) if kind is Fill else {"image": x}
    given |= {"factor": 4} if kind is Enlarge else {}
    out = pipe(**given, latents=z, generator=seeded(5), sigmas=SIGMAS, class_labels=labels, output_type="latent").images
    known, correct = written(kind, x)
    labels = None if labels is None else torch.tensor(labels)
    wanted = loop(pipe.unet, known + SIGMAS[0] * z, SIGMAS, draws(2, 3, 5), correct, labels)
    torch.testing.assert_close(out, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sigmas", [None, SIGMAS])
def test_redrawing_is_a_noised_painting_sampled(sigmas):
    x, z, times = picture(), noise(2, 3, 16, 16), sigmas or [5.38, 2.24]
    out = pipe_of(Redraw)(x, latents=z, generator=seeded(5), sigmas=sigmas, output_type="latent").images
    wanted = loop(unet(), 2 * x - 1 + times[0] * z, times, draws(2, len(times), 5))
    torch.testing.assert_close(out, wanted, atol=1e-4, rtol=0)


def shapes() -> torch.Tensor:
    """Eight pictures of a coloured square each, in [0, 1]."""
    out = picture(8, size=1, seed=4).expand(-1, -1, 16, 16) * 0.4
    for k, square in enumerate(picture(8, size=1, seed=5)):
        out[k, :, k : k + 6, 8 - k : 15 - k] = 0.4 + 0.6 * square
    return out


@pytest.mark.parametrize("kind", [Fill, Colour, Enlarge, Redraw])
def test_a_model_that_knows_the_pictures_finds_them_again(kind):
    x = shapes()
    pipe = memory_of(kind, 2 * x - 1)
    grey = torch.einsum("c,nchw->nhw", LUMA / LUMA.sum(), x)[:, None]
    hole = torch.zeros(16, 16)
    hole[:, :9] = 1
    given = {
        Fill: {"image": x * (1 - hole) + hole, "mask_image": hole},
        Colour: {"image": list(grey)},
        Enlarge: {"image": means(x)},
        Redraw: {"image": (x + 0.1 * noise(*x.shape)).clamp(0, 1), "sigmas": [0.5]},
    }[kind]
    out = pipe(**given, generator=seeded(2), output_type="pt").images
    torch.testing.assert_close(out, x, atol=1e-4, rtol=0)


def told(pipe, *given, **asked) -> list[float]:
    """The noise levels of a run."""
    heard = []
    pipe(*given, **asked, callback=lambda i, t, x: heard.append((t / 250).exp().item()))
    return heard


def test_the_levels_that_are_chosen():
    x, karras = picture(1), Karras()
    grid = karras.grid(40).tolist()
    for pipe, given in ((pipe_of(Fill), (x, mask())), (pipe_of(Colour), (x,))):
        assert told(pipe, *given) == pytest.approx(edit_times(karras, 8))
        assert told(pipe, *given, num_inference_steps=3) == pytest.approx([20, 20 * 50**-0.5, 0.4])
        assert told(pipe, *given, timesteps=[22, 5]) == pytest.approx([grid[5], grid[22]])
    pipe = pipe_of(Redraw)
    assert told(pipe, x) == pytest.approx([5.38, 2.24])
    assert told(pipe, x, num_inference_steps=1) == pytest.approx([5.38])
    assert told(pipe, x, num_inference_steps=3) == pytest.approx([5.38, (5.38 * 2.24) ** 0.5, 2.24])
    assert told(pipe, x, sigmas=np.array([3.0, 1.0])) == pytest.approx([3, 1])
    assert told(pipe, x, timesteps=torch.tensor([22, 5])) == pytest.approx([grid[5], grid[22]])


def test_known_pixels_stay():
    x, kept = picture(), 1 - mask().expand(2, 3, 16, 16)
    out = pipe_of(Fill)(x, mask(), output_type="pt").images
    torch.testing.assert_close(out * kept, x * kept, atol=1e-7, rtol=0)
    assert (out - x)[kept == 0].abs().mean() > 0.05
    as_uint8 = Image.fromarray((x[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    pil = np.asarray(pipe_of(Fill)(as_uint8, mask()).images[0])
    assert np.array_equal(pil[kept[0, 0] == 1], np.asarray(as_uint8)[kept[0, 0] == 1])


@pytest.mark.parametrize("contrast", [1.0, 0.0])
def test_the_luminance_stays_and_no_colour_leaves_the_range(contrast):
    x = (picture() > 0.5).float() if contrast else picture()
    out = pipe_of(Colour)(x, output_type="pt").images
    luma = lambda y: torch.einsum("c,nchw->nhw", LUMA, y)  # noqa: E731
    torch.testing.assert_close(luma(out), luma(x), atol=3e-7, rtol=0)
    assert 0 <= out.min() < out.max() <= 1
    assert out.std(1).mean() > 0.02  # there are colours


@pytest.mark.parametrize("contrast", [1.0, 0.0])
def test_the_means_of_patches_stay(contrast):
    small = (picture(size=4) > 0.5).float() if contrast else picture(size=4)
    out = pipe_of(Enlarge)(small, output_type="pt").images
    torch.testing.assert_close(means(out), small, atol=3e-7, rtol=0)
    assert 0 <= out.min() < out.max() <= 1
    whole = picture()
    out = pipe_of(Enlarge)(whole, factor=4, output_type="pt").images
    torch.testing.assert_close(means(out), means(whole), atol=3e-7, rtol=0)
    assert out.var((2, 3)).mean() > 1e-4 + means(out).var((2, 3)).mean()  # there is detail


def test_what_lies_within_the_range_is_not_touched():
    for kind, given in ((Fill, filled(picture())), (Colour, {"image": picture() * 0.2 + 0.4})):
        asked = given | {"latents": noise(2, 3, 16, 16), "sigmas": [1.0]}
        latent = pipe_of(kind)(**asked, output_type="latent").images
        inside = (latent.abs() <= 1).all(1, keepdim=True).expand_as(latent)
        assert inside.float().mean() > 0.2
        out = pipe_of(kind)(**asked, output_type="pt").images
        torch.testing.assert_close(out[inside], (latent / 2 + 0.5)[inside], atol=1e-7, rtol=0)


def test_the_same_picture_in_every_form():
    levels = (picture(1)[0] * 255).byte()
    array = levels.permute(1, 2, 0).numpy()
    unit = array.astype(np.float32) / 255
    forms = [
        Image.fromarray(array),
        [Image.fromarray(array)],
        Image.fromarray(array).convert("RGBA"),
        array,
        unit,
        unit[None],
        [unit],
        levels,
        torch.from_numpy(unit).permute(2, 0, 1),
        torch.from_numpy(unit).permute(2, 0, 1)[None] * 2 - 1,
    ]
    hole = mask()[0, 0]
    white = Image.fromarray(hole.mul(255).byte().numpy())
    masks = [hole, hole[None], mask(), hole.numpy(), hole.numpy()[..., None], hole.bool(), white, [white],
             white.convert("RGB"), hole.numpy() * 0.7, white.convert("1")]  # fmt: skip
    asked = {"latents": noise(1, 3, 16, 16), "sigmas": [5.0], "output_type": "np"}
    wanted = pipe_of(Fill)(forms[0], masks[0], **asked).images
    for form, one in [*((form, masks[0]) for form in forms), *((forms[0], one) for one in masks)]:
        assert np.abs(pipe_of(Fill)(form, one, **asked).images - wanted).max() < 1e-5


def test_grey_and_coloured_pictures_of_one_luminance_are_coloured_alike():
    grey = torch.rand(1, 16, 16, generator=seeded(2)) * 0.5 + 0.25
    tinted = grey + torch.tensor([0.1, 0.0, -0.1 * 0.2989 / 0.1140])[:, None, None] * grey
    asked = {"latents": noise(1, 3, 16, 16), "sigmas": [5.0, 1.0], "output_type": "np"}
    wanted = pipe_of(Colour)(grey, **asked, generator=seeded()).images
    for same in (grey[0].numpy(), grey.expand(3, 16, 16), tinted):
        assert np.abs(pipe_of(Colour)(same, **asked, generator=seeded()).images - wanted).max() < 1e-5


def test_transparent_pixels_are_white():
    rgba = np.full((16, 16, 4), 90, np.uint8)
    rgba[:8, :, 3], rgba[8:, :, 3] = 0, 255
    for form in (Image.fromarray(rgba), rgba, torch.from_numpy(rgba).permute(2, 0, 1).float() / 255):
        out = pipe_of(Fill)(form, torch.zeros(16, 16), output_type="pt").images
        assert torch.all(out[:, :, :8] == 1)
        torch.testing.assert_close(out[:, :, 8:], torch.full_like(out[:, :, 8:], 90 / 255))


def test_several_pictures_with_variants_each():
    x, two = picture(), torch.cat([mask(), 1 - mask()])
    pipe = pipe_of(Fill, classes=10)
    z = noise(4, 3, 16, 16)
    out = pipe(
        x, two, num_images_per_image=2, latents=z, sigmas=[5.0], class_labels=[1, 2, 3, 4], output_type="pt"
    ).images
    for row in range(4):
        alone = pipe(x[row // 2], two[row // 2], latents=z[row : row + 1], sigmas=[5.0], class_labels=row + 1,
                     output_type="pt").images  # fmt: skip
        torch.testing.assert_close(out[row : row + 1], alone, atol=1e-5, rtol=0)
    assert len(pipe(x, mask(), num_images_per_image=3, num_inference_steps=1).images) == 6
    assert len(pipe(list(x), mask(), generator=[seeded(1), seeded(2)], num_inference_steps=1).images) == 2


def test_a_model_of_grey_pictures():
    x = picture(2, 1)
    asked = {"latents": noise(2, 1, 16, 16), "sigmas": [5.0], "output_type": "pt"}
    out = pipe_of(Fill, channels=1)(x, mask(), **asked).images
    torch.testing.assert_close(out * (1 - mask()), x * (1 - mask()), atol=1e-7, rtol=0)
    assert torch.equal(pipe_of(Fill, channels=1)(x[:, 0], mask(), **asked).images, out)
    assert torch.equal(pipe_of(Fill, channels=1)(x[:, 0].numpy(), mask(), **asked).images, out)
    with pytest.raises(ValueError, match="model of 3 channels"):
        pipe_of(Colour, channels=1)(x)


def test_sizes_that_are_not_square():
    x = torch.rand(1, 3, 8, 16, generator=seeded())
    out = pipe_of(Enlarge, size=(8, 16))(x[..., ::2, ::2], output_type="pt", num_inference_steps=1).images
    torch.testing.assert_close(means(out, 2), x[..., ::2, ::2], atol=3e-7, rtol=0)
    assert pipe_of(Redraw, size=(8, 16))(x).images[0].size == (16, 8)


def test_half_precision_keeps_what_is_known():
    x = picture()
    out = pipe_of(Fill).to(torch.bfloat16)(x, mask(), output_type="pt").images
    assert out.dtype == torch.float32
    torch.testing.assert_close(out * (1 - mask()), x * (1 - mask()), atol=1e-7, rtol=0)


def test_callbacks_see_the_estimates():
    x, seen = picture(), []
    pipe_of(Fill)(x, mask(), callback_on_step_end=lambda pipe, i, t, tensors: seen.append(tensors["denoised"]),
                  callback_on_step_end_tensor_inputs=["denoised"], sigmas=SIGMAS)  # fmt: skip
    assert len(seen) == 3
    for estimate in seen:
        torch.testing.assert_close(estimate * (1 - mask()), (2 * x - 1) * (1 - mask()), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("kind", "given", "what"),
    [
        (Fill, {"image": picture(size=8), "mask_image": mask()}, r"`image` is 8×8 pixels, this model draws 16×16"),
        (Fill, {"image": picture(), "mask_image": mask(8)}, "`mask_image` is 8×8 pixels"),
        (Fill, {"image": picture(), "mask_image": mask().expand(3, 1, 16, 16)}, "3 masks were given for 2 pictures"),
        (Fill, {"image": picture(), "mask_image": mask() - 1}, "mask lies in"),
        (Fill, {"image": picture() * 255, "mask_image": mask()}, "reach from"),
        (Fill, {"image": picture() / 0, "mask_image": mask()}, "reach from"),
        (Fill, {"image": picture(channels=2), "mask_image": mask()}, "2 channels, not 3"),
        (Fill, {"image": [], "mask_image": mask()}, "`image` is empty"),
        (Fill, {"image": [picture(), picture(size=8)], "mask_image": mask()}, "differ in shape"),
        (Fill, {"image": picture().long(), "mask_image": mask()}, "holds torch.int64"),
        (Redraw, {"image": picture()[None]}, "5 axes"),
        (Redraw, {"image": picture(), "num_images_per_image": 0}, "num_images_per_image"),
        (Redraw, {"image": picture(), "class_labels": 3}, "unconditional"),
        (Enlarge, {"image": picture(size=5)}, "5×5 pixels, not the 16×16 of this model, by a whole factor"),
        (Enlarge, {"image": picture()}, "say by which factor="),
        (Enlarge, {"image": picture(size=8), "factor": 4}, "8×8 pixels, not the 16×16 of this model, 4 times smaller"),
        (Enlarge, {"image": picture(), "factor": 3}, "does not divide"),
        (Enlarge, {"image": picture(), "factor": 0}, "from 1"),
        (Colour, {"image": picture(), "sigmas": [100.0]}, "sigma_max"),
        (Colour, {"image": picture(), "num_inference_steps": 0}, "at least 1"),
        (Redraw, {"image": picture(), "num_inference_steps": 0}, "at least one"),
    ],
)
def test_what_cannot_be_edited_is_said(kind, given, what):
    with pytest.raises(ValueError, match=what):
        pipe_of(kind)(**given)


def test_what_is_no_picture_or_no_argument():
    with pytest.raises(TypeError, match="`image` is a PIL image, a NumPy array, a tensor or a list of them, not str"):
        pipe_of(Redraw)("cat.png")
    with pytest.raises(TypeError, match="has no argument 'mask_img'; did you mean 'mask_image'"):
        pipe_of(Fill)(picture(), mask_img=mask())
    with pytest.raises(TypeError, match="has no argument 'strength'"):
        pipe_of(Redraw)(picture(), strength=0.5)
