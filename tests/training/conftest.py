from pathlib import Path

import pytest
from training_helpers import small, train

from fewstep.images import Data


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a small conditional diffusion model, with hidden labels so that it can be guided."""
    folder = tmp_path_factory.mktemp("teacher")
    train(small(steps=20, label_drop=0.1), folder)
    return folder


@pytest.fixture(scope="session")
def unconditional_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unconditional")
    train(small(steps=3, data=Data("digits", labels=False)), folder)
    return folder
