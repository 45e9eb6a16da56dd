"""The zips that the figures are taken with."""

import numpy as np
import pytest

from fewstep.images import Data, open_images

data = pytest.importorskip("benchmarks.data", reason="a built package has no benchmarks beside it")


def test_a_data_set_becomes_a_zip_of_class_folders(tmp_path):
    assert data.write(Data("digits"), tmp_path / "digits.zip") == 1797
    written, source = open_images(Data(str(tmp_path / "digits.zip"))), open_images(Data("digits"))
    assert written.class_names == tuple("0123456789")
    order = np.argsort(source.labels, kind="stable")
    assert np.array_equal(written.labels, source.labels[order])
    for i in (0, 700, 1796):
        assert np.array_equal(written.picture(i), source.picture(int(order[i])))
