"""`fewstep plot`: what is read of a run, what is drawn, what a report says and what it keeps to itself."""

import io
import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from fewstep.cli import main
from fewstep.cli import train as train_verb
from fewstep.files import write_json
from fewstep.plots import facts, report, strips
from fewstep.plots.curves import PLOTS, grouped, time_unit
from fewstep.plots.record import lowest, read
from fewstep.plots.report import names
from fewstep.plots.style import figure, logarithmic, save, style
from fewstep.recipes import recipe
from fewstep.training.recipe import to_json

LEVELS = {"<0.03": 0.1, "0.03-0.1": 0.2, ">30": 2.0}
MADE = {"from_step": 0, "versions": {"fewstep": "1"}, "hardware": "a CPU, 1 thread", "processes": 1, "pictures": 1797,
        "shape": [1, 8, 8], "classes": 10, "parameters": 5}  # fmt: skip


def run(folder, name="digits-ct", lines=6, score=True, levels=LEVELS, **changes):
    """A run's folder, as training leaves it."""
    write_json(folder / "recipe.json", to_json(replace(recipe(name), **{"steps": 8, **changes})))
    write_json(folder / "made.json", [MADE])
    with open(folder / "metrics.jsonl", "w") as file:
        for k in range(1, lines + 1):
            line = {
                "step": k,
                "loss": None if k == 3 else 8.0 / k,
                "levels": levels,
                "gradient": 1.0,
                "lr": 1e-3,
                "seconds": 2.0,
                "images_per_second": 30.0,
                "skipped": int(k >= 3),
                "n": k + 1,
                "mu": 0.9,
            }
            if score and k % 2 == 0:
                line |= {"score": 9.0 - k, "score_name": "FD"}
            file.write(json.dumps(line) + "\n")
    (folder / "previews").mkdir()
    for k in (2, 4, 6):
        Image.new("L", (8 * 66 + 2, 3 * 66 + 2), 10 * k).save(folder / "previews" / f"step-{k:08d}.png")
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine").mkdir()
    return run(tmp_path / "mine")


def test_numbers_come_back_as_they_were_written(folder):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "lo')  # Ctrl-C, or the line that is being written
    record = read(folder)
    assert record.done == 6
    assert np.array_equal(record.column("loss"), [8, 4, np.nan, 2, 1.6, 8 / 6], equal_nan=True)
    assert record.hours[-1] == pytest.approx(12 / 3600)
    where, values = record.scores["FD"]
    assert (where.tolist(), values.tolist()) == ([1, 3, 5], [7, 5, 3])
    assert list(record.levels) == list(LEVELS)
    assert sorted(["875-999", "0-124", "125-249"], key=lowest) == ["0-124", "125-249", "875-999"]


def test_groups_are_means_of_what_is_finite():
    x, mean, low, high = grouped(np.arange(6.0), np.array([1, 3, np.nan, 5, np.nan, np.nan]), groups=3)
    assert (x.tolist(), mean.tolist()) == ([0.5, 2.5], [2, 5])
    assert (low[0], high[0]) == pytest.approx((1.2, 2.8))
    assert [time_unit(h)[0] for h in (3.0, 0.5, 0.01)] == ["h", "min", "s"]


def test_every_plot_and_one_file(folder, capsys):
    assert main(["plot", str(folder)]) == 0
    assert {p.stem for p in (folder / "plots").iterdir()} == set(PLOTS)
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 * len(PLOTS)
    plain = re.sub(r'"data:[^"]*"', '""', page)
    assert not re.search(r"<script|https?://|src=\"[^\"]", plain)
    for said in ("step 6 of 8", "1 skipped", "3 at step 6", "1,797 pictures 8×8×1, 10 classes", "a CPU, 1 thread",
                 "fewstep train digits-ct --steps 8", "prefers-color-scheme: dark", "width=device-width"):  # fmt: skip
        assert said in plain
    run_again = main(["plot", str(folder), "--only", "loss"])
    assert run_again == 0
    assert [p.name for p in (folder / "plots").iterdir()] == ["loss.png"]


def test_without_scores_curricula_and_previews(tmp_path):
    write_json(tmp_path / "recipe.json", to_json(recipe("digits-edm")))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": null, "levels": {}}\n{"step": 2, "loss": 1.0}\n')
    assert main(["plot", str(tmp_path)]) == 0
    assert [p.stem for p in (tmp_path / "plots").iterdir()] == ["loss"]
    assert "No score was taken" in (tmp_path / "report.html").read_text()


def test_one_level_is_no_plot_of_levels(folder, tmp_path, capsys):
    """An autoencoder has none; runs of older versions put all of it into one."""
    for name, levels in (("none", {}), ("one", {"0.1-1": 0.5})):
        run(tmp_path / name, levels=levels)
        assert main(["plot", str(tmp_path / name), "--only", "loss", "levels", "levels-end"]) == 0
        assert [p.stem for p in (tmp_path / name / "plots").iterdir()] == ["loss"]


def test_several_runs_and_levels_of_a_ddpm(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    run(tmp_path / "other", "words-lcd", score=False, levels={"0-124": 0.5, "125-249": 0.25}, seed=4)
    assert main(["plot", "mine", "other", "--only", "score", "levels", "levels-end", "previews"]) == 0
    # a score of one run is drawn; noise levels of two kinds share no axis
    assert {p.stem for p in (tmp_path / "compared" / "plots").iterdir()} == {"score", "levels", "previews"}
    page = (tmp_path / "compared" / "report.html").read_text()
    assert "<th>seed</th><td>0</td><td>4</td>" in page
    assert "<td>digits-ct</td><td>words-lcd</td>" in page


def test_legends_say_what_differs(folder, tmp_path):
    (tmp_path / "other").mkdir()
    seeded = run(tmp_path / "other", seed=4)
    assert names([read(folder), read(seeded)]) == ["mine: seed 0", "other: seed 4"]
    assert names([read(folder), read(folder)]) == ["mine", "mine"]


def test_folders_may_be_called_as_one_likes(tmp_path, capsys):
    """matplotlib takes a name that begins with _ out of legends, and what stands between two $ for mathematics."""
    called = ["_one", "_two", "a$x_{$"]
    for name in called:
        (tmp_path / name).mkdir()
        run(tmp_path / name)
    records = [read(tmp_path / name) for name in called]
    for plot in ("loss", "levels-end", "score"):
        fig = report.drawn(plot, records)
        assert [text.get_text().lstrip("\u200b") for text in fig.axes[0].get_legend().get_texts()] == called
    assert main(["plot", *(str(tmp_path / name) for name in called), "--out", str(tmp_path / "all")]) == 0


def test_logarithmic_axes_have_plain_numbers():
    for low, high, wanted in ((0.05, 30, ["0.1", "1", "10"]), (18, 75, ["20", "30", "40", "60"])):
        fig, axes = figure()
        axes[0, 0].plot([0, 1], [low, high])
        logarithmic(axes[0, 0])
        fig.canvas.draw()
        there = [text.get_text() for text in axes[0, 0].get_yticklabels()]
        assert set(wanted) <= set(there)
        assert not any("$" in text for text in there)


@pytest.mark.parametrize("name", ["digits-ct", "digits-ect", "mnist-cd"])
def test_the_command_makes_the_same_recipe(name):
    wanted = replace(recipe(name), steps=17, batch=5, ema=(0.5, 0.75), compile=True)
    wanted = replace(wanted, data=replace(wanted.data, path="photos.zip"))
    words = shlex.split(facts.command(wanted))
    assert words[:3] == ["fewstep", "train", name]
    assert train_verb.parse(recipe(name), words[3:], "fewstep train").recipe == wanted
    assert facts.changed(recipe(name)) == {}


def test_private_places_are_not_told(tmp_path):
    there = "/home/alice/secret/photos.zip"
    run(tmp_path, data=replace(recipe("digits-ct").data, path=there))
    for options, told in (([], False), (["--paths"], True)):
        assert main(["plot", str(tmp_path), "--only", "loss", *options]) == 0
        page = (tmp_path / "report.html").read_text()
        assert (there in page, "alice" in page, str(tmp_path) in page) == (told, told, told)
        assert "photos.zip" in page
    assert facts.public("https://me:word@host/a.zip?token=1") == "https://host/a.zip"
    assert facts.public(r"C:\Users\alice\a.zip") == "a.zip"
    assert facts.public("owner/name") == "owner/name"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "holds no run: give the folder"),
        (["model.json"], "is a model, without the numbers of its training"),
        (["recipe.json"], "without a line in metrics.jsonl"),
    ],
)
def test_what_is_no_run_is_refused(files, says, tmp_path, capsys):
    for name in files:
        write_json(tmp_path / name, to_json(recipe("digits-ct")))
    assert main(["plot", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert main(["plot", str(tmp_path / "nowhere")]) == 1
    assert "There is no folder" in capsys.readouterr().err


def test_refusals(folder, capsys):
    (folder / "model").mkdir()
    assert main(["plot", str(folder / "model")]) == 1
    assert f"is a part of a run: give the run's own folder, {folder}" in capsys.readouterr().err
    assert main(["plot", str(folder), "--only", "los"]) == 1
    assert "There is no plot 'los'; did you mean 'loss'?" in capsys.readouterr().err
    (folder / "report.html").write_text("mine")
    assert main(["plot", str(folder)]) == 1
    assert "was not written by fewstep" in capsys.readouterr().err
    assert (folder / "report.html").read_text() == "mine"
    assert not (folder / "plots").exists()


def test_strips_part_data_from_samples():
    sheet = np.arange(3 * 66 + 2)[:, None, None] * np.ones((1, 8 * 66 + 2, 3))
    data, samples = strips.parts(sheet)
    assert (len(data), len(samples), samples[0, 0, 0]) == (68, 2 * 66 + 2, 66)
    assert len(strips.parts(sheet[:50])[0]) == 0
    assert [strips.chosen(steps) for steps in ([], [5], [1, 2], [1, 2, 3, 4, 5])] == [[], [5], [1, 2], [1, 3, 5]]


def test_the_style_leaves_others_alone_and_marks_its_files(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style(dark=True):
        fig, axes = figure(2, 1, dark=True)
    assert axes.shape == (2, 1)
    assert dict(matplotlib.rcParams) == before
    path = save(fig, tmp_path / "a.png")
    with Image.open(path) as picture:
        assert picture.size == (896, 1152)
        assert picture.info["Software"] == "fewstep plot"


def test_a_dark_figure_is_dark_to_its_edges(folder):
    """It is written where no style is set any more."""
    for dark, paper in ((False, (255, 255, 255)), (True, (22, 24, 28))):
        picture = Image.open(io.BytesIO(report.png(report.drawn("loss", [read(folder)], dark=dark)))).convert("RGB")
        corners = [(0, 0), (picture.width - 1, picture.height - 1)]
        assert [picture.getpixel(corner) for corner in corners] == [paper, paper]
