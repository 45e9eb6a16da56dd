"""Writing a model in one of its forms."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.codec import nearest
from fewstep.design import Design
from fewstep.formats import latent_folder
from fewstep.formats.diffusers_folder import write_folder
from fewstep.formats.openai import write as write_openai
from fewstep.networks.adapters import LatentUNetShape
from fewstep.ondisk import cast
from fewstep.saving import write_model

WRITERS: dict[str, Callable[..., None]] = {"fewstep": write_model, "openai": write_openai, "diffusers": write_folder}
"""The forms: a folder, a file, a folder."""

LATENT = {
    "fewstep": "fewstep has no form of its own for a latent model, whose autoencoder and text encoders belong to it",
    "openai": "OpenAI's form is one network of pixels, and this model works in latents and is told prompts",
}
"""Why a latent model has no such form."""


def write(
    form: str,
    path: Path,
    design: Design,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    **options: Any,
) -> None:
    """Writes a model, its tensors in this dtype or as they are. What is at `path` stays until all is written.

    Raises ValueError, with the reason, for an unknown form and for a model that the form cannot express,
    FileExistsError for a folder that holds other files.

    >>> from pathlib import Path
    >>> model = fewstep.load("cd_imagenet64_l2")
    >>> fewstep.write("diffusers", Path("as-diffusers"), model.design, model.denoiser.network.state_dict())
    """
    if form not in WRITERS:
        raise ValueError(f"There is no form '{form}'{nearest(form, WRITERS)}")
    if isinstance(design.architecture, LatentUNetShape):
        if form != "diffusers":
            raise ValueError(f"{LATENT[form]}: write it with the form diffusers.")
        latent_folder.write(path, design, weights, dtype, **options)
    else:
        WRITERS[form](path, design, weights if dtype is None else cast(weights, dtype), **options)
