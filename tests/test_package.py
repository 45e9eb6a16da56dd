"""`import fewstep` is light, every public name resolves, and the package carries what it needs."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

import fewstep


def test_import_loads_no_torch():
    heavy = {"torch", "numpy", "PIL", "accelerate", "tyro"}
    code = f"import fewstep, sys; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(fewstep.PUBLIC))
def test_public_name_resolves(name):
    assert getattr(fewstep, name).__name__ == name
    assert name in dir(fewstep)


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match="perhaps you meant 'Inpaint'"):
        _ = fewstep.Inpant
    with pytest.raises(AttributeError, match="no attribute 'xyzzy'$"):
        _ = fewstep.xyzzy


def test_all_is_exact():
    assert set(fewstep.__all__) == {"__version__", *fewstep.PUBLIC}


def test_version_is_the_installed_one():
    try:
        assert version("fewstep") == fewstep.__version__
    except PackageNotFoundError:
        pytest.skip("fewstep is not installed")
