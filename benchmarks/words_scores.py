"""How often pictures show what their prompts ask for, read by words_judge.py, and how far they are from real ones.

    digit                   % of pictures in which the network reads the digit asked for
    size, weight, slant     % of those with such a word in the prompt whose measure is on that word's side of the middle
                            between the two thresholds: every real picture is, half of what ignores the word is
    white                   % on white paper
    Fréchet                 between Gaussians fitted to the network's features of these pictures and of all the
                            reference's, as they are; `ink` the same between their ink: a negative costs nothing there

    python benchmarks/words_scores.py --reference mnist-test.zip [--training mnist-train.zip]

prints the yardsticks: 2,000 real pictures, 200 a digit, of the test set and of the training set.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import torch
from judge import Reader, load_reader
from numpy.typing import NDArray
from torch import Tensor
from words_captions import DIGITS, WORDS, captions, words_of
from words_judge import JUDGE, Seen, see

from fewstep.evaluation.gaussians import Gaussian, frechet


@dataclass(frozen=True)
class Scores:
    """A row of the table; shares in [0, 1], nan where no prompt asks."""

    digit: float
    size: float
    weight: float
    slant: float
    white: float
    frechet: float
    ink: float


@dataclass(frozen=True)
class Reference:
    """Real pictures that samples are held against, with what is said of each."""

    pictures: Tensor
    """(n, 1, 32, 32) in [−1, 1]."""
    texts: tuple[str, ...]
    """Their captions: prompts that ask for what the set has, as often as it has it."""
    digits: NDArray[np.int64]
    """(n,)."""

    def balanced(self, n: int, seed: int = 0) -> "Reference":
        """n pictures, the same number of every digit."""
        order = np.random.default_rng(seed).permutation(len(self.digits))
        rows = np.stack([order[self.digits[order] == digit][: n // 10] for digit in range(10)], 1).reshape(-1)
        return Reference(self.pictures[rows], tuple(self.texts[k] for k in rows), self.digits[rows])

    def negative(self) -> "Reference":
        """The same on the other paper."""
        return Reference(-self.pictures, self.texts, self.digits)


def reference(path: str | Path, seed: int = 0) -> Reference:
    """What words_captions.py makes of a zip of MNIST's pictures, on black paper."""
    ink, digits = words_of(path, seed)
    light = torch.from_numpy(ink)[:, None].float() / 255
    return Reference(2 * light - 1, tuple(captions(digits, light[:, 0], seed)), digits)


def asked(prompts: Sequence[str]) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """The digit that each prompt names (−1: none), and for each attribute which of its two words (−1: neither)."""
    spoken = [set(re.findall(r"\w+", prompt.lower())) for prompt in prompts]

    def place(words: Sequence[str]) -> NDArray[np.int64]:
        return np.array([next((k for k, word in enumerate(words) if word in said), -1) for said in spoken], np.int64)

    return place(DIGITS), {name: place(pair) for name, pair in WORDS.items()}


def agreement(seen: Seen, prompts: Sequence[str]) -> dict[str, float]:
    """The share read as asked, of the digit and of each attribute, among the prompts that ask; nan where none does."""
    digits, sides = asked(prompts)
    pairs = {"digit": (seen.digits, digits)} | {name: (seen.high[name], side) for name, side in sides.items()}
    return {name: share(read[wanted >= 0] == wanted[wanted >= 0]) for name, (read, wanted) in pairs.items()}


def share(right: NDArray) -> float:
    return float(right.mean()) if right.size else float("nan")


def score(seen: Seen, prompts: Sequence[str], real: Seen) -> Scores:
    """The scores of pictures drawn for these prompts, beside all the real pictures."""
    pairs = (seen.features, real.features), (seen.ink_features, real.ink_features)
    far, ink = (frechet(Gaussian.of(ours), Gaussian.of(theirs)) for ours, theirs in pairs)
    return Scores(**agreement(seen, prompts), white=share(seen.white), frechet=far, ink=ink)


def scores(pictures: Tensor, prompts: Sequence[str], real: Reference, judge: Reader | None = None) -> Scores:
    """The same of pictures (n, 1, 32, 32) in [−1, 1]; for many rows keep what `see` says of the real ones."""
    judge = judge or load_reader(JUDGE)
    return score(see(judge, pictures), prompts, see(judge, real.pictures))


HEADER = f"{'':36}" + "".join(f"{name:>9}" for name in ("digit", "size", "weight", "slant", "white", "Fréchet", "ink"))


def row(name: str, scores: Scores) -> str:
    *shares, far, ink = astuple(scores)
    return f"{name[:36]:36}" + "".join(f"{100 * value:9.2f}" for value in shares) + f"{far:9.3f}{ink:9.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help="zip of MNIST's test pictures")
    parser.add_argument("--training", help="zip of MNIST's training pictures")
    parser.add_argument("--judge", default=JUDGE)
    options = parser.parse_args()
    judge, test = load_reader(options.judge), reference(options.reference)
    black, white = see(judge, test.pictures), see(judge, -test.pictures)
    sets = {"test": test} | ({"training": reference(options.training)} if options.training else {})
    print(HEADER)
    for name, pictures in ((name, pictures.balanced(2000)) for name, pictures in sets.items()):
        print(row(name, score(see(judge, pictures.pictures), pictures.texts, black)))
        print(row(f"{name}, to the white test", score(see(judge, pictures.pictures), pictures.texts, white)))
        print(
            row(f"{name} on white, to white", score(see(judge, -pictures.pictures), pictures.texts, white)), flush=True
        )


if __name__ == "__main__":
    main()
