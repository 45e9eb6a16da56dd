"""OpenAI's files on the command line: sampled, edited, learned from; and the list of the released models."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from cli_helpers import save_image
from openai_helpers import CONFIG, assert_same, save_pt
from unet_helpers import IMAGENET, LSUN, random_weights

import fewstep
from fewstep.formats import read
from fewstep.formats.download import kept
from fewstep.formats.releases import IMAGENET as IMAGENET_64
from fewstep.formats.releases import RELEASES
from fewstep.parameterizations import EDM, Boundary
from fewstep.sampling import begin, last, trajectory
from fewstep.schedules import Karras
from fewstep.tensors import noise

DIGITS = replace(IMAGENET, image_channels=1, image_size=8, num_classes=10, attention_resolutions=(4,))


def test_sampled_with_a_file_beside(cli, tmp_path):
    save_pt(tmp_path / "mine.pt")
    refused = cli("sample", "mine.pt", "-n", 2)
    assert refused.code == 1
    assert "its tensors do not tell the image size" in refused.err
    assert "mine.pt.json beside it" in refused.err
    (tmp_path / "mine.pt.json").write_text(json.dumps(CONFIG))
    said = cli("sample", "mine.pt", "-n", 3, "--times", 80, 1.4, "--labels", 4, 0, "--seed", 5, "--out", "x.npz")
    assert said.code == 0, said.err
    about = json.loads((tmp_path / "x.json").read_text())
    assert about["weights"] == "mine.pt"
    model = fewstep.load("mine.pt", device="cpu")
    z = noise(5, range(3), model.shape)
    again = lambda draw, like: noise(5, range(3), model.shape, a=draw)  # noqa: E731
    with torch.no_grad():
        x = last(trajectory(model.denoiser, Karras(), begin(Karras(), z, [80.0, 1.4]), [80.0, 1.4], noise=again,
                            labels=torch.tensor([4, 0, 4])))  # fmt: skip
    with np.load("x.npz") as found:
        assert found["arr_1"].tolist() == [4, 0, 4]
        expected = ((x + 1) * 127.5).clamp(0, 255).permute(0, 2, 3, 1).numpy()
        assert np.abs(found["arr_0"].astype(float) - expected).max() <= 1.001


def test_edited(cli, tmp_path):
    save_pt(tmp_path / "mine.pt", LSUN)
    (tmp_path / "mine.pt.json").write_text(json.dumps(CONFIG))
    image, mask = save_image(tmp_path / "a.png", 16, 3), np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    from PIL import Image

    Image.fromarray(mask).save("m.png")
    for verb in (["inpaint", "--mask", "m.png"], ["colorize"], ["superres"]):
        said = cli("edit", verb[0], "mine.pt", "--image", image, *verb[1:], "--steps", 2, "--out", f"{verb[0]}.png")
        assert said.code == 0, said.err


@pytest.mark.parametrize("name", ["digits-cd", "digits-ect", "digits-ct"])
def test_a_student_of_a_file(cli, tmp_path, name):
    path = save_pt(tmp_path / "edm_digits.pt", DIGITS)
    (tmp_path / "edm_digits.pt.json").write_text(json.dumps({"image_size": 8, "num_head_channels": 16}))
    source = "--teacher" if name == "digits-cd" else "--start"
    before = random_weights(DIGITS)
    options = ["--steps", 2, "--batch", 4, source, path.name, "--device", "cpu"]
    if name == "digits-cd":
        refused = cli("train", name, *options, "--out", "guided")
        assert "never saw a hidden label, so it cannot be guided" in refused.err
        options += ["--guidance", 1]
    said = cli("train", name, *options, "--out", "student")
    assert said.code == 0, said.err
    student = read("student")
    assert student.design.architecture == DIGITS
    assert student.design.parameterization == Boundary(noise_scale=250.0)
    assert student.weights.keys() == before.keys()
    assert any(not torch.equal(student.weights[key].float(), w) for key, w in before.items())  # it learned
    assert_same(read(path.name).weights, before)  # and left its teacher alone


def test_a_student_starts_where_its_file_is(tmp_path):
    from training_helpers import small

    from fewstep.training.fit import fit

    path = save_pt(tmp_path / "edm_digits.pt", DIGITS)
    (tmp_path / "config.json").write_text(json.dumps({"image_size": 8, "num_head_channels": 16}))
    run = fit(small("cd", teacher=str(path)), tmp_path / "run")
    assert run.recipe.noise_scale == 250.0
    assert run.stepper.teacher.parameterization == EDM(noise_scale=250.0)
    x_t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 9])
    teacher = fewstep.load(path, device="cpu").denoiser
    assert torch.equal(run.stepper.teacher(x_t, 2.0, labels=labels), teacher(x_t, 2.0, labels=labels))
    weights = {name: w.contiguous() for name, w in run.state.network.state_dict().items()}
    assert_same(weights, random_weights(DIGITS))


def test_released_models_are_listed(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fewstep.formats.bundled", dict)
    there = kept(RELEASES["ct_cat256"].url)
    there.parent.mkdir(parents=True)
    there.write_bytes(b"")
    listed = [line.split(maxsplit=1) for line in cli("models").out.splitlines() if line.startswith("  ")]
    assert [name for name, _ in listed] == list(RELEASES)
    about = dict(listed)
    assert about["ct_cat256"].endswith(f"in {there}")
    assert (
        about["cd_imagenet64_l2"] == "consistency distillation (ℓ2) on ImageNet 64×64, OpenAI 2023; 1.2 GB to download"
    )
    assert about["cd_cat256_l2"].endswith("2.1 GB to download")


def test_a_released_teacher_is_not_downloaded_for_a_dry_run(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    from fewstep.cli.dryrun import as_started
    from fewstep.recipes import recipe

    path = save_pt(tmp_path / "edm_imagenet64.pt", replace(IMAGENET, image_size=64, attention_resolutions=(32,)))
    started, notes = as_started(replace(recipe("imagenet64-cd-l2"), teacher=str(path)))
    assert started.architecture.model_channels == 32
    started, notes = as_started(replace(recipe("imagenet64-cd-l2"), teacher="edm_imagenet64_ema"))
    assert (started.architecture, notes) == (IMAGENET_64, [])
    said = cli("train", "imagenet64-cd-l2", "--data", "digits", "--teacher", "edm_imagenet64_emma")
    assert said.code == 1
    assert "did you mean 'edm_imagenet64_ema'?" in said.err
    said = cli("sample", "cd_bedroom256_l2")
    assert said.code == 1
    assert f"it is expected at {tmp_path / 'cache'}" in said.err
