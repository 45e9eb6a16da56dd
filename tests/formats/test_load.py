"""A model from wherever it is: a name, a saved model, a run, a checkpoint."""

import importlib
import itertools

import pytest
import torch
from model_helpers import random_model
from openai_helpers import CONFIG, save_pt
from training_helpers import small, train, weights
from unet_helpers import IMAGENET

from fewstep.formats.load import load, locate, read
from fewstep.training.fit import fit

finding = importlib.import_module("fewstep.formats.load")  # the package has a function of that name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(small(steps=5, checkpoint_every=2), folder)
    return folder


def assert_weights(model, wanted):
    for name, w in model.denoiser.network.state_dict().items():
        assert torch.equal(w, wanted[name]), name


def test_a_finished_run_its_model_folder_and_its_last_checkpoint_are_one_model(run):
    for source in (run, str(run), run / "model", run / "checkpoints" / "step-00000005"):
        assert_weights(load(source), weights(run))


def test_an_unfinished_run_is_its_last_checkpoint(tmp_path):
    loop = iter(unfinished := fit(small(steps=5, checkpoint_every=2), tmp_path))
    next(loop)
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet: let it train a little longer"):
        load(tmp_path)
    for _ in itertools.islice(loop, 2):
        pass
    assert unfinished.state.step == 3
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    model = load(tmp_path)
    assert model.design == unfinished.design
    again = fit(small(steps=5, checkpoint_every=2), tmp_path)
    assert_weights(model, again.state.averaged(0.9))


def test_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "BUNDLED", tmp_path / "bundled")
    with pytest.raises(
        FileNotFoundError, match="There is no model 'nowhere': it is no file, no model's or run's folder"
    ):
        load("nowhere")
    random_model().save(tmp_path / "bundled" / "mnist")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'mnist'\?"):
        load("mnits")


def test_bundled_names(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "BUNDLED", tmp_path / "bundled")
    monkeypatch.chdir(tmp_path)
    random_model(about={"name": "bundled"}).save(tmp_path / "bundled" / "mnist")
    (tmp_path / "mnist").mkdir()  # a folder of pictures, say
    assert load("mnist").design.about["name"] == "bundled"
    random_model(about={"name": "mine"}).save(tmp_path / "mnist")
    assert load("mnist").design.about["name"] == "mine"


def test_damage_is_named(tmp_path):
    random_model().save(tmp_path / "m")
    design = (tmp_path / "m" / "model.json").read_text()
    (tmp_path / "m" / "model.json").write_text(design.replace('"image_channels": 1', '"image_channels": 3'))
    with pytest.raises(ValueError, match=r"The model in .*m cannot be loaded: The weights do not fit"):
        load(tmp_path / "m")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"schedule": {', '"schedule": 7, "about": {', r"model\.json cannot be read: Design\.schedule cannot be 7"),
        ('"sigma_data": 0.5', '"sigma_data": -0.5', "sigma_data is a number larger than 0, not -0.5"),
        ('"num_classes": 3', '"num_classes": -1', "No network can have these sizes"),
    ],
)
def test_descriptions_that_make_no_sense(old, new, message, tmp_path):
    random_model(classes=3).save(tmp_path)
    design = (tmp_path / "model.json").read_text()
    assert old in design
    (tmp_path / "model.json").write_text(design.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_what_is_there_goes_before_what_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    save_pt(tmp_path / "cd_imagenet64_l2.pt")
    for source in ("cd_imagenet64_l2.pt", "~/cd_imagenet64_l2.pt", tmp_path / "cd_imagenet64_l2.pt"):
        assert locate(source).resolve() == tmp_path / "cd_imagenet64_l2.pt"
    model = load("cd_imagenet64_l2.pt", config=CONFIG, device="cpu")
    assert model.design.architecture == IMAGENET
    assert model.design.times["1"] == (80.0,)


def test_the_weights_file_itself_is_a_source(tmp_path):
    random_model(about={"name": "mine"}).save(tmp_path / "m")
    stored = read(tmp_path / "m" / "weights.safetensors")
    assert (stored.format, stored.design.about["name"]) == ("fewstep", "mine")
    assert locate(tmp_path / "m") == stored.path


def test_a_picture_is_no_model(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r"a\.png is no checkpoint of tensors"):
        load(tmp_path / "a.png")
