"""sample in the manner of others: mmagic's configurations and zoo, OpenAI's samples_….npz, churn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fewstep
from fewstep.formats.mmagic_zoo import ZOO
from fewstep.images import to_uint8
from fewstep.networks import UNetShape
from fewstep.sampling import Churn

CONFIG = """
size = 16
unet_config = dict(model_channels=32, num_res_blocks=1, num_head_channels=16)
model = dict(unet=unet_config, denoiser=dict(), image_size=size, class_cond={classes}, num_classes=1000,
    model_path='{weights}', batch_size=3, seed=42, sampler='{sampler}', ts='0,4,7', steps=8, dropout_rate=0.1)
"""
FLAGS = {"image_size": 16, "num_head_channels": 16}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> dict[int, Path]:
    """Files in OpenAI's form, by their number of classes."""
    folder = tmp_path_factory.mktemp("openai")
    for classes in (0, 5):
        shape = UNetShape(3, 16, classes, None, 32, 1, (1, 2), (8,), num_head_channels=16)
        torch.manual_seed(0)
        weights = {name: w + 0.05 * torch.randn_like(w) for name, w in shape.build().state_dict().items()}
        torch.save(weights, folder / f"{classes}.pt")
    return {classes: folder / f"{classes}.pt" for classes in (0, 5)}


@pytest.fixture
def config(checkpoints, tmp_path):
    def write(classes=5, sampler="multistep", weights=None) -> Path:
        text = CONFIG.format(classes=bool(classes), weights=weights or checkpoints[classes], sampler=sampler)
        (tmp_path / "c.py").write_text(text)
        return tmp_path / "c.py"

    return write


def read(path):
    with np.load(path) as found:
        return dict(found)


def about(path):
    return json.loads(Path(path).read_text())


def test_a_configuration_decides_and_the_command_line_overrides(cli, config, checkpoints):
    said = cli("sample", "--mmagic-config", config(), "--label", 0, "--out", "x.npz")
    assert said.code == 0, said.err
    assert "dropout_rate (unknown)" in said.out
    assert "The generator 'determ-indiv'" in said.out
    found, times = read("x.npz"), [80.0, fewstep.Karras().grid(8)[4].item()]
    model = fewstep.load(checkpoints[5], config=FLAGS)
    np.testing.assert_array_equal(found["arr_0"], to_uint8(model.sample(3, times=times, seed=42, labels=0)))
    np.testing.assert_array_equal(found["arr_1"], [0, 0, 0])  # class 0 is class 0

    cli("sample", "--mmagic-config", config(), "-n", 2, "--seed", 1, "--times", 80, 5, "--out", "y.npz")
    assert {"n": 2, "seed": 1, "times": [80.0, 5.0], "sampler": "consistency"}.items() <= about("y.json").items()
    cli("sample", "--mmagic-config", config(), "--steps", 3, "--out", "z.npz")
    assert about("z.json")["times"] == model.times(3)
    cli("sample", "--mmagic-config", config(), "--sampler", "heun", "--out", "h.npz")
    assert {"sampler": "heun", "steps": 18}.items() <= about("h.json").items()


@pytest.mark.parametrize(
    ("sampler", "ours", "steps"),
    [
        ("heun", "heun", 8),
        ("dpm", "dpm", 8),
        ("ancestral", "ancestral", 8),
        ("onestep", "consistency", 1),
        ("progdist", "progdist", 8),
        ("euler", "euler", 8),
        ("multistep", "consistency", 2),
        ("midpoint", "midpoint", 8),
    ],
)
def test_every_sampler_of_theirs(cli, config, checkpoints, sampler, ours, steps):
    said = cli("sample", "--mmagic-config", config(0, sampler), "-n", 1, "--out", "x.npz")
    assert said.code == 0, said.err
    made = about("x.json")
    assert (made["sampler"], made["steps"], made["times"][0]) == (ours, steps, 80.0)
    model = fewstep.load(checkpoints[0], config=FLAGS)
    x = model.sample(1, times=made["times"], seed=42, sampler=ours)
    np.testing.assert_array_equal(read("x.npz")["arr_0"], to_uint8(x))


def test_weights_and_labels_of_a_configuration(cli, config, checkpoints, tmp_path):
    path = config(0, weights="nowhere.pt")
    assert "nowhere.pt" in cli("sample", "--mmagic-config", path).err
    for named in (("--weights", checkpoints[0]), (checkpoints[0],)):
        said = cli("sample", "--mmagic-config", path, *named, "--label", 3, "--out", "x.npz", "--force")
        assert said.code == 0, said.err
        assert "This model has no classes: --labels is ignored." in said.out
        assert set(read("x.npz")) == {"arr_0"}
    (tmp_path / "c.py").write_text("model = dict(image_size=16)")
    assert "c.py has no model_path: name the weights with --weights." in cli("sample", "--mmagic-config", path).err
    (tmp_path / "c.py").write_text("import os\nmodel = dict()")
    assert "line 1: 'import os' is no plain value" in cli("sample", "--mmagic-config", path).err


def test_the_zoo_by_name(cli, checkpoints, monkeypatch):
    """The full networks are too large for a test: an entry is made small."""
    name = "consistency_models_8xb256-imagenet1k-multistep-64x64"
    assert "consistency_models_8xb256-imagenet1k-onestep-64x64" in ZOO
    small = ZOO[name].__class__(**{**vars(ZOO[name]), "flags": FLAGS})
    monkeypatch.setitem(ZOO, name, small)
    said = cli("sample", name, "--weights", checkpoints[5], "--label", 3, "--out", "grid.png")
    assert said.code == 0, said.err
    made = about("grid.json")
    assert {"n": 4, "seed": 42, "labels": [3] * 4, "source": str(checkpoints[5])}.items() <= made.items()
    assert made["times"] == pytest.approx([80.0, 1.3824], abs=1e-4)
    assert "Not used" not in said.out

    asked = []
    monkeypatch.setattr("fewstep.formats.mmagic.load", lambda source, **options: asked.append(source) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("sample", name)
    assert asked == ["cd_imagenet64_l2"]  # the release


def theirs(x: torch.Tensor) -> np.ndarray:
    """image_sample.py, line for line in meaning: fractions are cut off."""
    return np.floor(np.clip((x.numpy() + 1) * np.float32(127.5), 0, 255)).astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("kind", ["grey", "free", "colour"])
def test_openai_npz(cli, models, kind):
    model = fewstep.load(models[kind])
    said = cli("sample", models[kind], "-n", 5, "--seed", 2, "--steps", 2, "--npz", "--out", "many")
    assert said.code == 0, said.err
    channels, height, width = model.shape
    (path,) = Path("many").glob("*.npz")
    assert path.name == f"samples_5x{height}x{width}x{channels}.npz"
    labels = [model.design.condition.ask(None, 2, range(5)).numpy()] if model.num_classes else []
    pictures = theirs(model.sample(5, seed=2, steps=2))
    np.savez("theirs.npz", pictures, *labels)
    assert path.read_bytes() == Path("theirs.npz").read_bytes()
    assert not np.array_equal(pictures, to_uint8(model.sample(5, seed=2, steps=2)))


def test_openai_npz_beside_other_outputs(cli, tiny):
    assert "samples_4x8x8x1.npz: 4 pictures" in cli("sample", tiny, "-n", 4, "--npz").out
    assert "is there already, made with these settings" in cli("sample", tiny, "-n", 4, "--npz").out
    rounded = cli("sample", tiny, "-n", 4, "--out", "samples_4x8x8x1.npz")
    assert "made otherwise (cut_off: True, not None)" in rounded.err
    assert "--out is a folder" in cli("sample", tiny, "--npz", "--out", "x.npz").err


def test_churn_and_clip(cli, models):
    options = ("--steps", 4, "--s-churn", 10, "--s-tmax", 50, "--s-noise", 1.003, "--clip", "False")
    assert cli("sample", models["teacher"], "-n", 2, *options, "--out", "x.npz").code == 0
    x = fewstep.load(models["teacher"]).sample(2, steps=4, churn=Churn(10.0, 0.0, 50.0, 1.003), clip=False)
    np.testing.assert_array_equal(read("x.npz")["arr_0"], to_uint8(x))
    assert {"s_churn": 10.0, "s_tmax": 50.0, "s_noise": 1.003, "clip": False}.items() <= about("x.json").items()
    assert "Churn is for walks" in cli("sample", models["grey"], "--s-churn", 1).err


def test_what_cannot_be_asked(cli, tiny):
    assert cli("sample").code == 2
    assert "say which model" in cli("sample").err
    assert "--weights goes with" in cli("sample", tiny, "--weights", "x.pt").err
    said = cli("sample", "consistency_models_8xb32-LSUN-cat-onstep-256x256")
    assert "did you mean 'consistency_models_8xb32-LSUN-cat-onestep-256x256'?" in said.err
    assert "There is no file nothing.py" in cli("sample", "--mmagic-config", "nothing.py").err


def test_ones_own_json_is_left_alone(cli, tiny, tmp_path):
    mine = {"my": "own data"}
    for name in ("pics.json", "grid.png.json", "grid.json"):
        (tmp_path / name).write_text(json.dumps(mine))
    for out in ("pics", "grid.png"):
        assert cli("sample", tiny, "-n", 1, "--steps", 1, "--out", tmp_path / out).code == 0
        assert "is there already, made with these settings" in cli(
            "sample", tiny, "-n", 1, "--steps", 1, "--out", tmp_path / out).out  # fmt: skip
    for name in ("pics.json", "grid.png.json", "grid.json"):
        assert json.loads((tmp_path / name).read_text()) == mine


def test_parts_of_churn_need_churn(cli, tiny, tmp_path):
    said = cli("sample", tiny, "--sampler", "heun", "--s-noise", 3, "--out", tmp_path / "x.png")
    assert "--s-noise is part of churn, and there is none: give --s-churn too" in said.err
