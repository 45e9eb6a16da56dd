"""Every test runs on one thread, without network, the shapes and types of fewstep checked as it runs."""

import atexit
import os
import shutil
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["FEWSTEP_CACHE"] = tempfile.mkdtemp(prefix="fewstep-tests-")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest

hook = jaxtyping.install_import_hook("fewstep", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(1)
atexit.register(shutil.rmtree, os.environ["FEWSTEP_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def needs_gpu(request: pytest.FixtureRequest) -> None:
    """Tests marked `gpu` are skipped where there is no CUDA device."""
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
