import os

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.images import grid, read_picture, save_grid, save_picture, to_uint8
from fewstep.images.opening import signed


def test_levels_go_to_and_fro():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = signed(levels)
    assert x.min() == -1
    assert x.max() == 1
    assert np.array_equal(to_uint8(x)[0, :, :, 0], levels[0, 0])


def test_to_uint8_clips_and_rounds_to_the_nearest():
    x = torch.tensor([-9.0, 9.0, 0.4 / 127.5 - 1, 0.6 / 127.5 - 1, torch.nan, torch.inf]).reshape(1, 1, 1, 6)
    assert to_uint8(x).ravel().tolist()[:4] == [0, 255, 0, 1]
    assert to_uint8(x).ravel().tolist()[5] == 255
    assert to_uint8(x.bfloat16()).dtype == np.uint8


def test_a_grid_lays_pictures_row_by_row():
    x = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 3, 4, 6)
    sheet = np.asarray(grid(x, columns=3, pad=1, scale=2))
    assert sheet.shape == (2 * 9 + 1, 3 * 13 + 1, 3)
    for k in range(5):
        top, left = 1 + k // 3 * 9, 1 + k % 3 * 13
        assert (sheet[top : top + 8, left : left + 12] == to_uint8(x)[k, 0, 0, 0]).all()
    assert (sheet[10:, 27:] == 255).all()  # the empty place is white
    assert grid(x[:, :1]).mode == "L"
    assert grid(torch.zeros(4, 1, 28, 28)).size == (2 * 58 + 2, 2 * 58 + 2)
    assert grid(torch.zeros(1, 3, 256, 256)).size == (260, 260)


def test_a_grid_needs_pictures():
    for shape in ((3, 4, 4), (0, 3, 4, 4), (1, 2, 4, 4)):
        with pytest.raises(ValueError, match="a grid needs pictures"):
            grid(torch.zeros(shape))


def test_save_and_read(tmp_path):
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    path = save_grid(x, tmp_path / "new" / "grid.png", pad=0, scale=1)
    assert (read_picture(path) - x).abs().max() <= 0.5 / 127.5 + 1e-6
    assert read_picture(path, size=8, channels=1).shape == (1, 1, 8, 8)
    assert os.listdir(path.parent) == ["grid.png"]


def test_a_failed_write_leaves_the_old_picture_and_no_rest(tmp_path, monkeypatch):
    path = save_picture(Image.new("L", (4, 4), 7), tmp_path / "a.png")

    def fail(self, stream, **_):
        with open(stream, "wb") as half:
            half.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space"):
        save_picture(Image.new("L", (4, 4), 9), path)
    assert os.listdir(tmp_path) == ["a.png"]
    assert Image.open(path).getpixel((0, 0)) == 7


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"use \.png"):
        save_grid(torch.zeros(1, 1, 2, 2), tmp_path / "grid.xyz")
    save_grid(torch.zeros(1, 1, 2, 2), tmp_path / "grid.png")
    with pytest.raises(FileNotFoundError, match=r"did you mean .*grid\.png"):
        read_picture(tmp_path / "gird.png")
    (tmp_path / "bad.png").write_bytes(b"x")
    with pytest.raises(ValueError, match="not a picture"):
        read_picture(tmp_path / "bad.png")
