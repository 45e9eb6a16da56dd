"""Recipes to come."""

from collections.abc import Callable

from fewstep.training.recipe import Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {}
