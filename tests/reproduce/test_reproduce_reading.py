"""The judge's reader: learned once, kept, and able to read what it has not seen."""

import numpy as np
import pytest
import torch

from fewstep.reproduce import reading
from fewstep.reproduce.reading import HELD_OUT, own_reader, reads
from fewstep.reproduce.setting import Setting


def test_it_reads_the_digits_it_has_not_seen_and_learns_once(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "STEPS", 60)
    pictures = Setting().opened(tmp_path)
    reader = own_reader(pictures, tmp_path)
    unseen = np.arange(0, len(pictures.images), HELD_OUT)
    seen = reader(torch.from_numpy(pictures.some(unseen.tolist())))
    assert seen.features.shape == (len(unseen), 64)
    assert seen.logits is not None
    right = (seen.logits.argmax(1).numpy() == pictures.images.labels[unseen]).mean()
    assert right > 0.85
    assert reads(reader, pictures) == pytest.approx(100 * right)
    monkeypatch.setattr(reading, "learn", lambda *_: pytest.fail("learned again"))
    torch.manual_seed(5)  # other randomness around it changes nothing
    assert own_reader(pictures, tmp_path).digest == reader.digest


def test_pictures_without_labels_are_refused(tmp_path, monkeypatch):
    pictures = Setting().opened(tmp_path)
    monkeypatch.setattr(pictures.images, "labels", np.full(len(pictures.images), -1))
    with pytest.raises(ValueError, match="without labels.*--features simple"):
        own_reader(pictures, tmp_path)
