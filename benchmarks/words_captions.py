"""MNIST with words: what is true and measurable of each picture, said in a sentence.

    python benchmarks/words_captions.py mnist-train.zip --out words-train.zip
    python benchmarks/words_captions.py mnist-train.zip --out words-train-both.zip --paper both     for the autoencoder
    python benchmarks/words_captions.py mnist-train.zip --out words-train-white.zip --paper white   the changed set

A zip of 32×32 grey PNG with a metadata.jsonl ({"file_name": …, "text": "a thick slanted three"}), the same for the
same seed. MNIST's digits are all 20 pixels high, so each is drawn at a scale of its own, 0.65 to 1.2. With a(i, j) in
[0, 1] the ink of row i and column j, three measures:

    large | small        h, rows from the first to the last with a pixel of more than half ink
    thick | thin         (2 Σ a / Σ |∇a|) / h: a stroke of width b and length l has ink b l and edges 2 l
    slanted | upright    |Σ a (i − ī)(j − j̄) / Σ a (i − ī)²|: the tangent of the angle by which it leans, either way

A measure among the training set's lowest third or highest third earns its word, the middle third says nothing, so a
word is true by a margin; THRESHOLDS has the thirds. Of the words earned each is said four times of five.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from judge import read_images
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from fewstep.files import whole_file

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = {"size": ("small", "large"), "weight": ("thin", "thick"), "slant": ("upright", "slanted")}
"""The word for a low measure and for a high one; in a sentence they come in this order."""
THRESHOLDS = {"size": (16.0, 20.0), "weight": (0.113, 0.137), "slant": (0.122, 0.282)}
"""The lowest third ends at the first, the highest begins at the second (training set, seed 0: `--thresholds`)."""
SCALES = (0.65, 1.2)
SAID = 0.8
PAPERS = ("black", "white", "both")


def drawn(digits: Tensor, seed: int) -> Tensor:
    """Ink float32 (n, 32, 32) in [0, 1] of MNIST's pictures (n, 1, 28, 28) in [−1, 1], each at a scale of its own."""
    generator = torch.Generator().manual_seed(seed)
    scale = SCALES[0] + (SCALES[1] - SCALES[0]) * torch.rand(len(digits), generator=generator)
    affine = torch.zeros(len(digits), 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = 32 / 28 / scale
    grid = F.affine_grid(affine, [len(digits), 1, 32, 32], align_corners=False)
    return (F.grid_sample(digits + 1, grid, mode="bicubic", align_corners=False) / 2).clamp(0, 1)[:, 0]


def measures(ink: Tensor) -> dict[str, Tensor]:
    """Size, weight and slant, each float64 (n,), of ink (n, 32, 32) in [0, 1]; nan where a picture is empty."""
    ink = ink.double()
    rows = (ink > 0.5).any(2).int()
    height = 32.0 - rows.argmax(1) - rows.flip(1).argmax(1)
    height = torch.where(rows.any(1), height, torch.nan)
    padded = F.pad(ink, (0, 1, 0, 1))
    down, right = padded[:, 1:, :-1] - ink, padded[:, :-1, 1:] - ink
    total = ink.sum((1, 2))
    width = 2 * total / (down**2 + right**2).sqrt().sum((1, 2))
    at = torch.arange(32.0, dtype=ink.dtype)
    i = at - (ink.sum(2) @ at / total)[:, None]
    j = at - (ink.sum(1) @ at / total)[:, None]
    slant = torch.einsum("nij,ni,nj->n", ink, i, j) / (ink.sum(2) * i**2).sum(1)
    return {"size": height, "weight": width / height, "slant": slant.abs()}


def thirds(measured: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Where the lowest third ends and the highest begins, to three digits."""
    quantiles = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    return {
        name: tuple(float(f"{q:.3g}") for q in values.double().quantile(quantiles)) for name, values in measured.items()
    }


def earned(measured: dict[str, Tensor]) -> dict[str, NDArray[np.int64]]:
    """For each attribute (n,): 0 its first word, 1 its second, −1 neither."""
    sides = {}
    for name, values in measured.items():
        low, high = THRESHOLDS[name]
        sides[name] = torch.where(values <= low, 0, torch.where(values >= high, 1, -1)).numpy()
    return sides


def sentence(digit: int, words: Sequence[str], behind: bool) -> str:
    """ "a large thick three"; with the words behind, "a three, large and thick"; without words "the digit three"."""
    name = DIGITS[digit]
    if not words:
        return f"the digit {name}" if behind else article(name)
    if not behind:
        return article(" ".join([*words, name]))
    *first, last = words
    return f"{article(name)}, {', '.join(first)}{' and ' if first else ''}{last}"


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def captions(digits: NDArray[np.int64], ink: Tensor, seed: int) -> list[str]:
    """One true sentence a picture."""
    sides = earned(measures(ink))
    chance = np.random.default_rng(seed).random((len(digits), len(WORDS) + 1))
    spoken = [
        [WORDS[name][sides[name][k]] for name, u in zip(WORDS, row, strict=False) if sides[name][k] >= 0 and u < SAID]
        for k, row in enumerate(chance)
    ]
    return [sentence(int(digits[k]), words, chance[k, -1] < 0.5) for k, words in enumerate(spoken)]


def on_paper(ink: NDArray[np.uint8], paper: str, seed: int) -> NDArray[np.uint8]:
    """White ink on black paper, black ink on white paper, or half of each."""
    white = np.random.default_rng(seed + 1).random(len(ink)) < {"black": 0.0, "white": 1.0, "both": 0.5}[paper]
    return np.where(white[:, None, None], 255 - ink, ink)


def write(path: Path, pictures: NDArray[np.uint8], texts: Sequence[str]) -> None:
    """The zip, with the same bytes for the same content."""
    names = [f"{k:05d}.png" for k in range(len(texts))]
    lines = [json.dumps({"file_name": name, "text": text}) for name, text in zip(names, texts, strict=True)]
    with whole_file(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        for name, picture in zip(names, pictures, strict=True):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "png")
            archive.writestr(zipfile.ZipInfo(name), content.getvalue())
        archive.writestr(zipfile.ZipInfo("metadata.jsonl"), "\n".join(lines) + "\n")


def words_of(path: str | Path, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The ink uint8 (n, 32, 32) that the script writes from a zip of MNIST's pictures, and the digits (n,)."""
    images, digits = read_images(path)
    return (255 * drawn(images, seed)).round().byte().numpy(), digits.numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("digits", help="zip of MNIST's pictures in class folders")
    parser.add_argument("--out", type=Path, help="the .zip to write")
    parser.add_argument("--paper", choices=PAPERS, default="black", help="black: white ink on it, as MNIST has it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--thresholds", action="store_true", help="print the thirds of these pictures, write nothing")
    options = parser.parse_args()
    ink, digits = words_of(options.digits, options.seed)
    if options.thresholds:
        return print(thirds(measures(torch.from_numpy(ink) / 255)))
    if options.out is None:
        parser.error("say where to write: --out words.zip")
    texts = captions(digits, torch.from_numpy(ink) / 255, options.seed)
    write(options.out, on_paper(ink, options.paper, options.seed), texts)
    print(f"{options.out}: {len(texts):,} pictures, {len(set(texts))} captions, such as {texts[0]!r}")


if __name__ == "__main__":
    main()
