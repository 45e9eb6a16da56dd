"""The closed forms of the studies, read off the project's own objectives, against formulas written out apart."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from oracle import EPS, Gaussian, T

from fewstep.discretizations import Grid, Growing
from fewstep.reproduce import gaussian
from fewstep.reproduce.forms import FORMS, closed_form
from fewstep.reproduce.studies import STUDIES
from fewstep.solvers import Euler, Heun
from fewstep.targets import Same

ORACLE = Gaussian(0.0, 0.5)
PUBLISHED = {9: (0.301, 0.278), 12: (0.228, 0.141), 18: (0.154, 0.055), 36: (0.078, 0.012), 72: (0.039, 0.003)}


def times(n):
    return [(T ** (1 / 7) + i / (n - 1) * (EPS ** (1 / 7) - T ** (1 / 7))) ** 7 for i in range(n)]


def product(step, n):
    grid = times(n)
    return math.prod(step(t, s) for t, s in pairwise(grid)) / ORACLE.gain(T)


@pytest.mark.parametrize(("n", "wanted"), PUBLISHED.items())
def test_distillation_that_loses_nothing_keeps_the_solvers_error(n, wanted):
    """Theorem 1: the gains are the products of the solver's steps; and the figures of the reference table."""
    for solver, step, figure in zip((Euler(), Heun()), (ORACLE.euler, ORACLE.heun), wanted, strict=True):
        error = gaussian.solver_error(solver, n)
        assert error == pytest.approx(abs(product(step, n) - 1), rel=1e-9)
        assert error == pytest.approx(figure, abs=6e-4)


def test_training_rests_where_distillation_with_euler_does():
    for n in (9, 18):
        assert gaussian.error(gaussian.training(n), n) == pytest.approx(gaussian.solver_error(Euler(), n), rel=1e-9)


def test_a_gradient_through_both_sides_leaves_distillation_alone_and_spoils_training():
    """Distillation can reach loss 0, a minimum too; training cannot: its minimum is that of least squares."""
    n = 12
    both = gaussian.error(gaussian.distillation(n, Heun(), Same()), n)
    assert both == pytest.approx(gaussian.solver_error(Heun(), n), rel=1e-6)
    grid = np.array(times(n))
    matrix, right = np.zeros((n - 1, n - 1)), np.zeros(n - 1)
    for i in range(n - 1):  # E (g_i x_i − g_{i+1} x_{i+1})², x_i = x_0 + t_i z
        second, cross = 0.25 + grid[i : i + 2] ** 2, 0.25 + grid[i] * grid[i + 1]
        matrix[i, i] += second[0]
        if i + 1 < n - 1:
            matrix[i + 1, i + 1] += second[1]
            matrix[i, i + 1] -= cross
            matrix[i + 1, i] -= cross
        else:
            right[i] += cross
    wanted = abs(np.linalg.solve(matrix, right)[0] / ORACLE.gain(T) - 1)
    assert gaussian.error(gaussian.training(n, Same()), n) == pytest.approx(wanted, rel=1e-6)
    assert wanted > 2 * gaussian.error(gaussian.training(n), n)


def test_progressive_distillation_keeps_the_error_of_its_first_teacher():
    assert gaussian.progressive_error(16) == pytest.approx(abs(product(ORACLE.euler, 33) - 1), rel=1e-9)


def test_every_call_brings_the_width_nearer():
    errors = gaussian.step_errors(Heun(), 18, 4)
    assert errors[0] == pytest.approx(abs(product(ORACLE.heun, 18) - 1), abs=1e-4)  # the start has no x_0 in it
    assert errors == sorted(errors, reverse=True)


def test_learning_is_fast_and_bad_with_few_points_slow_and_good_with_many():
    small, large, growing = (gaussian.learning(grid, 100) for grid in (Grid(6), Grid(36), Growing(2, 36)))
    assert small[40] < 0.5 < large[40]
    assert small[-1] == pytest.approx(gaussian.error(gaussian.training(6), 6), rel=0.05)
    assert growing[-1] < small[-1] / 2 < large[-1] / 2
    assert gaussian.error(gaussian.training(36), 36) < small[-1] / 3  # where the large N would end


def test_the_points_are_exact_for_fourth_moments():
    a, b, weight = gaussian.points()
    assert float((weight * a**4 * b**2).sum()) == pytest.approx(3, rel=1e-12)
    assert weight.dtype == torch.float64


def test_every_study_that_promises_a_closed_form_has_one():
    assert {name for name, study in STUDIES.items() if study.closed} == set(FORMS)
    curves = closed_form("heun-vs-euler")
    assert [n for n, _ in curves["Heun"]] == [9, 18, 36, 72]
    assert all(heun < euler for (_, heun), (_, euler) in zip(curves["Heun"], curves["Euler"], strict=True))
    pd = closed_form("progressive")["PD"]
    assert [calls for calls, _ in pd] == [1, 2, 4]
    assert [error for _, error in pd] == pytest.approx(3 * [abs(product(ORACLE.euler, 33) - 1)], rel=1e-9)
    assert closed_form("distance") == {}
