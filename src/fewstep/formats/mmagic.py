"""mmagic's configurations of consistency models.

    unet_config = dict(model_channels=192, num_res_blocks=3, ...)
    denoiser_config = dict(sigma_data=0.5, ...)
    model = dict(unet=unet_config, denoiser=denoiser_config, sampler='multistep', ts='0,22,39', steps=40, ...)

`ts` are indices of the Karras grid of `steps` noise levels; the last closes the list, no call is made there. The
sampler `multistep` is Algorithm 1 at those levels, `onestep` its first call; the others walk a diffusion model's ODE:

    heun, euler    along the grid and on to 0             dpm, midpoint  with the slope half-way in σ^(1/3), in σ
    ancestral      the same with fresh noise              progdist       Euler along steps + 1 levels, without the 0
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from fewstep.codec import nearest
from fewstep.denoiser import Denoiser
from fewstep.formats.literals import read_literals
from fewstep.formats.load import load
from fewstep.formats.mmagic_keys import CHURN, DEFAULTS, GENERATORS, NETWORK, SAMPLERS, TAKEN, checked, unused
from fewstep.model import Model
from fewstep.sampling import Churn
from fewstep.schedules import Karras

MIRROR = "https://download.openxlab.org.cn/models/xiaomile/consistency_models/weight/"
"""Where the configurations find OpenAI's released files; here those are taken from OpenAI, by their names."""


@dataclass(frozen=True)
class MMagic:
    """What a configuration asks for, in fewstep's terms."""

    weights: str | None
    """model_path: a file, a URL or the name of a release."""
    flags: Mapping[str, Any]
    """What it says of the network, by OpenAI's names: the `config` of `fewstep.load`."""
    consistent: bool
    """training_mode: whether the weights are a consistency function's."""
    schedule: Karras
    """sigma_min, sigma_max and the denoiser's rho."""
    sigma_data: float
    """Standard deviation of the data."""
    sampler: str
    """The name of fewstep's."""
    times: tuple[float, ...]
    """The noise levels of the calls of Algorithm 1; none for the other samplers, which take the grid of `steps`."""
    steps: int
    """Network calls, or steps of a walk."""
    churn: Churn
    """s_churn, s_tmin, s_tmax, s_noise, where the sampler takes them."""
    clip: bool
    """clip_denoised."""
    n: int
    """num_samples, else batch_size: how many pictures."""
    batch: int
    """batch_size: pictures at once."""
    seed: int
    """seed."""
    generator: str
    """Their name of the source of noise."""
    unused: Mapping[str, str] = field(default_factory=dict)
    """Keys that change nothing here, and why."""

    def remarks(self) -> list[str]:
        """Sentences for the user: the keys that are not used, by reason; what the generator means here."""
        reasons: dict[str, list[str]] = {}
        for key, why in self.unused.items():
            reasons.setdefault(why, []).append(key)
        groups = [f"{', '.join(keys)} ({why})" for why, keys in reasons.items()]
        here = "here a picture depends on (seed, its number, its label) alone, whatever the batch"
        noise = f"The generator '{self.generator}' is {GENERATORS[self.generator]} in mmagic; {here}."
        return [*([f"Not used: {'; '.join(groups)}."] if groups else []), noise]

    def load(self, source: str | Path | None = None, *, device: str | torch.device = "auto") -> Model:
        """The model with these weights (or those of `source`), preconditioned as configured; a folder as it is, which
        says itself what it is.

        Raises ValueError where neither names weights, and what `fewstep.load` raises.
        """
        source = source or self.weights
        if source is None:
            raise ValueError("The configuration has no model_path: name the weights.")
        if Path(source).expanduser().is_dir():
            return load(source, device=device)
        kind = "consistency" if self.consistent else "edm"
        model = load(source, device=device, config=self.flags, parameterization=kind)
        seen = replace(model.design.parameterization, sigma_data=self.sigma_data)  # type: ignore[type-var]
        design = replace(model.design, schedule=self.schedule, parameterization=seen)
        if design == model.design:
            return model
        return Model(Denoiser(model.denoiser.network, self.schedule, seen), design, model.device)


def read_mmagic(path: str | Path) -> MMagic:
    """The configuration in a file of assignments; `_base_` is ignored, nothing is executed.

    Raises FileNotFoundError where there is no file, ValueError, in one sentence, for what cannot be meant.
    """
    values = read_literals(path)
    if not isinstance(values.names.get("model"), dict):
        raise ValueError(f"{path} is no mmagic configuration: it has no model = dict(...).")
    idle = [name for name in values.names if name != "model" and name not in values.read]
    config = from_dict(values.names["model"], str(path))
    return replace(config, unused={**dict.fromkeys(idle, "only model is read"), **config.unused})


def from_dict(model: Mapping[str, Any], where: str = "This configuration") -> MMagic:
    """The configuration in a `model` dictionary. Raises ValueError, naming `where`, for what cannot be meant."""
    try:
        return _meant(_flat(model))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _flat(model: Mapping[str, Any]) -> dict[str, Any]:
    """{"unet": {"dropout": 0}, …} → {"unet.dropout": 0, …}"""
    flat = {key: value for key, value in model.items() if key not in ("unet", "denoiser")}
    for name in ("unet", "denoiser"):
        section = model.get(name, {})
        if not isinstance(section, Mapping):
            raise ValueError(f"{name} is a dict(...), not {section!r}.")
        flat |= {f"{name}.{key}": value for key, value in section.items()}
    return flat


def _meant(given: dict[str, Any]) -> MMagic:
    defaults = DEFAULTS | {"denoiser.sigma_min": given.get("sigma_min", DEFAULTS["sigma_min"])}
    ask = {key: checked(key, given.get(key, default), default) for key, default in defaults.items()}
    if ask["denoiser.sigma_min"] != ask["sigma_min"]:
        raise ValueError("sigma_min is written twice, in model and in denoiser, and differs.")
    if ask["unet.num_head_channels"] < 1 and ask["unet.num_heads_upsample"] not in (-1, ask["unet.num_heads"]):
        raise ValueError("fewstep has no network whose num_heads_upsample differs from its num_heads.")
    schedule = Karras(ask["sigma_min"], ask["sigma_max"], ask["denoiser.rho"])
    sampler = _named("sampler", ask["sampler"], SAMPLERS)
    last = ask["steps"] - 1
    indices = _indices(ask["ts"], last) if sampler == "multistep" else [0, last] if sampler == "onestep" else [last]
    times = tuple(schedule.grid(ask["steps"])[indices[:-1]].tolist())
    open_end = {} if indices[-1] == last else {"the end of ts": "mmagic leaves noise in the pictures, fewstep does not"}
    return MMagic(
        weights=_source(ask["model_path"]),
        flags=_flags(ask, given),
        consistent="consistency" in ask["training_mode"],
        schedule=schedule,
        sigma_data=ask["denoiser.sigma_data"],
        sampler=SAMPLERS[sampler],
        times=times,
        steps=len(times) or ask["steps"],
        churn=Churn(*(ask[key] for key in CHURN)) if sampler in TAKEN["s_churn"] else Churn(),
        clip=bool(ask["clip_denoised"]),
        n=ask["num_samples"] if ask["num_samples"] > 0 else ask["batch_size"],
        batch=ask["batch_size"],
        seed=ask["seed"],
        generator=_named("generator", ask["generator"], GENERATORS),
        unused=unused(given, sampler) | open_end,
    )


def _named(key: str, name: Any, names: Mapping[str, Any]) -> str:
    if name not in names:
        raise ValueError(f"there is no {key} '{name}'{nearest(str(name), names)}")
    return name


def _source(path: str) -> str | None:
    return Path(path).stem if path.startswith(MIRROR) else path or None


def _flags(ask: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights cannot tell (the size, the heads), and of the rest what is given, by OpenAI's names."""
    told = {key: ask[key] for key in NETWORK if key == "image_size" or given.get(key, "") != ""}
    told |= {"num_heads": ask["unet.num_heads"], "num_head_channels": ask["unet.num_head_channels"]}
    names = {"model_channels": "num_channels", "num_res_blocks": "num_res_blocks"}
    names |= {key: key for key in ("resblock_updown", "use_scale_shift_norm")}
    return told | {name: ask[f"unet.{key}"] for key, name in names.items() if f"unet.{key}" in given}


def _indices(ts: Any, last: int) -> list[int]:
    try:
        indices = [int(part) for part in (ts.split(",") if isinstance(ts, str) else ts)]
    except (TypeError, ValueError):
        indices = []
    if len(indices) < 2 or min(indices) < 0 or max(indices) > last or any(b <= a for a, b in pairwise(indices)):
        raise ValueError(f"ts ascends within 0 to {last} (steps - 1), such as '0,{last // 2},{last}', not {ts!r}.")
    return indices
