"""Checkpoints are whole or not there, whatever goes wrong; what is damaged is named."""

import errno
import os
import resource
import shutil
import warnings

import pytest
import torch
from training_helpers import assert_same, ended, small, start, state, train, weights

from fewstep.training import checkpoint
from fewstep.training.checkpoint import checkpoints, clean, load, save
from fewstep.training.fit import fit

TENSORS = {"student/a": torch.arange(6.0).reshape(2, 3), "optimizer/0/step": torch.tensor(3.0)}


def write(folder, step, keep=2, tensors=TENSORS):
    return save(folder, step, tensors, {"updates": step}, {"format": "x"}, keep)


def steps(folder):
    return [c.step for c in checkpoints(folder)]


def test_round_trip(tmp_path):
    write(tmp_path, 5)
    tensors, about = load(checkpoints(tmp_path)[-1])
    assert_same(tensors, TENSORS)
    assert about == {"step": 5, "updates": 5}
    folder = tmp_path / "checkpoints" / "step-00000005"
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "state.json", "state.safetensors"]


def test_old_ones_are_thinned_as_asked(tmp_path):
    for step in range(1, 6):
        write(tmp_path, step, keep=3)
    assert steps(tmp_path) == [3, 4, 5]
    write(tmp_path, 6, keep=1)
    assert steps(tmp_path) == [6]


def test_ten_digits_sort_after_eight(tmp_path):
    for step in (99_999_999, 100_000_000, 5):
        write(tmp_path, step, keep=9)
    assert steps(tmp_path) == [5, 99_999_999, 100_000_000]


def test_leftovers_are_no_checkpoints_and_are_removed(tmp_path):
    write(tmp_path, 1)
    (tmp_path / "checkpoints" / ".partial-abc").mkdir()
    (tmp_path / "checkpoints" / ".partial-abc" / "state.safetensors").write_bytes(b"half")
    os.replace(tmp_path / "checkpoints" / "step-00000001", tmp_path / "checkpoints" / ".replaced-step-00000001")
    assert steps(tmp_path) == []
    clean(tmp_path)
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]


def test_damage_is_named(tmp_path):
    path = write(tmp_path, 7)
    whole = (path / "state.safetensors").read_bytes()
    (path / "state.safetensors").write_bytes(whole[:-4])
    with pytest.raises(
        ValueError, match=r"step-00000007/state\.safetensors is damaged .*: remove .*step-00000007 to go on"
    ):
        load(checkpoints(tmp_path)[-1])
    (path / "state.safetensors").write_bytes(whole)
    (path / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"step-00000007/state\.json is damaged"):
        load(checkpoints(tmp_path)[-1])


@pytest.mark.parametrize("failing", ["save_file", "write_json", "whole_folder"])
def test_a_write_that_fails_says_so_and_leaves_the_others(tmp_path, monkeypatch, failing):
    write(tmp_path, 1, keep=1)

    def fail(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoint, failing, fail)
    with pytest.raises(
        OSError, match=r"The checkpoint of step 2 could not be written .*Permission denied.*step 1 is untouch"
    ):
        write(tmp_path, 2, keep=1)
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]
    assert_same(load(checkpoints(tmp_path)[-1])[0], TENSORS)


def test_a_disk_that_is_too_full_is_noticed_before_writing(tmp_path, monkeypatch):
    write(tmp_path, 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage._replace(free=3 << 20))
    with pytest.raises(OSError, match=r"needs 4 MiB, and 3 MiB are free.*the one of step 1 is untouched"):
        write(tmp_path, 2, tensors={"a": torch.zeros(1 << 20)})
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000001"]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(OSError, match=r"The checkpoint of step 1 could not be written .*there is no earlier one"):
        write(tmp_path, 1)
    run = fit(small(), tmp_path)
    with pytest.raises(OSError, match="The checkpoint of step 4 could not be written"):
        list(run)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/run cannot be written to .*choose another folder with --out"):
        fit(small(), tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path):
    train(small(steps=2), tmp_path / "run")
    (tmp_path / "run").chmod(0o555)
    with pytest.raises(OSError, match="cannot be written to"):
        fit(small(steps=2), tmp_path / "run")


def fill_the_disk(folder, limit):
    """Trains; after step 5 no file may grow beyond `limit` bytes."""
    for step in fit(small(checkpoint_every=2), folder):
        if step.k == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize("limit", [0, 200, 30_000])  # nothing, half of the JSON, half of the tensors
def test_a_full_disk_loses_no_checkpoint_and_the_run_goes_on(tmp_path, limit):
    recipe, folder = small(checkpoint_every=2), tmp_path / "full"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ended(start(failing_with_a_sentence, folder, limit)) == 0
    assert steps(folder) == [2, 4]
    assert load(checkpoints(folder)[-1])[1]["step"] == 4
    train(recipe, folder)
    train(recipe, tmp_path / "whole")
    assert_same(state(folder), state(tmp_path / "whole"))
    assert_same(weights(folder), weights(tmp_path / "whole"))
    assert [p.name for p in folder.rglob(".partial-*")] == []


def failing_with_a_sentence(folder, limit):
    with pytest.raises(
        OSError, match=r"The checkpoint of step 6 could not be written to .*; the one of step 4 is untouched"
    ):
        fill_the_disk(folder, limit)
