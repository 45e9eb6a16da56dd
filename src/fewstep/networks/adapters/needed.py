"""What latent models need besides fewstep: asked for in one sentence where it is not there, quiet where it is."""

from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = ("diffusers", "transformers", "peft")


@contextmanager
def latent_extra() -> Iterator[None]:
    """ImportError, with the way to mend it, for a missing package of the extra `latent`."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in NEEDED:
            raise
        raise ImportError(
            f"Latent models need {name}, which is not installed: pip install 'fewstep[latent]'."
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars of diffusers and transformers, which small files do not need and which a command's output is not
    to hold."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
