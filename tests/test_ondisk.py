"""Tensors in files: the same values as the peers read, one at a time."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.ondisk import Changed, OnDisk, outline, safetensors

TENSORS = {
    "a": torch.arange(24.0).reshape(2, 3, 4),
    "half": torch.randn(5).half(),
    "brain": torch.randn(2, 2).bfloat16(),
    "whole": torch.tensor([2**40, -1]),
    "true": torch.tensor([True, False]),
    "one": torch.tensor(7.0),
    "none": torch.empty(0, 3),
    "small": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn),
}


def test_safetensors_are_read_as_they_are(tmp_path):
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    ours, theirs = safetensors(tmp_path / "x.safetensors"), load_file(tmp_path / "x.safetensors")
    assert set(ours) == set(theirs)
    for name, w in theirs.items():
        assert ours[name].dtype == w.dtype
        assert ours[name].shape == w.shape
        assert torch.equal(ours[name].float(), w.float())
        assert outline(ours)[name].shape == w.shape
        assert outline(ours)[name].is_meta


def test_another_file_in_its_place_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3)}, path)
    opened = safetensors(path)
    save_file({"a": torch.zeros(3)}, tmp_path / "y.safetensors")
    (tmp_path / "y.safetensors").replace(path)
    assert opened["a"].tolist() == [1, 1, 1]
    assert safetensors(path)["a"].tolist() == [0, 0, 0]


def test_strides_and_a_cut_off_file(tmp_path):
    path = tmp_path / "raw"
    path.write_bytes(torch.arange(6.0).numpy().tobytes())
    outlined = {"t": torch.empty_strided((3, 2), (1, 3), device="meta"), "late": torch.empty(4, device="meta")}
    opened = OnDisk(path, outlined, {"t": 0, "late": 12})
    assert opened["t"].tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="raw is cut off: it ends within late"):
        opened["late"]
    assert opened.renamed({"new": "t"})["new"].tolist() == opened["t"].tolist()


def test_changed_tensors_are_outlined_as_changed():
    changed = Changed({"a": torch.ones(2, 3)}, lambda name, w: w.flatten()[:4].half())
    assert len(changed) == 1
    assert list(changed) == ["a"]
    assert changed["a"].tolist() == [1, 1, 1, 1]
    assert (outline(changed)["a"].shape, outline(changed)["a"].dtype) == ((4,), torch.float16)


def test_kinds_that_are_not_known(tmp_path):
    header = json.dumps({"x": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(ValueError, match="holds tensors of a kind that is not known here: F8_E8M0"):
        safetensors(tmp_path / "x.safetensors")
