"""The losses against closed forms on Gaussian data, and what every objective owes its networks.

Expectations are exact: data and noise are Gauss–Hermite points (oracle.squares), so a mean over them with
their weights is the mean over the distributions for every polynomial, and identities hold to rounding.
"""

import itertools

import pytest
import torch
from oracle import EPS, Gaussian, T, squares
from torch import nn

from fewstep.denoiser import Denoiser, Guided
from fewstep.discretizations import Grid, Growing, Shrinking
from fewstep.distances import L1, Huber, PseudoHuber, Squared
from fewstep.objectives import (
    Autoencoding,
    ConsistencyDistillation,
    ConsistencyTraining,
    Diffusion,
    Draw,
    LevelDiffusion,
    ProgressiveDistillation,
)
from fewstep.parameterizations import Epsilon, Latched, Sample, Velocity
from fewstep.recipes import parts
from fewstep.schedules import Discrete, Karras
from fewstep.solvers import Euler, Heun
from fewstep.targets import AdaptiveEma, Ema, Same, StopGradient
from fewstep.weightings import InverseGap, KarrasWeighting, Uniform

KARRAS, DATA = Karras(), Gaussian(0.0, 0.5)


class Linear(nn.Module):
    """f(x, t_n) = g_n x on a grid, each gain a parameter."""

    def __init__(self, grid: torch.Tensor, gains: torch.Tensor):
        super().__init__()
        self.grid = grid
        self.gains = nn.Parameter(gains.clone())

    def forward(self, x, t, **cond):
        n = (t[:, None] - self.grid).abs().argmin(1)
        return self.gains[n][:, None, None, None] * x


class Exact(nn.Module):
    def forward(self, x, t, **cond):
        return DATA.denoise(x, t)


def pair(a, b):
    """Quadrature points as data and noise at the pair of times (a, b): a Draw and the points' weights."""
    x_0, z, weight = squares()
    shape = (-1, 1, 1, 1)
    times = torch.full_like(weight, float(a)), torch.full_like(weight, float(b))
    return Draw(KARRAS, DATA.std * x_0.reshape(shape), z.reshape(shape), *times, {}), weight


def expected(objective, student, a, b, target=None, teacher=None):
    """The exact mean of the loss at the pair (a, b)."""
    draw, weight = pair(a, b)
    return (weight * objective.loss(student, target or student, draw, teacher=teacher)).sum()


def distilled(grid, step):
    """The gains of a model with zero distillation loss: g_{n+1} = g_n · (gain of one step t_{n+1} → t_n)."""
    gains = [1.0]
    for s, t in itertools.pairwise(grid.flip(0).tolist()):
        gains.append(gains[-1] * step(t, s))
    return torch.tensor(gains[::-1], dtype=torch.float64)


def cd(solver, n=18, **parts):
    return ConsistencyDistillation(Grid(n), Squared(), Uniform(), StopGradient(), solver, **parts)


def ct(n=18, target=None):
    return ConsistencyTraining(Grid(n), Squared(), Uniform(), target or StopGradient())


@pytest.mark.parametrize(("solver", "step"), [(Euler(), DATA.euler), (Heun(), DATA.heun)])
def test_zero_distillation_loss_means_the_solvers_gains(solver, step):
    """Theorem 1: the student with zero loss is the ODE solver from T, run on the same grid."""
    grid = KARRAS.grid(18)
    student = Linear(grid, distilled(grid, step))
    for t, s in itertools.pairwise(grid.tolist()):
        assert expected(cd(solver), student, t, s, teacher=Exact()).item() < 1e-24
    with torch.no_grad():
        student.gains[3] *= 1.01
    assert expected(cd(solver), student, grid[3], grid[4], teacher=Exact()).item() > 1e-6


@pytest.mark.parametrize(("step", "ratio"), [(DATA.euler, 2.0), (DATA.heun, 4.0)])
def test_the_distilled_models_error_falls_with_the_grid(step, ratio):
    """O(Δt^p): when N − 1 doubles, the error of f(·, T) falls by 2 with Euler and by 4 with Heun."""
    errors = [abs(distilled(KARRAS.grid(n + 1), step)[0].item() - DATA.gain(T)) for n in (160, 320, 640)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(ratio, rel=0.06)


def gradients(objective, gains, grid, a, b, teacher=None):
    student = Linear(grid, gains)
    loss = expected(objective, student, a, b, teacher=teacher)
    return loss.item(), torch.autograd.grad(loss, student.gains)[0]


def test_training_and_euler_distillation_have_the_same_gradient():
    """With the exact denoiser Euler's neighbour is E[x_s | x_t]. So for any linear student, at every N,

        L_CT = L_CD + g_s² s² (t − s)²/(s² + t²)

    and, the last term being constant behind the stop-gradient, gradients are equal; without it they differ.
    """
    grid = KARRAS.grid(12)
    gains = torch.rand(12, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + 0.1
    for i in range(11):
        t, s = grid[i].item(), grid[i + 1].item()
        training, ours = gradients(ct(), gains, grid, t, s)
        distillation, theirs = gradients(cd(Euler()), gains, grid, t, s, Exact())
        extra = gains[i + 1].item() ** 2 * DATA.std**2 * (t - s) ** 2 / (DATA.std**2 + t**2)
        assert training == pytest.approx(distillation + extra)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
        assert ours[i + 1] == 0  # nothing flows into the earlier time
    _, both_ct = gradients(ct(target=Same()), gains, grid, 2.0, 1.0)
    both_cd = ConsistencyDistillation(Grid(12), Squared(), Uniform(), Same(), Euler())
    _, both = gradients(both_cd, gains, grid, 2.0, 1.0, Exact())
    assert (both_ct - both).abs().max() > 0.01


def test_trainings_stationary_point_is_the_euler_solution():
    """g_{n+1} = g_n (s² + t_n t_{n+1})/(s² + t_{n+1}²): there alone is training's gradient zero."""
    grid = KARRAS.grid(18)
    gains = distilled(grid, DATA.euler)
    for t, s in itertools.pairwise(grid.tolist()):
        assert gradients(ct(), gains, grid, t, s)[1].abs().max() < 1e-12
    assert gradients(ct(), gains * torch.linspace(1, 1.1, 18), grid, grid[5], grid[6])[1].abs().max() > 1e-3


class Point(nn.Module):
    """f(x, t) = (ε/t) x + (1 − ε/t) θ: the consistency function of the single point θ."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, x, t, **cond):
        weight = (EPS / t)[:, None, None, None]
        return weight * x + (1 - weight) * self.theta


def point_gradient(n, theta, target_theta, xi):
    """The mean over the pairs of a grid of N points of dL/dθ, for data that is the point ξ."""
    t, s = KARRAS.grid(n)[:-1], KARRAS.grid(n)[1:]
    shape = (n - 1, 1, 1, 1)
    draw = Draw(KARRAS, torch.full(shape, xi, dtype=torch.float64), torch.randn(shape).double(), t, s, {})
    student, target = Point(theta), Point(target_theta)
    if theta == target_theta:
        target = student
    loss = ct(n, StopGradient() if target is student else Ema()).loss(student, target, draw).mean()
    return torch.autograd.grad(loss, student.theta)[0].item(), EPS / t, EPS / s


def test_a_point_mass_is_learned_without_bias_from_a_stopped_target():
    """θ⁻ = θ: the gradient is the mean of 2 (ε/s − ε/t)(1 − ε/t)(θ − ξ), zero at θ = ξ only."""
    for n in (11, 101):
        gradient, at_t, at_s = point_gradient(n, 0.8, 0.8, 0.3)
        assert gradient == pytest.approx((2 * (at_s - at_t) * (1 - at_t) * (0.8 - 0.3)).mean().item())
        assert point_gradient(n, 0.3, 0.3, 0.3)[0] == pytest.approx(0, abs=1e-15)


def test_an_averaged_target_biases_training():
    """θ⁻ ≠ θ: (N − 1) times the gradient, which else converges, grows with N without bound (iCT)."""
    scaled = [(n - 1) * point_gradient(n, 0.51, 0.5, 0.6)[0] for n in (11, 101, 1001, 10001)]
    stopped = [(n - 1) * point_gradient(n, 0.51, 0.51, 0.6)[0] for n in (11, 101, 1001, 10001)]
    assert stopped[3] == pytest.approx(stopped[2], rel=0.02)
    assert stopped[3] < 0  # towards ξ
    assert scaled[3] > 100  # away from it
    assert scaled[3] / scaled[2] == pytest.approx(10, rel=0.2)


@pytest.mark.parametrize("t", [0.002, 0.1, 1.0, 80.0])
def test_the_exact_denoisers_loss_is_one_a_dimension(t):
    """EDM's weighting makes every noise level count the same: λ E(D − x_0)² = 1 where σ_d is the data's."""
    loss = expected(Diffusion(weighting=KarrasWeighting(DATA.std)), Exact(), t, t)
    assert loss.item() == pytest.approx(1.0, rel=1e-9)


def test_diffusion_times_are_lognormal():
    u = (torch.arange(10_000).double() + 0.5) / 10_000
    t, s = Diffusion().times(u, KARRAS, 0.7)
    assert torch.equal(t, s)
    assert t.log().mean().item() == pytest.approx(-1.2, abs=0.01)
    assert t.log().std().item() == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize("steps", [1, 4, 32])
def test_progressive_target_lands_where_two_teacher_steps_land(steps):
    """The target's gain is 1 − t (r_1 r_2 − 1)/(s − t), r the gains of the teacher's two Euler steps."""
    objective = ProgressiveDistillation(first_steps=steps)
    t, s = objective.times((torch.arange(steps).double() + 0.5) / steps, KARRAS, 0.0)
    middle = KARRAS.grid(2 * steps + 1)[1::2]
    gain = 1 - t * (DATA.euler(t, middle) * DATA.euler(middle, s) - 1) / (s - t)
    x_t = torch.ones(steps, 1, 1, 1, dtype=torch.float64)
    draw = Draw(KARRAS, x_t, x_t, t, s, {})
    torch.testing.assert_close(objective.two_steps_in_one(Exact(), draw, x_t).flatten(), gain)


def test_progressive_stages():
    """N halves; the stages of two steps and of one last twice as long: lengths 1, 1, 1, 2, 2 from N = 16."""
    objective = ProgressiveDistillation(first_steps=16)
    assert [objective.steps((k + 0.5) / 7) for k in range(7)] == [16, 8, 4, 2, 2, 1, 1]
    assert objective.stages == 5
    assert objective.stage(1.0) == 4
    assert [ProgressiveDistillation(1).steps(p) for p in (0.0, 1.0)] == [1, 1]
    t, s = objective.times(torch.tensor([0.0, 0.999]).double(), KARRAS, 0.0)
    assert t[0] == KARRAS.t_max
    assert s[1] == KARRAS.t_min
    with pytest.raises(ValueError, match="power of two"):
        ProgressiveDistillation(first_steps=12)
    with pytest.raises(TypeError, match="Karras schedule, not on Discrete"):
        objective.times(torch.rand(2).double(), Discrete(), 0.0)


ALL = {
    "diffusion": Diffusion(),
    "cd-heun": ConsistencyDistillation(solver=Heun()),
    "cd-euler": ConsistencyDistillation(solver=Euler(), distance=L1()),
    "ct": ConsistencyTraining(),
    "ict": ConsistencyTraining(Growing(), PseudoHuber(), InverseGap(), StopGradient()),
    "ect": ConsistencyTraining(Shrinking(), PseudoHuber(0.1), InverseGap(), StopGradient()),
    "pd": ProgressiveDistillation(first_steps=8),
}


class Small(nn.Module):
    """A denoiser with a parameter and dropout that remembers what it was told and which mask it drew."""

    def __init__(self, rate=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))
        self.drop = nn.Dropout(rate)
        self.told, self.masks = [], []

    def forward(self, x, t, **cond):
        self.told.append(cond)
        self.masks.append(self.drop(torch.ones_like(x)))
        return self.weight * x / (1 + t[:, None, None, None]) * self.masks[-1]


def a_draw(objective, n=4, seed=0, **cond):
    generator = torch.Generator().manual_seed(seed)
    x_0, z = (torch.randn(n, 2, 3, 3, generator=generator) for _ in range(2))
    t, s = objective.times(torch.rand(n, generator=generator).double(), KARRAS, 0.5)
    return Draw(KARRAS, x_0, z, t.float(), s.float(), cond)


@pytest.mark.parametrize("objective", ALL.values(), ids=ALL)
def test_conditions_reach_student_target_and_teacher(objective):
    student, target, teacher = Small(), Small(), Small()
    labels = torch.tensor([3, 1, -1, 2])
    objective.loss(student, target, a_draw(objective, labels=labels), teacher=teacher)
    asked = [student] + [target] * hasattr(objective, "target") + [teacher] * objective.needs_teacher
    for network in asked:
        assert network.told
        assert all(list(cond) == ["labels"] and cond["labels"] is labels for cond in network.told)
    assert len(student.told) == 1
    assert len(teacher.told) == {"cd-heun": 2, "cd-euler": 1, "pd": 2}.get(name_of(objective), 0)


def name_of(objective):
    return next(name for name, other in ALL.items() if other is objective)


@pytest.mark.parametrize("name", ["cd-heun", "cd-euler", "ct", "ict", "ect"])
@pytest.mark.parametrize("shared", [False, True])
def test_both_passes_have_one_dropout_mask(name, shared):
    student = Small(0.5)
    target = student if shared else Small(0.5)
    draw = a_draw(ALL[name])
    ALL[name].loss(student, target, draw, teacher=Small().eval())
    masks = student.masks if shared else student.masks + target.masks
    assert len(masks) == 2
    assert torch.equal(*masks)
    assert 0 < (masks[0] == 0).float().mean() < 1
    ALL[name].loss(student, target, draw, teacher=Small().eval())
    assert not torch.equal(student.masks[0], student.masks[-1])  # another step, another mask


@pytest.mark.parametrize("objective", ALL.values(), ids=ALL)
def test_the_loss_is_one_value_a_sample_and_each_its_own(objective):
    student, teacher = Small(), Small()
    draw = a_draw(objective)
    losses = objective.loss(student, student, draw, teacher=teacher)
    assert losses.shape == (4,)
    assert (losses > 0).all()
    other = draw._replace(x_0=torch.cat([draw.x_0[:1] + 1, draw.x_0[1:]]))
    changed = objective.loss(student, student, other, teacher=teacher)
    assert torch.equal(changed[1:], losses[1:])
    assert changed[0] != losses[0]
    one = Draw(KARRAS, *(part[2:3] for part in draw[1:5]), {})
    torch.testing.assert_close(objective.loss(student, student, one, teacher=teacher), losses[2:3])


@pytest.mark.parametrize("objective", ALL.values(), ids=ALL)
def test_the_gradient_reaches_the_student_only(objective):
    student, target, teacher = Small(), Small(), Small()
    objective.loss(student, target, a_draw(objective), teacher=teacher).mean().backward()
    assert student.weight.grad is not None
    assert target.weight.grad is None
    assert teacher.weight.grad is None


def test_same_lets_the_gradient_through_both_sides():
    objective, target = ConsistencyTraining(Grid(), target=Same()), Small()
    objective.loss(Small(), target, a_draw(objective)).mean().backward()
    assert target.weight.grad is not None
    with torch.no_grad():
        assert not objective.loss(Small(), target, a_draw(objective)).requires_grad


def test_training_needs_no_teacher_and_distillation_says_so():
    for name, objective in ALL.items():
        if objective.needs_teacher:
            with pytest.raises(ValueError, match="--teacher"):
                objective.loss(Small(), Small(), a_draw(objective))
        else:
            objective.loss(Small(), Small(), a_draw(objective))
        assert objective.needs_teacher == (name in ("cd-heun", "cd-euler", "pd"))
        assert objective.consistent == (name not in ("diffusion", "pd"))


def test_neighbours_share_data_and_noise():
    objective = ConsistencyTraining()
    draw = a_draw(objective)
    x_s = objective.neighbour(draw, torch.empty(0), None)
    torch.testing.assert_close(x_s, draw.x_0 + draw.s[:, None, None, None] * draw.z)


def test_target_rates():
    assert ALL["ict"].target_rate(0.5) is None
    assert Diffusion().target_rate(0.5) is None
    assert ConsistencyDistillation().target_rate(0.5) == 0.95
    adaptive = ConsistencyTraining(Growing(2, 150), target=AdaptiveEma(0.9))
    assert adaptive.target_rate(0.0) == pytest.approx(0.9)
    assert ConsistencyTraining(Shrinking(), target=Ema(0.5)).target_rate(0.0) == 0.5


def test_weightings_multiply_each_samples_distance():
    draw = a_draw(ALL["ict"])
    plain = ConsistencyTraining(Growing(), PseudoHuber(), Uniform(), StopGradient())
    network = Small()
    ratio = ALL["ict"].loss(network, network, draw) / plain.loss(network, network, draw)
    torch.testing.assert_close(ratio, 1 / (draw.t - draw.s), rtol=1e-4, atol=0)


# -- the levels of a DDPM --------------------------------------------------------------------------------------------


class Best(nn.Module):
    """The network whose estimate is the exact denoiser of N(0, std²), for any parameterization."""

    def __init__(self, parameterization, schedule, std=0.5):
        super().__init__()
        self.c, self.schedule, self.std = parameterization, schedule, std

    def forward(self, x, t, **cond):
        alpha, sigma = self.schedule(t)
        best = self.std**2 * alpha / (self.std**2 * alpha**2 + sigma**2)
        c = self.c(self.schedule, t)
        return ((best - c.skip) / c.out)[:, None, None, None] * x


# E (x_0 − D)² = s² σ² / (s² α² + σ²); times 1/c_out² it is the best error of noise, velocity and sample.
@pytest.mark.parametrize("kind", [Epsilon(), Velocity(), Sample()])
@pytest.mark.parametrize("t", [1.0, 300.0, 999.0])
def test_the_best_loss_on_the_levels_of_a_ddpm(kind, t):
    schedule = Discrete()
    draw, weight = pair(t, t)
    draw = draw._replace(schedule=schedule)
    a, s = (float(c) for c in schedule(torch.tensor(t, dtype=torch.float64)))
    error = 0.25 * s**2 / (0.25 * a**2 + s**2)
    wanted = {"Epsilon": error * (a / s) ** 2, "Velocity": error / s**2, "Sample": error}[type(kind).__name__]
    student = Denoiser(Best(kind, schedule), schedule, kind)
    loss = (weight * LevelDiffusion().loss(student, student, draw)).sum()
    assert loss.item() == pytest.approx(wanted, rel=1e-9)
    snr = (weight * LevelDiffusion(gamma=5.0).loss(student, student, draw)).sum()
    assert snr.item() == pytest.approx(error * min((a / s) ** 2, 5.0), rel=1e-9)


@pytest.mark.parametrize("kind", [Epsilon(), Velocity(), Sample()])
def test_the_loss_is_the_error_of_what_the_network_predicts(kind):
    schedule, generator = Discrete(), torch.Generator().manual_seed(0)
    x_0, z, out = (torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([0.0, 20.0, 500.0, 999.0], dtype=torch.float64)
    a, s = (c[:, None, None, None] for c in schedule(t))
    wanted = {"Epsilon": z, "Velocity": a * z - s * x_0, "Sample": x_0}[type(kind).__name__]
    student = Denoiser(Fixed(out), schedule, kind)
    loss = LevelDiffusion().loss(student, student, Draw(schedule, x_0, z, t, t, {}))
    torch.testing.assert_close(loss, ((out - wanted) ** 2).flatten(1).mean(1))


class Fixed(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.out = out

    def forward(self, x, t, **cond):
        return self.out


def test_levels_are_uniform():
    t, s = LevelDiffusion().times((torch.arange(1000).double() + 0.5) / 1000, Discrete(), 0.3)
    assert torch.equal(t, torch.arange(1000).double())
    assert torch.equal(t, s)
    with pytest.raises(TypeError, match="Karras"):
        LevelDiffusion().times(torch.rand(2).double(), KARRAS, 0.0)
    with pytest.raises(ValueError, match="gamma"):
        LevelDiffusion(gamma=0.0)


class Told(nn.Module):
    """A raw network told a prompt and a guidance scale."""

    def forward(self, x, c_noise, *, prompt, guidance=None):
        w = 0 if guidance is None else guidance.to(x.dtype)[:, None, None, None]
        return 0.6 * x + 1e-3 * c_noise[:, None, None, None] + prompt[:, None, None, None] + 0.01 * w


@pytest.mark.parametrize("kind", ["epsilon", "v", "sample"])
def test_latent_consistency_distillation_written_out(kind):
    """Algorithm 1 of Luo et al. 2023, as the published scripts have it: CFG of both x_0 and noise, then DDIM."""
    inner = {"epsilon": Epsilon(), "v": Velocity(), "sample": Sample()}[kind]
    schedule, generator = Discrete(), torch.Generator().manual_seed(0)
    x_0, z = (torch.randn(4, 2, 3, 3, generator=generator) for _ in range(2))
    prompt, w = torch.randn(4, generator=generator), torch.tensor([5.0, 15.0, 7.5, 10.0])
    objective, net = parts.lcd(), Told()
    t, s = objective.times(torch.tensor([0.01, 0.31, 0.71, 0.99]).double(), schedule, 0.0)
    assert t.tolist() == [19, 319, 719, 999]
    assert s.tolist() == [0, 299, 699, 979]
    draw = Draw(schedule, x_0, z, t.float(), s.float(), {"prompt": prompt, "guidance": w})
    student = Denoiser(net, schedule, Latched(inner))
    teacher = Guided(Denoiser(net, schedule, inner), 0.0, lambda cond: {"prompt": torch.zeros_like(cond["prompt"])})
    ours = objective.loss(student, student, draw, teacher=teacher)

    def levels(time):
        a = schedule.alphas_cumprod[time.long()]
        return a.sqrt()[:, None, None, None], (1 - a).sqrt()[:, None, None, None]

    def both(out, x, time):
        a, b = levels(time)
        sample = {"epsilon": (x - b * out) / a, "v": a * x - b * out, "sample": out}[kind]
        return sample, {"epsilon": out, "v": a * out + b * x, "sample": (x - a * out) / b}[kind]

    def consistent(x, time):
        scaled = 10 * time[:, None, None, None]
        out = both(net(x, time, prompt=prompt, guidance=w), x, time)[0]
        return 0.25 / (scaled**2 + 0.25) * x + scaled / (scaled**2 + 0.25).sqrt() * out

    x_0, z, a, b = x_0.double(), z.double(), *levels(t)
    x_t = a * x_0 + b * z
    asked, free = (both(net(x_t, t, prompt=p), x_t, t) for p in (prompt, 0 * prompt))
    sample, noise = (c + w[:, None, None, None] * (c - u) for c, u in zip(asked, free, strict=True))
    x_s = levels(s)[0] * sample + levels(s)[1] * noise
    gap = consistent(x_t, t) - consistent(x_s, s)
    wanted = ((gap**2 + 1e-6).sqrt() - 1e-3).flatten(1).mean(1)
    torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=1e-5)


def test_latent_fine_tuning_asks_no_teacher():
    schedule, objective = Discrete(), parts.lcf(k=40)
    assert not objective.needs_teacher
    x_0, z = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    t, s = objective.times(torch.tensor([0.5, 0.99]).double(), schedule, 0.0)
    assert (t - s).tolist() == [40, 40]
    cond = {"prompt": torch.randn(2), "guidance": torch.tensor([3.0, 4.0])}
    f = Denoiser(Told(), schedule, Latched())
    loss = objective.loss(f, f, Draw(schedule, x_0, z, t.float(), s.float(), cond))
    x_t, x_s = (schedule.perturb(x_0, z, time.float()) for time in (t, s))
    gap = f(x_t, t.float(), **cond) - f(x_s, s.float(), **cond)
    torch.testing.assert_close(loss, Huber()(gap, torch.zeros_like(gap)))


class Halved(nn.Module):
    """An autoencoder of a kind: x̂ = μ + s z, μ = x/2, s = 1/2."""

    def forward(self, x, z):
        return x / 2 + z / 2, x / 2, torch.full_like(x, 0.5)


def test_an_autoencoders_loss():
    x, z = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    t, s = Autoencoding().times(torch.rand(3).double(), KARRAS, 0.0)
    loss = Autoencoding(Squared(), beta=0.1).loss(Halved(), Halved(), Draw(KARRAS, x, z, t, s, {}))
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(x / 2, torch.full_like(x, 0.5)), normal(0 * x, 1 + 0 * x))
    wanted = ((x / 2 - z / 2) ** 2).flatten(1).mean(1) + 0.1 * divergence.flatten(1).mean(1)
    torch.testing.assert_close(loss, wanted)
    both = Autoencoding(Squared(), L1(), also_weight=0.5, beta=0.1).loss(
        Halved(), Halved(), Draw(KARRAS, x, z, t, s, {})
    )
    torch.testing.assert_close(both, wanted + 0.5 * (x / 2 - z / 2).abs().flatten(1).mean(1))
