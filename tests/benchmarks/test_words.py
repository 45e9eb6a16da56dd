"""The captions, judge and scores of the words benchmarks against drawn bars and counts by hand."""

import math
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import words_captions  # noqa: E402
import words_judge  # noqa: E402
import words_scores  # noqa: E402
import words_table  # noqa: E402
from judge import load_reader  # noqa: E402

from fewstep.images import Data, open_images  # noqa: E402


def bar(height: float = 20, width: float = 4, lean: float = 0.0) -> torch.Tensor:
    """Ink (32, 32) of a bar around the centre, its edges smoothed by 16×16 samples a pixel."""
    at = (torch.arange(32 * 16, dtype=torch.float64) + 0.5) / 16 - 16
    i, j = at[:, None], at[None]
    inside = (i.abs() < height / 2) & ((j + lean * i).abs() < width / 2)
    return inside.double().reshape(32, 16, 32, 16).mean((1, 3))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A zip like MNIST's, of bars of several widths and slants, four of them for every digit."""
    path = tmp_path_factory.mktemp("digits") / "digits.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(40):
            ink = bar(20, 1.5 + k % 4, 0.15 * (k % 3))[2:-2, 2:-2]
            aside = path.with_name("a.png")
            Image.fromarray((255 * ink).round().byte().numpy()).save(aside)
            archive.write(aside, f"{k // 4}/{k}.png")
    return path


@pytest.mark.parametrize(("height", "width", "lean"), [(20, 4, 0), (14, 2, 0.3), (24, 3, -0.5), (20, 2, 0.1)])
def test_measures_of_bars(height, width, lean):
    found = words_captions.measures(bar(height, width, lean)[None])
    assert found["size"].item() == height
    assert found["slant"].item() == pytest.approx(abs(lean), rel=0.01, abs=1e-6)
    edges = 2 * (width + height * math.hypot(1, lean))
    assert found["weight"].item() == pytest.approx(2 * height * width / edges / height, rel=0.12)


def test_measures_ignore_where_a_digit_is_and_refuse_nothing():
    ink = bar(12, 3, 0.4)
    shifted = ink.roll((3, -2), (0, 1))
    pair = words_captions.measures(torch.stack([ink, shifted]))
    assert all(values[0].item() == pytest.approx(values[1].item()) for values in pair.values())
    assert all(values.isnan().all() for values in words_captions.measures(torch.zeros(1, 32, 32)).values())


def test_a_word_is_earned_by_a_third_only():
    low, high = words_captions.THRESHOLDS["slant"]
    values = torch.tensor([low, (low + high) / 2, high])
    sides = words_captions.earned({"slant": values})
    assert sides["slant"].tolist() == [0, -1, 1]
    thirds = words_captions.thirds({"any": torch.arange(301.0)})
    assert thirds == {"any": (100.0, 200.0)}


@pytest.mark.parametrize(
    ("words", "front", "behind"),
    [
        ([], "an eight", "the digit eight"),
        (["upright"], "an upright eight", "an eight, upright"),
        (["large", "thin"], "a large thin eight", "an eight, large and thin"),
        (["large", "thin", "slanted"], "a large thin slanted eight", "an eight, large, thin and slanted"),
    ],
)
def test_sentences(words, front, behind):
    assert words_captions.sentence(8, words, False) == front
    assert words_captions.sentence(8, words, True) == behind


def test_the_data_set_is_true_readable_and_the_same_each_time(digits, tmp_path, monkeypatch):
    def write(name, *more):
        monkeypatch.setattr(sys, "argv", ["words_captions.py", str(digits), "--out", str(tmp_path / name), *more])
        words_captions.main()
        return tmp_path / name

    black = write("black.zip")
    assert write("again.zip").read_bytes() == black.read_bytes()
    images = open_images(Data(str(black)))
    ink = torch.from_numpy(np.stack([images.picture(i)[..., 0] for i in range(len(images))])).double() / 255
    assert (len(images), images.shape) == (40, (1, 32, 32))
    named, sides = words_scores.asked(images.captions or ())
    assert named.tolist() == [k // 4 for k in range(40)]
    for name, earned in words_captions.earned(words_captions.measures(ink)).items():
        said = sides[name] >= 0
        assert (sides[name][said] == earned[said]).all()
        assert 0 < said.sum() < (earned >= 0).sum()  # true, and left unsaid now and then
    white = open_images(Data(str(write("white.zip", "--paper", "white"))))
    assert white.captions == images.captions
    assert all((white.picture(i) == 255 - images.picture(i)).all() for i in range(40))
    both = open_images(Data(str(write("both.zip", "--paper", "both"))))
    turned = [bool((both.picture(i) == white.picture(i)).all()) for i in range(40)]
    assert 8 < sum(turned) < 32


def test_white_paper_is_noticed_and_read_as_its_negative():
    judge = load_reader(words_judge.JUDGE)
    pictures = 2 * torch.stack([bar(20, 3, 0.1), bar(14, 2, 0.4)])[:, None].float() - 1
    black, white = words_judge.see(judge, pictures), words_judge.see(judge, -pictures)
    assert black.white.tolist() == [False, False]
    assert white.white.tolist() == [True, True]
    assert black.digits.tolist() == white.digits.tolist() == [1, 1]
    assert {name: side.tolist() for name, side in black.high.items()} == {
        name: side.tolist() for name, side in white.high.items()
    }
    np.testing.assert_allclose(black.ink_features, white.ink_features, atol=1e-4)
    assert (black.features == black.ink_features).all()
    assert np.abs(white.features - white.ink_features).max() > 0.1
    with pytest.raises(ValueError, match=r"\(n, 1, 32, 32\), not \(2, 1, 28, 28\)"):
        words_judge.see(judge, torch.zeros(2, 1, 28, 28))


def test_agreement_counts_only_what_is_asked():
    none = np.zeros((4, 2))
    high = {
        "size": np.array([True, False, True, True]),
        "weight": np.array([True] * 4),
        "slant": np.array([True, True, False, False]),
    }
    seen = words_judge.Seen(np.array([3, 3, 8, 1]), high, np.array([True, False, False, False]), none, none)
    prompts = ["A large three", "an eight, small and upright", "an upright eight", "something large"]
    shares = words_scores.agreement(seen, prompts)
    assert shares["digit"] == pytest.approx(2 / 3)
    assert shares["size"] == 1
    assert math.isnan(shares["weight"])
    assert shares["slant"] == 0.5


def test_scores_of_the_real_pictures_and_of_their_negatives(digits):
    real = words_scores.reference(digits)
    here, there = (
        words_scores.scores(real.pictures, real.texts, real),
        words_scores.scores(-real.pictures, real.texts, real),
    )
    assert (here.size, here.weight, here.slant, here.white) == (1, 1, 1, 0)
    assert here.frechet == pytest.approx(0, abs=1e-3)
    assert there.white == 1
    assert there.ink == pytest.approx(0, abs=1e-3)
    assert there.frechet > 1
    assert words_scores.scores(-real.pictures, real.texts, real.negative()).frechet == pytest.approx(0, abs=1e-3)
    assert "100.00" in words_scores.row("real", here)


def test_the_table_draws_for_the_captions(digits, capsys):
    real = words_scores.reference(digits)
    judge = load_reader(words_judge.JUDGE)
    balanced, given = real.balanced(40), []

    def copies(prompt, output_type, generator, **how):
        """Shows the very pictures of these captions."""
        given.append((len(prompt), how))
        return SimpleNamespace(images=(balanced.pictures[: len(prompt)] + 1) / 2)

    ways = words_table.rows("copies", copies, (1, 4), (2.0,))
    words_table.table(ways, real, judge, words_judge.see(judge, real.pictures), 40)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:26].strip() for line in lines[1:]] == ["copies, 1 steps, scale 2", "copies, 4 steps, scale 2"]
    assert all(line.split()[6:9] == ["100.00"] * 3 for line in lines[1:])
    assert given[0] == (40, {"height": 32, "width": 32, "num_inference_steps": 1, "guidance_scale": 2.0})
