"""convert: every form of a model draws the same pictures; what cannot be is said before anything is lost."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import save_tiny
from unet_helpers import IMAGENET, LSUN, design_of, random_weights

import fewstep
from fewstep.formats import read
from fewstep.formats.writing import write
from fewstep.parameterizations import EDM, Boundary

FORMS = ("fewstep", "openai", "diffusers")


def pictures(cli, source, out) -> bytes:
    said = cli("sample", source, "-n", 4, "--steps", 2, "--seed", 3, "--out", out)
    assert said.code == 0, said.err
    with open(out, "rb") as file:
        return file.read()


def release(path, shape, dtype=torch.float32):
    """A bare file as OpenAI published it, here of a small network, with its flags beside it."""
    torch.save(random_weights(shape, dtype), path)
    flags = {"image_size": shape.image_size, "num_head_channels": shape.num_head_channels}
    path.with_name(f"{path.name}.json").write_text(json.dumps(flags))
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("name", "shape"), [("cd_imagenet64_l2", IMAGENET), ("ct_bedroom256", LSUN)])
def test_a_released_file_draws_the_same_pictures_in_every_form(name, shape, dtype, cli, tmp_path):
    source = release(tmp_path / f"{name}.pt", shape, dtype)
    wanted = pictures(cli, source, "0.png")
    weights, design = dict(read(source).weights), read(source).design
    assert len(design.times["2"]) == 2
    said = cli("convert", source, "--to", "diffusers")
    assert said.code == 0, said.err
    kind = str(dtype).removeprefix("torch.")
    assert f"diffusers-{name}: {len(weights)} tensors, {kind}, " in said.out
    assert f"fewstep sample diffusers-{name}" in said.out
    assert cli("convert", f"diffusers-{name}", "--to", "fewstep").code == 0
    assert cli("convert", name, "--to", "openai", "--out", "again.pt").code == 0
    for i, source in enumerate([f"diffusers-{name}", name, "again.pt"]):
        assert pictures(cli, source, f"{i + 1}.png") == wanted
        assert read(source).design == design
        for key, w in read(source).weights.items():
            assert w.dtype == dtype
            assert torch.equal(w, weights[key]), (source, key)


def test_a_teacher_stays_one(cli, tmp_path):
    source = release(tmp_path / "edm_imagenet64_ema.pt", IMAGENET)
    wanted = pictures(cli, source, "0.png")
    assert cli("convert", source, "--to", "fewstep", "--out", "teacher").code == 0
    assert cli("convert", "teacher", "--to", "openai", "--out", "mine.pt").code == 0
    for i, source in enumerate(["teacher", "mine.pt"]):
        assert read(source).design.parameterization == EDM(noise_scale=250.0)
        assert pictures(cli, source, f"{i + 1}.png") == wanted
    said = cli("convert", "teacher", "--to", "diffusers")
    assert said.code == 1
    assert "This is a diffusion model, not a consistency model: diffusers has no scheduler" in said.err
    assert not (tmp_path / "diffusers-teacher").exists()


def test_what_a_file_does_not_tell_is_told(cli, tmp_path):
    weights = random_weights(IMAGENET)
    order = torch.arange(3 * 64).view(3, 4, 16).transpose(0, 1).flatten()  # (three, head, dim) to (head, three, dim)
    mixed = {n: w[order] if ".qkv." in n and len(w) == 3 * 64 else w for n, w in weights.items()}
    torch.save(mixed, tmp_path / "old.pt")
    said = cli("convert", "old.pt", "--to", "fewstep", "--config", "image_size=16", "num_head_channels=16",
               "--qkv-order", "head-three-dim", "--parameterization", "edm")  # fmt: skip
    assert said.code == 0, said.err
    stored = read("old")
    assert stored.design == replace(
        design_of(IMAGENET), parameterization=EDM(noise_scale=250.0), about={"name": "old", "label_drop": 0.0}
    )
    for name, w in stored.weights.items():
        assert torch.equal(w, weights[name]), name
    assert cli("convert", "old.pt", "--to", "fewstep", "--out", "x", "--config", "image_size").code == 2
    said = cli("convert", "old.pt", "--to", "fewstep", "--out", "x", "--config", "imagesize=16")
    assert "has no flag 'imagesize'; did you mean 'image_size'?" in said.err
    assert not (tmp_path / "x").exists()


def test_dtypes(cli, tmp_path):
    write("fewstep", tmp_path / "m", design_of(IMAGENET), random_weights(IMAGENET))
    for form, path in zip(FORMS, ("half", "half.pt", "diffusers-half"), strict=True):
        said = cli("convert", "m", "--to", form, "--out", path, "--dtype", "float16")
        assert said.code == 0, said.err
        assert "float16" in said.out
        for name, w in read(path).weights.items():
            assert torch.equal(w, read("m").weights[name].half()), name
    assert cli("convert", "half", "--to", "fewstep", "--out", "wide", "--dtype", "float32").code == 0
    assert {w.dtype for w in read("wide").weights.values()} == {torch.float32}
    large = random_weights(IMAGENET)
    large["out.2.bias"] += 1e6
    write("fewstep", tmp_path / "large", design_of(IMAGENET), large)
    said = cli("convert", "large", "--to", "openai", "--dtype", "float16")
    assert said.code == 1
    assert "out.2.bias has values beyond the range of float16: keep float32" in said.err
    assert not (tmp_path / "large.pt").exists()


def test_nothing_is_overwritten_unasked(cli, tmp_path):
    write("fewstep", tmp_path / "m", design_of(IMAGENET), random_weights(IMAGENET))
    write("fewstep", tmp_path / "n", design_of(IMAGENET), random_weights(IMAGENET, seed=2))
    for form, path in zip(FORMS, ("out", "out.pt", "diffusers-out"), strict=True):
        assert cli("convert", "m", "--to", form, "--out", path).code == 0
        said = cli("convert", "n", "--to", form, "--out", path)
        assert said.code == 1
        assert f"{path} is there already: choose another name with --out, or overwrite it with --force" in said.err
        assert torch.equal(read(path).weights["out.2.bias"], read("m").weights["out.2.bias"])
        assert cli("convert", "n", "--to", form, "--out", path, "--force").code == 0
        assert torch.equal(read(path).weights["out.2.bias"], read("n").weights["out.2.bias"])
    assert cli("convert", "m", "--to", "fewstep", "--dtype", "float16", "--out", "m", "--force").code == 0  # itself
    assert {w.dtype for w in read("m").weights.values()} == {torch.float16}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    for form in ("fewstep", "diffusers"):
        said = cli("convert", "m", "--to", form, "--out", "photos", "--force")
        assert said.code == 1
        assert "photos holds other files" in said.err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["a.jpg"]
    assert not list(tmp_path.glob(".*"))  # nothing unfinished is left


def test_what_a_form_cannot_hold_is_refused(cli, tmp_path):
    save_tiny(tmp_path / "compact")
    write("fewstep", tmp_path / "other", design_of(IMAGENET, parameterization=Boundary()), random_weights(IMAGENET))
    refusals = {
        ("compact", "openai"): "OpenAI's form holds the papers' U-Net",
        ("compact", "diffusers"): "diffusers has no Compact network",
        ("other", "openai"): "250 ln t",
        ("other", "diffusers"): "diffusers tells a network 250 ln σ, and this one was trained with 0.25 ln σ",
    }
    for (source, form), why in refusals.items():
        said = cli("convert", source, "--to", form)
        assert said.code == 1
        assert why in said.err
    said = cli("convert", "other", "--to", "openai", "--out", "folder")
    assert "folder cannot be OpenAI's form, which is one file: name it .pt" in said.err
    said = cli("convert", "other", "--to", "onnx")
    assert said.code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compact", "other"]


def test_a_bundled_name_and_the_present_folder_have_names(cli, tmp_path, monkeypatch):
    assert cli("convert", "mnist", "--to", "fewstep", "--dtype", "float16").code == 0
    assert fewstep.load(tmp_path / "mnist").design.about["name"] == "mnist"
    monkeypatch.chdir(tmp_path / "mnist")
    said = cli("convert", ".", "--to", "fewstep")
    assert said.out.startswith("mnist: 121 tensors, float16, ")
    assert cli("convert", ".", "--to", "fewstep").code == 1  # now it is there
