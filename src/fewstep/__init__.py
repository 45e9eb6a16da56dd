"""fewstep: train, sample and edit consistency models.

    model = fewstep.load("mnist")
    x = model.sample(16, steps=2, seed=0, labels=7)
    fewstep.save_grid(x, "grid.png")

The names below are loaded when they are first used, so that `import fewstep` is quick and imports no torch.
"""

from importlib import import_module

__version__ = "0.1.0"

PUBLIC = {
    "load": "fewstep.formats",
    "path": "fewstep.formats",
    "push_to_hub": "fewstep.formats.hub",
    "Model": "fewstep.model",
    "write": "fewstep.formats.writing",
    "save_grid": "fewstep.images",
    "Denoiser": "fewstep.denoiser",
    "Karras": "fewstep.schedules",
    "Discrete": "fewstep.schedules",
    "EDM": "fewstep.parameterizations",
    "Boundary": "fewstep.parameterizations",
    "sample": "fewstep.sampling",
    "trajectory": "fewstep.sampling",
    "Inpaint": "fewstep.editing",
    "Colorize": "fewstep.editing",
    "SuperResolve": "fewstep.editing",
    "evaluate": "fewstep.evaluation.evaluating",
    "fit": "fewstep.training.fit",
    "Recipe": "fewstep.training.recipe",
    "CMStochasticIterativeScheduler": "fewstep.dropin.consistency_scheduler",
    "CMStochasticIterativeSchedulerOutput": "fewstep.dropin.consistency_scheduler",
    "ConsistencyModelPipeline": "fewstep.dropin.consistency_pipeline",
    "ConsistencyModelInpaintPipeline": "fewstep.dropin.consistency_editing",
    "ConsistencyModelColorizePipeline": "fewstep.dropin.consistency_editing",
    "ConsistencyModelSuperResolutionPipeline": "fewstep.dropin.consistency_editing",
    "ConsistencyModelImg2ImgPipeline": "fewstep.dropin.consistency_editing",
    "LatentConsistencyModelPipeline": "fewstep.dropin.latent_pipeline",
    "StableDiffusionPipelineOutput": "fewstep.dropin.latent_pipeline",
    "LatentConsistencyModelImg2ImgPipeline": "fewstep.dropin.latent_editing",
    "LatentConsistencyModelInpaintPipeline": "fewstep.dropin.latent_editing",
    "LCMScheduler": "fewstep.dropin.latent_scheduler",
    "LCMSchedulerOutput": "fewstep.dropin.latent_scheduler",
}
"""Every public name and the module it lives in: to add a name, add a line."""

__all__ = ["__version__", *PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):
    if name not in PUBLIC:
        raise AttributeError(f"module 'fewstep' has no attribute '{name}'{nearest(name)}")
    value = getattr(import_module(PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])


def nearest(name: str) -> str:
    """`: perhaps you meant '...'` when a public name is close, else nothing."""
    from difflib import get_close_matches

    close = get_close_matches(name, PUBLIC, n=1)
    return f": perhaps you meant '{close[0]}'" if close else ""
