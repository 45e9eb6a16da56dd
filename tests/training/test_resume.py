"""A run that is killed and started again ends with the same weights, bit for bit, as one that was not."""

import random

import pytest
from training_helpers import OBJECTIVES, assert_same, ended, everything, fit_and_die, start, state, train, weights


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_killed_again_and_again_is_the_same_as_never(objective, teacher, tmp_path):
    recipe = everything(objective, teacher)
    whole = train(recipe, tmp_path / "whole")
    lot, deaths = random.Random(objective), 0
    while (code := ended(start(fit_and_die, recipe, tmp_path / "killed", lot.randrange(20, 75)))) != 0:
        assert code == -9
        deaths += 1
    assert deaths >= 2
    assert_same(state(tmp_path / "killed"), state(tmp_path / "whole"))
    assert_same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert whole.state.skipped == 0
    leftovers = [p for p in (tmp_path / "killed").rglob(".*") if p.name != ".lock"]
    assert leftovers == []
