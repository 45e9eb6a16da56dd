"""edit: what is known is kept, what is written is what the library makes."""

import json
import os

import numpy as np
import pytest
import torch
from cli_helpers import save_image
from PIL import Image

import fewstep
from fewstep.images import read_picture, to_uint8


def results(folder, n):
    return np.stack([np.asarray(Image.open(os.path.join(folder, f"{i:06d}.png"))) for i in range(n)])


def test_inpainting_keeps_what_is_black_in_the_mask(cli, tiny, tmp_path):
    save_image(tmp_path / "a.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 3:] = 200
    Image.fromarray(mask).save("m.png")
    options = ("--image", "a.png", "--mask", "m.png", "--label", "bee", "-n", 3, "--out", "many")
    said = cli("edit", "inpaint", tiny, *options)
    assert said.code == 0, said.err
    made, given = results("many", 3), np.asarray(Image.open("a.png"))
    np.testing.assert_array_equal(made[:, :, :3], np.stack([given[:, :3]] * 3))
    assert (made[0, :, 3:] != made[1, :, 3:]).any()
    x = read_picture("a.png").expand(3, -1, -1, -1)
    expected = fewstep.load(tiny).edit(x, fewstep.Inpaint(torch.from_numpy(mask > 127).float()), labels=1)
    np.testing.assert_array_equal(made, to_uint8(expected)[..., 0])
    with open("many.json") as file:
        about = json.load(file)
    assert (about["edit"], about["label"], len(about["noise_levels"])) == ("inpaint", "bee", 8)


def test_grids_show_what_was_given_first(cli, tiny, tmp_path):
    save_image(tmp_path / "a.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save("m.png")
    assert "2 given, 4 made" in cli("edit", "inpaint", tiny, "--image", "a.png", "--mask", "m.png").out
    with Image.open("edit-inpaint.png") as grid:
        assert grid.size == (2 + 6 * 66, 2 + 66)
        assert (np.asarray(grid)[2:66, 68:132] == 255).all()  # the mask


def test_super_resolution_takes_a_small_picture_or_a_full_one(cli, tiny, tmp_path):
    save_image(tmp_path / "small.png", 2)
    cli("edit", "superres", tiny, "--image", "small.png", "--factor", 4, "--out", "made", "-n", 2)
    given = read_picture("small.png").expand(2, -1, -1, -1)
    expected = fewstep.load(tiny).edit(given, fewstep.SuperResolve(4))
    means = torch.nn.functional.avg_pool2d(expected, 4)
    torch.testing.assert_close(means, given, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(results("made", 2), to_uint8(expected)[..., 0])
    save_image(tmp_path / "full.png", 8)
    assert cli("edit", "superres", tiny, "--image", "full.png", "--factor", 4).code == 0
    assert "does not divide" in cli("edit", "superres", tiny, "--image", "full.png", "--factor", 3).err


def test_colorization_takes_grey_and_coloured_pictures(cli, models, tmp_path):
    for channels in (1, 3):
        save_image(tmp_path / f"{channels}.png", channels=channels)
        assert cli("edit", "colorize", models["colour"], "--image", f"{channels}.png", "-n", 1).code == 0
    assert "3 channels" in cli("edit", "colorize", models["grey"], "--image", "1.png").err


def test_strokes_noise_and_interpolation_are_those_of_the_library(cli, tiny, tmp_path):
    save_image(tmp_path / "a.png")
    model, x = fewstep.load(tiny), read_picture(tmp_path / "a.png")
    cli("edit", "stroke", tiny, "--image", "a.png", "--seed", 2, "-n", 2, "--out", "stroke")
    np.testing.assert_array_equal(results("stroke", 2), to_uint8(model.redraw(x.expand(2, -1, -1, -1), seed=2))[..., 0])
    cli("edit", "denoise", tiny, "--image", "a.png", "--sigma", 0.4, "--label", 0, "--out", "clean")
    np.testing.assert_array_equal(results("clean", 1), to_uint8(model.denoise(x, 0.4, labels=0))[..., 0])
    cli("edit", "interpolate", tiny, "--seed-a", 3, "--seed-b", 4, "-n", 5, "--out", "between")
    np.testing.assert_array_equal(results("between", 5), to_uint8(model.interpolate(3, 4, 5))[..., 0])


def test_other_sizes_are_resized_and_it_is_said(cli, tiny, tmp_path):
    save_image(tmp_path / "a.png", 20, 3)
    said = cli("edit", "stroke", tiny, "--image", "a.png")
    assert "a.png is 20×20: resized to 8×8." in said.out


def test_the_same_edit_again_replaces_its_own(cli, tiny, tmp_path):
    save_image(tmp_path / "a.png")
    for seed in (0, 0, 1):
        assert cli("edit", "stroke", tiny, "--image", "a.png", "--seed", seed).code == 0
    assert {"edit-stroke.png", "edit-stroke-2.png"} <= set(os.listdir())
    assert "edit-stroke-3.png" not in os.listdir()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["inpaint", "--image", "a.png", "--mask", "none.png"], "there is no none.png"),
        (["inpaint", "--image", "a.png", "--mask", "black.png"], "black everywhere"),
        (["inpaint", "--image", "words.png", "--mask", "black.png"], "not a picture"),
        (["stroke", "--image", "a.png", "--times", 1, 5], "decrease"),
        (["stroke", "--image", "a.png", "-n", 0], "from 1"),
        (["stroke", "--image", "a.png", "--label", 7], "labels are 0 to 2"),
        (["denoise", "--image", "a.png", "--sigma", 99], "within"),
    ],
)
def test_errors_leave_nothing_behind(cli, tiny, tmp_path, args, words):
    save_image(tmp_path / "a.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("black.png")
    (tmp_path / "words.png").write_text("words")
    before = set(os.listdir())
    said = cli("edit", args[0], tiny, *args[1:])
    assert said.code == 1
    assert words in said.err
    assert set(os.listdir()) == before
