"""Continuous time: the limits of the discrete objectives, and derivatives against finite differences."""

import pytest
import torch
from oracle import EPS, Gaussian, T, squares
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fewstep.denoiser import Denoiser
from fewstep.discretizations import Grid
from fewstep.distances import L1, Distance, Huber, PseudoHuber, RandomFilters, Squared
from fewstep.networks import CompactShape, UNetShape
from fewstep.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    ContinuousDistillation,
    ContinuousTraining,
    Draw,
)
from fewstep.objectives.along import along
from fewstep.parameterizations import Boundary
from fewstep.schedules import Discrete, Karras
from fewstep.solvers import Euler, Heun
from fewstep.targets import Same, StopGradient
from fewstep.weightings import InverseGap, KarrasWeighting, Uniform

KARRAS, DATA = Karras(), Gaussian(0.0, 0.5)


class Exact(nn.Module):
    def forward(self, x, t, **cond):
        return DATA.denoise(x, t)


class Smooth(nn.Module):
    """f(x, t) = g(t) x with g(t) = (1 + (t − ε)²/p)^−½: the exact function of Gaussian data for p = s² + ε², about."""

    def __init__(self, p=0.4):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p, dtype=torch.float64))

    def forward(self, x, t, **cond):
        return x * (1 + (t - EPS) ** 2 / self.p).rsqrt()[:, None, None, None]


def drawn(t, s):
    """Quadrature points as data and noise at each of the times (n,), and the points' weights."""
    x_0, z, weight = squares()
    points, shape = len(weight), (-1, 1, 1, 1)
    x_0, z, weight = (part.repeat(len(t)) for part in (x_0, z, weight))
    t, s, share = t.repeat_interleave(points), s.repeat_interleave(points), weight / len(t)
    return Draw(KARRAS, DATA.std * x_0.reshape(shape), z.reshape(shape), t, s, {}), share


def mean(objective, t, s, teacher=None, scale=1.0, student=None):
    """The exact mean of the loss over data and noise, and its gradient; `scale` (n,) weighs the times."""
    student, (draw, weight) = student or Smooth(), drawn(t, s)
    scale = torch.as_tensor(scale, dtype=torch.float64).expand(len(t)).repeat_interleave(len(weight) // len(t))
    loss = (weight * scale * objective.loss(student, student, draw, teacher=teacher)).sum()
    return loss.item(), torch.autograd.grad(loss, student.p)[0].item()


def positions(n):
    """Midpoints u of n − 1 intervals, τ(u), and dτ/du, negative as times fall."""
    u = (torch.arange(n - 1, dtype=torch.float64) + 0.5) / (n - 1)
    high, low = T ** (1 / 7), EPS ** (1 / 7)
    return u, KARRAS.at(u), 7 * (high + u * (low - high)) ** 6 * (low - high)


def limits(objective, teacher=None, power=1):
    """The mean of the continuous loss, with λ = |τ′|^power, over all times."""
    _, t, slope = positions(2001)
    return mean(objective, t, t, teacher, slope.abs() ** power)


def test_distillation_tends_to_the_loss_of_theorem_3():
    """(N − 1)² L_CD(θ, θ) → ∫ τ′² ½ ḟ · G ḟ du, and so do the gradients, where they flow through both sides."""
    loss, gradient = limits(ContinuousDistillation(stop_gradient=False), Exact(), power=2)
    for n, within in ((500, 0.01), (5000, 0.0001)):
        grid = KARRAS.grid(n)
        discrete = ConsistencyDistillation(Grid(n), Squared(), Uniform(), Same(), Heun())
        theirs = mean(discrete, grid[:-1], grid[1:], Exact())
        assert (n - 1) ** 2 * theirs[0] == pytest.approx(loss, rel=within)
        assert (n - 1) ** 2 * theirs[1] == pytest.approx(gradient, rel=within)


@pytest.mark.parametrize("kind", ["distillation", "training"])
def test_stopped_gradients_tend_to_those_of_theorems_5_and_6(kind):
    """(N − 1) ∇L_CD and (N − 1) ∇L_CT → ∫ |τ′| ∇f · G ḟ du."""
    parts = (Squared(), Uniform(), StopGradient())
    distils = kind == "distillation"
    objective = ContinuousDistillation() if distils else ContinuousTraining()
    gradient = limits(objective, Exact())[1]
    for n, within in ((500, 0.05), (5000, 0.005)):
        grid = KARRAS.grid(n)
        discrete = (
            ConsistencyDistillation(Grid(n), *parts, Euler()) if distils else ConsistencyTraining(Grid(n), *parts)
        )
        theirs = mean(discrete, grid[:-1], grid[1:], Exact())[1]
        assert (n - 1) * theirs == pytest.approx(gradient, rel=within)


def test_training_and_distillation_have_one_stopped_gradient():
    """z is the teacher's direction in the mean, and a constant's noise goes as soon as it is multiplied by ∇f."""
    training, distillation = limits(ContinuousTraining()), limits(ContinuousDistillation(), Exact())
    assert training[1] == pytest.approx(distillation[1], rel=1e-9)
    assert training[0] > 1.5 * distillation[0]  # the losses themselves keep it


def test_a_norm_tends_to_theorem_4():
    """(N − 1) L_CD(θ, θ) → ∫ |τ′| |ḟ| du with ℓ1, whose derivative jumps: no second derivative is needed."""
    n = 4000
    grid = KARRAS.grid(n)
    discrete = ConsistencyDistillation(Grid(n), L1(), Uniform(), Same(), Heun())
    theirs = mean(discrete, grid[:-1], grid[1:], Exact())
    ours = limits(ContinuousDistillation(L1(), stop_gradient=False), Exact())
    assert [(n - 1) * part for part in theirs] == pytest.approx(ours, rel=1e-3)


def test_a_consistency_function_does_not_change_along_its_trajectories():
    x, t = (
        torch.randn(6, 1, 2, 2, dtype=torch.float64),
        torch.tensor([EPS, 0.1, 0.7, 3.0, 20.0, T], dtype=torch.float64),
    )
    v = (x - DATA.denoise(x, t)) / t[:, None, None, None]
    f, change = along(DATA.jump, x, t, v)
    torch.testing.assert_close(f, DATA.jump(x, t))
    assert change.abs().max() < 1e-12
    assert along(DATA.jump, x, t, 0 * v)[1].abs().max() > 0.01  # standing still, it does


DISTANCES = {
    "l1": (L1(), 1),
    "squared": (Squared(), 2),
    "squared-4": (Squared(4), 2),
    "huber": (Huber(0.05), 2),
    "huber-0": (Huber(0.0), 1),
    "pseudo-huber": (PseudoHuber(), 2),
    "norm": (PseudoHuber(0.0), 1),
    "filters": (RandomFilters((4, 8)), 2),
}


@pytest.mark.parametrize(("distance", "power"), DISTANCES.values(), ids=DISTANCES)
def test_limits_are_those_of_distances(distance, power):
    """limit(x, v) = lim d(x, x − h v)/h^p, and its gradient by v that of d(x, y) by x at y = x − h v, over h^(p−1)."""
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(3, 2, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    v.requires_grad_()
    limit = distance.limit(x, v)
    slope = torch.autograd.grad(limit.sum(), v)[0]
    h, y = 1e-6, x.clone().requires_grad_()
    near = distance(y, x - h * v.detach())
    torch.testing.assert_close(
        limit.detach(), near.detach() / h**power, rtol=2e-3 if distance == RandomFilters((4, 8)) else 3e-5, atol=0
    )
    torch.testing.assert_close(slope, torch.autograd.grad(near.sum(), y)[0] / h ** (power - 1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("distance", [Squared(), Squared(4), Huber(0.05), PseudoHuber()])
def test_closed_limits_are_the_second_derivatives(distance):
    x, v = torch.randn(2, 2, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(distance.limit(x, v), Distance.limit(distance, x, v).detach())


SHAPES = {
    "compact": CompactShape(2, 8, 3, widths=(8, 16), blocks=1, embedding=16, dropout=0.3),
    "unet": UNetShape(2, 8, 3, model_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(4,)),
    "unet-recomputed": UNetShape(
        2, 8, 3, model_channels=32, num_res_blocks=1, channel_mult=(1,), attention_resolutions=(), use_checkpoint=True
    ),
}


def network(name, seed=0):
    """A network none of whose layers is zero, in float64."""
    torch.manual_seed(seed)
    made = SHAPES[name].build().double()
    for p in made.parameters():
        nn.init.normal_(p, 0.0, 0.1) if p.ndim > 1 else None
    return Denoiser(made, KARRAS, Boundary())


def batch(n=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x_0, z = (torch.randn(n, 2, 8, 8, generator=generator, dtype=dtype) for _ in range(2))
    t = torch.tensor([0.05, 0.8, 30.0], dtype=dtype)[:n]
    return Draw(KARRAS, x_0, z, t, t, {"labels": torch.tensor([0, 2, -1])[:n]})


@pytest.mark.parametrize("name", SHAPES)
def test_derivatives_along_a_trajectory_are_those_of_differences(name):
    f, draw = network(name).eval(), batch()
    x_t = KARRAS.perturb(draw.x_0, draw.z, draw.t)
    with torch.no_grad():
        value, change = along(lambda x, t: f(x, t, **draw.cond), x_t, draw.t, draw.z)
        h = 1e-3 * draw.t  # networks are told the time in float32
        step = h[:, None, None, None] * draw.z
        ahead, behind = (f(x_t + sign * step, draw.t + sign * h, **draw.cond) for sign in (1, -1))
        torch.testing.assert_close(value, f(x_t, draw.t, **draw.cond))
    wanted = (ahead - behind) / (2 * h[:, None, None, None])
    assert ((change - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)).max() < 5e-3


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_gradients_of_networks_are_those_of_the_formula(name, stop_gradient):
    """By differences of parameters: of f with ḟ held still, or of ½ ḟ · G ḟ itself."""
    f, draw = network(name).eval(), batch()
    objective = ContinuousTraining(weighting=KarrasWeighting(), stop_gradient=stop_gradient)
    loss = objective.loss(f, f, draw)
    weights = f.network.get_parameter(next(n for n, p in f.network.named_parameters() if p.ndim == 4))
    gradient = torch.autograd.grad(loss.sum(), weights)[0]
    direction = torch.randn(weights.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x_t = KARRAS.perturb(draw.x_0, draw.z, draw.t)
    _, change = along(lambda x, t: f(x, t, **draw.cond), x_t, draw.t, draw.z)

    def at(h):
        with torch.no_grad():
            weights.add_(h * direction)
            ours, moved = along(lambda x, t: f(x, t, **draw.cond), x_t, draw.t, draw.z)
            weights.sub_(h * direction)
        values = (2 * change.detach() * ours if stop_gradient else moved**2).flatten(1).mean(1)
        return (KarrasWeighting()(draw.t, draw.t) * values).sum().item()

    h, within = (1e-5, 1e-6) if name == "compact" else (1e-3, 1e-3)  # the U-Net's norms are in float32
    assert (gradient * direction).sum().item() == pytest.approx((at(h) - at(-h)) / (2 * h), rel=within)
    wanted = KarrasWeighting()(draw.t, draw.t) * change.detach().square().flatten(1).mean(1)
    torch.testing.assert_close(loss.detach(), wanted)


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("distance", [Squared(), RandomFilters((4, 8))])
def test_float32_with_dropout(distance, stop_gradient):
    """f and ḟ have one mask; the gradient reaches the weights, and without gradients there is none."""
    torch.manual_seed(0)
    f = Denoiser(SHAPES["compact"].build(), KARRAS, Boundary())
    objective, draw = ContinuousTraining(distance, stop_gradient=stop_gradient), batch(dtype=torch.float32)
    torch.manual_seed(3)
    loss = objective.loss(f, f, draw)
    torch.manual_seed(3)
    x_t = KARRAS.perturb(draw.x_0, draw.z, draw.t)
    value, change = along(lambda x, t: f(x, t, **draw.cond), x_t, draw.t, draw.z)  # the mask of the same seed
    torch.testing.assert_close(loss, distance.limit(value, change), rtol=1e-3, atol=1e-6)
    loss.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in f.parameters() if p.grad is not None)
    assert sum(p.grad is not None and bool(p.grad.any()) for p in f.parameters()) > 1
    with torch.no_grad():
        assert torch.isfinite(objective.loss(f, f, draw)).all()


@pytest.mark.parametrize(("stop_gradient", "times"), [(True, 3.0), (False, 11 / 3)])
def test_what_a_perceptual_distance_costs_is_what_dry_runs_say(stop_gradient, times):
    """In operations of its network, beside a comparison of two estimates with the gradient through one."""
    distance, x = RandomFilters((4, 8)), torch.randn(2, 3, 8, 8)
    with FlopCounterMode(display=False) as usual:
        distance(x.clone().requires_grad_(), x + 1).sum().backward()
    with FlopCounterMode(display=False) as here:
        if stop_gradient:
            ContinuousTraining(distance).slope(x, torch.randn_like(x))
        else:
            distance.limit(x.clone().requires_grad_(), torch.randn_like(x).requires_grad_()).sum().backward()
    assert here.get_total_flops() / usual.get_total_flops() == pytest.approx(times, rel=0.1)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="no gap t − s"):
        ContinuousTraining(weighting=InverseGap())
    with pytest.raises(TypeError, match="Karras schedule; the times of Discrete are levels"):
        ContinuousTraining().times(torch.rand(2).double(), Discrete(), 0.0)
    f = network("compact")
    with pytest.raises(ValueError, match="--teacher"):
        ContinuousDistillation().loss(f, f, batch())


def test_times_are_spread_as_the_grids_are():
    t, s = ContinuousTraining().times(torch.tensor([0.0, 0.5, 0.999999]).double(), KARRAS, 0.3)
    assert torch.equal(t, s)
    assert t.tolist() == pytest.approx([T, KARRAS.grid(3)[1].item(), EPS], rel=1e-3)
