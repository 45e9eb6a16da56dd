"""Which noise levels edit well: MNIST test digits inpainted and super-resolved with several schedules, read by a judge.

    python benchmarks/mnist_editing.py mnist --reference mnist-test.zip

200 test digits, 20 a class, asked for by their own label. Agreement: the share of results read as that label. Fréchet:
distance in the judge's features to the whole test set. Small n makes both coarse: they rank, they do not rate.
"""

import argparse
from pathlib import Path

import torch
from judge import load_reader, read_images
from mnist_scores import balanced, look, row, score

import fewstep
from fewstep.images import to_uint8


def schedules(model: fewstep.Model) -> dict[str, list[float]]:
    """Noise levels by name: Karras's from the top, and even in ln t between two ends."""
    found = {}
    for n in (4, 8, 16):
        found[f"Karras, {n} calls"] = model.times(n, None)
        for high, low in ((80, 0.4), (20, 0.1), (20, 0.4), (20, 1.0), (10, 0.4)):
            even = torch.linspace(torch.tensor(high).log(), torch.tensor(low).log(), n).exp()
            found[f"{high} to {low}, {n} calls"] = even.tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--reference", required=True, help="zip of the test images")
    parser.add_argument("--judge", default=Path(__file__).with_name("selector.safetensors"))
    options = parser.parse_args()
    judge, model = load_reader(options.judge), fewstep.load(options.model)
    images, labels = read_images(options.reference)
    whole = look(judge, images, labels)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    chosen = torch.cat([order[labels[order] == label][:20] for label in range(10)])
    lower_half = torch.zeros(28, 28)
    lower_half[14:] = 1
    edits = {"lower half inpainted": fewstep.Inpaint(lower_half), "7×7 to 28×28": fewstep.SuperResolve(4)}
    for name, measurement in edits.items():
        print(f"{name:40} {'agreement':>9} {'Fréchet':>9} {'precision':>9} {'recall':>9} {'spread':>9}")
        for levels, times in schedules(model).items():
            made = model.edit(images[chosen], measurement, times=times, labels=labels[chosen])
            seen = torch.from_numpy(to_uint8(made)).float().permute(0, 3, 1, 2) / 127.5 - 1
            print(row(f"  {levels}", score(look(judge, seen, labels[chosen]), balanced(whole, 20), whole)))


if __name__ == "__main__":
    main()
