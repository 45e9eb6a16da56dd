"""What the digits recipes reach and cost: the numbers in the docstring of `fewstep.recipes.digits`.

    OMP_NUM_THREADS=1 python benchmarks/digits.py              all, the students after their teacher
    OMP_NUM_THREADS=1 python benchmarks/digits.py ect --seed 1

Each model draws 1,000 digits, 100 a class. A small convolutional network, trained on 1,400 of the 1,797 pictures (99.5%
of the other 397 read right), says how many are read as asked, how far their features are from the data's (the Fréchet
distance) and how varied they are (the spread within a class, as a share of the data's). Seconds are the process's own.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewstep.images import Data, open_images, save_grid
from fewstep.images.opening import signed
from fewstep.model import Model
from fewstep.recipes import recipe
from fewstep.training.fit import fit

METHODS = ("edm", "cd", "ct", "ict", "ect", "pd")
TAUGHT = ("cd", "ct", "pd")
"""What starts from, or learns from, digits-edm."""
TEACHER_STEPS = 18


class Judge(nn.Module):
    """A reader of digits (n, 1, 8, 8); `features` (n, 128)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.third, self.classes = nn.Linear(64 * 16, 128), nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.second(F.relu(self.first(x)))), 2).flatten(1)
        return F.relu(self.third(F.dropout(h, 0.3, self.training)))

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(F.dropout(self.features(x), 0.3, self.training))


def data() -> tuple[Tensor, Tensor]:
    """All digits (n, 1, 8, 8) in [-1, 1] and their labels (n,)."""
    images = open_images(Data("digits"))
    pictures = torch.stack([signed(images.picture(i).transpose(2, 0, 1)) for i in range(len(images))])
    return pictures, torch.as_tensor(images.labels).long()


def trained_judge(epochs: int = 30) -> Judge:
    torch.manual_seed(0)
    (x, y), judge = data(), Judge()
    order = torch.randperm(len(x))
    seen, unseen = order[:1400], order[1400:]
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - epoch / epochs)
        for rows in seen[torch.randperm(len(seen))].split(64):
            loss = F.cross_entropy(judge(x[rows] + 0.15 * torch.randn_like(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    judge.eval()
    with torch.no_grad():
        right = (judge(x[unseen]).argmax(1) == y[unseen]).float().mean()
    print(f"the judge reads {100 * right:.1f}% of {len(unseen)} unseen digits")
    return judge


def frechet(a: Tensor, b: Tensor) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of features (n, D)."""
    a, b = a.double(), b.double()
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    cross = torch.linalg.eigvals(cov_a @ cov_b).real.clamp(min=0).sqrt().sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


@torch.no_grad()
def score(judge: Judge, pictures: Tensor, asked: Tensor) -> str:
    x, y = data()
    drawn, real = judge.features(pictures), judge.features(x)
    width = lambda features: features.var(0).sum().sqrt()  # noqa: E731
    spread = sum(width(drawn[asked == c]) / width(real[y == c]) for c in range(10)) / 10
    right = (judge(pictures).argmax(1) == asked).float().mean()
    return f"{100 * right:.1f}% as asked, distance {frechet(drawn, real):.1f}, spread {spread:.2f}"


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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="*", default=METHODS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=None, help="where the runs are kept and taken from; else nowhere")
    options = parser.parse_args()
    judge = trained_judge()
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
                print(f"  {how}: {score(judge, pictures, labels)}", flush=True)
                save_grid(pictures[:40], folder / f"{method}-{how.split()[0]}.png", columns=20)


if __name__ == "__main__":
    main()
