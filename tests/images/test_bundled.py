"""The bundled digits are the ones of UCI: counts a class, levels, and a nearest-neighbour reading."""

import numpy as np

from fewstep.images.bundled import BUNDLED, digits_path


def digits():
    with np.load(digits_path()) as file:
        return file["images"], file["labels"]


def test_counts_and_levels():
    images, labels = digits()
    assert images.shape == (1797, 8, 8)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(np.unique(images)) == {round(v * 255 / 16) for v in range(17)}


def test_labels_belong_to_images():
    images, labels = digits()
    rows = images.reshape(len(images), -1).astype(float)
    squared = (rows**2).sum(1)
    distances = squared[:, None] + squared[None] - 2 * rows @ rows.T
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() > 0.98


def test_licence_is_beside_each():
    for path in BUNDLED.values():
        assert "CC BY 4.0" in path.with_suffix(".txt").read_text()
