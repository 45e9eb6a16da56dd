"""A site that lacks something does not build: every public name is documented, and every method that diffusers has."""

import inspect

from api_pages import home_of
from sphinx.util import logging

import fewstep

EVERYWHERE = ["from_pretrained", "save_pretrained"]
PIPELINE = [*EVERYWHERE, "__call__", "enable_xformers_memory_efficient_attention"]
LATENT = [*PIPELINE, "enable_freeu", "disable_freeu", "enable_vae_slicing", "disable_vae_slicing", "enable_vae_tiling",
          "disable_vae_tiling"]  # fmt: skip
SCHEDULER = [*EVERYWHERE, "step", "scale_model_input", "set_timesteps", "add_noise"]
PROMISED = {
    "CMStochasticIterativeScheduler": SCHEDULER,
    "CMStochasticIterativeSchedulerOutput": ["prev_sample"],
    "LCMScheduler": SCHEDULER,
    "ConsistencyModelPipeline": PIPELINE,
    "LatentConsistencyModelPipeline": LATENT,
    "LatentConsistencyModelImg2ImgPipeline": LATENT,
    "LatentConsistencyModelInpaintPipeline": LATENT,
    "StableDiffusionPipelineOutput": ["images", "nsfw_content_detected"],
}
"""What diffusers' pages of these classes list."""


def setup(app) -> dict:
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def check(app, environment) -> None:
    documented = set(environment.domaindata["py"]["objects"])
    homes = {name: home_of(name, home) for name, home in fewstep.PUBLIC.items()}
    members = {f"{homes[name]}.{member}" for name, listed in PROMISED.items() for member in {*listed, *stock(name)}}
    for missing in sorted({*homes.values(), *members} - documented):
        logging.getLogger(__name__).warning(f"{missing} is on no page")


def stock(name: str) -> set[str]:
    """The public methods of diffusers' class of this name that ours has: all but helpers inside a call."""
    import diffusers

    theirs = getattr(diffusers, name, None)
    members = inspect.getmembers(theirs, inspect.isroutine) if theirs and "Output" not in name else []
    return {member for member, _ in members if member[0] != "_" and hasattr(getattr(fewstep, name), member)}
