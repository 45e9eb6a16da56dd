"""The Hugging Face Hub: models come from there by `owner/name`, and go there.

Fetched is what will be read and nothing else: first the descriptions, so that a model that cannot be read is refused
before its weights come; then one file of weights. Both stay in the Hub's cache, which also serves without a network.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fewstep.formats import diffusers_folder, latent_folder
from fewstep.formats.writing import write

if TYPE_CHECKING:
    from fewstep.model import Model

DESCRIPTIONS = (
    "model.json", "model_index.json", "fewstep.json", "config.json", "scheduler_config.json", "unet/config.json",
    "scheduler/scheduler_config.json", *(f"{folder}{name}" for folder in ("", "unet/")
                                         for name in diffusers_folder.WEIGHTS if name.endswith(".json")),
)  # fmt: skip
"""The small files that say what a model is."""

FOLDERS = ("fewstep", "diffusers")
"""The forms in which a model is a folder."""


def is_id(source: str) -> bool:
    """Whether this can be a model of the Hub, owner/name."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", source) is not None


def fetch(repo_id: str) -> Path:
    """The folder, in the Hub's cache, of a model as fewstep or diffusers keep it.

    Raises FileNotFoundError for one that is not there, or neither reachable nor in the cache; ValueError for a
    repository that holds something else.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(repo_id, timeout=10)  # asked once: without a network the answer comes at once
        files = [file.rfilename for file in info.siblings or []]
        small = [name for name in DESCRIPTIONS if name in files]
        folder = Path(snapshot_download(repo_id, allow_patterns=small)) if small else None
        large = needed(repo_id, folder, files)
        return Path(snapshot_download(repo_id, allow_patterns=[*small, *large]))
    except GatedRepoError:
        raise FileNotFoundError(
            f"'{repo_id}' is open to members only: ask for access on https://huggingface.co/{repo_id}, then log in "
            "with `hf auth login`."
        ) from None
    except RepositoryNotFoundError:
        raise FileNotFoundError(
            f"There is no model '{repo_id}': it is no folder here, and the Hugging Face Hub shows none of that name "
            "(a private one needs `hf auth login`)."
        ) from None
    except _unreachable() as error:
        return _kept(repo_id, error)


def needed(repo_id: str, folder: Path | None, files: list[str]) -> list[str]:
    """The weights to fetch, out of a repository's files, when its descriptions lie in `folder`."""
    if "model.json" in files:
        return ["weights.safetensors"]
    if folder is None or not diffusers_folder.is_folder(folder):
        raise ValueError(f"'{repo_id}' on the Hub holds no model that fewstep reads: neither a model.json nor a folder "
                         "of a pipeline of diffusers'.")  # fmt: skip
    if latent_folder.is_folder(folder):
        latent_folder.read_levels(folder)
        return latent_folder.needed(files)
    diffusers_folder.read_design(folder)  # refuses what cannot be read
    within = "unet/" if "model_index.json" in files else ""
    best = diffusers_folder.choose(name.removeprefix(within) for name in files if name.startswith(within))
    if best is None:
        raise ValueError(f"'{repo_id}' on the Hub holds no weights that fewstep reads.")
    parts = diffusers_folder.shards(folder / within / best) if best.endswith(".json") else [Path(best)]
    return [within + part.name for part in parts]


def _kept(repo_id: str, error: Exception) -> Path:
    """The cached folder, where the Hub cannot be reached."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, local_files_only=True))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"There is no model '{repo_id}': it is no folder here, it was not fetched from the Hugging Face Hub "
            f"before, and the Hub cannot be reached now ({type(error).__name__})."
        ) from None


def _unreachable() -> tuple[type[Exception], ...]:
    """What is raised where the Hub does not answer, or not well; its HTTP library changes from version to version."""
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]

    return HTTPError, ConnectionError


def push_to_hub(
    model: "Model",
    repo_id: str,
    *,
    format: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "A model of fewstep",
) -> str:
    """Uploads a model and its card to the Hub, where `fewstep.load(repo_id)` finds it; the address of the page.

    `repo_id` is owner/name, or a name of your own account; the repository is made where it is missing, for you alone
    with `private`. `format` is fewstep, or diffusers for what ConsistencyModelPipeline loads; a latent model is
    always a folder of diffusers. Raises ValueError for a model that the format cannot express, PermissionError where
    you are not logged in, OSError where the Hub refuses or is out of reach.

    >>> fewstep.push_to_hub(fewstep.load("mnist"), "me/digits", private=True)
    'https://huggingface.co/me/digits'
    """
    from huggingface_hub import HfApi, get_token

    format = format or ("diffusers" if model.latent else "fewstep")
    if format not in FOLDERS:
        raise ValueError(f"A model is uploaded as one of {', '.join(FOLDERS)}, not as '{format}'.")
    if token is None and get_token() is None:
        raise PermissionError("You are not logged in to the Hugging Face Hub: run `hf auth login`, or give token=…")
    api = HfApi(token=token)
    with TemporaryDirectory() as place:
        folder = Path(place) / "model"
        try:
            repo_id = repo_id if "/" in repo_id else f"{api.whoami()['name']}/{repo_id}"
            write(format, folder, model.design, model.denoiser.network.state_dict(), name=repo_id)
            page = api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message=commit_message)
        except _unreachable() as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise OSError(f"'{repo_id}' was not uploaded: {reason}") from None
    return str(page)
