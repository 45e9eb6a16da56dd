"""The runner of diffusers' published tests puts fewstep's classes in their place."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest

import fewstep

RUNNER = Path(__file__).parents[1] / "upstream" / "run.py"

PUBLISHED = """
import diffusers

def test_classes():
    for name in {classes}:
        assert getattr(diffusers, name).__module__.startswith("fewstep.")
"""


def runner():
    spec = importlib.util.spec_from_file_location("upstream_runner", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_class_exists_on_both_sides():
    for name in runner().CLASSES:
        assert getattr(fewstep, name) is not getattr(diffusers, name)


def test_the_tests_see_our_classes(tmp_path):
    run = runner()
    for name in run.TESTS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PUBLISHED.format(classes=run.CLASSES))
    done = subprocess.run([sys.executable, RUNNER, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(run.TESTS)} passed" in done.stdout


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="is no checkout of diffusers"):
        runner().main(str(tmp_path))
