import json
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from images_helpers import encoded, write_folder, write_zip
from PIL import Image

from fewstep.images import Data, open_images

LABELS = np.repeat([0, 1, 2], 4)


def everything(data: Data):
    images = open_images(data)
    rng = np.random.default_rng(0)
    pairs = [images.example(i, rng) for i in range(len(images))]
    return torch.stack([x for x, _ in pairs]), [label for _, label in pairs], images


def test_folder_zip_npz_and_laziness_give_the_same_tensors(tmp_path, files, pixels):
    folder, zipped, npz = tmp_path / "set", tmp_path / "set.zip", tmp_path / "set.npz"
    write_folder(folder, files)
    write_zip(zipped, {f"top/{name}": content for name, content in files.items()})
    np.savez(npz, images=pixels, labels=LABELS)
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    for path in (folder, zipped, npz):
        for memory in (512, 0):
            x, labels, images = everything(Data(str(path), memory=memory))
            assert torch.equal(x, expected)
            assert labels == LABELS.tolist()
            assert images.shape == (3, 8, 8)
            assert images.num_classes == 3
            assert images.in_memory == (memory > 0 or path == npz)
            assert np.array_equal(images.picture(5), pixels[5])


@pytest.mark.parametrize(
    ("stored", "labels", "order"),
    [
        ("images", "labels", (0, 1, 2, 3)),
        ("images", "labels", (0, 3, 1, 2)),
        ("arr_0", "arr_1", (0, 1, 2, 3)),
    ],
)
def test_npz_layouts(tmp_path, pixels, stored, labels, order):
    np.savez(tmp_path / "a.npz", **{stored: pixels.transpose(order), labels: LABELS})
    x, found, _ = everything(Data(str(tmp_path / "a.npz")))
    assert torch.equal(x, torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    assert found == LABELS.tolist()


def test_npz_grey_without_labels(tmp_path, pixels):
    np.savez_compressed(tmp_path / "a.npz", images=pixels[..., 0])
    images = open_images(Data(str(tmp_path / "a.npz")))
    assert images.shape == (1, 8, 8)
    assert images.num_classes == 0
    assert images.labels.tolist() == [-1] * 12
    assert np.array_equal(images.picture(3)[..., 0], pixels[3, ..., 0])


def test_npz_class_names(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels, labels=LABELS, class_names=np.array(["x", "y", "z", "unused"]))
    assert open_images(Data(str(tmp_path / "a.npz"))).class_names == ("x", "y", "z", "unused")


def test_numbered_classes_are_ordered_as_numbers_and_named_ones_as_words(tmp_path):
    grey = encoded(np.zeros((4, 4), np.uint8))
    numbers = write_folder(tmp_path / "numbers", {f"{name}/0.png": grey for name in ("10", "9", "2")})
    assert open_images(Data(str(numbers))).class_names == ("2", "9", "10")
    words = write_folder(tmp_path / "words", {f"{name}/0.png": grey for name in ("10", "9", "b")})
    images = open_images(Data(str(words)))
    assert images.class_names == ("10", "9", "b")
    assert images.labels.tolist() == [0, 1, 2]


def test_train_and_test_folders_share_their_classes(tmp_path):
    grey = encoded(np.zeros((4, 4), np.uint8))
    names = ("train/7/1.png", "train/3/2.png", "test/7/3.png")
    images = open_images(Data(str(write_zip(tmp_path / "a.zip", dict.fromkeys(names, grey)))))
    assert {images.name(i): int(images.labels[i]) for i in range(3)} == dict(zip(names, (1, 0, 1), strict=True))


@pytest.mark.parametrize("names", [("a.png", "b.png"), ("top/a.png", "top/b.png"), ("a.png", "more/b.png")])
def test_without_class_folders_there_are_no_labels(tmp_path, names):
    grey = encoded(np.zeros((4, 4), np.uint8))
    folder = write_folder(tmp_path / "set", dict.fromkeys(names, grey))
    assert open_images(Data(str(folder))).num_classes == 0
    with pytest.raises(ValueError, match="has no labels"):
        open_images(Data(str(folder), labels=True))


def test_labels_can_be_ignored(tmp_path, files):
    images = open_images(Data(str(write_folder(tmp_path / "set", files)), labels=False))
    assert images.num_classes == 0
    assert set(images.labels.tolist()) == {-1}


@pytest.mark.parametrize("top", ["", "top/"])
def test_dataset_json_goes_before_folders(tmp_path, pixels, top):
    listing = {"labels": [[f"00000/img{i}.png", (i * 7) % 5] for i in range(12)]}
    content = {f"{top}00000/img{i}.png": encoded(p) for i, p in enumerate(pixels)}
    content[f"{top}dataset.json"] = json.dumps(listing).encode()
    images = open_images(Data(str(write_zip(tmp_path / "a.zip", content))))
    assert images.num_classes == 5
    number = dict(listing["labels"])
    assert [number[images.name(i).removeprefix(top)] for i in range(12)] == images.labels.tolist()


def test_dataset_json_without_labels_or_with_wrong_ones(tmp_path, files):
    path = tmp_path / "a.zip"
    write_zip(path, {**files, "dataset.json": b'{"labels": null}'})
    assert open_images(Data(str(path))).num_classes == 0
    write_zip(path, {**files, "dataset.json": b'{"labels": [["a/00.png", 0]]}'})
    with pytest.raises(ValueError, match=r"dataset.json in .* has no label for a/01.png"):
        open_images(Data(str(path)))
    write_zip(path, {**files, "dataset.json": b"[1, 2"})
    with pytest.raises(ValueError, match="should hold"):
        open_images(Data(str(path)))


def test_leftovers_of_operating_systems_are_passed_over(tmp_path, files):
    junk = {
        "__MACOSX/a/._00.png": b"x",
        ".DS_Store": b"x",
        "a/Thumbs.db": b"x",
        "a/._01.png": b"x",
        ".git/z.png": b"x",
    }
    assert len(open_images(Data(str(write_zip(tmp_path / "a.zip", {**files, **junk}))))) == 12
    assert len(open_images(Data(str(write_folder(tmp_path / "set", {**files, **junk}))))) == 12


def test_a_link_back_into_the_folder_ends(tmp_path, files):
    folder = write_folder(tmp_path / "set", files)
    (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(open_images(Data(str(folder)))) == 12


def test_the_bundled_digits_have_a_name():
    images = open_images(Data("digits"))
    assert images.shape == (1, 8, 8)
    assert images.num_classes == 10


def test_resize_and_crop(tmp_path):
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200  # the central square
    folder = write_folder(tmp_path / "set", {"a.png": encoded(wide), "b.png": encoded(wide.transpose(1, 0, 2).copy())})
    images = open_images(Data(str(folder), size=8))
    assert images.shape == (3, 8, 8)
    assert (images.picture(0) == 200).all()
    assert (images.picture(1) == 200).all()
    assert open_images(Data(str(folder), size=4, channels=1)).shape == (1, 4, 4)
    rng = np.random.default_rng(0)
    random = open_images(Data(str(folder), size=8, crop="random"))
    lefts = {int((random.example(0, rng)[0][0, 0] > 0).int().argmax()) for _ in range(60)}
    assert lefts == {
        0,
        1,
        2,
        3,
        4,
    }  # argmax is where the bright square begins, 0 when it fills or leaves the crop


def test_flip_mirrors_about_half_of_the_pictures(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels)
    images = open_images(Data(str(tmp_path / "a.npz"), flip=True))
    x = torch.from_numpy(pixels[0]).permute(2, 0, 1).float() / 127.5 - 1
    rng = np.random.default_rng(0)
    drawn = [images.example(0, rng)[0] for _ in range(200)]
    assert all(torch.equal(d, x) or torch.equal(d, x.flip(-1)) for d in drawn)
    assert 70 < sum(torch.equal(d, x.flip(-1)) for d in drawn) < 130


@pytest.mark.parametrize("kind", ["L", "RGB", "P", "RGBA", "LA", "1", "I;16", "CMYK"])
def test_every_mode_becomes_grey_or_rgb(tmp_path, kind):
    if kind == "I;16":
        image = Image.fromarray(np.full((8, 8), 51400, np.uint16))
    else:
        image = Image.new("L", (8, 8), 255).convert(kind)
    suffix = "tif" if kind == "CMYK" else "png"
    image.save(tmp_path / f"a.{suffix}")
    expected = 200 if kind == "I;16" else 255
    grey = 1 if kind in ("L", "LA", "1", "I;16") else 3
    for channels, wanted in ((None, grey), (1, 1), (3, 3)):
        images = open_images(Data(str(tmp_path), channels=channels))
        assert images.shape == (wanted, 8, 8)
        assert (images.picture(0) == expected).all()


def test_transparent_pixels_are_white(tmp_path):
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert (open_images(Data(str(tmp_path))).picture(0) == 255).all()


def test_photographs_are_turned_upright(tmp_path):
    image = Image.fromarray(np.repeat(np.uint8([[0], [255]]), 16, 1).repeat(4, 0))  # 16 wide, 8 high, dark on top
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    for memory in (512, 0):
        images = open_images(Data(str(tmp_path), memory=memory))
        assert images.shape == (1, 16, 8)
        assert images.picture(0)[0, 0, 0] == 255
        assert images.picture(0)[0, -1, 0] == 0


def test_an_open_zip_goes_to_other_processes(tmp_path, files):
    images = open_images(Data(str(write_zip(tmp_path / "a.zip", files)), memory=0))
    twin = pickle.loads(pickle.dumps(images))
    assert np.array_equal(twin.picture(7), images.picture(7))


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda d: d / "empty", ValueError, "holds no pictures"),
        (lambda d: d / "sett", FileNotFoundError, r"there is no .*sett; did you mean .*set\?"),
        (lambda d: d / "sett" / "a", FileNotFoundError, r"did you mean .*set\?"),
        (lambda d: d / "notes.txt", ValueError, "is no kind of data that fewstep reads"),
        (lambda d: d / "one.png", ValueError, "is a single picture"),
        (lambda d: d / "broken.zip", ValueError, "is not a zip file or is cut short"),
        (lambda d: d / "broken.npz", ValueError, "cannot be read as an .npz"),
        (lambda d: d / "sizes", ValueError, r"different sizes \(8×8: 2, 6×8: 1; c.png.*size=8 \(--size 8\)"),
        (lambda d: d / "mixed", ValueError, r"mixes grey and colour.*--channels"),
        (lambda d: d / "float.npz", ValueError, "is float64: pictures must be uint8"),
        (lambda d: d / "shape.npz", ValueError, r"has the shape \(2, 5, 5, 5\)"),
        (lambda d: d / "other.npz", ValueError, "holds z, but neither images nor arr_0"),
        (lambda d: d / "count.npz", ValueError, "labels must be 2 whole numbers"),
        (lambda d: d / "negative.npz", ValueError, r"the label -3 of images\[1\] .* is outside 0…0"),
        (lambda d: d / "object.npz", ValueError, "cannot be read as an .npz of plain arrays"),
    ],
)
@pytest.mark.parametrize("memory", [512, 0])
def test_one_clear_sentence(tmp_path, make, error, sentence, memory):
    grey, colour = np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
    for name in ("empty", "set"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "one.png").write_bytes(encoded(grey))
    for name in ("broken.zip", "broken.npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 nothing more")
    some = {"a.png": encoded(grey), "b.png": encoded(grey)}
    write_folder(tmp_path / "sizes", {**some, "c.png": encoded(grey[:, :6])})
    write_folder(tmp_path / "mixed", {**some, "c.png": encoded(colour)})
    two = np.zeros((2, 4, 4), np.uint8)
    np.savez(tmp_path / "float.npz", images=two / 1.0)
    np.savez(tmp_path / "shape.npz", images=np.zeros((2, 5, 5, 5), np.uint8))
    np.savez(tmp_path / "other.npz", z=two)
    np.savez(tmp_path / "count.npz", images=two, labels=np.arange(3))
    np.savez(tmp_path / "negative.npz", images=two, labels=np.array([0, -3]))
    np.savez(tmp_path / "object.npz", images=np.array([{}, {}], object))
    with pytest.raises(error, match=sentence) as raised:
        open_images(Data(str(make(tmp_path)), memory=memory))
    assert "\n" not in str(raised.value)


def test_labels_beyond_the_asked_classes(tmp_path, files):
    path = str(write_folder(tmp_path / "set", files))
    with pytest.raises(ValueError, match=r"the label 2 of c/08.png .* is outside 0…1 \(4 such labels\)"):
        open_images(Data(path, classes=2))
    assert open_images(Data(path, classes=5)).class_names == ("a", "b", "c", "3", "4")


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"channels": 2}, {"crop": "corner"}, {"classes": 0}, {"memory": -1}, {"path": ""}]
)
def test_fields_without_meaning(wrong):
    with pytest.raises((ValueError, TypeError)):
        Data(**{"path": "x", **wrong})


def test_a_malicious_npz_is_never_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file, file.open("images.npy", "w") as stream:
        np.lib.format.write_array(stream, np.array([Payload()], object), allow_pickle=True)
    (tmp_path / "owned").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=re.escape("plain arrays")):
        open_images(Data(str(tmp_path / "a.npz")))
    assert not (tmp_path / "owned").exists()
