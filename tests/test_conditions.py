import numpy as np
import pytest
import torch

from fewstep.conditions import Labels, Nothing


def test_labels_are_drawn_per_image_from_the_seed():
    condition = Labels(10)
    drawn = condition.ask(None, 3, range(2000))
    assert torch.equal(condition.ask(None, 3, range(700, 710)), drawn[700:710])
    assert not torch.equal(condition.ask(None, 4, range(2000)), drawn)
    counts = torch.bincount(drawn, minlength=10)
    assert len(counts) == 10
    assert ((counts - 200).abs() < 70).all()  # 5 standard deviations of a fair draw


@pytest.mark.parametrize(
    "asked", [7, [7, 7, 7], torch.tensor([7, 7, 7], dtype=torch.uint8), np.int64(7), np.full(3, 7)]
)
def test_what_can_be_asked(asked):
    labels = Labels(10).ask(asked, 0, range(3))
    assert labels.dtype == torch.int64
    assert labels.tolist() == [7, 7, 7]
    assert Labels(10)(labels)["labels"] is labels


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (10, "Labels of this model are 0 to 9 .*, not 10"),
        ([0, -2, 1], "not -2"),
        ([1, 2], r"3 images need one label or 3, not \(2,\)"),
        (torch.tensor([[1, 2, 3]]), "3 images need"),
        (torch.tensor([1.0, 2.0, 3.0]), "whole numbers"),
        (np.array(["a", "b", "c"]), "whole numbers"),
        (True, "whole numbers"),
    ],
)
def test_what_cannot_be_asked(asked, words):
    with pytest.raises(ValueError, match=words):
        Labels(10).ask(asked, 0, range(3))


def test_minus_one_asks_for_nothing():
    assert Labels(3).ask(-1, 0, range(2)).tolist() == [-1, -1]
    assert Labels(10).nothing({"labels": torch.tensor([0, 2])})["labels"].tolist() == [-1, -1]


def test_an_unconditional_model_takes_no_labels():
    assert Nothing()(Nothing().ask(None, 0, range(2))) == {}
    with pytest.raises(ValueError, match="unconditional"):
        Nothing().ask(3, 0, range(2))
