"""`scheduler/scheduler_config.json` of latent diffusion ↔ noise levels and what the network predicts.

All of diffusers' schedulers on the levels of a DDPM (DDIM, PNDM, Euler, DPM-Solver, LCM, …) name them alike; how they
walk is no part of a model. LCMScheduler is the mark of a consistency function. Written are DDIMScheduler, walking as
`Discrete.walk` does, and LCMScheduler.
"""

from collections.abc import Mapping
from typing import Any, Literal

from fewstep.codec import nearest
from fewstep.design import Design
from fewstep.parameterizations import Epsilon, Latched, Parameterization, Sample, Velocity
from fewstep.schedules import Discrete

LCM = "LCMScheduler"

PREDICTIONS: dict[str, Parameterization] = {"epsilon": Epsilon(), "v_prediction": Velocity(), "sample": Sample()}
"""What diffusers calls what a network predicts."""

SPACINGS: dict[str, Literal["scaled_linear", "linear", "cosine"]] = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
}
"""What diffusers calls how β grows."""

COMMON = {
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "thresholding": False,
}
"""What a written scheduler has besides."""


def schedule_of(plain: Any, where: str) -> Discrete:
    """The noise levels of a config; ValueError, with file and key, for other ones than a DDPM's."""
    if not isinstance(plain, Mapping) or "_class_name" not in plain:
        raise ValueError(f"{where} is damaged: it names no scheduler.")
    kind, lcm = str(plain["_class_name"]), plain["_class_name"] == LCM
    if kind.startswith(("FlowMatch", "CM", "EDM", "SCM", "VQ")):
        raise ValueError(f"{where} names a {kind}, whose noise levels are no DDPM's: fewstep does not read them.")
    spacing = str(plain.get("beta_schedule", "scaled_linear" if lcm else "linear"))
    try:
        betas = tuple(float(b) for b in plain.get("trained_betas") or ())
        numbers: dict[str, Any] = {
            "steps": int(plain.get("num_train_timesteps", 1000)),
            "beta_start": float(plain.get("beta_start", 0.00085 if lcm else 0.0001)),
            "beta_end": float(plain.get("beta_end", 0.012 if lcm else 0.02)),
            "origin": int(plain.get("original_inference_steps") or 50),
        }
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where} is damaged: a number is something else ({error}).") from None
    if spacing not in SPACINGS and not betas:
        raise ValueError(f"{where}: beta_schedule is '{spacing}'{nearest(spacing, SPACINGS)}.")
    return Discrete(
        **numbers,
        spacing=SPACINGS.get(spacing, "linear"),
        zero_snr=bool(plain.get("rescale_betas_zero_snr", False)),
        betas=betas,
    )


def parameterization_of(plain: Mapping[str, Any], where: str) -> Parameterization:
    """What the network of a config predicts; ValueError for a kind that is not known here."""
    kind = str(plain.get("prediction_type", "epsilon"))
    if kind not in PREDICTIONS:
        raise ValueError(f"{where}: prediction_type is '{kind}'{nearest(kind, PREDICTIONS)}.")
    inner = PREDICTIONS[kind]
    if plain["_class_name"] != LCM:
        return inner
    return Latched(inner, timestep_scaling=float(plain.get("timestep_scaling", 10.0)))


def scheduler_of(design: Design) -> dict[str, Any]:
    """The config of a design; ValueError, with the reason, for one that diffusers cannot express."""
    schedule, seen = design.schedule, design.parameterization
    inner = seen.inner if isinstance(seen, Latched) else seen
    kind = next((name for name, known in PREDICTIONS.items() if known == inner), None)
    if not isinstance(schedule, Discrete) or kind is None:
        raise ValueError(
            f"diffusers has no scheduler of {type(schedule).__name__} noise levels seen through {type(inner).__name__} "
            "for a latent U-Net."
        )
    if isinstance(seen, Latched) and seen.sigma_data != 0.5:
        raise ValueError(f"diffusers' LCMScheduler knows no other sigma_data than 0.5, and this is {seen.sigma_data}.")
    # With trailing timesteps the offset does nothing, but pipelines of diffusers warn of one that is not 1.
    more: dict[str, Any] = {"timestep_spacing": "trailing", "steps_offset": 1}
    if isinstance(seen, Latched):
        more = {"timestep_spacing": "leading", "original_inference_steps": schedule.origin,
                "timestep_scaling": seen.timestep_scaling}  # fmt: skip
    return {
        "_class_name": LCM if isinstance(seen, Latched) else "DDIMScheduler",
        **COMMON,
        **more,
        "num_train_timesteps": schedule.steps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": next(name for name, ours in SPACINGS.items() if ours == schedule.spacing),
        "trained_betas": list(schedule.betas) or None,
        "rescale_betas_zero_snr": schedule.zero_snr,
        "prediction_type": kind,
    }
