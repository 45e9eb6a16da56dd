"""Scores of generated MNIST digits, read by the judge (see judge.py).

    fewstep sample mnist -n 2000 --steps 1 --labels all --out one.npz
    python benchmarks/mnist_scores.py one.npz two.npz --reference mnist-test.zip [--training mnist-train.zip]

Each file holds arr_0, uint8 (n, 28, 28, 1), and arr_1, the labels asked for (n,). A row of the table is

    agreement   % of images that the judge reads as the label asked for
    Fréchet     the Fréchet distance between the features and those of all the reference
    precision   % of samples within a k = 3 nearest-neighbour ball of a real image, and recall the reverse, against
                2,000 real images, 200 a class
    spread      mean over classes of Tr Σ of the features within a class, over that of the same real images

They are the scores of `fewstep.evaluation`. The first row, `real`, is those 2,000 real images themselves: a part of the
reference, and their precision,
recall and spread are 1 by definition. The honest yardstick is the second row, from `--training`: 2,000 images
of the training set, scored as the samples are.
"""

import argparse
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from judge import JUDGE, Reader, load_reader, read_images
from numpy.typing import NDArray
from torch import Tensor

from fewstep.evaluation import SCORES
from fewstep.evaluation.gaussians import Gaussian
from fewstep.evaluation.types import Set


@dataclass(frozen=True)
class Scores:
    """One row of the table; agreement, precision and recall in [0, 1]."""

    agreement: float
    frechet: float
    precision: float
    recall: float
    spread: float


@torch.inference_mode()
def look(judge: Reader, images: Tensor, labels: Tensor) -> Set:
    """The judge's view of images float32 (n, 1, 28, 28) in [−1, 1]."""
    features = torch.cat([judge.features(batch) for batch in images.split(500)])
    logits = judge.head(features)
    return a_set(features.numpy(), logits.numpy(), labels.long().numpy())


def a_set(features: NDArray, logits: NDArray, labels: NDArray) -> Set:
    fitted = Gaussian.of(features)
    return Set("images", len(features), features=features, gaussian=fitted, logits=logits, labels=labels)


def from_uint8(images: NDArray[np.uint8]) -> Tensor:
    """(n, 28, 28, 1) or (n, 1, 28, 28) or (n, 28, 28), 0 to 255 -> float32 (n, 1, 28, 28) in [−1, 1]."""
    if images.dtype != np.uint8 or images.size != len(images) * 784:
        raise ValueError(f"Need uint8 images of 28×28×1, not {images.dtype} {images.shape}.")
    return torch.from_numpy(images.reshape(-1, 1, 28, 28)).float() / 127.5 - 1


def read_samples(path: str | Path) -> tuple[Tensor, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return from_uint8(file["arr_0"]), torch.from_numpy(file["arr_1"]).long().reshape(-1)


def balanced(seen: Set, each: int, seed: int = 0) -> Set:
    """`each` rows of every class, at random (files are sorted by class, and by writer within)."""
    labels = seen.part("labels")
    order = np.random.default_rng(seed).permutation(len(labels))
    rows = np.concatenate([order[labels[order] == label][:each] for label in np.unique(labels)])
    part = a_set(seen.part("features")[rows], seen.part("logits")[rows], labels[rows])
    return replace(part, name=seen.name)


def score(samples: Set, real: Set, whole: Set) -> Scores:
    """Scores of samples: Fréchet against the whole reference, the others against the balanced part of it."""

    def of(name: str, reference: Set) -> float:
        return SCORES[name].compute(samples, reference, 0).value

    return Scores(
        agreement=of("agreement", real) / 100,
        frechet=of("fd", whole),
        precision=of("precision", real),
        recall=of("recall", real),
        spread=of("spread", real),
    )


def scorer(
    judge: str | Path, reference: str | Path, each: int = 200
) -> Callable[[NDArray[np.uint8], NDArray[np.int64]], Scores]:
    """A function (images uint8 (n, 28, 28, 1), labels (n,)) -> Scores, for use from Python."""
    reader = load_reader(judge)
    whole = look(reader, *read_images(reference))
    real = balanced(whole, each)
    return lambda images, labels: score(look(reader, from_uint8(images), torch.as_tensor(labels)), real, whole)


def row(name: str, scores: Scores) -> str:
    agreement, distance, precision, recall, spread = astuple(scores)
    cells = f"{100 * agreement:9.2f} {distance:9.3f} {100 * precision:9.1f} {100 * recall:9.1f} {spread:9.3f}"
    return f"{name[:40]:40} {cells}"


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("samples", nargs="*", help="sample .npz files (arr_0, arr_1)")
    parser.add_argument("--reference", required=True, help="zip of real images, usually the test set")
    parser.add_argument("--training", help="zip of training images, for a row of them as a yardstick")
    parser.add_argument("--judge", default=JUDGE, help="selector.safetensors while developing")
    parser.add_argument("--each", type=int, default=200, help="real images a class to compare with")
    options = parser.parse_args()
    judge = load_reader(options.judge)
    whole = look(judge, *read_images(options.reference))
    real = balanced(whole, options.each)
    print(f"{'':40} {'agreement':>9} {'Fréchet':>9} {'precision':>9} {'recall':>9} {'spread':>9}")
    print(row("real", score(real, real, whole)))
    if options.training:
        training = balanced(look(judge, *read_images(options.training)), options.each)
        print(row("real, training set", score(training, real, whole)))
    for path in options.samples:
        print(row(Path(path).stem, score(look(judge, *read_samples(path)), real, whole)), flush=True)


if __name__ == "__main__":
    main()
