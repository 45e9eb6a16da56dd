"""Webdataset's tars, read by offset, and commands that are not run."""

import gzip
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from images_helpers import encoded, write_folder, write_tar

from fewstep.images import Data, check, open_images


@pytest.fixture
def shards(tmp_path, pixels) -> Path:
    """A folder of four shards of three samples."""
    (tmp_path / "shards").mkdir()
    for k in range(4):
        content = {}
        for i in range(3 * k, 3 * k + 3):
            content |= {f"{i:04}.png": encoded(pixels[i]), f"{i:04}.txt": f"number {i}".encode()}
        write_tar(tmp_path / "shards" / f"shard-{k:03}.tar", content)
    return tmp_path / "shards"


@pytest.mark.parametrize("memory", [512, 0])
@pytest.mark.parametrize(
    ("path", "numbers"),
    [
        ("", range(12)),
        ("/shard-{000..003}.tar", range(12)),
        ("/shard-{001..002}.tar", range(3, 9)),
        ("/shard-00{3,0}.tar", (9, 10, 11, 0, 1, 2)),
        ("/shard-002.tar", range(6, 9)),
    ],
)
def test_one_tar_a_folder_and_braces(shards, pixels, path, numbers, memory):
    images = open_images(Data(f"{shards}{path}", memory=memory))
    assert images.captions == [f"number {i}" for i in numbers]
    assert all(np.array_equal(images.picture(k), pixels[i]) for k, i in enumerate(numbers))
    assert images.num_classes == 0


def test_a_missing_shard_is_named(shards):
    with pytest.raises(FileNotFoundError, match=r"there is no .*shard-004.tar; did you mean .*shard-00"):
        open_images(Data(f"{shards}/shard-{{003..005}}.tar"))


def test_pictures_in_a_folder_go_before_tars(shards, pixels):
    (shards / "one.png").write_bytes(encoded(pixels[5]))
    assert len(open_images(Data(str(shards)))) == 1


def test_webdataset_reads_the_same(shards):
    webdataset = pytest.importorskip("webdataset")
    theirs = list(webdataset.WebDataset([str(p) for p in sorted(shards.glob("*.tar"))], shardshuffle=False))
    images = open_images(Data(str(shards)))
    assert [sample["txt"].decode() for sample in theirs] == images.captions
    assert [f"{sample['__key__']}.png" for sample in theirs] == [images.name(i).split()[0] for i in range(12)]


def test_keys_json_labels_and_strange_members(tmp_path, pixels):
    content = {
        "./v1.0/0.JPG": encoded(pixels[0], "JPEG"),
        "./v1.0/0.seg.png": b"another picture of it",
        "./v1.0/0.json": json.dumps({"caption": "first", "alt": "other"}).encode(),
        "./v1.0/0.cls": b"2\n",
        "./v1.0/._1.jpg": b"macOS",
        "./v1.0/1.webp": encoded(pixels[1], "WEBP"),
        "./v1.0/1.png": encoded(pixels[1]),
        "./v1.0/1.txt": b"second ",
        "./v1.0/1.json": b'{"alt": "more"}',
        "./v1.0/1.cls": b"0",
        "readme": b"nothing",
        "alone.txt": b"without a picture",
    }
    path = write_tar(tmp_path / "a.tar", content)
    with tarfile.open(path, "a") as file:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    images = open_images(Data(str(path)))
    assert images.captions == ["first", "second"]
    assert images.labels.tolist() == [2, 0]
    assert images.num_classes == 3
    assert images.name(1) == "./v1.0/1.png in a.tar"  # png goes before webp
    assert np.array_equal(images.picture(1), pixels[1])
    assert open_images(Data(str(path), caption="alt")).captions == ["other", "more"]
    with pytest.raises(ValueError, match="has no captions called 'title'"):
        open_images(Data(str(path), caption="title")).captions  # noqa: B018


def test_pictures_first_and_captions_after_them_are_joined(tmp_path, pixels):
    content = {f"{i}.png": encoded(pixels[i]) for i in range(3)} | {f"{i}.txt": str(i).encode() for i in range(3)}
    assert open_images(Data(str(write_tar(tmp_path / "a.tar", content)))).captions == ["0", "1", "2"]


def test_labels_are_names_too_and_count_only_where_all_have_one(tmp_path, pixels):
    content = {}
    for i, name in enumerate(("dog", "cat", "dog")):
        content |= {f"{i}.png": encoded(pixels[i]), f"{i}.cls": name.encode()}
    images = open_images(Data(str(write_tar(tmp_path / "a.tar", content))))
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [1, 0, 1]
    del content["1.cls"]
    assert open_images(Data(str(write_tar(tmp_path / "a.tar", content)))).num_classes == 0


def test_long_names(tmp_path, pixels):
    name = "/".join(["a long folder name"] * 12) + "/0"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "a.tar", "w", format=form) as file:
            for kind, content in (("png", encoded(pixels[0])), ("txt", b"far away")):
                path = write_folder(tmp_path / "aside", {kind: content}) / kind
                file.add(path, f"{name}.{kind}")
        images = open_images(Data(str(tmp_path / "a.tar")))
        assert images.captions == ["far away"]
        assert images.name(0).startswith(name)


def test_a_damaged_picture_in_a_tar_is_skipped_with_its_caption(tmp_path):
    content = {}
    for i in range(101):
        content |= {f"{i:03}.png": encoded(np.full((4, 4), i, np.uint8)), f"{i:03}.txt": f"it is {i}".encode()}
    content["050.png"] = content["050.png"][:30]
    images = open_images(Data(str(write_tar(tmp_path / "a.tar", content))))
    assert images.damaged == ["050.png in a.tar"]
    assert images.captions == [f"it is {images.picture(k)[0, 0, 0]}" for k in range(100)]


def test_one_clear_sentence(tmp_path, shards):
    whole = (shards / "shard-000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2 // 512 * 512 - 1300])
    (tmp_path / "text.tar").write_bytes(b"no tar" * 500)
    (tmp_path / "none.tar").write_bytes(b"")
    (tmp_path / "zipped.tar").write_bytes(gzip.compress(whole))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(whole))
    write_tar(tmp_path / "texts.tar", {"a.txt": b"x"})
    for name, sentence in (
        ("cut.tar", "is not an uncompressed tar or is cut short"),
        ("text.tar", "is not an uncompressed tar or is cut short"),
        ("none.tar", "is not an uncompressed tar or is cut short"),
        ("zipped.tar", "is not an uncompressed tar or is cut short"),
        ("a.tar.gz", "is a compressed tar, which cannot be read from the middle"),
        ("texts.tar", "holds no pictures"),
    ):
        with pytest.raises(ValueError, match=sentence):
            open_images(Data(str(tmp_path / name)))


def test_a_command_is_refused_unless_allowed(tmp_path, shards):
    trace = tmp_path / "it ran"
    command = f"pipe:touch '{trace}'; cat '{shards}'/shard-{{000..001}}.tar"
    with pytest.raises(ValueError, match=r"runs a shell command: .*--data\.pipe"):
        open_images(Data(command))
    with pytest.raises(ValueError, match="runs a shell command"):
        check(command)
    assert not trace.exists()
    images = open_images(Data(command, pipe=True, memory=0))
    assert trace.exists()
    assert images.captions == [f"number {i}" for i in range(6)]
    with pytest.raises(ValueError, match=r"the command 'exit 3' of the data failed \(exit code 3\)"):
        open_images(Data("pipe:exit 3", pipe=True))


def test_commands_keep_braces_of_their_own(shards, monkeypatch):
    monkeypatch.setenv("FOLDER", str(shards))
    said = open_images(
        Data("pipe:echo 'a b' | awk '{print $1, $2}' >&2; cat $FOLDER/shard-002.tar", pipe=True)
    ).captions
    assert said == ["number 6", "number 7", "number 8"]


def test_a_digest_of_piped_tars_is_that_of_their_bytes(shards):
    digests = {open_images(Data(f"pipe:cat '{shards}'/shard-000.tar{' ' * k}", pipe=True)).digest() for k in range(3)}
    assert len(digests) == 1
    assert digests != {open_images(Data(f"pipe:cat '{shards}'/shard-001.tar", pipe=True)).digest()}


def test_open_tars_go_to_other_processes(shards):
    images = open_images(Data(str(shards), memory=0))
    twin = pickle.loads(pickle.dumps(images))
    assert twin.captions == images.captions
    assert np.array_equal(twin.picture(7), images.picture(7))
