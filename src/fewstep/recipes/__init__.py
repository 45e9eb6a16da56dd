"""Recipes by name: `recipe("mnist-cd")`. Each name is DATA-OBJECTIVE; the files say what was measured and what it
cost."""

from collections.abc import Callable

from fewstep.codec import nearest
from fewstep.recipes import cifar10, digits, imagenet64, lsun256, mnist, stable_diffusion, words
from fewstep.training.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {
    **digits.RECIPES,
    **mnist.RECIPES,
    **cifar10.RECIPES,
    **imagenet64.RECIPES,
    **lsun256.RECIPES,
    **stable_diffusion.RECIPES,
    **words.RECIPES,
}


def names() -> list[str]:
    """The names of all recipes."""
    return list(RECIPES)


def recipe(name: str) -> Recipe:
    """The recipe of a name; ValueError, with the nearest one, for an unknown name."""
    if name not in RECIPES:
        raise ValueError(f"There is no recipe '{name}'{nearest(name, RECIPES)}")
    return RECIPES[name]()
