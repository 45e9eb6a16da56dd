"""Files and folders are whole or not there, also after a failure at any moment."""

import os
import stat

import pytest
from training_helpers import ended, start

from fewstep import files
from fewstep.files import ASIDE, OLD, hold, read_json, remove_leftovers, whole_file, whole_folder, write_json


def test_a_file_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as aside:
        aside.write_text("one")
    with pytest.raises(ZeroDivisionError), whole_file(path) as aside:  # noqa: PT012
        aside.write_text("two")
        1 / 0  # noqa: B018
    assert path.read_text() == "one"
    assert os.listdir(path.parent) == ["a.txt"]


def test_files_and_folders_have_the_usual_permissions(tmp_path):
    with whole_folder(tmp_path / "folder") as aside:
        write_json(aside / "a.json", {})
    usual = tmp_path / "usual"
    usual.mkdir()
    (usual / "file").touch()
    mode = lambda path: stat.S_IMODE(path.stat().st_mode)  # noqa: E731
    assert mode(tmp_path / "folder") == mode(usual)
    assert mode(tmp_path / "folder" / "a.json") == mode(usual / "file")


def write_folder(path, text):
    with whole_folder(path) as aside:
        (aside / "a.txt").write_text(text)


def test_a_folder_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "folder"
    write_folder(path, "one")
    with pytest.raises(ZeroDivisionError), whole_folder(path) as aside:  # noqa: PT012
        (aside / "a.txt").write_text("two")
        1 / 0  # noqa: B018
    assert (path / "a.txt").read_text() == "one"
    write_folder(path, "three")
    assert (path / "a.txt").read_text() == "three"
    assert os.listdir(tmp_path) == ["folder"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch, failing):
    path, calls, healthy = tmp_path / "folder", [], os.replace
    write_folder(path, "one")

    def replace(*arguments):
        calls.append(arguments)
        if len(calls) == failing:
            raise OSError("no")
        healthy(*arguments)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(OSError, match="no"):
        write_folder(path, "two")
    assert (path / "a.txt").read_text() == "one"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_that_was_on_its_way_out_is_put_back(tmp_path):
    write_folder(tmp_path / f"{OLD}gone", "precious")
    write_folder(tmp_path / f"{OLD}there", "old")
    write_folder(tmp_path / "there", "new")
    (tmp_path / f"{ASIDE}abc").mkdir()
    (tmp_path / f"{ASIDE}def.json").touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["gone", "there"]
    assert (tmp_path / "gone" / "a.txt").read_text() == "precious"
    assert (tmp_path / "there" / "a.txt").read_text() == "new"
    write_folder(tmp_path / f"{OLD}gone", "half")
    write_folder(tmp_path / "gone", "next")  # writing the same folder again settles it too
    assert sorted(os.listdir(tmp_path)) == ["gone", "there"]
    assert (tmp_path / "gone" / "a.txt").read_text() == "next"


def test_damaged_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"a\.json is damaged: it is not JSON"):
        read_json(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        read_json(path)


def refuse(folder):
    try:
        hold(folder)
    except RuntimeError as error:
        raise SystemExit(7 if "Another process is at work" in str(error) else 1) from None


def test_a_folder_is_held_by_one_process(tmp_path):
    pytest.importorskip("fcntl")
    hold(tmp_path)
    hold(tmp_path)  # the same process may, again
    assert ended(start(refuse, tmp_path)) == 7
    (tmp_path / "other").mkdir()
    assert ended(start(refuse, tmp_path / "other")) == 0
    hold(tmp_path / "other")  # its process has ended


def test_a_link_to_a_folder_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for k in (1, 2):
        with whole_folder(tmp_path / "link") as aside:
            (aside / "a").write_text(str(k))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "a").read_text() == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    (tmp_path / "file").symlink_to(tmp_path / "disk" / "a")
    with whole_file(tmp_path / "file") as aside:
        aside.write_text("3")
    assert (tmp_path / "disk" / "a").read_text() == "3"
