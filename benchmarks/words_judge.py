"""A reader of the pictures of words_captions.py: the digit by a network, the words by the captions' own measures.

The network is the judge's (judge.py) on the middle 28×28 of the 32×32, learned from the training digits drawn at the
same scales as the captioned ones; `words_judge.safetensors` (half precision) was made by

    OMP_NUM_THREADS=1 python benchmarks/words_judge.py --data mnist-train.zip --test mnist-test.zip \\
        --out benchmarks/words_judge.safetensors

and reads 99.54% of the 10,000 test digits, drawn with seed 0. A picture on white paper, one whose outermost pixels
are more white than black, is turned into its negative before it is read; that it is white is a reading too.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from judge import ARCHITECTURES, Reader, accuracy, load_reader, read_images, save, train
from numpy.typing import NDArray
from torch import Tensor
from words_captions import THRESHOLDS, drawn, measures, words_of

JUDGE = Path(__file__).with_name("words_judge.safetensors")


@dataclass(frozen=True)
class Seen:
    """What is read in n pictures."""

    digits: NDArray[np.int64]
    """(n,) 0 to 9, read in the ink."""
    high: dict[str, NDArray[np.bool_]]
    """For each attribute (n,): whether its measure is nearer to its second word (large) than to its first (small)."""
    white: NDArray[np.bool_]
    """(n,) whether the paper is white."""
    features: NDArray[np.float64]
    """(n, 96) what the network's last layer sees in the picture as it is: a white paper is strange to it."""
    ink_features: NDArray[np.float64]
    """(n, 96) what it sees in the ink, which is the picture or its negative."""


def ink_of(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Ink (n, 32, 32) in [0, 1] of pictures (n, 1, 32, 32) in [−1, 1], and whether their paper is white (n,)."""
    if pictures.shape[1:] != (1, 32, 32):
        raise ValueError(f"Need pictures (n, 1, 32, 32), not {tuple(pictures.shape)}.")
    light = (pictures[:, 0].float().clamp(-1, 1) + 1) / 2
    rim = torch.ones(32, 32, dtype=torch.bool)
    rim[2:-2, 2:-2] = False
    white = light[:, rim].mean(1) > 0.5
    return torch.where(white[:, None, None], 1 - light, light), white


def middle(ink: Tensor) -> Tensor:
    """What the network is shown, (n, 1, 28, 28) in [−1, 1], of ink (n, 32, 32) in [0, 1]."""
    return 2 * ink[:, None, 2:-2, 2:-2].float() - 1


@torch.inference_mode()
def see(judge: Reader, pictures: Tensor) -> Seen:
    """Reads pictures (n, 1, 32, 32) in [−1, 1]."""
    ink, white = ink_of(pictures)
    plain, inked = (
        torch.cat([judge.features(batch) for batch in middle(light).split(500)])
        for light in ((pictures[:, 0].float().clamp(-1, 1) + 1) / 2, ink)
    )
    half = {name: sum(ends) / 2 for name, ends in THRESHOLDS.items()}
    high = {name: (values > half[name]).numpy() for name, values in measures(ink).items()}
    digits = judge.head(inked).argmax(1).numpy()
    return Seen(digits, high, white.numpy(), plain.double().numpy(), inked.double().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="zip of MNIST's training pictures")
    parser.add_argument("--test", required=True, help="zip of MNIST's test pictures")
    parser.add_argument("--out", type=Path, default=JUDGE)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    images, digits = read_images(options.data)
    reader = ARCHITECTURES["convolutional"]()
    train(reader, middle(drawn(images, seed=options.seed)), digits, epochs=options.epochs, seed=options.seed)
    save(reader.eval(), options.out, {"architecture": "convolutional", "epochs": str(options.epochs)})
    ink, asked = words_of(options.test)
    measured = accuracy(load_reader(options.out), middle(torch.from_numpy(ink) / 255), torch.from_numpy(asked))
    print(json.dumps({"test_accuracy": round(measured, 5), "bytes": options.out.stat().st_size}))


if __name__ == "__main__":
    main()
