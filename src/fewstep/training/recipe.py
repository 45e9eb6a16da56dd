"""A recipe: everything that decides what a training run produces, as one frozen value.

`fewstep train NAME` takes one from `fewstep.recipes`, changes its leaves from the command line, and keeps the result as
`recipe.json` in the run's folder. The same recipe, data and seed give the same weights, bit for bit, on the CPU.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fewstep import design, discretizations, distances, lpips, objectives, solvers, targets, weightings
from fewstep.codec import decode, encode
from fewstep.images import Data
from fewstep.networks import Architecture, CompactShape
from fewstep.objectives import Objective
from fewstep.parameterizations import EDM, Boundary, Latched, Parameterization
from fewstep.schedules import Discrete, Karras, Schedule
from fewstep.training.coupling import Coupling
from fewstep.training.latent import Latent, Words
from fewstep.training.optimizers import AdamW, Optimizer, RAdam
from fewstep.training.scoring import Scoring


@dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    >>> from fewstep.images import Data
    >>> from fewstep.recipes import parts
    >>> recipe = fewstep.Recipe(parts.ect(q=4.0), Data("photos", size=32, channels=3), steps=20_000, batch=256)
    """

    objective: Objective
    """What a step minimises."""
    data: Data = field(default_factory=lambda: Data(path="digits"))
    """What to learn from."""
    architecture: Architecture = field(default_factory=CompactShape)
    """The network; classes, channels and size are those of the data, all is that of the model to start from."""
    latent: Latent | None = None
    """Training in latents, told prompts; None trains on the pictures themselves."""
    schedule: Schedule = field(default_factory=Karras)
    """The noise levels."""
    sigma_data: float = 0.5
    """Standard deviation of the data in [-1, 1], for the preconditioning (KarrasWeighting has its own)."""
    noise_scale: float = 0.25
    """The network is told noise_scale · ln t (250 for weights in the form of OpenAI's and diffusers')."""
    teacher: str | None = None
    """The diffusion model to learn from: a run folder, a saved model or a bundled name."""
    guidance: float = 1.0
    """The teacher's classifier-free guidance scale; 1 is none. It needs a teacher trained with label_drop."""
    start: str | None = None
    """Where the weights start: a model, `random`, or (None) the teacher where there is one."""
    optimizer: Optimizer = field(default_factory=RAdam)
    """How the weights move."""
    steps: int = 1000
    """Training steps in all."""
    batch: int = 128
    """Pictures a step, over all processes."""
    micro_batch: int | None = None
    """Pictures at once on one device; smaller needs less memory and changes nothing else but the masks of dropout."""
    clip: float | None = 1.0
    """Largest norm of the gradient; None for no clipping."""
    ema: tuple[float, ...] = (0.999,)
    """Rates of the averages of the weights that are kept; the first is the one that is saved and shown."""
    coupling: Coupling = "independent"
    """Which noise goes with which picture: as drawn, or the nearest within a batch (needs scipy)."""
    label_drop: float = 0.0
    """The share of samples whose label is hidden, for classifier-free guidance."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the network computes in; times and coefficients stay float32."""
    channels_last: bool = True
    """Memory layout; the faster one for convolutions."""
    compile: bool = False
    """Compile the network with torch.compile."""
    seed: int = 0
    """The source of all randomness."""
    times: tuple[tuple[float, ...], ...] = ()
    """Good sampling times to store with the model, such as ((80.0,), (80.0, 0.82)); see `sampling_times`."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """How many of the last checkpoints are kept."""
    preview_every: int = 500
    """Steps between preview grids."""
    score: Scoring | None = field(default_factory=Scoring)
    """A score of the model where previews are made; None or score.n 0 takes none."""
    workers: int = 2
    """Threads that decode pictures ahead, where they are not in memory."""
    name: str = "custom"
    """The recipe's name."""

    def __post_init__(self):
        counts = (self.steps, self.batch, self.checkpoint_every, self.preview_every, self.keep)
        if min(counts) < 1 or (self.micro_batch is not None and self.micro_batch < 1):
            raise ValueError(
                "steps, batch, micro_batch, checkpoint_every, preview_every and keep are whole numbers from 1."
            )
        if self.seed < 0 or self.workers < 0:
            raise ValueError("seed and workers are whole numbers from 0.")
        if self.sigma_data <= 0 or (self.clip is not None and self.clip <= 0):
            raise ValueError("sigma_data and clip are larger than 0; clip None is no clipping.")
        if not 0 <= self.label_drop < 1 or not all(0 <= rate < 1 for rate in self.ema) or not self.ema:
            raise ValueError("label_drop and every rate in ema lie in [0, 1), and ema has at least one rate.")
        if self.latent and self.objective.denoises and not isinstance(self.schedule, Discrete):
            raise ValueError("Latent diffusion works on a DDPM's noise levels: the schedule must be Discrete.")
        if self.objective.needs_teacher and self.start == "random" and not self.teacher:
            raise ValueError("This objective needs a teacher: give one with --teacher.")
        stages = self.objective.stage(1.0) + 1
        if self.steps < 2 * stages and len({self.objective.stage(k / self.steps) for k in range(self.steps)}) < stages:
            raise ValueError(f"{self.steps} steps pass over some of the {stages} stages of "
                             f"{type(self.objective).__name__}: give at least {stages + 2}.")  # fmt: skip

    @property
    def parameterization(self) -> Parameterization:
        """EDM's for a diffusion objective, the boundary one for a consistency objective; those of latents likewise."""
        if self.latent:
            inner = self.latent.parameterization
            latched = Latched(inner, self.sigma_data, self.latent.timestep_scaling)
            return latched if self.objective.consistent else inner
        kind = Boundary if self.objective.consistent else EDM
        return kind(self.sigma_data, self.noise_scale)

    @property
    def sampling_times(self) -> tuple[tuple[float, ...], ...]:
        """`times` that the noise levels allow: none begins above t_max, none has a later time outside."""
        if not isinstance(self.schedule, Karras):
            return self.times
        low, high = self.schedule.t_min, self.schedule.t_max
        clipped = [(min(first, high), *rest) for first, *rest in self.times]
        return tuple(times for times in clipped if all(low <= t < times[0] for t in times[1:]))

    def progress(self, step: int) -> float:
        """k/K of step k (counted from 0)."""
        return min(1.0, step / self.steps)


FREE = ("micro_batch", "checkpoint_every", "keep", "preview_every", "score", "workers", "name", "compile")
"""Fields that may change when a run goes on: they do not change what it produces, but for rounding and for the masks of
dropout, which are those of a micro-batch."""


def _classes(module) -> tuple[type, ...]:
    """The dataclasses that a module defines or exports."""
    return tuple(v for v in vars(module).values() if isinstance(v, type) and hasattr(v, "__dataclass_fields__"))


PARTS = tuple(
    dict.fromkeys(
        [
            *design.PARTS,
            *(
                c
                for m in (discretizations, distances, lpips, objectives, solvers, targets, weightings)
                for c in _classes(m)
            ),
            Data,
            Latent,
            Scoring,
            Words,
            RAdam,
            AdamW,
            Recipe,
        ]
    )
)
"""Every class that a `recipe.json` may name."""


def to_json(recipe: Recipe) -> dict:
    plain = encode(recipe)
    assert isinstance(plain, dict)
    return plain


def from_json(plain: Any, where: str = "This file") -> Recipe:
    """The recipe in a `recipe.json`; ValueError, naming the file `where`, for an unknown part or field."""
    try:
        recipe = decode(plain, PARTS)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    if not isinstance(recipe, Recipe):
        raise ValueError(f"{where} holds no recipe.")
    return recipe


def with_free(recipe: Recipe, other: Recipe) -> Recipe:
    """`recipe` with the free fields of `other`, and its cache."""
    if recipe.latent and other.latent:
        recipe = replace(recipe, latent=replace(recipe.latent, cache=other.latent.cache))
    return replace(recipe, **{name: getattr(other, name) for name in FREE})
