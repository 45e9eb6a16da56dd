"""What matters in latent consistency distillation: the paper's ablations on the words models, a thousand steps each.

    python benchmarks/words_ablations.py --data words-train-black.zip --teacher runs/words-teacher \\
        --reference mnist-test.zip --out runs/ablations

The recipe `words-lcd` with one part changed: how many levels lie between the two times (k; for 5 and 50 the trained
levels are 200 and 100, so that targets are asked at trained levels only), the teacher's solver, the guidance (drawn
from a range and told, or fixed), and a teacher that is not guided at all. 2,000 pictures each, four steps, guidance
scale 4 where it is told; words_scores.py says what the columns mean. A run that is there goes on.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from judge import load_reader
from words_judge import JUDGE, see
from words_scores import HEADER, reference, row, score

import fewstep
from fewstep.objectives import ConsistencyDistillation
from fewstep.recipes import parts, words
from fewstep.solvers import DPMSolver, Heun
from fewstep.training.recipe import Recipe
from fewstep.training.track import watch


def lcd(**part) -> ConsistencyDistillation:
    return parts.lcd(**{"k": 20, "mu": 0.95, **part})


def fixed(recipe: Recipe, guidance: float) -> Recipe:
    """Distillation of the teacher guided with one scale."""
    latent = recipe.latent
    assert latent is not None
    return replace(recipe, latent=replace(latent, w=None), guidance=guidance)


CHANGES: dict[str, Callable[[Recipe], Recipe]] = {
    "as it is": lambda r: r,
    "k = 5": lambda r: replace(r, objective=lcd(k=5), schedule=replace(r.schedule, origin=200)),
    "k = 50": lambda r: replace(r, objective=lcd(k=50), schedule=replace(r.schedule, origin=100)),
    "k = 100": lambda r: replace(r, objective=lcd(k=100)),
    "solver Heun": lambda r: replace(r, objective=lcd(solver=Heun())),
    "solver DPM++ (2S)": lambda r: replace(r, objective=lcd(solver=DPMSolver())),
    "guidance fixed at 4": lambda r: fixed(r, 4.0),
    "teacher not guided": lambda r: fixed(r, 1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "teacher", "reference", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("-n", type=int, default=2000)
    options = parser.parse_args()
    judge, real = load_reader(JUDGE), reference(options.reference)
    seen, wanted = see(judge, real.pictures), real.balanced(options.n)
    print(HEADER, flush=True)
    for i, (name, change) in enumerate(CHANGES.items()):
        plain = words.RECIPES["words-lcd"]()
        plain = replace(plain, steps=options.steps, teacher=options.teacher, checkpoint_every=250)
        recipe = change(replace(plain, data=replace(plain.data, path=options.data)))
        folder = Path(options.out, f"{i}")
        for _ in watch(fewstep.fit(recipe, folder), quiet=True):
            pass
        told = {"guidance": 4.0} if recipe.latent and recipe.latent.w else {}
        with torch.no_grad():
            made = fewstep.load(folder).sample(prompts=list(wanted.texts), steps=4, seed=0, batch=100, **told)
        print(row(name, score(see(judge, made), wanted.texts, seen)), flush=True)


if __name__ == "__main__":
    main()
