import numpy as np
import pytest
from images_helpers import encoded, write_folder

from fewstep.images import Data, check, contact_sheet, open_images


@pytest.fixture
def motley(tmp_path, files):
    """Two sizes, two modes, a file twice, one damaged."""
    grey = encoded(np.zeros((6, 9), np.uint8))
    extra = {"a/grey.png": grey, "b/again.png": files["b/04.png"], "c/bad.png": files["c/08.png"][:60]}
    return write_folder(tmp_path / "motley", {**files, **extra})


def test_a_report_counts(motley):
    report = check(str(motley))
    assert report.count == 15
    assert report.sizes == {"8×8": 13, "9×6": 1}
    assert report.modes == {"RGB": 13, "L": 1}
    assert report.classes == {"a": 5, "b": 5, "c": 5}
    assert list(report.damaged) == ["c/bad.png"]
    assert report.duplicates == (("b/04.png", "b/again.png"),)
    assert not report.sound
    text = str(report)
    for said in ("15 pictures", "8×8: 13", "a: 5", "c/bad.png", "b/04.png = b/again.png"):
        assert said in text


def test_a_sound_report(tmp_path, files):
    report = check(Data(str(write_folder(tmp_path / "set", files))))
    assert report.sound
    assert report.damaged == {}
    assert "damaged: 0" in str(report)


def test_a_contact_sheet_shows_every_kind_at_one_size(motley):
    sheet = contact_sheet(str(motley), 100)
    assert sheet.mode == "RGB"
    assert sheet.size == (4 * 66 + 2, 4 * 66 + 2)  # 14 pictures of 8×8, enlarged 8 times


def test_a_contact_sheet_of_open_images(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels)
    images = open_images(Data(str(tmp_path / "a.npz")))
    sheet = np.asarray(contact_sheet(images, 4))
    assert np.array_equal(sheet[2, 2], pixels[0, 0, 0])
    assert np.array_equal(sheet[-3, -3], pixels[-1, -1, -1])
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet(images, 0)


def test_check_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="holds no pictures"):
        check(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        check(str(tmp_path / "nowhere"))
