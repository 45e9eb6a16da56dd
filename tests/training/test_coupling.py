"""Coupling of noise and pictures: a permutation, the best one, within a class."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from training_helpers import small, state, train

from fewstep.training import coupling
from fewstep.training.coupling import coupled, nearest


def cost(x, z):
    return float(((x - z) ** 2).sum())


def test_the_nearest_is_the_best_of_all_permutations():
    x, z = torch.randn(5, 1, 3, 3), torch.randn(5, 1, 3, 3)
    best = min(permutations(range(5)), key=lambda p: cost(x, z[list(p)]))
    assert nearest(x, z).tolist() == list(best)


def test_noise_is_handed_out_within_a_class_and_none_is_lost():
    x, z, labels = torch.randn(40, 1, 4, 4), torch.randn(40, 1, 4, 4), torch.arange(40) % 3
    new = coupled("optimal-transport", x, z, labels)
    for label in range(3):
        here = labels == label
        assert {tuple(row.tolist()) for row in new[here].flatten(1)} == {tuple(r.tolist()) for r in z[here].flatten(1)}
        assert cost(x[here], new[here]) < cost(x[here], z[here])
    one = coupled("optimal-transport", x, z, torch.full((40,), -1))
    assert cost(x, one) < cost(x, new)  # without classes there is more to choose from
    assert coupled("independent", x, z, labels) is z


def test_a_run_is_the_same_in_micro_batches_and_another_one_without(tmp_path):
    recipe = small("ect", coupling="optimal-transport")
    for name, each in (("whole", recipe), ("parts", replace(recipe, micro_batch=recipe.batch // 2))):
        train(each, tmp_path / name)
    train(small("ect"), tmp_path / "independent")
    whole, parts, other = (state(tmp_path / name) for name in ("whole", "parts", "independent"))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-4) for name in whole)
    assert any(not torch.allclose(whole[name], other[name], atol=1e-4) for name in whole)


def test_without_scipy_one_sentence_says_what_to_install(monkeypatch):
    import builtins

    real = builtins.__import__
    refuse = lambda name, *rest: (_ for _ in ()).throw(ImportError(name)) if "scipy" in name else real(name, *rest)  # noqa: E731
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"fewstep\[coupling\]"):
        coupling.nearest(torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2))
