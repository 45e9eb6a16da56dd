"""What a run is made of, from its recipe: the resolved recipe, and student, target and teacher as denoisers.

    student D_θ    the network that learns; its weights begin at `start`, at the teacher's, or at random
    target  D_θ⁻   a copy of its own where the objective keeps one, else the student
    teacher D_φ    the diffusion model to learn from, with guidance where asked

Only the network computes in low precision; times, coefficients and losses stay in float32.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewstep.conditions import Labels, Nothing
from fewstep.denoiser import Denoiser, Guided
from fewstep.design import Design
from fewstep.formats import load
from fewstep.images import Images
from fewstep.model import Model
from fewstep.networks import Architecture
from fewstep.parameterizations import EDM, Boundary
from fewstep.tensors import DROPOUT, rng
from fewstep.training.recipe import Recipe
from fewstep.training.state import State


class Resolved(NamedTuple):
    """A recipe with all that data, teacher and start decide; the model to start from; the teacher."""

    recipe: Recipe
    beginning: Model | None
    teacher: Model | None


class Parts(NamedTuple):
    """What a step works with."""

    recipe: Recipe
    design: Design
    state: State
    student: nn.Module
    target: nn.Module
    teacher: nn.Module | None


def resolve(recipe: Recipe, images: Images, device: str | torch.device) -> Resolved:
    """Completes the recipe. Raises ValueError, with the way to mend it, where data, teacher and start do not fit."""
    objective = recipe.objective
    teacher = load(recipe.teacher, device=device) if recipe.teacher else None
    if objective.needs_teacher and teacher is None:
        raise ValueError(f"{type(objective).__name__} needs a teacher: give one with --teacher.")
    if recipe.start in (None, "random"):
        beginning = teacher if recipe.start is None else None
    else:
        beginning = load(str(recipe.start), device=device)
    about = _shape(images)
    if beginning is None:
        ours = replace(recipe, architecture=replace(recipe.architecture, **about))  # type: ignore[type-var]
    else:
        ours = _starting_from(beginning, str(recipe.start or recipe.teacher), recipe, about)
    if objective.needs_teacher and teacher is not None:
        _check_teacher(teacher, ours, about)
    elif recipe.guidance != 1:
        raise ValueError("guidance is that of a teacher, and this objective has none: leave it at 1.")
    return Resolved(ours, beginning, teacher if objective.needs_teacher else None)


def build(resolved: Resolved, images: Images, device: torch.device) -> Parts:
    """Networks, optimizer and averages, at the beginning of the run."""
    recipe, beginning, teacher = resolved
    torch.manual_seed(int(rng(recipe.seed, DROPOUT).integers(1 << 62)))
    network = recipe.architecture.build()
    if beginning is not None:
        network.load_state_dict(beginning.denoiser.network.state_dict())
    network = _placed(network, recipe, device)
    changing = None  # a teacher that stages replace, and that is kept with the state
    if teacher is not None and recipe.objective.stage(1.0) > 0:
        changing = copy.deepcopy(network).eval().requires_grad_(False)
        changing.load_state_dict(teacher.denoiser.network.state_dict())
    separate = recipe.objective.target_rate(0.0) is not None
    state = State(network, recipe.optimizer, recipe.ema, target=separate, teacher=changing)
    student = _denoiser(network, recipe, device)
    target = student if state.target is None else _denoiser(state.target, recipe, device)
    return Parts(recipe, _design(recipe, images), state, student, target, _teacher(teacher, changing, recipe, device))


def fingerprint(model: Model) -> str:
    """A short digest of a model's weights, to see whether a teacher is still the same."""
    digest = hashlib.sha256()
    for name, w in model.denoiser.network.state_dict().items():
        digest.update(name.encode())
        digest.update(w.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


class Lowered(nn.Module):
    """A network that computes in lower precision: what goes in and what comes around it stays float32."""

    def __init__(self, network: Callable[..., Tensor], device: str, dtype: torch.dtype):
        super().__init__()
        self.network, self.device, self.dtype = network, device, dtype

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Any) -> Tensor:
        with torch.autocast(self.device, self.dtype):
            return self.network(x, c_noise, **cond).float()


def _denoiser(network: nn.Module, recipe: Recipe, device: torch.device) -> Denoiser:
    return Denoiser(_wrapped(network, recipe, device), recipe.schedule, recipe.parameterization)


def _wrapped(network: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    if recipe.compile:
        import torch._inductor.config as inductor

        # Compiled code draws its own dropout masks unless told to use torch's generator, which a step rewinds.
        inductor.fallback_random = True
        network = torch.compile(network)  # type: ignore[assignment]
    if recipe.precision != "fp32":
        network = Lowered(network, device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision])
    return network


def _teacher(
    teacher: Model | None, changing: nn.Module | None, recipe: Recipe, device: torch.device
) -> nn.Module | None:
    if teacher is None:
        return None
    network = changing if changing is not None else _placed(teacher.denoiser.network, recipe, device)
    d = teacher.design
    denoiser = Denoiser(_wrapped(network, recipe, device), d.schedule, d.parameterization).eval()
    w = recipe.guidance - 1
    return Guided(denoiser, w, d.condition.nothing) if w else denoiser


def _placed(network: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return network.to(device, memory_format=layout)  # type: ignore[call-overload]


def _design(recipe: Recipe, images: Images) -> Design:
    classes = recipe.architecture.num_classes
    return Design(
        architecture=recipe.architecture,
        parameterization=recipe.parameterization,
        schedule=recipe.schedule,
        condition=Labels(classes) if classes else Nothing(),
        times={str(len(times)): times for times in recipe.times},
        class_names=tuple(images.class_names) if classes else (),
        about={
            "name": recipe.name,
            "steps": recipe.steps,
            "batch": recipe.batch,
            "objective": type(recipe.objective).__name__,
            "label_drop": recipe.label_drop,
        },
    )


# -- what does not fit -----------------------------------------------------------------------------------------------


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
