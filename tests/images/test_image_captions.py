"""Captions of every kind of source, beside the right pictures."""

import json

import numpy as np
import pytest
from images_helpers import encoded, write_folder, write_tar, write_zip

from fewstep.images import Data, check, distinct, open_images

SAID = [f"picture {i} of twelve" for i in range(12)]


def listing(names, said=SAID) -> bytes:
    return "".join(json.dumps({"file_name": n, "text": t}) + "\n" for n, t in zip(names, said, strict=True)).encode()


def sidecars(files, said=SAID) -> dict[str, bytes]:
    return {name.replace(".png", ".txt"): text.encode() for name, text in zip(files, said, strict=True)}


def as_jsonl(tmp_path, files, said=SAID):
    return write_folder(tmp_path / "set", {**files, "metadata.jsonl": listing(files, said)})


def as_jsonl_by_folder(tmp_path, files, said=SAID):
    own = {f"{c}/metadata.jsonl": b"" for c in "abc"}
    for i, name in enumerate(files):
        own[f"{name[0]}/metadata.jsonl"] += json.dumps({"file_name": name[2:], "caption": said[i]}).encode() + b"\r\n"
    return write_folder(tmp_path / "set", {**files, **own})


def as_sidecars(tmp_path, files, said=SAID):
    return write_folder(tmp_path / "set", {**files, **sidecars(files, said), "notes.txt": b"not of a picture"})


def as_zip(tmp_path, files, said=SAID):
    everything = {**files, "metadata.jsonl": listing(files, said)}
    return write_zip(tmp_path / "a.zip", {f"top/{name}": content for name, content in everything.items()})


def as_zip_of_sidecars(tmp_path, files, said=SAID):
    return write_zip(tmp_path / "a.zip", {**files, **sidecars(files, said)})


def as_npz(tmp_path, files, said=SAID):
    from PIL import Image

    pixels = [np.asarray(Image.open(p)) for p in sorted(write_folder(tmp_path / "set", files).rglob("*.png"))]
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.repeat([0, 1, 2], 4), captions=np.array(said))
    return tmp_path / "a.npz"


def as_tar(tmp_path, files, said=SAID):
    samples = {}
    for i, (name, content) in enumerate(files.items()):
        samples |= {name: content, name[:-3] + "txt": said[i].encode(), name[:-3] + "cls": str(i // 4).encode()}
    return write_tar(tmp_path / "a.tar", samples)


@pytest.mark.parametrize("memory", [512, 0])
@pytest.mark.parametrize(
    "write", [as_jsonl, as_jsonl_by_folder, as_sidecars, as_zip, as_zip_of_sidecars, as_npz, as_tar]
)
def test_every_source_says_the_same_beside_its_labels(tmp_path, files, pixels, write, memory):
    images = open_images(Data(str(write(tmp_path, files)), memory=memory))
    assert images.captions == SAID
    assert images.labels.tolist() == np.repeat([0, 1, 2], 4).tolist()
    assert all(np.array_equal(images.picture(i), pixels[i]) for i in range(12))


@pytest.mark.parametrize("memory", [512, 0])
@pytest.mark.parametrize("write", [as_jsonl, as_sidecars, as_zip, as_tar])
def test_captions_stay_beside_their_pictures_where_one_is_damaged(tmp_path, pixels, write, memory):
    many = {f"{i:03}.png": encoded(np.full((4, 4), i, np.uint8)) for i in range(120)}
    many["007.png"] = b"no picture"
    path = write(tmp_path, many, [f"it is {i}" for i in range(120)])
    images = open_images(Data(str(path), memory=memory, labels=False))
    assert len(images) == 119
    assert images.captions == [f"it is {images.picture(k)[0, 0, 0]}" for k in range(119)]


def test_a_picture_found_damaged_late_gives_way_with_its_number(tmp_path):
    content = {f"{i:03}.png": encoded(np.full((4, 4), i, np.uint8)) for i in range(120)}
    folder = write_folder(tmp_path / "set", content | {f"{i:03}.txt": str(i).encode() for i in range(120)})
    images = open_images(Data(str(folder), memory=0))
    (folder / "007.png").write_bytes(b"no picture any more")
    pixels, j = images.decoded(7)
    assert images.captions is not None
    assert (pixels[0, 0, 0], j, images.captions[j]) == (8, 8, "8")


def test_parquet_columns_are_found_by_name(tmp_path, pixels, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features(
        {"image": datasets.Image(), "prompt": datasets.Value("string"), "alt": datasets.Value("string")}
    )
    rows = {
        "image": [{"bytes": encoded(p), "path": None} for p in pixels],
        "prompt": [*SAID[:11], None],
        "alt": SAID[::-1],
    }
    path = str(tmp_path / "a.parquet")
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert open_images(Data(path, caption="alt")).captions == SAID[::-1]
    assert open_images(Data(path, uncaptioned="empty")).captions == [*SAID[:11], ""]
    with pytest.raises(ValueError, match=r"1 of the 12 pictures .* have no caption \(row 11\)"):
        open_images(Data(path)).captions  # noqa: B018
    with pytest.raises(ValueError, match="has no captions called 'promt'; did you mean 'prompt'"):
        open_images(Data(path, caption="promt"))
    lists = {"image": rows["image"], "caption": [["one", "two"]] * 12}
    datasets.Dataset.from_dict(lists).cast_column("image", datasets.Image()).to_parquet(path)
    with pytest.raises(ValueError, match="one caption, a text"):
        open_images(Data(path)).captions  # noqa: B018


def test_metadata_goes_before_sidecars_and_sidecars_fill_its_gaps(tmp_path, files):
    lines = listing(files).split(b"\n")
    three = b"\n".join([*lines[:3], json.dumps({"file_name": "a/03.png", "text": None}).encode()])
    beside = dict.fromkeys(sidecars(files), b"from the side\n")
    folder = write_folder(tmp_path / "set", {**files, **beside, "metadata.jsonl": three})
    assert open_images(Data(str(folder))).captions == [*SAID[:3], *["from the side"] * 9]


def test_an_empty_file_is_an_empty_prompt_and_a_missing_one_is_not(tmp_path, files):
    beside = sidecars(files) | {"a/01.txt": b" \n", "a/02.txt": b"\xef\xbb\xbf a bird \xc3\xa9"}
    del beside["c/11.txt"], beside["b/05.txt"]
    path = str(write_folder(tmp_path / "set", {**files, **beside}))
    images = open_images(Data(path))  # labels alone may be wanted
    with pytest.raises(ValueError) as raised:
        images.captions  # noqa: B018
    said = str(raised.value)
    assert "2 of the 12 pictures" in said
    assert "b/05.png, c/11.png" in said
    assert "--data.uncaptioned empty" in said
    with pytest.raises(ValueError, match="2 of the 12 pictures"):
        open_images(Data(path, captions=True))
    empty = open_images(Data(path, uncaptioned="empty")).captions
    assert empty == [SAID[0], "", "a bird é", SAID[3], SAID[4], "", *SAID[6:11], ""]
    assert open_images(Data(path, captions=False)).captions is None


def test_without_captions(tmp_path, files):
    path = str(write_folder(tmp_path / "set", {**files, "readme.txt": b"twelve pictures"}))
    assert open_images(Data(path)).captions is None
    assert check(path).captions is None
    with pytest.raises(ValueError, match=r"has no captions: put a .txt beside each picture"):
        open_images(Data(path, captions=True))
    with pytest.raises(ValueError, match=r"has no metadata.jsonl that could hold captions called 'title'"):
        open_images(Data(path, caption="title", captions=True))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", r"line 1 of metadata.jsonl in .* is not JSON"),
        (b"[1]", r'line 1 of .* should be an object \{"file_name": …'),
        (b'{"text": "a"}', r"line 1 of .* should be an object"),
        (b'{"file_name": "a/00.png", "text": 5}', r"text in line 1 of .* holds 5, a int: a picture has one caption"),
        (b'{"file_name": "a/00.png", "text": ["x", "y"]}', r"holds \['x', 'y'\], a list"),
        (b'{"file_name": "elsewhere.png", "text": "a"}', r"names elsewhere.png, and none of its files is there"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, files, line, sentence):
    path = str(write_folder(tmp_path / "set", {**files, "metadata.jsonl": line}))
    with pytest.raises(ValueError, match=sentence):
        open_images(Data(path)).captions  # noqa: B018


def test_other_wrong_captions(tmp_path, files, pixels):
    folder = str(write_folder(tmp_path / "set", {**files, "a/00.txt": b"\xff\xfe"}))
    with pytest.raises(ValueError, match=r"a/00.txt in .* is not UTF-8"):
        open_images(Data(folder)).captions  # noqa: B018
    path = str(tmp_path / "a.npz")
    for wrong, sentence in (
        (np.arange(12), r"captions in .* is int64 \(12,\): captions must be 12 texts"),
        (np.array(SAID[:3]), "captions must be 12 texts"),
        (np.array([*SAID[:11], None], object), "cannot be read as an .npz of plain arrays"),
    ):
        np.savez(path, images=pixels, captions=wrong)
        images = open_images(Data(path))  # nothing was unpickled, and nothing asked for them
        with pytest.raises(ValueError, match=sentence):
            images.captions  # noqa: B018
    np.savez(path, images=pixels, title=np.array([t.encode() for t in SAID]))
    assert open_images(Data(path, caption="title")).captions == SAID
    with pytest.raises(ValueError, match="has no captions called 'tilte'; did you mean 'title'"):
        open_images(Data(path, caption="tilte"))


def test_distinct_captions_are_numbered_and_the_empty_one_is_minus_one():
    table, ids = distinct(["b", "", "a", "b", "a"])
    assert table == ("a", "b")
    assert ids.tolist() == [1, -1, 0, 1, 0]
    assert ids.dtype == np.int64
    assert distinct(["", ""])[0] == ()


def test_check_says_what_is_said(tmp_path, files):
    beside = dict.fromkeys(sidecars(files), b"a cat") | {"a/00.txt": b"", "a/01.txt": b"a dog on a mat"}
    del beside["c/11.txt"]
    report = check(str(write_folder(tmp_path / "set", {**files, **beside})))
    said = report.captions
    assert said is not None
    assert (said.count, said.different, said.empty, said.longest) == (11, 2, 1, "a dog on a mat")
    assert said.examples == ("a cat", "a dog on a mat")
    assert said.missing == ("c/11.png",)
    for text in ("captions: 11 (2 different, 1 empty)", '"a dog on a mat" (14 characters)', "missing: 1 (c/11.png)"):
        assert text in str(report)


def test_a_digest_changes_with_the_pictures_alone(tmp_path, files):
    def digest(path, **options):
        return open_images(Data(str(path), **options)).digest()

    folder = write_folder(tmp_path / "set", {**files, **sidecars(files)})
    first = digest(folder)
    assert digest(folder, memory=0) == first
    (folder / "a" / "00.txt").write_text("another caption")
    assert digest(folder) == first
    (folder / "a" / "00.png").write_bytes(files["a/01.png"])
    assert digest(folder) != first
    second = digest(folder)
    (folder / "c" / "11.png").unlink()
    assert digest(folder) != second
    one, two = (digest(write_zip(tmp_path / f"{k}.zip", files)) for k in "ab")
    assert one == two != digest(write_zip(tmp_path / "c.zip", files | {"a/00.png": files["a/01.png"]}))
    for i in (0, 0, 1):
        np.savez(tmp_path / f"{i}.npz", images=np.full((3, 4, 4), i, np.uint8))
    assert digest(tmp_path / "0.npz") != digest(tmp_path / "1.npz")
