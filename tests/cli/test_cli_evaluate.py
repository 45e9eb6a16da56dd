"""fewstep evaluate, as a new user tries it: folders, zips, npz, statistics and models against each other."""

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewstep
from fewstep.evaluation import report as reports
from fewstep.evaluation.features import open_features
from fewstep.evaluation.gaussians import Gaussian
from fewstep.evaluation.pictures import Stored
from fewstep.images import Data, open_images
from fewstep.images.arrays import Arrays


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images = open_images(Data("digits"))
    return np.stack([images.picture(i) for i in range(240)])[..., 0], images.labels[:240]


@pytest.fixture
def folder(tmp_path, digits) -> Path:
    """120 digits as PNGs, a folder a class."""
    return write(tmp_path / "real", *(part[:120] for part in digits))


def write(folder: Path, pictures: np.ndarray, labels: np.ndarray, suffix: str = ".png") -> Path:
    for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        path = folder / str(label) / f"{i:03}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


def as_they_are(x):
    return x.flatten(1)


def numbers(path: str | Path = "r.json") -> dict[str, float]:
    return {line["name"]: line["value"] for line in json.loads(Path(path).read_text())["scores"]}


def test_the_same_pictures_in_every_form_have_the_same_scores(cli, folder, tmp_path, digits):
    with zipfile.ZipFile("real.zip", "w") as file:
        for path in sorted(folder.rglob("*.png")):
            file.write(path, path.relative_to(folder).as_posix())
    order = np.argsort(digits[1][:120], kind="stable")  # as folders of classes are read
    np.savez("real.npz", arr_0=digits[0][:120][order][..., None], arr_1=digits[1][:120][order])
    found = []
    for reference in ("real", "real.zip", "real.npz"):
        said = cli("evaluate", "digits", reference, "-n", 100, "--out", "r.json")
        assert said.code == 0, said.err
        assert "FD (digits " in said.out
        found.append(numbers())
    assert found[0] == found[1] == found[2]
    assert {"fd", "kid", "precision", "recall", "density", "coverage", "is", "agreement", "spread"} == set(found[0])
    assert found[0]["agreement"] > 95
    cli("evaluate", "real.npz", "real", "--out", "r.json")
    same = numbers()
    assert same["fd"] == pytest.approx(0, abs=1e-6)
    assert (same["precision"], same["recall"], same["coverage"], same["spread"]) == (1, 1, 1, 1)


def test_a_bundled_model_is_drawn_on_the_way(cli):
    assert cli("sample", "mnist", "-n", 40, "--labels", "all", "--seed", 1, "--out", "real").code == 0
    said = cli("evaluate", "mnist", "real", "--steps", 1, "-n", 30, "--out", "r.json")
    assert said.code == 0, said.err
    assert "mnist: 30 pictures, 28×28 grey, drawn (seed 0, steps 1, times 80)" in said.out
    plain = json.loads(Path("r.json").read_text())
    assert plain["features"] == "mnist"
    assert plain["samples"]["how"] == {"seed": 0, "steps": 1, "times": [80.0]}
    assert plain["samples"]["digest"]
    x = fewstep.load("mnist").sample(30, steps=1, labels=np.arange(30) % 10)
    by_hand = fewstep.evaluate(x, "real", scores="fd")
    assert by_hand["fd"] == pytest.approx(numbers()["fd"], rel=1e-3)
    assert numbers()["agreement"] > 90


def test_a_damaged_file_is_named_and_skipped_and_many_are_refused(cli, folder):
    (folder / "3" / "bad.png").write_bytes(b"no picture")
    said = cli("evaluate", "real", "digits", "--score", "fd", "--out", "r.json")
    assert said.code == 0, said.err
    assert "real: 120 pictures, 8×8 grey, 1 damaged skipped" in said.out
    assert json.loads(Path("r.json").read_text())["samples"]["damaged"] == ["3/bad.png"]
    (folder / "3" / "worse.png").write_bytes(b"no picture")
    said = cli("evaluate", "real", "digits", "--score", "fd")
    assert said.code == 1
    assert "2 of the 122 files" in said.err
    assert "bad.png" in said.err


def test_sizes_may_differ_where_the_features_resize(cli, folder):
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "0" / "large.png")
    with pytest.raises(ValueError, match="different kinds .* choose one with --size"):
        fewstep.evaluate(str(folder), "digits", features=as_they_are, scores="fd", reference_n=60)
    with pytest.raises(ValueError, match="different kinds"):  # in other blocks
        fewstep.evaluate(str(folder), "digits", features=as_they_are, scores="kid", reference_n=60, batch=1)
    with pytest.raises(ValueError, match="64 and 256 numbers a picture in the two sets"):
        fewstep.evaluate(np.zeros((9, 16, 16), np.uint8), "digits", features=as_they_are, scores="kid", reference_n=60)
    said = cli("evaluate", "real", "digits", "--score", "fd")  # the reader of digits makes 8×8 of all
    assert said.code == 0, said.err
    assert "of 2 kinds (8×8 grey, 16×16 grey)" in said.out
    found = fewstep.evaluate(str(folder), "digits", features=as_they_are, scores="fd", reference_n=60, size=8)
    assert "resized and cropped to 8×8" in str(found)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["few", "digits", "--score", "precision"], "it needs 4 pictures, and few holds 3"),
        (["digits", "real", "--score", "precison"], "did you mean 'precision'?"),
        (["digits", "real", "--features", "digit"], "did you mean 'digits'?"),
        (["digits", "--score", "fd"], "it needs a reference"),
        (["digits", "real", "-n", 9, "--score", "clip"], "--features clip"),
        (["digits", "real", "-n", 5000], "5000 pictures are asked for, and digits holds 1797"),
        (["digts", "real"], "did you mean 'digits'?"),
        (["real", "digits", "--out", "r.txt"], ".json"),
        (["real", "digits", "--steps", 2, "--times", 80], "contradict"),
        (["real", "digits", "--steps", 2], "How a model draws (steps) was said of real, which is no model"),
        (["real", "digits", "--reference-steps", 2], "(steps) was said of digits, which is no model"),
        (["few", "digits", "--labels", "wasp"], "few has no class 'wasp'"),
        (["few", "digits", "--labels", 1, 1, 1, 1], "There are 4 labels, and few holds 3 pictures"),
        (["real", "digits", "--labels", "all"], "labels 'all' say what a model draws"),
        (["--compare", "empty.json"], "no reports"),
        (["--compare", "empty.json", "--score", "fd"], "--score belongs to an evaluation"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(cli, folder, digits, tmp_path, args, words):
    write(tmp_path / "few", *(part[:3] for part in digits))
    Path("empty.json").write_text("[]")
    said = cli("evaluate", *args)
    assert said.code == 1
    assert words in said.err
    assert "Traceback" not in said.err


def test_scores_that_cannot_be_had_are_left_out_with_the_reason(cli, folder):
    said = cli("evaluate", "digits", "-n", 60)
    assert said.code == 0, said.err
    assert "IS (digits" in said.out
    assert "left out   fd: it needs a reference" in said.out
    said = cli("evaluate", "digits", "real", "-n", 60, "--reference-n", 50)
    assert "60 samples, 50 pictures in the reference" in said.out
    assert "(digits 60 and real 50, fewer than the 129 that a full covariance needs)" in said.out
    assert "left out   density" not in cli("evaluate", "digits", "real", "-n", 5).out  # only the reference needs 6


def test_statistics_stand_for_pictures(cli, folder):
    features = open_features("digits")
    pictures = Stored(Data("real"))
    seen = np.concatenate([features(x[None]).features.numpy() for x in pictures.read(range(120)) if x is not None])
    fitted = Gaussian.of(seen)
    np.savez("stats.npz", mu=fitted.mean, sigma=fitted.covariance)
    assert cli("evaluate", "digits", "real", "-n", 200, "--out", "r.json").code == 0
    whole = numbers()
    said = cli("evaluate", "digits", "stats.npz", "-n", 200, "--features", "digits", "--out", "r.json")
    assert said.code == 0, said.err
    assert numbers()["fd"] == pytest.approx(whole["fd"], rel=1e-5)
    assert "left out   precision: it needs pictures, and stats.npz holds statistics only" in said.out
    assert "does not say of which features" in said.out
    np.savez("other.npz", mu=np.zeros(5), sigma=np.eye(5))
    assert "statistics of 5 features" in cli("evaluate", "digits", "other.npz", "--features", "digits").err
    with np.load("stats.npz") as file:
        np.savez("both.npz", arr_0=np.stack([x.permute(1, 2, 0).numpy() for x in pictures.read(range(60))]), **file)
    assert cli("evaluate", "digits", "both.npz", "-n", 200, "--out", "r.json").code == 0
    assert numbers()["fd"] == pytest.approx(whole["fd"], rel=1e-5)  # the statistics of 120 pictures
    assert numbers()["precision"] != whole["precision"]  # neighbours among 60


def test_the_reference_is_seen_once(cli, folder, cache, monkeypatch):
    said = cli("evaluate", "digits", "real", "--out", "r.json", "--no-cache", "-n", 60)
    assert not cache.exists()
    first = numbers()
    cli("evaluate", "digits", "real", "-n", 60)
    reads, read = [], Stored.read
    monkeypatch.setattr(Stored, "read", lambda self, rows: (reads.append((self.name, len(rows))), read(self, rows))[1])
    cli("evaluate", "digits", "real", "-n", 60, "--out", "r.json")
    assert numbers() == first
    assert all(name == "digits" or n == 1 for name, n in reads)
    kept = next(cache.glob("features/*/features.npy"))
    kept.write_bytes(kept.read_bytes()[:-8] + bytes(8))
    said = cli("evaluate", "digits", "real", "-n", 60, "--out", "r.json")
    assert said.code == 0, said.err
    assert numbers() == first
    assert ("real", 64) in reads
    (folder / "3" / "new.png").write_bytes(next((folder / "3").glob("*.png")).read_bytes())
    reads.clear()
    assert "real: 121 pictures" in cli("evaluate", "digits", "real", "-n", 60).out
    assert ("real", 64) in reads


def test_a_reference_is_known_by_its_content(cli, folder, tmp_path, digits):
    """Not by names, sizes and times, which two folders may share: BMPs of one size, copied with their times."""
    changed = 255 - digits[0][:120]
    for name, pictures in (("one", digits[0][:120]), ("two", changed)):
        for path in write(tmp_path / name, pictures, digits[1][:120], ".bmp").rglob("*.bmp"):
            os.utime(path, ns=(1, 1))
    fd = []
    for name in ("one", "two"):
        cli("evaluate", "digits", name, "-n", 60, "--score", "fd", "--out", f"{name}.json")
        fd.append(numbers(f"{name}.json")["fd"])
    assert fd[1] > 2 * fd[0]
    assert "different references" in cli("evaluate", "--compare", "one.json", "two.json").err
    shutil.copytree("one", "copied")
    with zipfile.ZipFile("one.zip", "w") as file:
        for path in sorted(Path("one").rglob("*.bmp")):
            file.writestr(path.as_posix(), path.read_bytes())
    for name in ("copied", "one.zip"):
        cli("evaluate", "digits", name, "-n", 60, "--score", "fd", "--out", "same.json")
        assert cli("evaluate", "--compare", "one.json", "same.json").code == 0


def test_a_reference_that_is_drawn_has_noise_of_its_own(cli):
    args = ["evaluate", "mnist", "mnist", "-n", 30, "--reference-n", 30, "--steps", 1, "--score", "fd,precision"]
    said = cli(*args, "--reference-steps", 1, "--out", "a.json")
    assert said.code == 0, said.err
    assert "reference  mnist: 30 pictures, 28×28 grey, drawn (seed 0, first 4294967296, steps 1, times 80)" in said.out
    assert numbers("a.json")["fd"] > 1
    cli(*args, "--reference-steps", 2, "--out", "b.json")
    assert "drawn otherwise" in cli("evaluate", "--compare", "a.json", "b.json").err
    assert cli("evaluate", "--compare", "a.json", "a.json", "--out", "both.json").code == 0
    assert len(reports.read("both.json")) == 2


def test_statistics_are_part_of_what_a_reference_is(cli, digits):
    for name, mean in (("a", 0.0), ("b", 1.0)):
        np.savez(f"{name}.npz", arr_0=digits[0][:60], mu=np.full(128, mean), sigma=np.eye(128))
        cli(
            "evaluate",
            "digits",
            f"{name}.npz",
            "-n",
            40,
            "--features",
            "digits",
            "--score",
            "fd",
            "--out",
            f"{name}.json",
        )
    assert "different references" in cli("evaluate", "--compare", "a.json", "b.json").err


def test_agreement_is_by_the_names_of_classes(cli, folder, digits):
    """The folders 3 and 7 are classes 0 and 1 of their set, and the digits 3 and 7 of the reader."""
    for name in set("0123456789") - {"3", "7"}:
        shutil.rmtree(folder / name)
    assert cli("evaluate", "real", "digits", "--out", "r.json").code == 0
    assert numbers()["agreement"] > 95
    assert 0.3 < numbers()["spread"] < 1.5
    (folder / "7").rename(folder / "shirts")
    said = cli("evaluate", "real", "digits")
    assert "left out   agreement: The class 'shirts' of real is none of those that these features read" in said.out


def test_labels_of_pictures_that_have_none(cli, digits):
    np.savez("bare.npz", arr_0=digits[0][:120])
    assert "it needs labels" in cli("evaluate", "bare.npz", "--score", "agreement").err
    labels = [str(label) for label in digits[1][:120]]
    assert cli("evaluate", "bare.npz", "--score", "agreement", "--labels", *labels, "--out", "r.json").code == 0
    assert numbers()["agreement"] > 95
    assert fewstep.evaluate(digits[0][:120], scores="agreement", labels=digits[1][:120])["agreement"] > 95
    assert fewstep.evaluate(digits[0][:120], scores="agreement", labels=5)["agreement"] < 30
    assert cli("times", "mnist", "--data", "bare.npz", "--by", "agreement", "--features", "mnist", "-n", 20, "--points",
               2, "--tolerance", 0.5).code == 0  # fmt: skip


def test_memory(digits, tmp_path, monkeypatch):
    """Pictures of an .npz stay on the disk; a covariance of many numbers is not taken unless it is asked for."""
    np.savez(tmp_path / "a.npz", arr_0=digits[0])
    assert isinstance(Arrays(tmp_path / "a.npz").array.base, np.memmap)
    np.savez_compressed(tmp_path / "b.npz", arr_0=digits[0])
    monkeypatch.setattr("fewstep.images.arrays._SMALL", 0)
    unpacked = Arrays(tmp_path / "b.npz").array
    assert isinstance(unpacked.base, np.memmap)
    assert np.array_equal(unpacked[..., 0], digits[0])
    monkeypatch.setattr("fewstep.evaluation.evaluating.WIDEST", 10)
    found = fewstep.evaluate(str(tmp_path / "a.npz"), "digits", features="digits")
    assert "ask for the score by name" in found.left_out["fd"]
    assert "kid" in found.names
    assert fewstep.evaluate(str(tmp_path / "a.npz"), "digits", features="digits", scores="fd")["fd"] > 0


def test_jpegs_are_remarked_upon(cli, tmp_path, digits):
    write(tmp_path / "lossy", *(part[:20] for part in digits), suffix=".jpg")
    assert "20 of 20 are JPEG" in cli("evaluate", "lossy", "digits", "--score", "fd").out


def test_several_samples_make_a_table_and_reports_are_read_again(cli, folder, digits):
    np.savez("a.npz", arr_0=digits[0][120:180])
    np.savez("b.npz", arr_0=digits[0][180:240])
    said = cli("evaluate", "a.npz", "b.npz", "real", "--score", "fd,precision", "--out", "r.json")
    assert said.code == 0, said.err
    assert [line.split()[0] for line in said.out.splitlines() if "(n 60)" in line] == ["a.npz", "b.npz"]
    found = reports.read("r.json")
    assert [one.names for one in found] == [["fd", "precision"]] * 2
    reports.write("again.json", found)
    assert reports.read("again.json") == found
    assert cli("evaluate", "--compare", "r.json").out.splitlines()[3:6] == said.out.splitlines()[3:6]
    cli("evaluate", "a.npz", "real", "--features", "simple", "--score", "fd", "--out", "simple.json")
    assert "different features" in cli("evaluate", "--compare", "r.json", "simple.json").err
    cli("evaluate", "a.npz", "digits", "--score", "fd", "--out", "other.json")
    assert "different references" in cli("evaluate", "--compare", "r.json", "other.json").err


def test_arrays_and_tensors_are_samples(folder, digits, monkeypatch, tmp_path):
    import torch

    monkeypatch.chdir(tmp_path)
    grey = digits[0][120:200]
    signed = torch.from_numpy(grey)[:, None].float() / 127.5 - 1
    found = [fewstep.evaluate(x, "real", scores="fd")["fd"] for x in (grey, grey[..., None], signed, signed.numpy())]
    assert found[0] == found[1] == found[2] == found[3]
    with pytest.raises(ValueError, match="float \\(n, C, H, W\\) in \\[-1, 1\\]"):
        fewstep.evaluate(grey.astype(np.float32), "real")
    with pytest.raises(KeyError, match="needs a reference"):
        fewstep.evaluate(grey)["fd"]


def test_labels_of_a_model(cli, tiny, folder):
    for labels, n in ((["bee"], 4), (["all"], 6), ([2, 0], 6)):
        assert cli("evaluate", tiny, "real", "-n", n, "--labels", *labels, "--score", "fd").code == 0
    assert "labels of the model's 3 classes" in cli("evaluate", tiny, "real", "-n", 4, "--labels", "reference").err
    assert "no class 'wasp'" in cli("evaluate", tiny, "real", "-n", 4, "--labels", "wasp").err


@pytest.mark.slow
def test_two_processes_have_the_numbers_of_one(cli, folder):
    args = ["evaluate", "digits", "real", "--batch", "48", "--no-cache", "--out"]
    assert cli(*args, "one.json").code == 0
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    done = subprocess.run([*launch, "-m", "fewstep.cli", *args, "two.json"], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert numbers("one.json") == numbers("two.json")
