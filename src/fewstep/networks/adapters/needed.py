"""What latent models need besides fewstep, asked for in one sentence where it is not there."""

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
