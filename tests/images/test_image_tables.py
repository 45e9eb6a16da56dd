import sys

import numpy as np
import pytest
from images_helpers import encoded

from fewstep.images import Data, check, open_images


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    for path in (str(tmp_path / "a.parquet"), "someone/something"):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'fewstep\[data\]'"):
            open_images(Data(path))


@pytest.fixture
def library(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


@pytest.mark.parametrize("column", ["image", "img"])
@pytest.mark.parametrize("memory", [512, 0])
def test_parquet_as_the_hub_stores_it(tmp_path, library, pixels, column, memory):
    features = library.Features({column: library.Image(), "label": library.ClassLabel(names=["x", "y"])})
    rows = {column: [{"bytes": encoded(p), "path": None} for p in pixels], "label": [0, 1] * 6}
    path = tmp_path / "a.parquet"
    library.Dataset.from_dict(rows, features=features).to_parquet(str(path))
    images = open_images(Data(str(path), memory=memory))
    assert images.class_names == ("x", "y")
    assert images.labels.tolist() == [0, 1] * 6
    assert all(np.array_equal(images.picture(i), p) for i, p in enumerate(pixels))


def test_parquet_of_plain_bytes_and_words(tmp_path, library, pixels):
    rows = {"image": [*map(encoded, pixels[:3]), b"no picture"], "label": ["dog", "cat", "dog", "cat"]}
    path = tmp_path / "a.parquet"
    library.Dataset.from_dict(rows).to_parquet(str(path))
    report = check(str(path))
    assert report.classes == {"cat": 2, "dog": 2}
    assert list(report.damaged) == ["row 3"]


def test_refusals(tmp_path, library):
    path = tmp_path / "a.parquet"
    library.Dataset.from_dict({"text": ["a"]}).to_parquet(str(path))
    with pytest.raises(ValueError, match="has the columns text, none called image or img"):
        open_images(Data(str(path)))
    library.Dataset.from_dict({"image": [b"x"], "label": [0.5]}).to_parquet(str(path))
    with pytest.raises(ValueError, match="labels are whole numbers or names"):
        open_images(Data(str(path)))
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as parquet"):
        open_images(Data(str(path)))


def test_the_hub_out_of_reach(library):
    with pytest.raises(ConnectionError, match="is no path here, and the Hub cannot be reached") as raised:
        open_images(Data("someone/something-that-is-not-cached"))
    assert "\n" not in str(raised.value)
