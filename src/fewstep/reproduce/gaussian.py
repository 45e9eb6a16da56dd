"""The studies in closed form: data N(0, s²), the teacher exact, the student linear.

    D(x, t) = s² x/(s² + t²)      f*(x, t) = g*(t) x,  g*(t) = √((s² + ε²)/(s² + t²))

A consistency model that meets its objective exactly on a grid t_0 > … > t_{N−1} = ε is f(x, t_i) = g_i x. Every loss
is then quadratic in g, so where training comes to rest (where the gradient that is followed vanishes, taken through one
side or both) is the solution of a linear system. Its matrix is read off the project's own objectives, solvers and
grids, in float64, with the expectation over x_0 and z as a sum over Gauss-Hermite points that is exact. What is left
is the error of g_0, by which one-step samples are too wide or too narrow.
"""

import math

import numpy as np
import torch
from torch import Tensor

from fewstep.discretizations import Discretization, Grid
from fewstep.distances import Squared
from fewstep.objectives import Consistency, ConsistencyDistillation, ConsistencyTraining, Draw
from fewstep.schedules import Karras
from fewstep.solvers import Euler, Solver
from fewstep.targets import StopGradient, Target
from fewstep.tensors import expand_as
from fewstep.weightings import Uniform

S = 0.5
"""s, the data's standard deviation."""
SCHEDULE = Karras()


class Teacher(torch.nn.Module):
    """The exact denoiser."""

    def forward(self, x_t: Tensor, t: Tensor, **cond) -> Tensor:
        return x_t * expand_as(S**2 / (S**2 + t**2), x_t)


class Gains(torch.nn.Module):
    """f(x, t) = g(t) x, g on the times of a grid; on the last, t_min, it is 1 and fixed."""

    def __init__(self, grid: Tensor, values: Tensor):
        """The times (N,), decreasing, and g (N − 1,) of all but the last, float64."""
        super().__init__()
        self.grid, self.values = grid, values

    def forward(self, x: Tensor, t: Tensor, **cond) -> Tensor:
        place = (t[:, None] - self.grid[None]).abs().argmin(1)
        known = torch.cat([self.values, torch.ones(1, dtype=torch.float64)])
        return expand_as(known[place], x) * x


def exact(t: float | Tensor) -> Tensor:
    """g*(t), the gain of the true consistency function."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return ((S**2 + SCHEDULE.t_min**2) / (S**2 + t**2)).sqrt()


def distillation(n: int, solver: Solver, target: Target | None = None) -> ConsistencyDistillation:
    """Consistency distillation as in the studies, on a grid of n times."""
    return ConsistencyDistillation(Grid(n), Squared(), Uniform(), target or StopGradient(), solver)


def training(n: int, target: Target | None = None) -> ConsistencyTraining:
    """Consistency training on a fixed grid of n times."""
    return ConsistencyTraining(Grid(n), Squared(), Uniform(), target or StopGradient())


def followed(objective: Consistency, grid: Tensor, values: Tensor) -> Tensor:
    """The gradient that training follows at these gains (N − 1,), of the expected loss."""
    a, b, weight = points()
    pairs, each = len(grid) - 1, len(weight)
    x_0, z = (S * a).repeat(pairs)[:, None], b.repeat(pairs)[:, None]
    t, s = grid[:-1].repeat_interleave(each), grid[1:].repeat_interleave(each)
    values = values.clone().requires_grad_(True)
    gains = Gains(grid, values)
    loss = objective.loss(gains, gains, Draw(SCHEDULE, x_0, z, t, s, {}), teacher=Teacher())
    (gradient,) = torch.autograd.grad((loss * weight.repeat(pairs)).sum() / pairs, values)
    return gradient


def points(n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """(a, b, weight), each (n²,): weighted sums are means over two unit normals, for polynomials below degree 2 n."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    nodes, weights = torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    a, b = torch.meshgrid(nodes, nodes, indexing="ij")
    return a.flatten(), b.flatten(), torch.outer(weights, weights).flatten()


def system(objective: Consistency, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """(grid, A, b): the followed gradient at gains g on n times is A g + b."""
    grid = SCHEDULE.grid(n).double()
    zero = torch.zeros(n - 1, dtype=torch.float64)
    b = followed(objective, grid, zero)
    columns = [followed(objective, grid, unit) - b for unit in torch.eye(n - 1, dtype=torch.float64)]
    return grid, torch.stack(columns, 1), b


def at_rest(objective: Consistency, n: int) -> Gains:
    """The gains at which training on a grid of n times comes to rest."""
    grid, matrix, b = system(objective, n)
    return Gains(grid, torch.linalg.solve(matrix, -b))


def error(objective: Consistency, n: int) -> float:
    """|g_0/g*(t_max) − 1|: how far the width of one-step samples is off."""
    return abs(float(at_rest(objective, n).values[0] / exact(SCHEDULE.t_max)) - 1)


def solver_error(solver: Solver, n: int) -> float:
    """The same for distillation with this solver: all of the error is the solver's (Song et al. 2023, Theorem 1)."""
    return error(distillation(n, solver), n)


def progressive_error(first_steps: int) -> float:
    """The same for progressive distillation that loses nothing: twice first_steps Euler steps of the teacher."""
    return solver_error(Euler(), 2 * first_steps + 1)


def step_errors(solver: Solver, n: int, steps: int) -> list[float]:
    """Errors of the width after 1 … steps calls (Algorithm 1), each but the first from the grid time next to 1.

    v ← g(τ)² (v + τ² − ε²)
    """
    model = at_rest(distillation(n, solver), n)
    middle = int((model.grid - 1.0).abs().argmin())
    eps, variance, errors = SCHEDULE.t_min, 0.0, []
    for k in range(steps):
        i = middle if k else 0
        variance = float(model.values[i]) ** 2 * (variance + float(model.grid[i]) ** 2 - (eps**2 if k else 0))
        errors.append(abs(math.sqrt(variance / (S**2 + eps**2)) - 1))
    return errors


KNOTS = 33
"""At so many times the gains of a student that learns on changing grids are kept, with straight lines between."""


def learning(discretization: Discretization, steps: int = 400, rate: float = 0.35) -> list[float]:
    """The error of consistency training (stop-gradient) after every step of gradient descent on the expected loss.

    The student is h(t) x/√(s² + t²), h kept at KNOTS times; each knot's gradient is divided by how often it is met.
    """
    knots = torch.linspace(0, 1, KNOTS, dtype=torch.float64)
    h, errors = torch.zeros(KNOTS, dtype=torch.float64), []
    h[-1] = math.sqrt(S**2 + SCHEDULE.t_min**2)
    wanted, before = float(exact(SCHEDULE.t_max)) * math.sqrt(S**2 + SCHEDULE.t_max**2), None
    for k in range(steps):
        n = discretization.count(k / steps)
        assert n is not None
        if n != before:
            grid, matrix, b = system(training(n), n)
            scale, mix, before = (S**2 + grid**2).sqrt()[:-1], _between(knots, n), n
            met = mix.sum(0)[:-1].clamp(min=1e-6)
        values = (mix @ h)[: -1 or None][: n - 1] / scale
        pull = (matrix @ values + b) * (n - 1) / (2 * scale)
        h[:-1] -= rate * (mix[: n - 1].T @ pull)[:-1] / met
        errors.append(abs(float(h[0]) / wanted - 1))
    return errors


def _between(knots: Tensor, n: int) -> Tensor:
    """(n, KNOTS): the shares of the knots in the value at each of n evenly spaced places of [0, 1]."""
    places = torch.linspace(0, 1, n, dtype=torch.float64)
    return (1 - (places[:, None] - knots[None]).abs() * (len(knots) - 1)).clamp(min=0)
