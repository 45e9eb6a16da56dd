"""A recipe with all that data, teacher and start decide; what does not fit is refused, with the way to mend it.

    the data     channels, size, classes
    the start    the network, its preconditioning; it is the teacher unless the recipe says otherwise

Recipes of latent diffusion are completed in `fewstep.training.latents`.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import NamedTuple

import torch

from fewstep.conditions import Condition, Labels, Nothing
from fewstep.formats import load
from fewstep.images import Images
from fewstep.model import Model
from fewstep.networks import Architecture
from fewstep.networks.adapters import AutoencoderShape
from fewstep.parameterizations import EDM, Boundary
from fewstep.schedules import Karras
from fewstep.spaces import Pixels, Space
from fewstep.training.recipe import Recipe


class Resolved(NamedTuple):
    """A recipe with all that data, teacher and start decide; the model to start from; the teacher."""

    recipe: Recipe
    beginning: Model | None
    teacher: Model | None
    condition: Condition
    """What the trained model can be asked for."""
    space: Space = Pixels()
    """Where it works."""


def resolve(recipe: Recipe, images: Images, device: str | torch.device) -> Resolved:
    """Completes the recipe. Raises ValueError, with the way to mend it, where data, teacher and start do not fit."""
    objective = recipe.objective
    if recipe.teacher and recipe.start is not None and not objective.needs_teacher:
        raise ValueError(f"{type(objective).__name__} asks no teacher, and the weights start elsewhere "
                         f"({recipe.start}): say --start {recipe.teacher}, or leave --teacher out.")  # fmt: skip
    teacher = load(recipe.teacher, device=device) if recipe.teacher else None
    if objective.needs_teacher and teacher is None:
        raise ValueError(f"{type(objective).__name__} needs a teacher: give one with --teacher.")
    if recipe.start in (None, "random"):
        beginning = teacher if recipe.start is None else None
    else:
        beginning = load(str(recipe.start), device=device)
    about = _shape(images)
    if beginning is None:
        ours = replace(recipe, architecture=_shaped(recipe.architecture, about))
    else:
        ours = _starting_from(beginning, str(recipe.start or recipe.teacher), recipe, about)
    if objective.needs_teacher and teacher is not None:
        _check_teacher(teacher, ours, about)
    elif recipe.guidance != 1:
        raise ValueError("guidance is that of a teacher, and this objective has none: leave it at 1.")
    classes = ours.architecture.num_classes
    condition = Labels(classes) if classes else Nothing()
    return Resolved(ours, beginning, teacher if objective.needs_teacher else None, condition)


def _shaped(architecture: Architecture, about: Mapping[str, int]) -> Architecture:
    """The network for data of this shape."""
    if not isinstance(architecture, AutoencoderShape):
        return replace(architecture, **about)  # type: ignore[type-var]
    channels, size = about["image_channels"], about["image_size"]
    config = {**architecture.config, "in_channels": channels, "out_channels": channels, "sample_size": size}
    return replace(architecture, config=config)


def _shape(images: Images) -> dict[str, int]:
    channels, height, width = images.shape
    if height != width:
        raise ValueError(f"The pictures are {height}×{width}: make them square with --data.size.")
    return {"image_channels": channels, "image_size": height, "num_classes": images.num_classes}


def _starting_from(model: Model, name: str, recipe: Recipe, about: Mapping[str, int]) -> Recipe:
    """The recipe with the network, the preconditioning and the classes of the model that it starts from."""
    _check_fit(model, name, about)
    architecture, p = model.design.architecture, model.design.parameterization
    if not isinstance(p, EDM | Boundary):
        raise ValueError(
            f"{name} is seen through {type(p).__name__}; training starts from models seen through EDM or Boundary."
        )
    _check_schedule(model, name, recipe)
    if "dropout" in {field.name for field in fields(architecture)}:  # type: ignore[arg-type]
        architecture = _with_dropout(architecture, recipe.architecture)
    return replace(recipe, architecture=architecture, sigma_data=p.sigma_data, noise_scale=p.noise_scale)


def _with_dropout(architecture: Architecture, other: Architecture) -> Architecture:
    return replace(architecture, dropout=getattr(other, "dropout", 0.0))  # type: ignore[type-var]


def _check_teacher(teacher: Model, ours: Recipe, about: Mapping[str, int]) -> None:
    name, d = ours.teacher, teacher.design
    if teacher.consistent:
        raise ValueError(f"The teacher {name} is a consistency model; a teacher is a diffusion model.")
    _check_fit(teacher, str(name), about)
    _check_schedule(teacher, str(name), ours)
    if teacher.num_classes != ours.architecture.num_classes:
        raise ValueError(
            f"The teacher {name} knows {teacher.num_classes} classes, the student {ours.architecture.num_classes}: "
            "both must know the same (0 with --data.labels False)."
        )
    if ours.guidance != 1 and not teacher.num_classes:
        raise ValueError(f"The teacher {name} is unconditional, so it cannot be guided: leave guidance at 1.")
    if ours.guidance != 1 and d.about.get("label_drop", 1) == 0:
        raise ValueError(
            f"The teacher {name} never saw a hidden label, so it cannot be guided: train it with --label-drop 0.1."
        )
    if ours.objective.stage(1.0) > 0:
        same = (
            d.parameterization == ours.parameterization
            and _with_dropout_of(d.architecture, ours.architecture) == ours.architecture
        )
        if not same:
            raise ValueError(f"In stages the student takes the teacher's place: it must be the same network as {name}.")


def _with_dropout_of(architecture: Architecture, other: Architecture) -> Architecture:
    has = "dropout" in {field.name for field in fields(architecture)}  # type: ignore[arg-type]
    return _with_dropout(architecture, other) if has else architecture


def _check_fit(model: Model, name: str, about: Mapping[str, int]) -> None:
    a = model.design.architecture
    if a.image_channels != about["image_channels"]:
        raise ValueError(
            f"{name} makes pictures of {a.image_channels} channel(s), the data have {about['image_channels']}: "
            f"give --data.channels {a.image_channels}."
        )
    if a.image_size != about["image_size"]:
        raise ValueError(
            f"{name} makes pictures {a.image_size} pixels wide, the data are {about['image_size']}: "
            f"give --data.size {a.image_size}."
        )
    if a.num_classes not in (0, about["num_classes"]):
        found = f"{about['num_classes']} classes" if about["num_classes"] else "no labels"
        raise ValueError(
            f"{name} knows {a.num_classes} classes, the data have {found}: "
            f"give data with these labels (and --data.classes {a.num_classes})."
        )


def _check_schedule(model: Model, name: str, recipe: Recipe) -> None:
    theirs, ours = type(model.schedule).__name__, type(recipe.schedule).__name__
    if theirs != ours:
        raise ValueError(f"{name} works on the schedule {theirs}, the recipe on {ours}: both must use the same.")
    if isinstance(model.schedule, Karras) and isinstance(recipe.schedule, Karras):
        known, asked = model.schedule, recipe.schedule
        if asked.t_max > known.t_max:
            raise ValueError(f"{name} was trained up to t = {known.t_max:g}, the recipe goes to {asked.t_max:g}: "
                             f"give --schedule.t-max {known.t_max:g}.")  # fmt: skip
        if model.consistent and asked.t_min != known.t_min:
            raise ValueError(f"{name} is the picture itself at t = {known.t_min:g}, the recipe's model at "
                             f"{asked.t_min:g}: give --schedule.t-min {known.t_min:g}.")  # fmt: skip
