"""Writing a model in one of its forms."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.codec import nearest
from fewstep.design import Design
from fewstep.formats.diffusers_folder import write_folder
from fewstep.formats.openai import write as write_openai
from fewstep.saving import write_model

WRITERS: dict[str, Callable[..., None]] = {"fewstep": write_model, "openai": write_openai, "diffusers": write_folder}
"""The forms: a folder, a file, a folder."""


def write(form: str, path: Path, design: Design, weights: Mapping[str, Tensor], **options: Any) -> None:
    """Writes a model; the tensors keep their dtypes. What is at `path` stays until all is written.

    Raises ValueError, with the reason, for an unknown form and for a model that the form cannot express,
    FileExistsError for a folder that holds other files.
    """
    if form not in WRITERS:
        raise ValueError(f"There is no form '{form}'{nearest(form, WRITERS)}")
    WRITERS[form](path, design, weights, **options)
