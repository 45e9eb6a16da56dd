"""What a recipe says of latent diffusion: whose latents, whose words, which guidance, and what learns."""

from dataclasses import dataclass
from typing import Literal

from fewstep.networks.adapters import Lora
from fewstep.parameterizations import Epsilon, Parameterization, Sample, Velocity

PREDICTIONS: dict[str, Parameterization] = {"epsilon": Epsilon(), "v": Velocity(), "sample": Sample()}
"""What a network may predict."""


@dataclass(frozen=True)
class Words:
    """A new tokenizer, made of the captions, and a new CLIP-shaped text encoder, trained with the network."""

    vocabulary: int = 1000
    """Kinds of tokens; 514 of them are the letters."""
    length: int = 32
    """Tokens of a prompt, begin and end included."""
    width: int = 128
    """Width of an embedded token."""
    layers: int = 4
    """Layers of the text encoder."""
    heads: int = 4
    """Heads of its attention."""

    def __post_init__(self):
        if self.vocabulary < 514 or self.length < 3 or self.layers < 1 or self.width % self.heads:
            raise ValueError(f"A text encoder needs vocabulary ≥ 514, length ≥ 3, layers ≥ 1, and heads that divide "
                             f"its width, not {self}.")  # fmt: skip


@dataclass(frozen=True)
class Latent:
    """Training in the latents of an autoencoder, told prompts."""

    autoencoder: str = ""
    """Whose latents: a pipeline's or an autoencoder's folder, a Hub id, a run that trained one; else the teacher's."""
    text: str = ""
    """Who reads the prompts: a pipeline's folder or a Hub id; else the teacher's text encoders."""
    words: Words | None = None
    """A text encoder to be trained with the network, in the place of one that is there."""
    prediction: Literal["epsilon", "v", "sample"] = "epsilon"
    """What a new network predicts; one that is trained on keeps its own."""
    w: tuple[float, float] | None = None
    """Lowest and highest guidance, guidance_scale − 1, drawn for each sample; None takes the fixed --guidance."""
    told: int = 256
    """Width of the guidance embedding that a student gets where its start has none; 0 leaves it untold."""
    timestep_scaling: float = 10.0
    """How soon the identity at time 0 gives way: the factor before the time."""
    lora: Lora | None = None
    """Train low-rank changes alone."""
    recompute: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    cache: str = ""
    """Where latents and embeddings are kept; else a folder `cache` beside the run's."""
    cache_precision: Literal["fp16", "fp32"] = "fp16"
    """What they are kept in."""

    def __post_init__(self):
        if self.w is not None and not 0 <= self.w[0] <= self.w[1]:
            raise ValueError(f"w is a range 0 ≤ low ≤ high of guidance_scale − 1, such as (3, 13), not {self.w}.")
        if self.told < 0 or self.told == 1:
            raise ValueError(f"told is 0 or a width of at least 2, such as 256, not {self.told}.")
        if self.timestep_scaling <= 0:
            raise ValueError("timestep_scaling is larger than 0.")

    @property
    def parameterization(self) -> Parameterization:
        """Of what the network predicts."""
        return PREDICTIONS[self.prediction]


def prediction_of(parameterization: Parameterization) -> str:
    """Its name; ValueError for one that is not of latent diffusion."""
    for name, known in PREDICTIONS.items():
        if known == parameterization:
            return name
    raise ValueError(f"Latent diffusion predicts {', '.join(PREDICTIONS)}; this is {type(parameterization).__name__}.")
