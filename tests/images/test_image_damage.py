import warnings

import numpy as np
import pytest
from images_helpers import encoded, write_folder, write_zip
from PIL import Image, ImageFile

from fewstep.images import Data, check, open_images
from fewstep.images.decoding import Damaged, decode

NOISE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.97])
def test_truncated_files_are_damaged_never_half_grey(kind, kept):
    content = encoded(NOISE, kind)
    assert np.asarray(decode(content, "whole").convert("RGB")).shape == (32, 32, 3)
    with pytest.raises(Damaged, match=r"cut\.png: "):
        decode(content[: int(len(content) * kept)], "cut.png")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("short", [1, 2, 4, 8, 12, 13, 20])
def test_a_few_bytes_short_is_truncated_too(kind, short):
    content = encoded(NOISE, kind)
    missing_end = kind == "JPEG" or short >= 5  # the last four bytes of a PNG are a checksum of nothing
    if missing_end:
        with pytest.raises(Damaged):
            decode(content[:-short], "cut")


def test_a_flipped_bit_in_a_png_or_a_zip_is_found(tmp_path):
    content = bytearray(encoded(NOISE))
    content[len(content) // 2] ^= 1
    with pytest.raises(Damaged):
        decode(bytes(content), "bit")
    path = write_zip(tmp_path / "a.zip", {f"{i}.bmp": encoded(NOISE, "BMP") for i in range(3)})
    stored = bytearray(path.read_bytes())
    stored[1000] ^= 1  # in the pixels of the first entry, whose CRC no longer fits
    path.write_bytes(bytes(stored))
    report = check(str(path))
    assert list(report.damaged) == ["0.bmp"]
    assert "CRC" in report.damaged["0.bmp"]


def hundred(broken: int) -> dict[str, bytes]:
    files = {f"{i:03}.png": encoded(np.full((8, 8), i, np.uint8)) for i in range(100)}
    for i in range(broken):
        files[f"{i * 7:03}.png"] = b"no picture" if i % 2 == 0 else files[f"{i * 7:03}.png"][:40]
    return files


@pytest.mark.parametrize("memory", [512, 0])
@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_one_per_cent_is_skipped_and_listed_more_is_refused(tmp_path, write, memory):
    images = open_images(Data(str(write(tmp_path / "one.zip", hundred(1))), memory=memory))
    assert len(images) == 99
    assert images.damaged == ["000.png"]
    assert (images.picture(0) == 1).all()
    assert images.name(0) == "001.png"
    images.require_sound()
    with pytest.raises(ValueError, match="1 of the 100"):
        images.require_sound(limit=0.0)
    five = Data(str(write(tmp_path / "five.zip", hundred(5))), memory=memory)
    with pytest.raises(ValueError) as raised:
        open_images(five)
    said = str(raised.value)
    assert "files in" in said
    assert "000.png (not a picture that Pillow can read)" in said
    assert f"fewstep data check {tmp_path / 'five.zip'}" in said


def test_a_set_with_nothing_sound(tmp_path):
    folder = write_folder(tmp_path / "set", {f"{i}.jpg": b"no picture" for i in range(5)})
    with pytest.raises(ValueError, match="5 of the 5 files in .* and 2 more. See them all"):
        open_images(Data(str(folder)))


def test_a_decompression_bomb_is_damaged_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    folder = write_folder(tmp_path / "set", {"bomb.png": encoded(NOISE)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = check(str(folder))
    assert "decompression bomb" in report.damaged["bomb.png"]


def test_an_unreadable_file_is_listed(tmp_path):
    write_folder(tmp_path, hundred(0))
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    images = open_images(Data(str(tmp_path)))
    assert images.damaged == ["gone.png"]
    assert "No such file" in images.reasons["gone.png"]
