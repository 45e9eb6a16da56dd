"""What the digits recipes reach and cost: the numbers in the docstring of `fewstep.recipes.digits`.

    OMP_NUM_THREADS=1 python benchmarks/digits.py              all, the students after their teacher
    OMP_NUM_THREADS=1 python benchmarks/digits.py ect --seed 1
    OMP_NUM_THREADS=1 python benchmarks/digits.py judge --out digits.safetensors

Each model draws 1,000 digits, 100 a class. A small convolutional network, trained on 1,400 of the 1,797 pictures (the
features `digits`, made by the last line), says how many are read as asked, how far their features are from the data's
(the Fréchet distance) and how varied they are (the spread within a class, the root of the variances' mean share of the
data's). Seconds are the process's own.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from judge import load_reader, save
from torch import Tensor
from torch.nn import functional as F

from fewstep.evaluation.features import Features, open_features
from fewstep.evaluation.features.readers import Small
from fewstep.evaluation.features.seeing import signed
from fewstep.evaluation.gaussians import Gaussian, frechet
from fewstep.evaluation.readings import agreement, spread
from fewstep.images import Data, open_images, save_grid, to_uint8
from fewstep.model import Model
from fewstep.recipes import recipe
from fewstep.training.fit import fit

METHODS = ("edm", "cd", "cd-continuous", "ct", "ct-continuous", "ict", "ect", "pd")
TAUGHT = ("cd", "cd-continuous", "ct", "ct-continuous", "pd")
"""What starts from, or learns from, digits-edm."""
TEACHER_STEPS = 18
COMMAND = "benchmarks/digits.py judge --out digits.safetensors"


def data() -> tuple[Tensor, Tensor]:
    """All digits uint8 (n, 1, 8, 8) and their labels (n,)."""
    images = open_images(Data("digits"))
    pictures = torch.stack([torch.from_numpy(images.picture(i).transpose(2, 0, 1)) for i in range(len(images))])
    return pictures, torch.as_tensor(images.labels).long()


def train_judge(out: Path, epochs: int = 60) -> None:
    """Trains the reader on 1,400 digits and measures what was written, in half precision, on the others."""
    torch.manual_seed(0)
    (pictures, y), judge = data(), Small()
    x = signed(pictures)
    rest, unseen = split(len(x))
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - epoch / epochs)
        for rows in rest[torch.randperm(len(rest))].split(64):
            features = judge.features(x[rows] + 0.15 * torch.randn_like(x[rows]))
            loss = F.cross_entropy(judge.head(F.dropout(features, 0.3)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    words = {"architecture": "small", "seed": "0", "epochs": f"{epochs}", "command": f"python {COMMAND}"}
    words["data"] = "the digits that come with fewstep: torch.randperm(1797), seed 0, the first 1400"
    save(judge.eval(), out, words)
    right = (load_reader(out)(x[unseen]).argmax(1) == y[unseen]).double().mean()
    save(judge, out, words | {"test_accuracy": f"{right:.4f} of the other {len(unseen)}"})
    print(f"the judge reads {100 * right:.1f}% of {len(unseen)} unseen digits")


def split(n: int) -> tuple[Tensor, Tensor]:
    """The rows that the judge learns from, and the others."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    return order[:1400], order[1400:]


def score(judge: Features, pictures: Tensor, asked: Tensor) -> str:
    """`pictures` are uint8 (n, 1, 8, 8)."""
    x, y = data()
    drawn, real = judge(pictures), judge(x)
    assert drawn.logits is not None
    distance = frechet(Gaussian.of(drawn.features.numpy()), Gaussian.of(real.features.numpy()))
    varied = spread(drawn.features.numpy(), asked.numpy(), real.features.numpy(), y.numpy())
    right = agreement(drawn.logits.numpy(), asked.numpy()).value
    return f"{right:.1f}% as asked, distance {distance:.1f}, spread {varied**0.5:.2f}"


def draws(model: Model, method: str) -> Iterable[tuple[str, Tensor, Tensor]]:
    """(how, pictures, labels) of 1,000 digits for each number of steps."""
    labels = torch.arange(1000) % 10
    ways: dict[str, dict] = {"one step": {"steps": 1}, "two steps": {"steps": 2}}
    if method == "edm":
        ways = {f"Heun, {2 * TEACHER_STEPS - 1} calls": {"steps": TEACHER_STEPS}}
    elif method == "pd":  # its steps end at the points of the grid that it was trained on
        grids = {steps: [*model.schedule.grid(steps + 1).tolist()[:-1], 0.0] for steps in (1, 2)}
        ways = {f"{n} DDIM step(s)": {"sampler": "euler", "times": times} for n, times in grids.items()}
    for how, options in ways.items():
        yield how, model.sample(1000, seed=1, labels=labels, **options), labels


def written(pictures: Tensor) -> Tensor:
    """Uint8 (n, 1, 8, 8), as files would hold them, of pictures in [-1, 1]."""
    return torch.from_numpy(to_uint8(pictures)).permute(0, 3, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=None, help="where runs are kept and taken from; the judge's file")
    options = parser.parse_args()
    if list(options.methods) == ["judge"]:
        return train_judge(Path(options.out))
    judge = open_features("digits")
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(options.out or aside)
        for method in options.methods:
            teacher = str(folder / "edm") if method in TAUGHT else None
            settings = replace(recipe(f"digits-{method}"), seed=options.seed, teacher=teacher, checkpoint_every=10**6)
            began, run = time.process_time(), fit(settings, folder / method)
            for _ in run:
                pass
            print(f"digits-{method}: {time.process_time() - began:.0f} s of one core", flush=True)
            for how, pictures, labels in draws(run.model(), method):
                print(f"  {how}: {score(judge, written(pictures), labels)}", flush=True)
                save_grid(pictures[:40], folder / f"{method}-{how.split()[0]}.png", columns=20)


if __name__ == "__main__":
    main()
