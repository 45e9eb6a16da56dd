"""The design of a model: all of it but its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fewstep.codec import decode, encode
from fewstep.conditions import Condition, Labels, Nothing, Prompts
from fewstep.networks import Architecture, CompactShape, UNetShape
from fewstep.networks.adapters import AutoencoderShape, LatentUNetShape, Lora
from fewstep.parameterizations import EDM, Boundary, Epsilon, Latched, Parameterization, Sample, Velocity
from fewstep.schedules import Discrete, Karras, Schedule
from fewstep.spaces import Latents, Pixels, Space


@dataclass(frozen=True)
class Design:
    """What `model.json` keeps."""

    architecture: Architecture
    """The network."""
    parameterization: Parameterization
    """How its output becomes an estimate of x_0."""
    schedule: Schedule = field(default_factory=Karras)
    """The noise levels."""
    condition: Condition = field(default_factory=Nothing)
    """What it can be asked for."""
    space: Space = field(default_factory=Pixels)
    """Where it works."""
    times: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Good sampling times by number of steps ("2": (80.0, 0.82)); others are Karras-spaced."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in the order of their labels."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from: recipe, steps, data, scores, the text of the model card."""


PARTS = (
    Design,
    CompactShape,
    UNetShape,
    LatentUNetShape,
    AutoencoderShape,
    Lora,
    Karras,
    Discrete,
    EDM,
    Boundary,
    Epsilon,
    Velocity,
    Sample,
    Latched,
    Nothing,
    Labels,
    Prompts,
    Pixels,
    Latents,
)
"""Every class that a model's file may name."""


def to_json(design: Design) -> dict:
    return {"format": "fewstep model", "version": 1, "design": encode(design)}


def from_json(plain: Any, where: str) -> Design:
    """The design in a `model.json`; ValueError for anything else, or one that a later version wrote."""
    if not isinstance(plain, Mapping) or plain.get("format") != "fewstep model":
        raise ValueError(f"{where} is not the description of a fewstep model.")
    if plain.get("version") != 1:
        raise ValueError(f"{where} was written by a later fewstep (format {plain.get('version')}): update fewstep.")
    try:
        design = decode(plain.get("design"), PARTS)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from None
    if not isinstance(design, Design):
        raise ValueError(f"{where} is not the description of a fewstep model.")
    return design
