"""sample: what is written, that a picture depends on (seed, index, label) alone, and that nothing is lost."""

import hashlib
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fewstep
from fewstep.images import to_uint8
from fewstep.model import Model


def read(path):
    with np.load(path) as found:
        return dict(found)


def start(command, environment):
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def close(a, b):
    """Equal up to the rounding of another batch size."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_npz_holds_the_pictures_of_the_library(cli, tiny):
    said = cli("sample", tiny, "-n", 7, "--steps", 2, "--seed", 3, "--out", "x.npz")
    assert said.code == 0, said.err
    found = read("x.npz")
    model = fewstep.load(tiny)
    assert found["arr_0"].dtype == np.uint8
    assert found["arr_0"].shape == (7, 8, 8, 1)
    assert found["arr_1"].dtype == np.int64
    np.testing.assert_array_equal(found["arr_0"], to_uint8(model.sample(7, steps=2, seed=3)))
    np.testing.assert_array_equal(found["arr_1"], model.design.condition.ask(None, 3, range(7)))


def test_sidecar_says_how_they_were_made(cli, tiny):
    cli("sample", tiny, "-n", 3, "--steps", 2, "--labels", "bee", "--out", "x.png")
    with open("x.json") as file:
        about = json.load(file)
    weights = hashlib.sha256((tiny / "weights.safetensors").read_bytes()).hexdigest()
    expected = {
        "output": "x.png",
        "n": 3,
        "seed": 0,
        "steps": 2,
        "times": [80.0, 0.7],
        "sampler": "consistency",
        "labels": [1, 1, 1],
        "sha256": weights,
        "source": str(tiny),
        "fewstep": fewstep.__version__,
    }
    assert expected.items() <= about.items()
    assert about["seconds_per_image"] > 0
    assert about["torch"]


def test_an_unconditional_model_has_no_labels(cli, models):
    cli("sample", models["free"], "-n", 2, "--out", "x.npz")
    assert set(read("x.npz")) == {"arr_0"}
    with open("x.json") as file:
        assert "labels" not in json.load(file)
    assert "unconditional" in cli("sample", models["free"], "--labels", 1).err


def test_batches_and_parts_change_nothing(cli, tiny):
    common = ("sample", tiny, "-n", 9, "--steps", 2, "--labels", "all")
    cli(*common, "--out", "whole.npz")
    cli(*common, "--batch", 2, "--out", "twos.npz")
    cli("sample", tiny, "-n", 4, "--first", 5, "--steps", 2, "--labels", "all", "--out", "last.npz")
    whole, twos, last = read("whole.npz"), read("twos.npz"), read("last.npz")
    assert close(whole["arr_0"], twos["arr_0"])
    assert close(whole["arr_0"][5:], last["arr_0"])
    np.testing.assert_array_equal(whole["arr_1"], [0, 1, 2] * 3)
    np.testing.assert_array_equal(whole["arr_1"], twos["arr_1"])
    np.testing.assert_array_equal(whole["arr_1"][5:], last["arr_1"])
    assert not (np.abs(np.diff(whole["arr_0"].astype(int), axis=0)).max((1, 2, 3)) == 0).any()  # none twice


def test_labels_by_number_and_name_in_turn(cli, tiny):
    cli("sample", tiny, "-n", 5, "--labels", "cat", "-1", "--out", "x.npz")
    np.testing.assert_array_equal(read("x.npz")["arr_1"], [2, -1, 2, -1, 2])
    assert "did you mean 'bee'?" in cli("sample", tiny, "--labels", "beee").err
    assert "its labels are 0 to 2" in cli("sample", tiny, "--labels", 3).err


def test_several_processes_draw_what_one_draws(cli, tiny):
    common = ["sample", str(tiny), "-n", "10", "--batch", "3"]
    cli(*common, "--out", "one.npz")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "fewstep.cli", *common, "--out", "two.npz"]
    running = [start(command, {**together, "RANK": str(rank)}) for rank in (0, 1)]
    said = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert "two.npz: 10 pictures" in said[0]
    assert said[1] == ""
    one, two = read("one.npz"), read("two.npz")
    assert close(one["arr_0"], two["arr_0"])
    np.testing.assert_array_equal(one["arr_1"], two["arr_1"])
    assert not os.path.exists("two.npz.parts")


def test_an_interrupted_run_goes_on(cli, tiny, monkeypatch):
    common = ("sample", tiny, "-n", 10, "--batch", 3)
    cli(*common, "--out", "whole.npz")
    drawn, draw = [], Model.sample

    def stopping(self, n, **options):
        drawn.append(options["first"])
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(self, n, **options)

    monkeypatch.setattr(Model, "sample", stopping)
    said = cli(*common, "--out", "x.npz")
    assert said.code == 130
    assert "6 of 10" in said.err
    assert "made otherwise (n: 10, not 11)" in cli("sample", tiny, "-n", 11, "--out", "x.npz").err
    assert cli(*common, "--out", "x.npz").code == 0
    assert drawn == [0, 3, 6, 6, 9]
    np.testing.assert_array_equal(read("x.npz")["arr_0"], read("whole.npz")["arr_0"])
    assert sorted(os.listdir()) == ["whole.json", "whole.npz", "x.json", "x.npz"]


def test_what_exists_is_kept(cli, tiny):
    with open("x.png", "w") as file:
        file.write("mine")
    said = cli("sample", tiny, "--out", "x.png")
    assert said.code == 1
    assert "of unknown origin" in said.err
    with open("x.png") as file:
        assert file.read() == "mine"
    assert cli("sample", tiny, "--out", "x.png", "--force").code == 0
    assert "there already" in cli("sample", tiny, "--out", "x.png").out
    assert "seed: 0, not 1" in cli("sample", tiny, "--out", "x.png", "--seed", 1).err


def test_the_default_name_is_free(cli, tiny):
    assert "samples.png: 16 pictures" in cli("sample", tiny).out
    assert "samples.png is there already" in cli("sample", tiny).out
    assert "samples-2.png: 16 pictures" in cli("sample", tiny, "--seed", 1).out
    assert sorted(os.listdir()) == ["samples-2.json", "samples-2.png", "samples.json", "samples.png"]


def test_two_outputs_of_one_stem_have_a_sidecar_each(cli, tiny):
    cli("sample", tiny, "-n", 2, "--out", "x.npz")
    cli("sample", tiny, "-n", 2, "--seed", 1, "--out", "x.png")
    with open("x.json") as first, open("x.png.json") as second:
        assert (json.load(first)["seed"], json.load(second)["seed"]) == (0, 1)
    assert "there already" in cli("sample", tiny, "-n", 2, "--out", "x.npz").out


def test_a_folder_of_single_pictures(cli, tiny, tmp_path):
    (tmp_path / "many").mkdir()
    cli("sample", tiny, "-n", 5, "--out", "many")
    (tmp_path / "many" / "mine.txt").touch()
    cli("sample", tiny, "-n", 5, "--out", "x.npz")
    pictures = [np.asarray(Image.open(tmp_path / "many" / f"{i:06d}.png")) for i in range(5)]
    np.testing.assert_array_equal(np.stack(pictures), read("x.npz")["arr_0"][..., 0])
    assert cli("sample", tiny, "-n", 3, "--out", "many").code == 1
    cli("sample", tiny, "-n", 3, "--out", "many", "--force")
    assert sorted(os.listdir("many")) == ["000000.png", "000001.png", "000002.png", "mine.txt"]


def test_a_diffusion_model_walks(cli, models):
    cli("sample", models["teacher"], "-n", 2, "--steps", 3, "--out", "x.npz")
    with open("x.json") as file:
        about = json.load(file)
    assert about["sampler"] == "heun"
    assert len(about["times"]) == 4
    assert about["times"][-1] == 0
    expected = to_uint8(fewstep.load(models["teacher"]).sample(2, steps=3))
    np.testing.assert_array_equal(read("x.npz")["arr_0"], expected)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--steps", 2, "--times", 80, 1], "contradict"),
        (["--times", 1, 80], "decrease"),
        (["-n", 0], "from 1"),
        (["-n", 9999], "too large"),
        (["--out", "x.tiff"], "can be a .png"),
    ],
)
def test_errors(cli, tiny, args, words):
    said = cli("sample", tiny, *args)
    assert said.code == 1
    assert words in said.err
    assert os.listdir() == []
