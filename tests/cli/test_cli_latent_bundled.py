"""convert, and models that come with the package, for latents: what stock diffusers draws of them, and every verb."""

import importlib
import subprocess
import sys
from dataclasses import replace

import diffusers
import latent_helpers
import numpy as np
import pytest
import torch
from cli_helpers import save_image

import fewstep
from fewstep.formats import latent_folder, path

finding = importlib.import_module("fewstep.formats.load")  # the package has a function of that name
PROMPT = "a thick slanted three"


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock") / "lcm"
    latent_helpers.pipeline(folder, "lcm")
    return folder


@pytest.fixture
def words(stock, tmp_path_factory, monkeypatch):
    """The name of a bundled model."""
    place = tmp_path_factory.mktemp("bundled")
    design, weights = latent_folder.read(stock)
    about = {"name": "words", "text": "Digits, told in words.", "steps": 300, "base": "runs/words"}
    design = replace(design, about=about, times={"2": (999.0, 499.0)})
    latent_folder.write(place / "words", design, weights, torch.float16)
    monkeypatch.setattr(finding, "BUNDLED", place)
    return "words"


def drawn(pipe):
    pipe.set_progress_bar_config(disable=True)
    said = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np"}
    return pipe(PROMPT, generator=torch.Generator().manual_seed(0), **said).images


def test_convert_halves_what_stock_diffusers_then_draws(cli, stock):
    said = cli("convert", stock, "--to", "diffusers", "--dtype", "float16", "--out", "half")
    assert (said.code, said.err) == (0, "")
    assert "tensors, float16, " in said.out
    assert '  fewstep sample half --prompt "..."\n  LatentConsistencyModelPipeline.from_pretrained("half")' in said.out
    assert cli("convert", stock, "--to", "diffusers").code == 0  # diffusers-lcm
    pipes = [diffusers.LatentConsistencyModelPipeline.from_pretrained(x) for x in (stock, "diffusers-lcm", "half")]
    wanted, same, half = (drawn(pipe.to(torch.float32)) for pipe in pipes)
    np.testing.assert_array_equal(wanted, same)
    assert 0 < np.abs(half - wanted).max() < 0.02
    assert cli("sample", "half", "--prompt", PROMPT, "--steps", 1).code == 0
    for form, why in (("fewstep", "no form of its own"), ("openai", "OpenAI's form is one network of pixels")):
        said = cli("convert", stock, "--to", form, "--out", "x.pt")
        assert said.code == 1
        assert why in said.err


def test_a_name_is_sampled_edited_and_listed(cli, words, tmp_path):
    model = fewstep.load(words, device="cpu")
    assert model.times(2) == [999, 499]
    assert cli("sample", words, "--prompt", PROMPT, "--steps", 2, "--out", "x.npz").code == 0
    save_image(tmp_path / "a.png", 16, 3)
    assert cli("edit", "img2img", words, "--image", "a.png", "--prompt", PROMPT, "--out", "y.png").code == 0
    said = cli("models").out
    assert "words: latent consistency model, 16×16×3, told prompts, 2." in said
    assert "  Digits, told in words.\n  steps: 300\n" in said
    assert "There is no model 'word'" in cli("sample", "word", "--prompt", PROMPT).err


def test_the_pipelines_take_its_folder(words):
    pipe = fewstep.LatentConsistencyModelPipeline.from_pretrained(path(words))
    assert drawn(pipe).shape == (1, 16, 16, 3)
    assert fewstep.path(words) == finding.BUNDLED / "words"
    with pytest.raises(FileNotFoundError, match=r"No model 'wordz' comes with the package; did you mean 'words'\?"):
        path("wordz")


def test_without_the_extra_it_is_listed_and_loading_says_what_to_install(words):
    script = (
        "import sys; sys.modules['diffusers'] = sys.modules['transformers'] = sys.modules['peft'] = None\n"
        "import pathlib, importlib; from fewstep.cli import main\n"
        f"importlib.import_module('fewstep.formats.load').BUNDLED = pathlib.Path({str(finding.BUNDLED)!r})\n"
        "print(main(['models']), main(['sample', 'words', '--prompt', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "words: latent consistency model, 16×16×3, told prompts, " in done.stdout
    assert done.stdout.endswith("0 1\n")
    assert done.stderr == ("fewstep: Latent models need diffusers, which is not installed: pip install "
                           "'fewstep[latent]'.\n")  # fmt: skip
