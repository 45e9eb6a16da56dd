"""The Python of the README runs as it stands there. Small models lie where it names some to download."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from unet_helpers import design_of, random_weights

import fewstep
from fewstep.formats.writing import write
from fewstep.networks import UNetShape

README = Path(__file__).parents[1] / "README.md"
SMALL = UNetShape(image_size=64, model_channels=64, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(),
                  num_head_channels=64, num_classes=1000)  # fmt: skip


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Small models under the names that the README gives."""
    monkeypatch.chdir(tmp_path)
    weights = random_weights(SMALL)
    torch.save(weights, tmp_path / "cd_imagenet64_l2")
    torch.save(weights, tmp_path / "ema_0.9999_100000.pt")
    folder = tmp_path / "openai" / "diffusers-cd_imagenet64_l2"
    folder.parent.mkdir()
    write("diffusers", folder, design_of(SMALL), weights)


@pytest.mark.skipif(not README.exists(), reason="a built package has no README beside it")
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, stand_ins):
    names: dict = {}
    first, others, drop_in = blocks()[:3]
    exec(first, names)
    assert (tmp_path / "sevens.png").is_file()
    assert torch.equal(names["x"][:, :, :14], names["y"][:, :, :14])
    exec(others, names)
    assert names["model"].shape == (3, 64, 64)
    names |= {"photo": Image.new("RGB", (64, 64), "teal"), "mask": Image.new("L", (64, 64), 0)}
    exec(drop_in, names)
    assert names["image"].getpixel((5, 5)) == (0, 128, 128)


def test_the_results_of_the_readme_are_those_of_the_docs():
    """One table on two pages: what is measured anew is written on both."""
    readme, results = (
        [line for line in (README.parent / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        for page in ("README.md", "docs/results.md")
    )
    first = next(line for line in results if line.startswith("| model |"))
    table = results[results.index(first) :]
    table = table[: next(i for i, line in enumerate(table) if "iCT" in line) + 3]
    start = readme.index(first)
    assert readme[start : start + len(table)] == table


@pytest.mark.slow
@pytest.mark.skipif(not README.exists(), reason="a built package has no README beside it")
@pytest.mark.parametrize("calls", [1, 2])
def test_the_bundled_model_is_read_as_the_readme_says(calls):
    """Its agreement in the table, with the judge that comes with the package, up to rounding."""
    rows = [line.split("|")[1:-1] for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    first = next(i for i, row in enumerate(rows) if "bundled as `mnist`" in row[0])
    said = float(rows[first + calls - 1][2].strip(" *"))
    found = fewstep.evaluate("mnist", features="mnist", scores="agreement", n=2000, steps=calls)
    assert found["agreement"] == pytest.approx(said, abs=0.11)
