"""Tiny models with random weights, saved on the fly, and a command line that runs in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from fewstep.cli import main
from fewstep.conditions import Labels, Nothing
from fewstep.design import Design
from fewstep.networks import CompactShape
from fewstep.parameterizations import EDM, Boundary
from fewstep.saving import write_model


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Callable[..., Said]:
    """Runs `fewstep ARGS` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Said:
        code = main([str(arg) for arg in args])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def save_tiny(folder: Path, *, size=8, channels=1, classes=3, consistent=True, names=()) -> Path:
    """A model whose picture depends on its label."""
    shape = CompactShape(channels, size, classes, widths=(8,), blocks=1, embedding=16)
    torch.manual_seed(1)
    network = shape.build()
    weights = {name: w + 0.3 * torch.randn_like(w) for name, w in network.state_dict().items()}
    kind = Boundary if consistent else EDM
    condition = Labels(classes) if classes else Nothing()
    times = {"2": (80.0, 0.7)} if consistent else {}
    write_model(folder, Design(shape, kind(), condition=condition, times=times, class_names=names), weights)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        "grey": save_tiny(place / "grey", names=("ant", "bee", "cat")),
        "free": save_tiny(place / "free", classes=0),
        "colour": save_tiny(place / "colour", channels=3, classes=0),
        "teacher": save_tiny(place / "teacher", consistent=False),
    }


@pytest.fixture
def tiny(models) -> Path:
    return models["grey"]
