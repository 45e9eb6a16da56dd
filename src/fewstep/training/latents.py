"""Recipes of latent diffusion, completed by what models and data decide; what does not fit is refused.

whose latents    the recipe's autoencoder, else that of the model to start from, else the teacher's
whose words      a new text encoder, else the recipe's, else that of the model to start from, else the teacher's
what is told     a student of a teacher gets an embedding of w where w is drawn; a LoRA keeps its base's network
"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from fewstep.conditions import Prompts
from fewstep.formats import load
from fewstep.images import Images
from fewstep.model import Model
from fewstep.networks.adapters import LatentUNetShape, TextEncoder
from fewstep.networks.adapters.text import check_words
from fewstep.networks.adapters.words import text_config
from fewstep.parameterizations import Latched
from fewstep.schedules import Discrete
from fewstep.spaces import Latents
from fewstep.training.latent import Latent, prediction_of
from fewstep.training.recipe import Recipe
from fewstep.training.resolving import Resolved


def resolve(recipe: Recipe, images: Images, folder: Path, device: str | torch.device) -> Resolved:
    """Completes a recipe for latents. Raises ValueError, with the way to mend it, for what does not fit."""
    latent, objective = _latent(recipe), recipe.objective
    teacher = load(recipe.teacher, device=device) if recipe.teacher else None
    if objective.needs_teacher and teacher is None:
        raise ValueError(f"{type(objective).__name__} needs a teacher: give one with --teacher.")
    beginning = teacher if recipe.start is None else None
    if recipe.start not in (None, "random"):
        beginning = load(str(recipe.start), device=device)
    models = [model for model in (beginning, teacher) if model is not None]
    for model, name in ((beginning, recipe.start or recipe.teacher), (teacher, recipe.teacher)):
        if model is not None and not isinstance(model.design.architecture, LatentUNetShape):
            raise ValueError(f"{name} is no model of latents: the recipe {recipe.name} needs one.")
    space = _space(latent, models)
    seen = _measured(space, images)
    ours = _begun(recipe, beginning, seen) if beginning else _new(recipe, seen)
    if teacher is not None and objective.needs_teacher:
        _check_teacher(teacher, ours)
    ours = _with_guidance(ours, teacher if objective.needs_teacher else None)
    condition = _condition(ours, models, folder, images)
    return Resolved(ours, beginning, teacher if objective.needs_teacher else None, condition, space)


class Seen(NamedTuple):
    """What the autoencoder makes of the data."""

    channels: int
    size: int
    factor: int
    """How many pixels a latent is wide."""


def _latent(recipe: Recipe) -> Latent:
    latent = recipe.latent
    assert latent is not None
    if latent.lora and not recipe.teacher and recipe.start in (None, "random"):
        raise ValueError("A LoRA changes a model that is there: give it with --teacher or --start.")
    if latent.lora and recipe.start == "random":
        raise ValueError("A LoRA changes a model that is there; it cannot start at random.")
    if latent.words and (latent.text or recipe.objective.consistent or recipe.start not in (None, "random")):
        raise ValueError("A new text encoder is trained with a new diffusion model only: leave --latent.text and "
                         "--start away, and distil afterwards.")  # fmt: skip
    if latent.w is not None and not recipe.objective.consistent:
        raise ValueError("w is told to consistency models; a diffusion model is guided when pictures are drawn.")
    if latent.w is not None and recipe.guidance != 1:
        raise ValueError("Guidance is drawn (--latent.w) or fixed (--guidance), not both.")
    return latent


def _space(latent: Latent, models: list[Model]) -> Latents:
    if latent.autoencoder:
        return Latents(place(latent.autoencoder))
    space = next((m.design.space for m in models if isinstance(m.design.space, Latents)), None)
    if space is None:
        raise ValueError("Whose latents? Give the autoencoder's folder, Hub id or run with --latent.autoencoder.")
    return space


def _measured(space: Latents, images: Images) -> Seen:
    autoencoder, (channels, height, width) = space.autoencoder(), images.shape
    if height != width or height % autoencoder.factor:
        raise ValueError(f"The pictures are {height}×{width}: make them square, and a multiple of "
                         f"{autoencoder.factor} wide, with --data.size.")  # fmt: skip
    if channels != autoencoder.channels:
        raise ValueError(f"The autoencoder takes pictures of {autoencoder.channels} channel(s), the data have "
                         f"{channels}: give --data.channels {autoencoder.channels}.")  # fmt: skip
    made = int(autoencoder.vae.config["latent_channels"])
    return Seen(made, width // autoencoder.factor, autoencoder.factor)


def _begun(recipe: Recipe, model: Model, seen: Seen) -> Recipe:
    """The recipe with network, levels and prediction of the model to start from."""
    latent, design, name = recipe.latent, model.design, recipe.start or recipe.teacher
    shape, schedule, p = design.architecture, design.schedule, design.parameterization
    assert latent is not None
    assert isinstance(shape, LatentUNetShape)
    assert isinstance(schedule, Discrete)
    assert isinstance(recipe.schedule, Discrete)
    if shape.image_channels != seen.channels:
        raise ValueError(f"{name} works on latents of {shape.image_channels} channels, the autoencoder makes "
                         f"{seen.channels}: give the one that it was trained with.")  # fmt: skip
    if shape.image_size != seen.size:
        raise ValueError(f"{name} makes latents {shape.image_size} wide, the data have {seen.size}: "
                         f"give --data.size {shape.image_size * seen.factor}.")  # fmt: skip
    told = recipe.objective.consistent and latent.w and not latent.lora and not shape.told_guidance
    if told and latent.told:
        shape = replace(shape, config={**shape.config, "time_cond_proj_dim": latent.told})
    sigma_data, kappa = recipe.sigma_data, latent.timestep_scaling
    if isinstance(p, Latched):
        p, sigma_data, kappa = p.inner, p.sigma_data, p.timestep_scaling
    else:
        schedule = replace(schedule, origin=recipe.schedule.origin)
    latent = replace(latent, prediction=prediction_of(p), timestep_scaling=kappa)  # type: ignore[arg-type]
    return replace(recipe, architecture=shape, schedule=schedule, latent=latent, sigma_data=sigma_data)


def _new(recipe: Recipe, seen: Seen) -> Recipe:
    """The recipe with a network for these latents and these words."""
    latent, shape = recipe.latent, recipe.architecture
    assert latent is not None
    if not isinstance(shape, LatentUNetShape):
        raise ValueError(f"Latents told prompts need a latent U-Net, and this is {type(shape).__name__}.")
    if getattr(recipe.schedule, "zero_snr", False) and latent.prediction == "epsilon":
        raise ValueError("The last level of this schedule is noise alone, from which predicted noise tells nothing: "
                         "use --latent.prediction v.")  # fmt: skip
    if not latent.words and not latent.text:
        raise ValueError("Who reads the prompts? Give --latent.text, or a recipe with words to be learned.")
    config = {**shape.config, "in_channels": seen.channels, "out_channels": seen.channels, "sample_size": seen.size}
    if words := latent.words:
        text = (text_config(words.vocabulary, words.length, words.width, words.layers, words.heads),)
        return replace(recipe, architecture=LatentUNetShape({**config, "cross_attention_dim": words.width}, text))
    width = TextEncoder.load(place(latent.text)).width
    return replace(recipe, architecture=LatentUNetShape({**config, "cross_attention_dim": width}))


def _check_teacher(teacher: Model, ours: Recipe) -> None:
    name, d, shape = ours.teacher, teacher.design, teacher.design.architecture
    assert isinstance(ours.schedule, Discrete)
    assert isinstance(ours.architecture, LatentUNetShape)
    if teacher.consistent:
        raise ValueError(f"The teacher {name} is a consistency model; a teacher is a diffusion model.")
    if not isinstance(d.schedule, Discrete) or replace(d.schedule, origin=ours.schedule.origin) != ours.schedule:
        raise ValueError(f"{name} has other noise levels than the student: both must have the same.")
    a, b = shape.image_channels, ours.architecture.image_channels
    if a != b or shape.config.get("cross_attention_dim") != ours.architecture.config.get("cross_attention_dim"):  # type: ignore[attr-defined]
        raise ValueError(f"{name} and the model to start from take other latents or other prompts.")


def _with_guidance(ours: Recipe, teacher: Model | None) -> Recipe:
    """The recipe with the w that a network is told."""
    latent, shape = ours.latent, ours.architecture
    assert latent is not None
    assert isinstance(shape, LatentUNetShape)
    if teacher is None and ours.guidance != 1:
        raise ValueError("guidance is that of a teacher, and this objective has none: leave it at 1.")
    if not ours.objective.consistent or not shape.told_guidance or latent.w is not None:
        return ours
    if teacher is None:
        raise ValueError("This model is told guidance scales: say which, guidance_scale − 1, with --latent.w 3 13.")
    return replace(ours, latent=replace(latent, w=(ours.guidance - 1, ours.guidance - 1)))


def _condition(ours: Recipe, models: list[Model], folder: Path, images: Images) -> Prompts:
    latent, shape = ours.latent, ours.architecture
    assert latent is not None
    assert isinstance(shape, LatentUNetShape)
    theirs = next((m.design.condition for m in models if isinstance(m.design.condition, Prompts)), None)
    if latent.words:
        source = str((folder / "text").resolve())
    elif latent.text or theirs is None:
        source = place(latent.text)
    else:
        source = theirs.source
    if not latent.words:
        check_words(source)  # now, rather than after the pictures were encoded
    if images.captions is None and images.data.uncaptioned == "refuse":
        raise ValueError(f"{images.data.path} has no captions: add them (metadata.jsonl, or a .txt beside each "
                         "picture), or train on empty prompts with --data.uncaptioned empty.")  # fmt: skip
    told = shape.told_sizes
    size, zero_empty = images.shape[-1] if told else None, theirs.zero_empty if theirs else told
    return Prompts(source, size, zero_empty, inside=latent.words is not None)


def place(source: str) -> str:
    """Where a part is: a folder as an absolute path, a run's model, else the name on the Hub itself."""
    path = Path(source).expanduser()
    for folder in (path / "model", path):
        if (folder / "model_index.json").is_file() or (folder / "config.json").is_file():
            return str(folder.resolve())
    if path.exists() or source.count("/") != 1:
        raise FileNotFoundError(
            f"{source} holds neither a pipeline (model_index.json) nor an autoencoder (config.json)."
        )
    return source
