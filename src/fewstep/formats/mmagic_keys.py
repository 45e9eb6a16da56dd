"""The keys of mmagic's configurations of consistency models: which are used, which change nothing here, and why.

A key of `unet` or `denoiser` is written `unet.dropout`; the others are those of `model` itself.
"""

from typing import Any

SAMPLERS = {
    "onestep": "consistency",
    "multistep": "consistency",
    "heun": "heun",
    "dpm": "dpm",
    "ancestral": "ancestral",
    "progdist": "progdist",
    "euler": "euler",
    "midpoint": "midpoint",
}
"""Their samplers → fewstep's."""

GENERATORS = {
    "dummy": "torch's global stream",
    "determ": "one stream for all pictures",
    "determ-indiv": "a stream for each picture",
}
"""Their sources of noise."""

NETWORK = ("image_size", "attention_resolutions", "channel_mult", "class_cond")
"""The keys of `model` that shape the network; OpenAI has the same names."""

DEFAULTS: dict[str, Any] = {
    "image_size": 256,
    "attention_resolutions": "32,16,8",
    "channel_mult": "",
    "class_cond": False,
    "unet.model_channels": 128,
    "unet.num_res_blocks": 2,
    "unet.num_heads": 1,
    "unet.num_head_channels": -1,
    "unet.num_heads_upsample": -1,
    "unet.resblock_updown": False,
    "unet.use_scale_shift_norm": False,
    "denoiser.sigma_data": 0.5,
    "denoiser.sigma_min": 0.002,
    "denoiser.rho": 7.0,
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "model_path": "",
    "training_mode": "consistency_distillation",
    "sampler": "onestep",
    "steps": 40,
    "ts": "",
    "clip_denoised": True,
    "s_churn": 0.0,
    "s_tmin": 0.0,
    "s_tmax": float("inf"),
    "s_noise": 1.0,
    "batch_size": 4,
    "num_samples": 0,
    "seed": 0,
    "generator": "determ-indiv",
}
"""The keys that are used, with mmagic's defaults."""

CHURN = ("s_churn", "s_tmin", "s_tmax", "s_noise")
TAKEN = {"ts": ("multistep",), "steps": tuple(SAMPLERS)[1:], **dict.fromkeys(CHURN, ("heun", "dpm"))}
"""The samplers that read a key, where not all do."""

_OURS, _TOLD, _TRAINED = "fewstep has one class of each kind", "the weights tell", "only training needs it"
_ELSEWHERE = "the key of model goes before it"
UNUSED = {
    **dict.fromkeys(("type", "unet.type", "denoiser.type"), _OURS),
    **dict.fromkeys(("learn_sigma", "num_classes", "unet.in_channels", "unet.out_channels"), _TOLD),
    **dict.fromkeys(("unet.dropout", "unet.use_checkpoint"), _TRAINED),
    **dict.fromkeys(("denoiser.weight_schedule", "denoiser.loss_norm"), _TRAINED),
    **dict.fromkeys((f"unet.{key}" for key in ("num_classes", *NETWORK[:3])), _ELSEWHERE),
    "denoiser.sigma_max": _ELSEWHERE,
    "denoiser.distillation": "training_mode goes before it",
    "unet.use_fp16": "pictures are drawn in float32",
    "unet.use_new_attention_order": "it changes nothing in mmagic either",
    "data_preprocessor": "pictures are written as 127.5 (x + 1)",
}
"""The keys that change no picture, and why."""


def unused(given: dict[str, Any], sampler: str) -> dict[str, str]:
    """The given keys that change nothing with this sampler of theirs, or that nobody knows, and why."""
    idle = {key: why for key, why in UNUSED.items() if key in given}
    for key, takers in TAKEN.items():
        if given.get(key, DEFAULTS[key]) != DEFAULTS[key] and sampler not in takers:
            idle[key] = f"the sampler {sampler} takes none"
    unknown = [key for key in given if key not in DEFAULTS and key not in UNUSED]
    return idle | dict.fromkeys(unknown, "unknown")


def checked(key: str, value: Any, default: Any) -> Any:
    """The value, if it is of its default's kind; the default where it is None. Raises ValueError."""
    kinds = {float: (int, float), bool: (bool, int), int: (int,), str: (str, list, tuple)}[type(default)]
    if value is None:
        return default
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
        kind = {float: "a number", bool: "True or False", int: "a whole number", str: "a string"}[type(default)]
        raise ValueError(f"{key} is {kind}, not {value!r}.")
    return float(value) if isinstance(default, float) else value
