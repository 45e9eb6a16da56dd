"""What a recipe would do: settings, size, memory, the cost of a step. Nothing is trained and no data is needed.

Networks and pictures are fake tensors, which have a shape and no memory, so that the largest recipe takes seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.forward_ad import unpack_dual
from torch.utils.flop_counter import FlopCounterMode

from fewstep import lpips
from fewstep.cli.costs import Cost, Kept, cost_of, measured
from fewstep.cli.doctor import memory, size
from fewstep.denoiser import Denoiser
from fewstep.distances import Squared
from fewstep.objectives import Continuous, Draw

if TYPE_CHECKING:
    from fewstep.training.recipe import Recipe

MEASURED = 4e9
"""Networks of at most so many operations a picture are run for a moment, to measure seconds."""


@dataclass(frozen=True)
class Calls:
    """How often a step calls its networks, for each picture."""

    trained: int
    """The student, with a backward pass."""
    free: int
    """The target, without."""
    teacher: int


def report(recipe: "Recipe") -> None:
    """Prints it all."""
    recipe, note = as_started(recipe)
    print("\n".join(tree(recipe, recipe.name)))
    cost, calls, seen = cost_of(recipe.architecture, recipe.precision), calls_of(recipe), judge_cost(recipe)
    print("\n".join(["", f"parameters: {cost.parameters:,}", *note, *memory_lines(recipe, cost, seen, calls)]))
    print("\n".join(step_lines(recipe, cost, seen, calls)))


def as_started(recipe: "Recipe") -> tuple["Recipe", list[str]]:
    """The recipe with the network of the model that it starts from, if that can be found."""
    from fewstep.formats import architecture

    source = recipe.teacher if recipe.start is None else None if recipe.start == "random" else recipe.start
    if recipe.latent and source and not Path(source).expanduser().exists():
        return recipe, [f"{source} is not here (yet): its network is taken to be the recipe's"]
    if source is None:
        missing = "the teacher is taken to be of the same size; training needs it: --teacher RUN"
        return recipe, [missing] if recipe.objective.needs_teacher and not recipe.teacher else []
    try:
        return replace(recipe, architecture=architecture(source)), []
    except FileNotFoundError:
        return recipe, [f"{source} is not there (yet): its network is taken to be the recipe's"]


def tree(value: Any, name: str, depth: int = 0) -> Iterator[str]:
    """Nested settings, a line each, indented."""
    indent = "  " * depth
    if not is_dataclass(value):
        yield f"{indent}{name}: {value}"
        return
    yield f"{indent}{name}: {type(value).__name__}"
    plain = sorted(fields(value), key=lambda f: is_dataclass(getattr(value, f.name)))
    for field in plain:
        if not (depth == 0 and field.name == "name"):
            yield from tree(getattr(value, field.name), field.name, depth + 1)


class Counting(nn.Module):
    """A network that does nothing but count its calls; one with a forward-mode derivative is worth two."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.trained = self.free = 0

    def forward(self, x: Tensor, t: Any, **cond: Any) -> Tensor:
        worth = 1 if unpack_dual(x).tangent is None else 2
        if torch.is_grad_enabled():
            self.trained += worth
        else:
            self.free += worth
        return x * self.weight


def calls_of(recipe: "Recipe") -> Calls:
    """Asks the objective itself, with networks that count and pictures of 8×8."""
    objective, student, teacher = recipe.objective, Counting(), Counting()
    if not objective.denoises:
        return Calls(1, 0, 0)
    if is_dataclass(objective) and hasattr(objective, "distance"):  # LPIPS would fetch its weights
        objective = replace(objective, distance=Squared())
    t, s = objective.times(torch.tensor([0.3, 0.6], dtype=torch.float64), recipe.schedule, 0.5)
    x = torch.zeros(2, 3, 8, 8)
    draw = Draw(recipe.schedule, x, torch.ones_like(x), t.float(), s.float(), {})
    seen = Denoiser(student, recipe.schedule, recipe.parameterization)
    objective.loss(seen, seen, draw, teacher=teacher)
    guided = 2 if recipe.guidance != 1 or (recipe.latent and recipe.latent.w) else 1
    return Calls(student.trained, student.free, guided * (teacher.free + teacher.trained))


def judge_cost(recipe: "Recipe") -> Cost:
    """LPIPS reads both estimates with VGG16, and the gradient goes back through one of them.

    In continuous time its second derivative is needed: 3 times as much, 11/3 with the gradient through both sides.
    """
    distances = [getattr(recipe.objective, name, None) for name in ("distance", "also")]
    distance = next((d for d in distances if isinstance(d, lpips.LPIPS)), None)
    if distance is None:
        return Cost()
    side = recipe.architecture.image_size
    if distance.size is not None and not (distance.below is not None and side >= distance.below):
        side = distance.size
    parameters = 0
    with FakeTensorMode():
        x = torch.zeros(1, 3, side, side, requires_grad=True)
        kept = Kept(nn.Identity(), set())
        with FlopCounterMode(display=False) as forward, kept:
            h = x
            for i, stage in enumerate(lpips.STAGES):
                h = nn.functional.avg_pool2d(h, 2) if i else h
                for width in stage:
                    weight = torch.zeros(width, h.shape[1], 3, 3)
                    kept.own.add(weight.untyped_storage()._cdata)
                    parameters += weight.numel() + width
                    h = nn.functional.conv2d(h, weight, padding=1).relu()
        with FlopCounterMode(display=False) as backward:
            h.sum().backward()
    first, second, times = forward.get_total_flops(), backward.get_total_flops(), 1.0
    if isinstance(recipe.objective, Continuous):
        times = 3.0 if recipe.objective.stop_gradient else 11 / 3
    return Cost(parameters, times * first, times * (first + second), kept.bytes)


def learned(recipe: "Recipe", cost: Cost) -> int:
    """How many parameters learn: all of them, or those of the low-rank layers."""
    lora = recipe.latent.lora if recipe.latent else None
    if lora is None:
        return cost.parameters
    network = recipe.architecture.outline()
    with torch.device("meta"):
        lora.add_to(network.get_submodule("unet"))
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def memory_lines(recipe: "Recipe", cost: Cost, seen: Cost, calls: Calls) -> list[str]:
    """What one process needs, in words."""
    once, micro = 4 * learned(recipe, cost), min(recipe.micro_batch or recipe.batch, recipe.batch)
    frozen = 4 * cost.parameters if recipe.latent and recipe.latent.lora else 0  # shared with the teacher
    staged = recipe.objective.stage(1.0) > 0
    about = "at most" if recipe.latent and recipe.latent.recompute else "about"
    parts = {
        "weights, gradients, optimizer": 4 * once,
        "frozen weights": frozen,
        f"averages ({len(recipe.ema)})": len(recipe.ema) * once,
        "target": once if recipe.objective.target_rate(0.0) is not None else 0,
        "teacher": once if (calls.teacher or staged) and not frozen else 0,
        "LPIPS": 4 * seen.parameters,
        f"activations of {micro} pictures, {about}": micro * (calls.trained * cost.activations + seen.activations),
    }
    total = sum(parts.values())
    lines = [f"memory: about {size(total)} for each process"]
    lines += [f"  {name}: {size(count)}" for name, count in parts.items() if count]
    free = memory()
    if free is not None and not torch.cuda.is_available() and total > free[0]:
        smaller = max(1, micro // 4)
        lines.append(f"  more than the {size(free[0])} that are free here: try --micro-batch {smaller}")
    return lines


def step_lines(recipe: "Recipe", cost: Cost, seen: Cost, calls: Calls) -> list[str]:
    """What a step costs, in words."""
    judged = seen.trained + seen.forward
    picture = calls.trained * cost.trained + (calls.free + calls.teacher) * cost.forward + judged
    pictures = recipe.steps * recipe.batch
    passes = [f"student {calls.trained} with its backward pass"]
    other = "derivative" if isinstance(recipe.objective, Continuous) else "target"
    passes += [f"{other} {calls.free}"] if calls.free else []
    passes += [f"teacher {calls.teacher}"] if calls.teacher else []
    passes += ["LPIPS of both"] if judged else []
    lines = [
        f"a step: {operations(recipe.batch * picture)}, {recipe.batch} pictures × {operations(picture)}",
        f"  calls: {', '.join(passes)}; one call of the network: {operations(cost.forward)} a picture",
        f"the run: {recipe.steps} steps, {operations(pictures * picture)}, {pictures:,} pictures",
    ]
    if cost.forward > MEASURED or judged:
        return [*lines, "  (too large to measure here in a moment)"]
    forward, trained = measured(recipe.architecture)
    seconds = recipe.batch * (calls.trained * trained + (calls.free + calls.teacher) * forward)
    here, whole = f"here (CPU, {torch.get_num_threads()} threads)", duration(seconds * recipe.steps)
    return [*lines, f"  {here}: about {seconds:.2g} s a step, {whole} in all"]


def operations(number: int | float) -> str:
    for unit in ("", "K", "M", "G", "T", "P", "E"):
        if number < 1000 or unit == "E":
            return f"{number:.3g} {unit}FLOP"
        number /= 1000
    raise AssertionError


def duration(seconds: int | float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
