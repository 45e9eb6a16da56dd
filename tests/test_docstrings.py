"""The examples of the docstrings run, on the stand-ins of the pages' ones, and give what stands below them."""

import ast
import doctest
from pathlib import Path

import huggingface_hub
import pytest
import stand_ins
import torch

import fewstep

SOURCE = Path(fewstep.__file__).parent
FILES = [file for file in sorted(SOURCE.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    stand_ins.furnish(folder)
    return folder


@pytest.fixture
def hub(monkeypatch) -> None:
    """A Hub that takes everything."""
    monkeypatch.setenv("HF_TOKEN", "mine")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda self, name, **_: f"https://huggingface.co/{name}")
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda self, **_: None)


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(SOURCE)) for file in FILES])
def test_the_examples_of_a_file(file, place, hub, monkeypatch):
    monkeypatch.chdir(place)
    said: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, DOCUMENTED) and ">>> " in (text := ast.get_docstring(node) or ""):
            name, names = getattr(node, "name", file.stem), {"fewstep": fewstep, "torch": torch}
            example = doctest.DocTestParser().get_doctest(text, names, name, str(file), 0)
            doctest.DocTestRunner(verbose=False, optionflags=OPTIONS).run(example, out=said.append)
    assert not said, "".join(said)
