"""A score for `fewstep times`: the Fréchet distance to the MNIST test set, in the features of the selector.

    REFERENCE=mnist-test.zip PYTHONPATH=benchmarks fewstep times runs/mnist-cd --score selector:score

The selector chooses among models and times; published scores are read with the judge (see judge.py).
"""

import os
from functools import cache
from pathlib import Path

import torch
from judge import load_reader, read_images
from mnist_scores import look
from torch import Tensor

from fewstep.evaluation.gaussians import frechet
from fewstep.images import to_uint8


@cache
def selector():
    """The selector, and the Gaussian of its features of the test set."""
    reader = load_reader(Path(__file__).with_name("selector.safetensors"))
    return reader, look(reader, *read_images(os.environ["REFERENCE"])).part("gaussian")


def score(x: Tensor, labels: Tensor) -> float:
    """The distance of pictures x (n, 1, 28, 28) in [-1, 1], as they would be written."""
    reader, reference = selector()
    written = torch.from_numpy(to_uint8(x)).float().permute(0, 3, 1, 2) / 127.5 - 1
    return frechet(look(reader, written, labels).part("gaussian"), reference)
