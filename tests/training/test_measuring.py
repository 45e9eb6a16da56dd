"""The score of a run at its previews: where it is written, and that training does not notice it."""

import json
from pathlib import Path

import pytest
import torch
from training_helpers import small, state

import fewstep
from fewstep.training.fit import fit
from fewstep.training.recipe import from_json, to_json
from fewstep.training.scoring import Scoring
from fewstep.training.track import watch


def run_all(recipe, folder: Path, **options):
    run = fit(recipe, folder)
    for _ in watch(run, quiet=True, **options):
        pass
    return run


@pytest.mark.parametrize("objective", ["ect", "edm"])
def test_a_score_at_every_preview_that_training_does_not_notice(tmp_path, objective):
    asked = Scoring(n=40)
    recipe = small(objective, steps=6, preview_every=3, score=asked)
    run = run_all(recipe, tmp_path / "scored")
    lines = [json.loads(line) for line in (tmp_path / "scored" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "score" in line] == [3, 6]
    assert lines[-1]["score_name"].startswith("energy (simple ")
    run_all(small(objective, steps=6, preview_every=3, score=None), tmp_path / "plain")
    assert "score" not in (tmp_path / "plain" / "metrics.jsonl").read_text()
    plain = state(tmp_path / "plain")
    for name, tensor in state(tmp_path / "scored").items():
        torch.testing.assert_close(tensor, plain[name], rtol=0, atol=0)
    steps = 1 if objective == "ect" else 10
    x = run.model().sample(40, steps=steps, seed=recipe.seed, labels=torch.arange(40) % 10, batch=64)
    by_hand = fewstep.evaluate(x, "digits", features="simple", scores="energy", reference_n=40)
    assert lines[-1]["score"] == pytest.approx(by_hand["energy"], rel=1e-5)


def test_the_score_knows_what_was_asked_for(tmp_path):
    run_all(small(steps=2, score=Scoring(n=20, by="agreement", features="digits")), tmp_path)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["score"] <= 100
    assert last["score_name"].startswith("agreement % (digits")


def test_scores_are_part_of_a_recipe_and_may_change_when_a_run_goes_on(tmp_path):
    recipe = small(steps=2, score=Scoring(n=20, by="fd"))
    assert from_json(to_json(recipe)) == recipe
    run_all(recipe, tmp_path)
    run_all(small(steps=2, score=None), tmp_path)
    for wrong in ({"n": 1}, {"by": "fid"}, {"steps": 0}):
        with pytest.raises(ValueError):
            Scoring(**wrong)
