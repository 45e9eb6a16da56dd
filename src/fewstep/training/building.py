"""What a run is made of, from its recipe: the resolved recipe, and student, target and teacher as denoisers.

    student D_θ    the network that learns; its weights begin at `start`, at the teacher's, or at random
    target  D_θ⁻   a copy of its own where the objective keeps one, else the student
    teacher D_φ    the diffusion model to learn from, with guidance where asked

Only the network computes in low precision; times, coefficients and losses stay in float32.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual

from fewstep.conditions import Condition
from fewstep.denoiser import Denoiser, Guided
from fewstep.design import Design
from fewstep.formats.load import weights_digest
from fewstep.images import Images
from fewstep.model import Model
from fewstep.networks.adapters.lora import with_lora
from fewstep.tensors import DROPOUT, rng
from fewstep.training.recipe import Recipe
from fewstep.training.resolving import Resolved
from fewstep.training.state import State

TOLD = "unet.time_embedding.cond_proj.weight"
"""What a student has that its start may lack: the embedding of the guidance, zero at first."""


class Parts(NamedTuple):
    """What a step works with."""

    recipe: Recipe
    design: Design
    state: State
    student: nn.Module
    target: nn.Module
    teacher: nn.Module | None
    condition: Condition
    """Turns the labels of a batch into keywords."""


def build(resolved: Resolved, images: Images, condition: Condition, device: torch.device) -> Parts:
    """Networks, optimizer and averages, at the beginning of the run."""
    recipe, teacher = resolved.recipe, resolved.teacher
    torch.manual_seed(int(rng(recipe.seed, DROPOUT).integers(1 << 62)))
    network = _placed(_begun(recipe, resolved.beginning), recipe, device)
    changing = None  # a teacher that stages replace, and that is kept with the state
    if teacher is not None and recipe.objective.stage(1.0) > 0:
        changing = copy.deepcopy(network).eval().requires_grad_(False)
        changing.load_state_dict(teacher.denoiser.network.state_dict())
    separate = recipe.objective.target_rate(0.0) is not None
    state = State(network, recipe.optimizer, recipe.ema, target=separate, teacher=changing)
    student = _seen(network, recipe, device)
    target = student if state.target is None else _seen(state.target, recipe, device)
    asked = _teacher(teacher, changing, recipe, condition, device)
    return Parts(recipe, _design(resolved, images), state, student, target, asked, condition)


def _begun(recipe: Recipe, beginning: Model | None) -> nn.Module:
    """The network with its first weights."""
    latent = recipe.latent
    if latent and latent.lora:
        assert beginning is not None
        network = with_lora(beginning.denoiser.network, latent.lora).train()
    else:
        network = recipe.architecture.build()
        if beginning is not None:
            theirs = beginning.denoiser.network.state_dict()
            extra = {TOLD: network.state_dict()[TOLD]} if latent and TOLD in network.state_dict() else {}
            network.load_state_dict({**extra, **theirs})
    if latent and latent.recompute:
        network.unet.enable_gradient_checkpointing()  # type: ignore[union-attr, operator]
    return network


class Lowered(nn.Module):
    """A network that computes in lower precision: what goes in and what comes around it stays float32. Forward-mode
    derivatives are computed in float32 as well: autocast would cast the values without them."""

    def __init__(self, network: Callable[..., Any], device: str, dtype: torch.dtype):
        super().__init__()
        self.network, self.device, self.dtype = network, device, dtype

    def forward(self, *args: Tensor, **cond: Any) -> Any:
        plain = unpack_dual(args[0]).tangent is None
        with torch.autocast(self.device, self.dtype, enabled=plain):
            out = self.network(*args, **cond)
        return out.float() if isinstance(out, Tensor) else tuple(part.float() for part in out)


def _seen(network: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    """The network as the objective sees it."""
    wrapped = _wrapped(network, recipe, device)
    return Denoiser(wrapped, recipe.schedule, recipe.parameterization) if recipe.objective.denoises else wrapped


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
    teacher: Model | None, changing: nn.Module | None, recipe: Recipe, condition: Condition, device: torch.device
) -> nn.Module | None:
    if teacher is None:
        return None
    network = changing if changing is not None else _placed(teacher.denoiser.network, recipe, device)
    d = teacher.design
    denoiser = Denoiser(_wrapped(network, recipe, device), d.schedule, d.parameterization).eval()
    w, drawn = recipe.guidance - 1, recipe.latent is not None and recipe.latent.w is not None
    return Guided(denoiser, w, condition.nothing) if w or drawn else denoiser


def _placed(network: nn.Module, recipe: Recipe, device: torch.device) -> nn.Module:
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    return network.to(device, memory_format=layout)  # type: ignore[call-overload]


def _design(resolved: Resolved, images: Images) -> Design:
    recipe, classes = resolved.recipe, resolved.recipe.architecture.num_classes
    return Design(
        architecture=recipe.architecture,
        parameterization=recipe.parameterization,
        schedule=recipe.schedule,
        condition=resolved.condition,
        space=resolved.space,
        times={str(len(times)): times for times in recipe.sampling_times},
        class_names=tuple(images.class_names) if classes else (),
        about={
            "name": recipe.name,
            "steps": recipe.steps,
            "batch": recipe.batch,
            "objective": type(recipe.objective).__name__,
            "label_drop": recipe.label_drop,
            **_base(recipe),
        },
    )


def _base(recipe: Recipe) -> dict[str, Any]:
    """Of a LoRA: the model that it changes, as it is now, and by how much."""
    if not recipe.latent or not recipe.latent.lora:
        return {}
    lora = recipe.latent.lora
    base = str(recipe.start or recipe.teacher)
    here = Path(base).expanduser()  # a place is kept whole, so that it is found from elsewhere
    base = str(here.resolve()) if here.exists() else base
    return {"base": base, "base_digest": weights_digest(base), "lora_scale": lora.alpha / lora.rank}
