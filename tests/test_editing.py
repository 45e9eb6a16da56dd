"""What is known is exactly kept: measurements as orthogonal projections, the loop of Algorithm 4, slerp."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import Gaussian
from steady import steady

from fewstep.editing import (
    LUMINANCE,
    STROKE_TIMES,
    Colorize,
    Inpaint,
    SuperResolve,
    edit,
    redraw,
    slerp,
)
from fewstep.schedules import Karras

KARRAS, SHAPE, TIMES = Karras(), (3, 8, 8), [80.0, 5.0, 0.5]
seeds = st.integers(0, 2**31)


def pictures(seed, n=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *SHAPE, generator=generator, dtype=dtype)


def a_mask(seed, shape=(8, 8)):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


measurements = st.one_of(
    st.builds(lambda seed: Inpaint(a_mask(seed)), seeds),
    st.builds(lambda seed: Inpaint(a_mask(seed, (2, 1, 8, 8))), seeds),
    st.just(Colorize()),
    st.builds(SuperResolve, st.sampled_from([1, 2, 4, 8])),
)


@steady
@given(measurement=measurements, seed=seeds, a=st.floats(-3, 3))
def test_a_measurement_is_an_orthogonal_projection(measurement, seed, a):
    x, y = pictures(seed), pictures(seed + 1)
    p = measurement.measure
    torch.testing.assert_close(p(p(x)), p(x))  # idempotent
    assert (p(x) * y).sum().item() == pytest.approx((x * p(y)).sum().item(), abs=1e-9)  # self-adjoint
    torch.testing.assert_close(p(x + a * y), p(x) + a * p(y))  # linear


@steady
@given(measurement=measurements, seed=seeds)
def test_projecting_takes_what_is_known_from_one_and_the_rest_from_the_other(measurement, seed):
    x, y = pictures(seed), pictures(seed + 1)
    p, out = measurement.measure, measurement.project(x, y)
    torch.testing.assert_close(p(out), p(y))
    torch.testing.assert_close(out - p(out), x - p(x))
    torch.testing.assert_close(measurement.project(out, y), out)
    torch.testing.assert_close(measurement.project(y, y), y)


@steady
@given(seed=seeds, dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]))
def test_inpainting_is_exact_to_the_bit(seed, dtype):
    x, y, mask = pictures(seed, dtype=dtype), pictures(seed + 1, dtype=dtype), a_mask(seed)
    out = Inpaint(mask).project(x, y)
    kept = (mask == 0).expand(out.shape)
    assert torch.equal(out[kept], y[kept])
    assert torch.equal(out[~kept], x[~kept])


def test_colorizing_keeps_the_luminance():
    v = torch.tensor(LUMINANCE, dtype=torch.float64)
    grey = lambda x: torch.einsum("nchw,c->nhw", x, v)  # noqa: E731
    x, y = pictures(1), pictures(2)
    out = Colorize().project(x, y)
    torch.testing.assert_close(grey(out), grey(y))
    # the paper's Q, whose first column is v normalised: .4471 .8781 .1705 (it prints .8780)
    column = Colorize().measure(torch.eye(3, dtype=torch.float64).reshape(3, 3, 1, 1)).reshape(3, 3)
    q = torch.tensor([0.4471, 0.8781, 0.1705], dtype=torch.float64)
    torch.testing.assert_close(column, torch.outer(q, q), atol=1e-4, rtol=0)


def test_superresolution_keeps_the_means_of_patches():
    x, y = pictures(1), pictures(2)
    out = SuperResolve(4).project(x, y)
    means = lambda a: a.reshape(2, 3, 2, 4, 2, 4).mean((3, 5))  # noqa: E731
    torch.testing.assert_close(means(out), means(y))
    assert (out - y).abs().max() > 0.1


def test_the_transforms_of_algorithm_4_are_these_projections():
    """A⁻¹[(A y)(1 − Ω) + (A x) Ω] with the published orthogonal matrices, for colour and patches."""
    x, y = pictures(3), pictures(4)
    v = torch.tensor(LUMINANCE, dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.stack([v / v.norm(), *torch.eye(3, dtype=torch.float64)[1:]], 1))
    a_x, a_y = (torch.einsum("nchw,cd->ndhw", a, q) for a in (x, y))
    a_x[:, 0] = a_y[:, 0]
    torch.testing.assert_close(Colorize().project(x, y), torch.einsum("ndhw,cd->nchw", a_x, q))

    basis = torch.eye(16, dtype=torch.float64)
    basis[:, 0] = 1 / 4
    q, _ = torch.linalg.qr(basis)
    patches = lambda a: a.reshape(2, 3, 2, 4, 2, 4).transpose(3, 4).reshape(2, 3, 2, 2, 16) @ q  # noqa: E731
    a_x, a_y = patches(x), patches(y)
    a_x[..., 0] = a_y[..., 0]
    back = (a_x @ q.T).reshape(2, 3, 2, 2, 4, 4).transpose(3, 4).reshape(2, *SHAPE)
    torch.testing.assert_close(SuperResolve(4).project(x, y), back)


ALL = [Inpaint(a_mask(7)), Colorize(), SuperResolve(2)]


@pytest.mark.parametrize("measurement", ALL, ids=lambda m: type(m).__name__)
def test_an_edit_keeps_what_is_known(measurement):
    """Also where the measure lies outside [-1, 1]: estimates are clipped before they are projected."""
    reference = 2 * pictures(5, dtype=torch.float32)
    for times in ([80.0], TIMES):
        out = edit(Gaussian(0.0, 0.5).jump, KARRAS, measurement, reference, times)
        torch.testing.assert_close(measurement.measure(out), measurement.measure(reference), atol=1e-5, rtol=0)
    if isinstance(measurement, Inpaint):
        kept = (measurement.mask == 0).expand(out.shape)
        assert torch.equal(out.to(reference.dtype)[kept], reference[kept])


@pytest.mark.parametrize("measurement", ALL, ids=lambda m: type(m).__name__)
def test_an_edit_is_algorithm_4(measurement):
    """x ~ N(y, t_1²); x_0 = f, clipped, projected; then noise √(t² − ε²) and again."""
    f, reference = Gaussian(0.0, 0.5).jump, pictures(6)
    noise = lambda i, like: pictures(100 + i)  # noqa: E731
    out = edit(f, KARRAS, measurement, reference, TIMES, noise=noise)
    x = measurement.measure(reference) + 80 * noise(0, None)
    for i, t in enumerate(TIMES):
        if i:
            x = x + (t**2 - 0.002**2) ** 0.5 * noise(i, None)
        x = measurement.project(f(x, t).clamp(-1, 1), reference)
    torch.testing.assert_close(out, x)


def test_an_edit_depends_on_what_is_known_only():
    """What the mask hides never reaches the result."""
    measurement, reference = Inpaint(a_mask(7)), pictures(8)
    hidden = torch.where(measurement.mask.bool(), torch.full_like(reference, 0.9), reference)
    noise = lambda i, like: pictures(200 + i)  # noqa: E731
    f = Gaussian(0.0, 0.5).jump
    assert torch.equal(*(edit(f, KARRAS, measurement, y, TIMES, noise=noise) for y in (reference, hidden)))


def test_references_are_prepared():
    grey = torch.rand(2, 1, 8, 8)
    assert Colorize().prepare(grey, SHAPE).shape == (2, 3, 8, 8)
    small = torch.rand(2, 3, 4, 4)
    large = SuperResolve(2).prepare(small, SHAPE)
    assert large.shape == (2, 3, 8, 8)
    torch.testing.assert_close(SuperResolve(2).measure(large)[:, :, ::2, ::2], small)
    full = torch.rand(2, 3, 8, 8)
    assert torch.equal(SuperResolve(2).prepare(full, SHAPE), full)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: Inpaint(torch.full((8, 8), 0.5)), "only 0 .keep. and 1 .fill."),
        (
            lambda: Inpaint(torch.ones(4, 4)).measure(torch.zeros(1, *SHAPE)),
            r"mask is \(4, 4\), the pictures are \(8, 8\)",
        ),
        (lambda: Colorize().measure(torch.zeros(1, 1, 8, 8)), "3 channels"),
        (lambda: SuperResolve(3).measure(torch.zeros(1, *SHAPE)), "does not divide"),
        (lambda: SuperResolve(0), "from 1, not 0"),
        (lambda: Inpaint(torch.ones(8)), r"A mask is \(H, W\), .*, not \(8,\)"),
        (
            lambda: Inpaint(torch.ones(8, 8, 3)).measure(torch.zeros(1, *SHAPE)),
            r"channels come last, mask\[\.\.\., 0\]",
        ),
        (lambda: Inpaint(torch.ones(3, 1, 8, 8)).prepare(torch.zeros(4, *SHAPE), SHAPE), "3 masks .* for 4 pictures"),
        (lambda: Inpaint(torch.ones(5, 1, 8, 8)).prepare(torch.zeros(4, *SHAPE), SHAPE), "5 masks .* for 4 pictures"),
        (lambda: Inpaint(torch.ones(2, 8, 8)).prepare(torch.zeros(4, *SHAPE), SHAPE), "mask has 2 channels"),
        (
            lambda: SuperResolve(2).prepare(torch.zeros(1, 3, 5, 5), SHAPE),
            r"\(3, 5, 5\), the model makes \(3, 8, 8\)",
        ),
        (lambda: Inpaint(torch.ones(8, 8)).prepare(torch.zeros(1, 3, 9, 9), SHAPE), "the model makes"),
    ],
)
def test_bad_input_is_one_sentence(broken, message):
    with pytest.raises(ValueError, match=message):
        broken()


def test_redraw_is_noise_then_sampling():
    painting, z = pictures(9), pictures(10)
    f = Gaussian(0.0, 0.5).jump
    noise = lambda i, like: z if i == 0 else pictures(300 + i)  # noqa: E731
    out = redraw(f, KARRAS, painting, noise=noise)
    first = f(painting + 5.38 * z, 5.38).clamp(-1, 1)
    wanted = f(first + (2.24**2 - 0.002**2) ** 0.5 * pictures(301), 2.24).clamp(-1, 1)
    assert STROKE_TIMES == (5.38, 2.24)
    torch.testing.assert_close(out, wanted)
    gentle = redraw(f, KARRAS, painting.clamp(-1, 1), [0.01], noise=noise)
    assert (gentle - painting.clamp(-1, 1)).abs().max() < 0.05  # a small time keeps the painting


@steady
@given(seed=seeds, fraction=st.floats(0, 1))
def test_slerp_stays_on_the_sphere(seed, fraction):
    z_a, z_b = pictures(seed), pictures(seed + 1)
    z_b = z_b * (z_a.flatten(1).norm(dim=1) / z_b.flatten(1).norm(dim=1))[:, None, None, None]
    z = slerp(z_a, z_b, fraction)
    torch.testing.assert_close(z.flatten(1).norm(dim=1), z_a.flatten(1).norm(dim=1))
    torch.testing.assert_close(slerp(z_a, z_b, 0.0), z_a)
    torch.testing.assert_close(slerp(z_a, z_b, 1.0), z_b)
    angle = lambda a, b: torch.acos(torch.cosine_similarity(a.flatten(1), b.flatten(1)).clamp(-1, 1))  # noqa: E731
    torch.testing.assert_close(angle(z_a, z), fraction * angle(z_a, z_b), atol=1e-5, rtol=0)  # at even pace


def test_slerp_is_per_sample_and_survives_parallel_noises():
    z_a, z_b = pictures(1, 3), pictures(2, 3)
    fractions = torch.tensor([0.0, 0.25, 1.0])
    rows = torch.cat([slerp(z_a[i : i + 1], z_b[i : i + 1], f.item()) for i, f in enumerate(fractions)])
    torch.testing.assert_close(slerp(z_a, z_b, fractions), rows)
    torch.testing.assert_close(slerp(z_a, z_a, 0.3), z_a)
    assert torch.isfinite(slerp(z_a, -z_a, 0.5)).all()
    assert slerp(z_a.float(), z_b.float(), 0.5).dtype == torch.float32
