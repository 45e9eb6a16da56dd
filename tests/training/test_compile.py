"""torch.compile changes nothing but the speed: losses and dropout masks stay those of the plain network."""

import shutil
from dataclasses import replace

import pytest
import torch
from training_helpers import SHAPE, ended, losses, small, start

from fewstep.objectives import Draw
from fewstep.training.fit import fit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any(map(shutil.which, ("g++", "c++", "clang++"))), reason="needs a C++ compiler"),
]


def test_compiled_training_is_plain_training_with_one_dropout_mask(tmp_path):
    assert ended(start(compare, tmp_path), within=900) == 0  # the type checks of the tests cannot be compiled


def compare(tmp_path):
    recipe = small("ct", architecture=replace(SHAPE, dropout=0.5, attention=False), batch=4, steps=3)
    compiled = replace(recipe, compile=True)
    torch.testing.assert_close(
        losses(compiled, tmp_path / "fast"), losses(recipe, tmp_path / "plain"), rtol=1e-4, atol=1e-5
    )
    s = fit(compiled, tmp_path / "masks").stepper
    for p in s.student.parameters():
        torch.nn.init.normal_(p, std=0.3)
    s.target.load_state_dict(s.student.state_dict())
    x, t, labels = torch.randn(4, 1, 8, 8), torch.full((4,), 3.0), torch.arange(4)
    draw = Draw(recipe.schedule, x, torch.zeros_like(x), t, t, {"labels": labels})
    assert recipe.objective.loss(s.student, s.target, draw).abs().max() < 1e-6
    assert (s.student(x, t, labels=labels) - s.student(x, t, labels=labels)).abs().max() > 1e-2
