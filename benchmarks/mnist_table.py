"""The table of MNIST results: models × steps, scored by mnist_scores, with what each cost to train.

    python benchmarks/mnist_table.py --reference mnist-test.zip --training mnist-train.zip \\
        runs/mnist-edm runs/mnist-cd runs/mnist-ect runs/mnist-ict

Each argument is a run's folder or a model; a diffusion model is drawn with Heun in 35 calls, a consistency model in 1,
2 and 4 steps at the times it carries (or those given: `runs/mnist-cd@80,0.82`). 2,000 images of seed 0, 200 a class.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from judge import JUDGE, load_reader, read_images
from mnist_scores import balanced, look, row, score

import fewstep
from fewstep.images import to_uint8


def cost(folder: Path) -> str:
    """Pictures seen and hours spent, from a run's metrics."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return ""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    batch = json.loads((folder / "recipe.json").read_text())["batch"]
    minutes = sum(line["seconds"] for line in lines) / 60
    return f"{len(lines)} steps of {batch}, {minutes:.0f} min"


def draws(model: fewstep.Model, times: list[float] | None) -> list[tuple[str, dict]]:
    """What to draw from a model: a name and arguments of `sample`."""
    if not model.consistent:
        return [("Heun, 35 calls", {})]
    if times:
        return [(f"{len(times)} step(s) at {times}", {"times": times})]
    return [(f"{steps} step" + "s" * (steps > 1), {"steps": steps}) for steps in (1, 2, 4)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="folders, optionally with @times")
    parser.add_argument("--reference", required=True, help="zip of the test images")
    parser.add_argument("--training", help="zip of training images, for a row of real ones as a yardstick")
    parser.add_argument("--judge", default=JUDGE)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    judge = load_reader(options.judge)
    whole = look(judge, *read_images(options.reference))
    real = balanced(whole, 200)
    print(f"{'':40} {'agreement':>9} {'Fréchet':>9} {'precision':>9} {'recall':>9} {'spread':>9}")
    print(row("real, test set", score(real, real, whole)))
    if options.training:
        training = balanced(look(judge, *read_images(options.training)), 200)
        print(row("real, training set", score(training, real, whole)))
    labels = torch.arange(options.n) % 10
    for source in options.models:
        name, _, times = source.partition("@")
        model = fewstep.load(name)
        print(f"{Path(name).name}: {cost(Path(name))}")
        for what, how in draws(model, [float(t) for t in times.split(",")] if times else None):
            began = time.perf_counter()
            pictures = model.sample(options.n, seed=options.seed, labels=labels, **how)
            pace = (time.perf_counter() - began) / options.n * 1e3
            images = torch.from_numpy(to_uint8(pictures)).float().permute(0, 3, 1, 2) / 127.5 - 1
            line = row(f"  {what}", score(look(judge, images, labels), real, whole))
            print(f"{line}   {pace:.2f} ms an image", flush=True)


if __name__ == "__main__":
    main()
