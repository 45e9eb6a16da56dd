"""train: overrides, the dry run, going on, recipes of one's own."""

import os
import re
import signal
from dataclasses import replace

import pytest

import fewstep
from fewstep import recipes
from fewstep.cli import dryrun
from fewstep.cli.train import find, flag, from_file, leaves, parse
from fewstep.lpips import LPIPS
from fewstep.networks import CompactShape, UNetShape
from fewstep.training import track

SMALL = ["--steps", 4, "--batch", 8, "--architecture.widths", 8, "--checkpoint-every", 2, "--preview-every", 100]


def given(*args):
    return parse(recipes.recipe("digits-ect"), [str(arg) for arg in args], "fewstep train digits-ect")


def test_leaves_are_changed_and_nothing_else():
    before = recipes.recipe("digits-ect")
    options = given(
        "--steps", 7, "--optimizer.lr", 0.5, "--data", "x.zip", "--clip", "None", "--no-channels-last", "--out=o"
    )
    after = options.recipe
    assert (after.steps, after.optimizer.lr, after.data.path, after.clip) == (7, 0.5, "x.zip", None)
    assert not after.channels_last
    assert options.out == "o"
    assert type(after.objective) is type(before.objective)
    assert given().recipe == before


@pytest.mark.parametrize("name", ["digits-ict", "mnist-cd", "imagenet64-cd-lpips"])
def test_every_leaf_of_a_recipe_has_a_flag(name):
    recipe, words = recipes.recipe(name), []
    for path, value in leaves(recipe):
        if path[0] not in ("name", "times") and not isinstance(value, bool):
            words += [flag(*path), *map(str, value if isinstance(value, tuple) else [value])]
    assert parse(recipe, words, "x").recipe == recipe


@pytest.mark.parametrize(("word", "few", "many"), [("--help", 20, 36), ("--help-all", 45, 80)])
@pytest.mark.parametrize("name", ["digits-ect", "mnist-cd", "imagenet64-ct"])
def test_help_shows_about_thirty_flags_and_help_all_the_rest(capsys, name, word, few, many):
    with pytest.raises(SystemExit) as end:
        parse(recipes.recipe(name), [word], "x")
    assert end.value.code == 0
    shown = set(re.findall(r"(?m)^\W*(--[\w.-]+)", capsys.readouterr().out))
    assert few <= len(shown) <= many, sorted(shown)


def test_a_run_is_trained_and_goes_on(cli):
    command = ["train", "digits-ect", *SMALL, "--out", "run"]
    said = cli(*command)
    assert said.code == 0, said.err
    for words in ("1797 pictures 8×8×1, 10 classes", "from random weights", "fewstep sample run --steps 2"):
        assert words in said.out
    assert fewstep.load("run").shape == (1, 8, 8)
    assert "finished already" in cli(*command).out
    other = cli("train", "digits-ect", *SMALL, "--out", "run", "--seed", 1)
    assert other.code == 1
    assert "seed: 1, not 0" in other.err


def test_an_interrupted_run_says_how_to_go_on(cli, monkeypatch):
    write = track.write_line

    def interrupting(path, line):
        write(path, line)
        if line["step"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(track, "write_line", interrupting)
    command = ["train", "digits-ect", *SMALL, "--out", "my run"]
    said = cli(*command)
    assert said.code == 130
    assert "fewstep train digits-ect --steps 4" in said.out
    assert "--out 'my run'" in said.out
    monkeypatch.setattr(track, "write_line", write)
    said = cli(*command)
    assert said.code == 0
    assert "of the run in my run" in said.out
    assert [line["step"] for line in track.read_metrics("my run/metrics.jsonl")] == [1, 2, 3, 4]


def test_a_student_of_a_teacher(cli):
    assert cli("train", "digits-edm", *SMALL, "--out", "teacher").code == 0
    said = cli("train", "digits-cd", "--steps", 1, "--batch", 4, "--teacher", "teacher", "--out", "student")
    assert said.code == 0, said.err
    assert "from teacher" in said.out
    assert "parameters" in cli("train", "digits-cd", "--teacher", "teacher", "--dry-run").out
    for setting, ours in (("--sigma-data", "sigma_data 0.5"), ("--architecture.embedding", "embedding 128")):
        said = cli("train", "digits-cd", "--teacher", "teacher", "--out", "other", setting, 48)
        assert said.code == 1
        assert f"{setting} 48" in said.err
        assert f"the data and teacher, where the weights start, decide it ({ours})" in said.err
        assert not os.path.exists("other")  # refused before anything is made
    said = cli("train", "digits-ect", "--architecture.image-size", 16, "--out", "another")
    assert "--architecture.image-size 16 cannot be: the data decide it (image_size 8)" in said.err


MINE = """
from dataclasses import replace
from fewstep import recipes
recipe = {}
"""


BODIES = ['replace(recipes.recipe("digits-ect"), name="custom", steps=2)', 'lambda: recipes.recipe("digits-ect")']


@pytest.mark.parametrize("body", BODIES)
def test_a_recipe_of_ones_own(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(MINE.format(body))
    recipe = find(str(path))
    assert recipe.name == ("mine" if "custom" in body else "digits-ect")
    path.write_text("recipe = 3")
    with pytest.raises(ValueError, match="must define"):
        from_file(path)


def test_list_names_every_recipe(cli):
    said = cli("train", "--list")
    assert all(f"  {name} " in said.out for name in recipes.names())


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_passes_the_dry_run(cli, monkeypatch, name):
    monkeypatch.setattr(dryrun, "MEASURED", 0.0)
    said = cli("train", name, "--dry-run")
    assert said.code == 0, said.err
    for words in ("parameters:", "memory: about", "a step:", "optimizer:"):
        assert words in said.out
    assert os.listdir() == []


def test_the_dry_run_measures_small_networks(cli):
    assert "s a step" in cli("train", "digits-ect", "--dry-run", "--architecture.widths", 8).out


def test_the_cost_of_a_network_is_exact_for_one_that_can_be_counted():
    released = recipes.recipe("imagenet64-edm")
    assert dryrun.cost_of(released.architecture, released.precision).parameters == 295_899_267  # the paper's 296M
    small = CompactShape(1, 8, 0, widths=(8,), blocks=1, patch=1, attention=False)
    network = small.build()
    cost = dryrun.cost_of(small)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    convolutions = sum(2 * m.weight.numel() * 64 for m in network.modules() if hasattr(m, "kernel_size"))
    linear = sum(2 * m.weight.numel() for m in network.modules() if hasattr(m, "in_features"))
    assert cost.forward == convolutions + linear
    assert 2.5 * cost.forward < cost.trained < 3 * cost.forward  # no gradient for the picture itself


@pytest.mark.parametrize(
    ("name", "calls"),
    [("digits-edm", (1, 0, 0)), ("digits-ect", (1, 1, 0)), ("digits-cd", (1, 1, 2)), ("digits-pd", (1, 0, 2))],
)
def test_calls_are_counted_by_the_objective_itself(name, calls):
    recipe = replace(recipes.recipe(name), guidance=1.0)
    assert dryrun.calls_of(recipe) == dryrun.Calls(*calls)
    assert dryrun.calls_of(replace(recipe, guidance=1.5)).teacher == 2 * calls[2]


def test_the_network_of_a_perceptual_distance_is_counted():
    plain = recipes.recipe("words-vae")
    seen = dryrun.judge_cost(replace(plain, objective=replace(plain.objective, also=LPIPS())))
    assert seen.parameters == 14_714_688  # VGG16's convolutions
    assert seen.trained > seen.forward > 0
    assert dryrun.judge_cost(plain).parameters == 0


def test_recomputing_keeps_less():
    shape = UNetShape(image_size=16, model_channels=32, channel_mult=(1, 2), num_res_blocks=1)
    plain, again = dryrun.cost_of(shape), dryrun.cost_of(replace(shape, use_checkpoint=True))
    assert again.activations < 0.6 * plain.activations
    assert again.trained > 1.1 * plain.trained
    assert plain.parameters == again.parameters
