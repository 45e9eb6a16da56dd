"""The verbs, their help, and how errors are said."""

import importlib.util
import os
import subprocess
import sys

import pytest

from fewstep.cli import VERBS, main

HELPS = [
    ["--help"],
    *([verb, "--help"] for verb in VERBS if verb != "demo"),
    ["data", "check", "--help"],
    ["edit", "inpaint", "--help"],
]
QUIET = {**os.environ, "FEWSTEP_DEBUG": ""}


def test_help_names_every_verb_and_its_module(cli):
    said = cli("--help")
    assert said.code == 0
    for verb in VERBS:
        assert f"\n  {verb} " in said.out
        assert importlib.util.find_spec(f"fewstep.cli.{verb}")
    assert cli().out == said.out


def test_help_loads_nothing_slow():
    code = f"""
import sys
from fewstep.cli import main
for args in {HELPS}:
    assert main(args) == 0, args
heavy = {{"torch", "accelerate", "numpy", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=QUIET)
    assert run.returncode == 0, run.stderr


def test_version(cli):
    import fewstep

    assert cli("--version").out == f"fewstep {fewstep.__version__}\n"


@pytest.mark.parametrize(
    ("args", "nearest"),
    [
        (["trian"], "did you mean 'train'?"),
        (["sample", "--stepz", "3"], "did you mean '--steps'?"),
        (["train", "digits-etc"], "did you mean 'digits-ect'?"),
        (["train", "digits-ect", "--optimizer.lrr=3"], "did you mean '--optimizer.lr'?"),
        (["edit", "inpant", "x"], "did you mean 'inpaint'?"),
        (["data", "chekc", "x"], "did you mean 'check'?"),
        (["train", "--steps", "3"], "the recipe comes first"),
        (["data"], "fewstep data check PATH"),
        (["edit"], "say which edit"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_nearest_name(cli, args, nearest):
    said = cli(*args)
    assert said.code == 2
    assert nearest in said.err
    assert said.err.startswith("fewstep: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ["sample"],
        ["sample", "x", "--seed", "a"],
        ["sample", "x", "--sampler", "hoin"],
        ["train", "digits-ect", "--data.size", "8.5"],
    ],
)
def test_wrong_values_are_refused(cli, args):
    assert cli(*args).code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sample", "nowhere"], "no model 'nowhere'"),
        (["data", "check", "nowhere"], "there is no nowhere"),
        (["train", "nowhere.py"], "no recipe file nowhere.py"),
        (["train", "digits-ect", "--data", "nowhere", "--out", "run"], "there is no nowhere"),
        (["train", "digits-cd", "--out", "run"], "needs a teacher"),
        (["train", "digits-ect", "--batch", "0"], "whole numbers from 1"),
        (
            ["train", "digits-pd", "--steps", "3"],
            "3 steps pass over some of the 5 stages of ProgressiveDistillation: give at least 7",
        ),
        (["times", "nowhere"], "--data"),
    ],
)
def test_expected_errors_are_one_sentence(cli, args, words):
    said = cli(*args)
    assert said.code == 1
    assert words in said.err
    assert said.err.startswith("fewstep: ")
    assert "Traceback" not in said.err


def test_debug_shows_where_an_error_comes_from(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError):
        main(["sample", "nowhere", "--debug"])
    monkeypatch.setenv("FEWSTEP_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(["sample", "nowhere"])


def test_a_fault_of_the_program_is_not_hidden(monkeypatch):
    def broken(args):
        raise KeyError("a fault")

    monkeypatch.setattr("fewstep.cli.models.main", broken)
    with pytest.raises(KeyError):
        main(["models"])


def test_an_interruption_is_one_line_and_130(cli, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("fewstep.cli.models.main", interrupted)
    assert cli("models") == (130, "", "fewstep: interrupted.\n")


def test_demo_is_handed_its_options(cli, monkeypatch):
    seen = {}

    def tour(out, seed, **options):
        seen.update(out=out, seed=seed, **options)
        return 0

    monkeypatch.setattr("fewstep.demo.main", tour)
    assert cli("demo", "--out", "there", "--seed", 3, "--quick").code == 0
    assert seen == {"out": "there", "seed": 3, "model": "mnist", "quick": True}
    assert "did you mean '--model'?" in cli("demo", "--modle", "x").err
