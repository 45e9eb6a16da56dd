"""Files of torch.save: what torch reads, read one tensor at a time; nothing that a file brings along is run."""

import io
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from openai_helpers import assert_same

from fewstep.formats.torch_files import open_tensors
from fewstep.ondisk import OnDisk, outline

STATE = OrderedDict(
    a=torch.randn(4, 3),
    turned=torch.randn(5, 6).t(),
    part=torch.arange(10.0)[3:7],
    half=torch.randn(7).half(),
    count=torch.tensor(3),
    empty=torch.empty(0),
)


def saved(path: Path, found: object, **options: object) -> Path:
    torch.save(found, path, **options)  # type: ignore[arg-type]
    return path


def test_the_tensors_that_torch_reads(tmp_path):
    opened = open_tensors(saved(tmp_path / "x.pt", STATE))
    assert isinstance(opened, OnDisk)  # no tensor is read before it is asked for
    assert all(w.is_meta for w in outline(opened).values())
    assert_same(opened, STATE)


def test_files_of_all_ages_and_kinds(tmp_path):
    assert_same(open_tensors(saved(tmp_path / "old.pt", STATE, _use_new_zipfile_serialization=False)), STATE)
    plain = saved(tmp_path / "plain.pt", STATE)
    with zipfile.ZipFile(plain) as theirs, zipfile.ZipFile(tmp_path / "squeezed.pt", "w", zipfile.ZIP_DEFLATED) as ours:
        for record in theirs.infolist():
            ours.writestr(record.filename, theirs.read(record))
    assert_same(open_tensors(tmp_path / "squeezed.pt"), STATE)


def test_harmless_wrappings(tmp_path):
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": torch.nn.Parameter(w, False) for name, w in STATE.items()}}
    assert_same(open_tensors(saved(tmp_path / "x.pt", wrapped)), STATE)


def test_a_version_of_torch_that_tells_no_offsets(tmp_path, monkeypatch):
    from fewstep.formats import torch_files

    monkeypatch.setattr(torch_files, "_offset", lambda w: None)
    assert_same(open_tensors(saved(tmp_path / "x.pt", STATE)), STATE)


class Writes:
    """Unpickled by an ordinary reader, it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return eval, (f"open({str(self.path)!r}, 'w').write('gotcha')",)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_code_in_a_file_is_not_run(tmp_path, new):
    trap = tmp_path / "written"
    path = saved(tmp_path / "evil.pt", {"a": torch.ones(2), "b": Writes(trap)}, _use_new_zipfile_serialization=new)
    with pytest.raises(ValueError, match=r"evil\.pt holds more than tensors, the Python object .*eval: it is refused"):
        open_tensors(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()  # so the file was dangerous


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_is_not_run(tmp_path):
    trap, path = tmp_path / "written", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Writes(trap)))
    with pytest.raises(ValueError, match=r"evil\.pt"):
        open_tensors(path)
    assert not trap.exists()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_cut_off_anywhere(tmp_path, new):
    whole = saved(tmp_path / "whole.pt", STATE, _use_new_zipfile_serialization=new).read_bytes()
    for length in range(0, len(whole) - 1, 97):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        with pytest.raises(
            ValueError, match=r"cut\.pt is no checkpoint of tensors, or it is cut off" if new else r"cut\.pt"
        ):
            dict(open_tensors(tmp_path / "cut.pt"))


def test_other_files(tmp_path):
    for content in (b"", b"<!doctype html><html></html>", b"\x89PNG\r\n\x1a\n" + bytes(200), bytes(5000)):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.pt is no checkpoint of tensors, or it is cut off"):
            open_tensors(tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(ValueError, match=r"photos\.pt is no checkpoint of tensors"):
        open_tensors(tmp_path / "photos.pt")


def test_checkpoints_without_a_network(tmp_path):
    optimizer = torch.optim.RAdam([torch.nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match="holds no network's weights: its entries are state, param_groups"):
        open_tensors(saved(tmp_path / "opt000100.pt", optimizer.state_dict()))
    with pytest.raises(ValueError, match="holds no network's weights"):
        open_tensors(saved(tmp_path / "none.pt", {}))
    with pytest.raises(ValueError, match="holds no state dict, but a list"):
        open_tensors(saved(tmp_path / "list.pt", [torch.ones(2)]))
    with pytest.raises(ValueError, match="holds no state dict, but a Tensor"):
        open_tensors(saved(tmp_path / "one.pt", torch.ones(2)))
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3).to_sparse()}, buffer)
    (tmp_path / "sparse.pt").write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"sparse\.pt"):
        open_tensors(tmp_path / "sparse.pt")


MEASURE = """
import sys
from pathlib import Path
import fewstep
def peak():
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) * 1024
fewstep.load(sys.argv[1], device="cpu")  # what is loaded and allocated once
before = peak()
model = fewstep.load(sys.argv[2], device="cpu")
print((peak() - before) / Path(sys.argv[2]).stat().st_size, "torch._dynamo" in sys.modules)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's count of memory")
def test_no_second_copy_in_memory(tmp_path):
    from dataclasses import replace

    from unet_helpers import IMAGENET, design_of

    from fewstep.formats.openai import write

    wide = replace(IMAGENET, model_channels=256, num_head_channels=64)
    for name, shape in (("small", IMAGENET), ("large", wide)):
        with torch.device("meta"):
            weights = shape.build().state_dict()
        write(tmp_path / f"{name}.pt", design_of(shape), {key: torch.zeros(w.shape) for key, w in weights.items()})
    assert (tmp_path / "large.pt").stat().st_size > 50e6
    files = [str(tmp_path / name) for name in ("small.pt", "large.pt")]
    said = subprocess.run([sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True)
    share, compiler = said.stdout.split()
    assert 0.7 < float(share) < 1.3
    assert compiler == "False"  # which takes seconds to import, and is needed for nothing here
