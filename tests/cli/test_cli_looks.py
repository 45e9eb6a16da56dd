"""data check, doctor, models and times."""

import json
import shutil

import pytest
import torch
from cli_helpers import save_image
from PIL import Image

import fewstep
from fewstep.cli.models import lines


def test_data_check_counts_and_shows(cli):
    said = cli("data", "check", "digits", "--sheet", "sheet.png")
    assert said.code == 0
    assert "digits: 1797 pictures" in said.out
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 64


def test_data_check_names_the_damaged_and_fails_above_one_percent(cli, tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(4):
        save_image(tmp_path / "data" / f"{i}.png", 8 + 2 * (i == 3))
    (tmp_path / "data" / "bad.png").write_text("words")
    said = cli("data", "check", "data")
    assert said.code == 1
    assert "damaged: 1" in said.out
    assert "bad.png: not a picture" in said.out
    assert "--data.size 8" in said.out
    (tmp_path / "data" / "bad.png").unlink()
    assert cli("data", "check", "data").code == 0


def test_data_check_counts_captions_and_runs_no_command(cli, tmp_path):
    (tmp_path / "data").mkdir()
    for i in range(4):
        save_image(tmp_path / "data" / f"{i}.png", 8)
        (tmp_path / "data" / f"{i}.txt").write_text(f"a picture, {i % 2}")
    (tmp_path / "data" / "3.txt").unlink()
    said = cli("data", "check", "data")
    assert said.code == 0
    assert "captions: 3 (2 different)" in said.out
    assert "missing: 1 (3.png)" in said.out
    assert "--data.uncaptioned empty" in said.out
    refused = cli("data", "check", "pipe:touch ran")
    assert refused.code != 0
    assert "runs a shell command" in refused.err
    assert not (tmp_path / "ran").exists()


def test_doctor_names_what_is_here_and_what_is_missing(cli, monkeypatch):
    said = cli("doctor")
    assert said.code == 0
    for words in (f"fewstep {fewstep.__version__}", f"torch {torch.__version__}", "CPU:", "memory:", "disk"):
        assert words in said.out
    monkeypatch.setattr("fewstep.cli.doctor.wanted", lambda: {"": ["torch"], "demo": ["no-such-package"]})
    assert "missing: no-such-package (the web demo): pip install 'fewstep[demo]'" in cli("doctor").out


def test_models_lists_what_is_bundled(cli, monkeypatch, models):
    monkeypatch.setattr("fewstep.formats.bundled", dict)
    assert "No model" in cli("models").out
    monkeypatch.setattr("fewstep.formats.bundled", lambda: {"tiny": models["grey"]})
    said = cli("models")
    assert "tiny: consistency model, 8×8×1, 3 classes" in said.out
    assert "times for 2 step(s): 80 0.7" in said.out
    assert "ant, bee, cat" in said.out
    assert "diffusion model" in lines("t", models["teacher"])[0]


def test_times_finds_the_valley_of_a_score_and_keeps_it(cli, tiny, tmp_path, monkeypatch):
    shutil.copytree(tiny, "mine")
    (tmp_path / "judge_of_mine.py").write_text(
        "import torch\nreal = None\n"
        "def score(x, labels):\n    assert labels.tolist() == [0, 1, 2, 0]\n    return x.abs().mean()\n"
    )
    said = cli("times", "mine", "--score", "judge_of_mine:score", "-n", 4, "--points", 3, "--tolerance", 0.3, "--save")
    assert said.code == 0, said.err
    kept = json.loads((tmp_path / "mine" / "model.json").read_text())["design"]["times"]
    model = fewstep.load("mine")
    rows = [line.split() for line in said.out.splitlines() if line[:1] in "* " and "score" not in line]
    scores = {tuple(float(t) for t in row if t != "*")[1:]: float(row[-len(row) + (row[0] == "*")]) for row in rows}
    best = min((times for times in scores if len(times) == 2), key=lambda times: scores[times])
    assert tuple(kept["2"]) == pytest.approx(best)
    assert model.times(2) == list(kept["2"])
    x = model.sample(4, times=kept["2"], labels=[0, 1, 2, 0])
    assert float(x.abs().mean()) == pytest.approx(scores[best], rel=1e-3)


def test_times_compares_with_data(cli, tiny):
    said = cli("times", tiny, "--data", "digits", "-n", 20, "--points", 2, "--tolerance", 0.5)
    assert said.code == 0, said.err
    assert "best: --times 80 " in said.out
    said = cli("times", tiny, "--data", "digits", "-n", 20, "--points", 2, "--tolerance", 0.5, "--by", "precision",
               "--features", "digits")  # fmt: skip
    assert said.code == 0, said.err
    assert "did you mean 'energy'?" in cli("times", tiny, "--data", "digits", "--by", "enrgy").err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "--data"),
        (["--data", "digits", "--score", "a:b"], "--data"),
        (["--score", "no_such_module:score"], "no_such_module"),
        (["--score", "math:no_such"], "no function 'no_such'"),
        (["--data", "digits", "-n", 1], "at least 2"),
    ],
)
def test_times_errors(cli, tiny, args, words):
    said = cli("times", tiny, *args)
    assert said.code == 1
    assert words in said.err


def test_a_diffusion_model_has_no_times(cli, models):
    assert "diffusion model" in cli("times", models["teacher"], "--data", "digits").err
