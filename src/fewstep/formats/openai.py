"""OpenAI's checkpoints of consistency models: one file, the bare state dict of the U-Net.

    edm_*.pt, teacher_model*.pt      a diffusion model, EDM
    any other name                   a consistency function, Boundary
    both                             σ_data = 0.5, t in [0.002, 80], the network is told 250 ln t

`openai_shape` says what the tensors tell of the network, and what must be told beside them. fewstep writes that beside
the weights, as OpenAI's flags in `<file>.json`; a `config.json` of such flags in the same folder is read too.

The channels of an attention's `qkv` are ordered (three, head, dim). guided-diffusion's older networks have (head,
three, dim) and one-dimensional convolutions: rows are then permuted, and a trailing axis is added.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.codec import nearest
from fewstep.conditions import Labels, Nothing
from fewstep.design import Design, from_json, to_json
from fewstep.files import read_json, whole_file, write_json
from fewstep.formats.download import fetch
from fewstep.formats.openai_shape import FLAGS, IDLE, flags_of, shape_of
from fewstep.formats.releases import Release, release_of
from fewstep.formats.torch_files import open_tensors
from fewstep.networks import UNetShape
from fewstep.ondisk import Changed, outline, safetensors
from fewstep.parameterizations import EDM, Boundary, Parameterization
from fewstep.schedules import Karras

TEACHERS = ("edm_", "teacher_model")
"""How the names of files begin that hold diffusion models."""

NOISE_SCALE = 250.0
"""OpenAI's networks are told 250 ln t."""

Seen = str | Parameterization
"""How a network is seen, where its file does not say it: "consistency", "edm", or a parameterization itself."""

Order = str | None
"""How the channels of queries, keys and values are ordered in a file: one of ORDERS; None is the first."""

ORDERS = ("three-head-dim", "head-three-dim")

HEADER = "OpenAI's flags of the network in the file of this name without .json; written by fewstep"


def read(path: Path, config: Mapping[str, Any] | None, qkv_order: Order) -> tuple[Design, Mapping[str, Tensor]]:
    """The design and the weights of a file, in its own dtypes. Raises ValueError for what is no such network."""
    if qkv_order not in (None, *ORDERS):
        raise ValueError(f"There is no qkv_order '{qkv_order}'{nearest(str(qkv_order), ORDERS)}")
    weights = tensors(path)
    beside = sidecar(path)
    try:
        design = _kept(beside, path)
        if design is None:
            design = _told(path, weights, config if config and "image_size" in config else {**beside, **(config or {})})
        elif config:
            design = replace(design, architecture=shape_of(outline(weights), path, {**beside, **config}))
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from None
    return design, _arranged(weights, design.architecture, qkv_order)


def tensors(path: Path) -> Mapping[str, Tensor]:
    """What a file of tensors holds, .safetensors or torch.save's; ValueError for anything else."""
    return safetensors(path) if path.suffix == ".safetensors" else open_tensors(path)


def seen(meant: Seen, design: Design) -> Parameterization:
    """What `parameterization=` means: an object as it is; a word keeps what the network is told of the noise."""
    if isinstance(meant, Parameterization):
        return meant
    kinds = {"consistency": Boundary, "edm": EDM}
    if meant not in kinds:
        raise ValueError(f"There is no parameterization '{meant}'{nearest(meant, kinds)}")
    now = design.parameterization
    if not isinstance(now, EDM | Boundary):
        raise ValueError(f"This network is seen through {type(now).__name__}: give a parameterization, not a word.")
    return kinds[meant](now.sigma_data, now.noise_scale)


def write(path: str | Path, design: Design, weights: Mapping[str, Tensor]) -> None:
    """Writes a network under OpenAI's names, bit for bit; beside it, in `<file>.json`, what its tensors do not tell.

    Raises ValueError for what OpenAI's code cannot run, or would run as another function.
    """
    path, a, p = Path(path), design.architecture, design.parameterization
    if not isinstance(a, UNetShape):
        raise ValueError(
            f"OpenAI's form holds the papers' U-Net, and this is a {type(a).__name__.removesuffix('Shape')}."
        )
    if not isinstance(p, EDM | Boundary) or not isinstance(design.schedule, Karras) or design.schedule.rho != 7:
        raise ValueError("OpenAI's form holds what is seen through EDM or Boundary on the Karras schedule alone.")
    if (p.noise_scale, p.sigma_data) != (NOISE_SCALE, 0.5):
        raise ValueError(
            "OpenAI's networks are told 250 ln t, of data whose deviation is 0.5; this one was told "
            f"{p.noise_scale:g} ln t, at {p.sigma_data:g} (noise_scale, sigma_data), and would draw noise there."
        )
    kept = OrderedDict((name, w.detach().cpu().contiguous()) for name, w in weights.items())
    about = {"about": HEADER, **flags_of(a), "fewstep": to_json(design)}
    with whole_file(beside_of(path)) as described, whole_file(path) as aside:  # both are there before either is seen
        try:
            with open(aside, "wb") as file:
                torch.save(kept, file)
        except RuntimeError as error:
            raise OSError(f"{path} could not be written ({error}): is the disk full?") from None
        write_json(described, about)


def fetched(release: Release) -> Path:
    """A released file, from the cache or downloaded into it; ValueError where what came is not its network."""

    def check(path: Path) -> None:
        if shape_of(outline(open_tensors(path)), path, {}) != release.shape:
            raise ValueError(f"it is not the network of {release.name}.")

    return fetch(release.url, check)


def beside_of(path: Path) -> Path:
    """Where the flags of a file are kept."""
    return path.with_name(f"{path.name}.json")


def sidecar(path: Path) -> dict[str, Any]:
    """What `<file>.json`, or a `config.json` of OpenAI's flags in the same folder, says; {} where there is none."""
    if (own := beside_of(path)).is_file():
        plain = read_json(own)
        if not isinstance(plain, dict):
            raise ValueError(f'{own} must be a JSON object of OpenAI\'s flags, such as {{"image_size": 64}}.')
        return {name: value for name, value in plain.items() if name != "about"}
    shared = path.with_name("config.json")
    try:
        plain = json.loads(shared.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    ours = isinstance(plain, dict) and "image_size" in plain and plain.keys() <= {*FLAGS, *IDLE}
    return plain if ours else {}


def _kept(beside: dict[str, Any], path: Path) -> Design | None:
    """The whole design, where fewstep wrote it beside the file."""
    plain = beside.pop("fewstep", None)
    return None if plain is None else from_json(plain, str(beside_of(path)))


def _told(path: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Design:
    shape = shape_of(outline(weights), path, config)
    kind = EDM if path.name.startswith(TEACHERS) else Boundary
    release = release_of(path)
    about: dict[str, Any] = {"name": release.name, "text": f"{release.text}."} if release else {"name": path.stem}
    about |= {"levels": release.levels} if release and release.levels else {}
    about |= {"label_drop": 0.0} if shape.num_classes else {}  # OpenAI's training hides no label: not to be guided
    return Design(
        architecture=shape,
        parameterization=kind(noise_scale=NOISE_SCALE),
        schedule=Karras(),
        condition=Labels(shape.num_classes) if shape.num_classes else Nothing(),
        times=release.times if release else {},
        about=about,
    )


def _arranged(weights: Mapping[str, Tensor], shape: Any, order: Order) -> Mapping[str, Tensor]:
    """With (three, head, dim) and four axes wherever the file has something else."""
    flat = any(name.endswith(".qkv.weight") and w.ndim == 3 for name, w in outline(weights).items())
    if not flat and order in (None, ORDERS[0]):
        return weights

    def change(name: str, w: Tensor) -> Tensor:
        if order == ORDERS[1] and name.endswith((".qkv.weight", ".qkv.bias")):
            w = w.unflatten(0, (shape.heads(len(w) // 3), 3, -1)).transpose(0, 1).flatten(0, 2)
        return w[..., None] if w.ndim == 3 and name.endswith((".qkv.weight", ".proj_out.weight")) else w

    return Changed(weights, change)
