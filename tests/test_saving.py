"""Models as folders, exactly; and clear words for folders that hold none."""

import json

import pytest
import torch
from model_helpers import random_model
from safetensors import SafetensorError
from safetensors.torch import load_file

from fewstep.design import from_json, to_json
from fewstep.model import build
from fewstep.saving import card, read_model, write_model


def save(tmp_path, model, **options):
    write_model(tmp_path / "m", model.design, model.denoiser.network.state_dict(), **options)
    return tmp_path / "m"


def test_round_trip(tmp_path):
    model = random_model(times={"2": (80.0, 0.5)}, class_names=tuple("abcdefghij"), about={"name": "A", "steps": 3})
    design, weights = read_model(save(tmp_path, model))
    assert design == model.design
    for name, w in model.denoiser.network.state_dict().items():
        assert torch.equal(weights[name], w), name


def test_half_precision_stays_so_in_the_file_and_computes_in_float32(tmp_path):
    model = random_model()
    folder = save(tmp_path, model, dtype=torch.float16)
    assert {w.dtype for w in load_file(str(folder / "weights.safetensors")).values()} == {torch.float16}
    design, weights = read_model(folder)
    assert {w.dtype for w in weights.values()} == {torch.float16}
    for name, w in build(design, weights, "cpu").denoiser.network.state_dict().items():
        assert w.dtype == torch.float32
        assert torch.equal(w, model.denoiser.network.state_dict()[name].half().float())


def test_whole_numbers_stay_whole(tmp_path):
    design = random_model().design
    write_model(tmp_path / "m", design, {"a": torch.tensor([70000]), "b": torch.ones(2)}, dtype=torch.float16)
    assert read_model(tmp_path / "m")[1]["a"].tolist() == [70000]


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="photos holds other files \\(a.jpg\\), which would be lost"):
        random_model().save(tmp_path / "photos")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        random_model().save(tmp_path / "file")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.jpg", "file", "photos"]
    (tmp_path / "empty").mkdir()
    random_model().save(tmp_path / "empty")
    random_model().save(tmp_path / "empty")  # an old model is replaced


def test_nothing_but_three_files(tmp_path):
    folder = save(tmp_path, random_model())
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "model.json", "weights.safetensors"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_the_card():
    text = card(
        random_model(times={"1": (80.0,)}, about={"name": "Tiny", "text": "Made for a test.", "steps": 3}).design
    )
    assert text.startswith("---\nlibrary_name: fewstep\n")
    assert "# Tiny" in text
    assert "Made for a test." in text
    assert "8×8 with 1 channel(s), 10 classes" in text
    assert "- steps: 3" in text
    assert "diffusion model" in card(random_model(consistent=False, classes=0).design)


def test_damage_is_named(tmp_path):
    folder = save(tmp_path, random_model())
    with pytest.raises(FileNotFoundError, match=r"holds no model: model\.json is missing"):
        read_model(tmp_path)
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged or no safetensors file"):
        read_model(folder)
    path.write_bytes(b"\x80\x04K\x01.")  # a pickle
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        read_model(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json is damaged"):
        read_model(folder)


def test_other_descriptions_are_refused():
    plain = json.loads(json.dumps(to_json(random_model().design)))
    assert from_json(plain, "x") == random_model().design
    with pytest.raises(ValueError, match="x was written by a later fewstep .format 2."):
        from_json(plain | {"version": 2}, "x")
    with pytest.raises(ValueError, match="x is not the description of a fewstep model"):
        from_json({"model": "unet"}, "x")
    with pytest.raises(ValueError, match="x is not the description"):
        from_json([1], "x")
    with pytest.raises(ValueError, match="x is not the description"):
        from_json(plain | {"design": {"type": "Karras"}}, "x")
    with pytest.raises(ValueError, match=r"x cannot be read: Unknown part 'Karas'; did you mean 'Karras'"):
        from_json(plain | {"design": plain["design"] | {"schedule": {"type": "Karas"}}}, "x")
    with pytest.raises(ValueError, match=r"x cannot be read: Design has no field 'tmes'; did you mean 'times'"):
        from_json(plain | {"design": plain["design"] | {"tmes": {}}}, "x")
    with pytest.raises(ValueError, match="x cannot be read"):
        from_json(plain | {"design": plain["design"] | {"schedule": {"type": "Karras", "t_min": "small"}}}, "x")


def test_what_lies_beside_a_model_is_not_lost(tmp_path):
    model = random_model()
    model.save(tmp_path / "mine")
    model.save(tmp_path / "mine")  # a model alone is replaced
    (tmp_path / "mine" / ".git").mkdir()
    with pytest.raises(FileExistsError, match=r"\.git"):
        model.save(tmp_path / "mine")
    assert (tmp_path / "mine" / ".git").is_dir()


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("fewstep.ondisk.save_file", full)
    with pytest.raises(OSError, match="weights.safetensors could not be written .*No space left"):
        random_model().save(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []
