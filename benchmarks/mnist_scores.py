"""Scores of generated MNIST digits, read by the judge (see judge.py).

    fewstep sample mnist -n 2000 --steps 1 --labels all --out one.npz
    python benchmarks/mnist_scores.py one.npz two.npz --reference mnist-test.zip [--training mnist-train.zip]

Each file holds arr_0, uint8 (n, 28, 28, 1), and arr_1, the labels asked for (n,). A row of the table is

    agreement   % of images that the judge reads as the label asked for
    Fréchet     ‖μ1 − μ2‖² + Tr Σ1 + Tr Σ2 − 2 Tr (√Σ1 Σ2 √Σ1)^½ between the features and all of
                the reference's
    precision   % of samples within a k = 3 nearest-neighbour ball of a real image, and recall the reverse
                (Kynkäänniemi et al. 2019, equation 1), against 2,000 real images, 200 a class
    spread      mean over classes of Tr Σ of the features within a class, over that of the same real images

The first row, `real`, is those 2,000 real images themselves: a part of the reference, and their precision,
recall and spread are 1 by definition. The honest yardstick is the second row, from `--training`: 2,000 images
of the training set, scored as the samples are.
"""

import argparse
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from judge import Reader, load_reader, read_images
from numpy.typing import NDArray
from torch import Tensor

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Read:
    """What the judge saw: features float64 (n, width), what it read (n,) and what was asked (n,)."""

    features: Features
    read: NDArray[np.int64]
    asked: NDArray[np.int64]

    def __getitem__(self, rows: NDArray) -> "Read":
        return Read(self.features[rows], self.read[rows], self.asked[rows])


@dataclass(frozen=True)
class Scores:
    """One row of the table; agreement, precision and recall in [0, 1]."""

    agreement: float
    frechet: float
    precision: float
    recall: float
    spread: float


@torch.inference_mode()
def look(judge: Reader, images: Tensor, labels: Tensor) -> Read:
    """The judge's view of images float32 (n, 1, 28, 28) in [−1, 1]."""
    features = torch.cat([judge.features(batch) for batch in images.split(500)])
    read = judge.head(features).argmax(1)
    return Read(features.double().numpy(), read.numpy(), labels.long().numpy())


def from_uint8(images: NDArray[np.uint8]) -> Tensor:
    """(n, 28, 28, 1) or (n, 1, 28, 28) or (n, 28, 28), 0 to 255 -> float32 (n, 1, 28, 28) in [−1, 1]."""
    if images.dtype != np.uint8 or images.size != len(images) * 784:
        raise ValueError(f"Need uint8 images of 28×28×1, not {images.dtype} {images.shape}.")
    return torch.from_numpy(images.reshape(-1, 1, 28, 28)).float() / 127.5 - 1


def read_samples(path: str | Path) -> tuple[Tensor, Tensor]:
    with np.load(path, allow_pickle=False) as file:
        return from_uint8(file["arr_0"]), torch.from_numpy(file["arr_1"]).long().reshape(-1)


def root(matrix: Features) -> Features:
    """The root of a symmetric positive semi-definite matrix; eigenvalues rounded below 0 are cut off."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet(a: Features, b: Features) -> float:
    """Squared Fréchet distance of the Gaussians fitted to a (n, d) and b (m, d); n, m may be under d."""
    first, second = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    inner = root(first)
    cross = np.linalg.eigvalsh(inner @ second @ inner).clip(min=0)
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.sqrt(cross).sum())


def squared_distances(a: Features, b: Features) -> Features:
    products = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return products.clip(min=0)


def covered(points: Features, manifold: Features, k: int = 3) -> float:
    """The share of points (n, d) inside the k-nearest-neighbour ball of some point of manifold (m, d)."""
    within = squared_distances(manifold, manifold)
    np.fill_diagonal(within, 0)
    radii = np.partition(within, k, axis=1)[:, k]  # the 0th is the point itself
    return float((squared_distances(points, manifold) <= radii[None]).any(1).mean())


def within_class(seen: Read) -> float:
    """Mean over the classes asked for of the trace of the covariance of their features."""
    classes = np.unique(seen.asked)
    return float(np.mean([seen.features[seen.asked == label].var(0, ddof=1).sum() for label in classes]))


def balanced(seen: Read, each: int, seed: int = 0) -> Read:
    """`each` rows of every class, at random (files are sorted by class, and by writer within)."""
    order = np.random.default_rng(seed).permutation(len(seen.asked))
    rows = [order[seen.asked[order] == label][:each] for label in np.unique(seen.asked)]
    return seen[np.concatenate(rows)]


def score(samples: Read, real: Read, reference: Features) -> Scores:
    """Scores of samples: Fréchet against the reference features, the others against the real images."""
    return Scores(
        agreement=float((samples.read == samples.asked).mean()),
        frechet=frechet(samples.features, reference),
        precision=covered(samples.features, real.features),
        recall=covered(real.features, samples.features),
        spread=within_class(samples) / within_class(real),
    )


def scorer(
    judge: str | Path, reference: str | Path, each: int = 200
) -> Callable[[NDArray[np.uint8], NDArray[np.int64]], Scores]:
    """A function (images uint8 (n, 28, 28, 1), labels (n,)) -> Scores, for use from Python."""
    reader = load_reader(judge)
    whole = look(reader, *read_images(reference))
    real = balanced(whole, each)
    return lambda images, labels: score(
        look(reader, from_uint8(images), torch.as_tensor(labels)), real, whole.features
    )


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
    judge_path = Path(__file__).with_name("judge.safetensors")
    parser.add_argument("--judge", default=judge_path, help="selector.safetensors while developing")
    parser.add_argument("--each", type=int, default=200, help="real images a class to compare with")
    options = parser.parse_args()
    judge = load_reader(options.judge)
    whole = look(judge, *read_images(options.reference))
    real = balanced(whole, options.each)
    print(f"{'':40} {'agreement':>9} {'Fréchet':>9} {'precision':>9} {'recall':>9} {'spread':>9}")
    print(row("real", score(real, real, whole.features)))
    if options.training:
        training = balanced(look(judge, *read_images(options.training)), options.each)
        print(row("real, training set", score(training, real, whole.features)))
    for path in options.samples:
        print(row(Path(path).stem, score(look(judge, *read_samples(path)), real, whole.features)), flush=True)


if __name__ == "__main__":
    main()
