"""Finding a model and reading it. A source is, in this order,

    a path          a model's folder, a run's (finished or not), a diffusers pipeline's; a file of OpenAI's
    a name          of a bundled model, or of one that OpenAI released, which is downloaded
    an address      https://…, of a file of OpenAI's form
    owner/name      of a model on the Hugging Face Hub

`locate` finds its weights file; what that is, is told by the file and what lies beside it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from fewstep.codec import nearest
from fewstep.conditions import Prompts
from fewstep.design import Design, from_json
from fewstep.files import read_json, read_object, sha256
from fewstep.formats import diffusers_folder, hub, latent_folder, openai
from fewstep.formats.ddpm_scheduler import parameterization_of, schedule_of
from fewstep.formats.download import fetch, is_url, kept
from fewstep.formats.openai import Order, Seen
from fewstep.formats.releases import RELEASES, Release
from fewstep.model import Model, build
from fewstep.networks import Architecture
from fewstep.networks.adapters import lora as lora_file
from fewstep.ondisk import safetensors
from fewstep.saving import read_model

BUNDLED = Path(__file__).parent.parent / "bundled"
"""Where the models are that come with the package."""


class Stored(NamedTuple):
    """A model in a file."""

    path: Path
    """The weights file."""
    format: Literal["fewstep", "checkpoint", "openai", "diffusers", "lora"]
    """What kind of file it is."""
    design: Design
    """All of the model but its weights."""
    weights: Mapping[str, Tensor]
    """The network's state dict under fewstep's names, in the file's own dtypes, each read when it is asked for."""


def bundled() -> dict[str, Path]:
    """The models that come with the package, by name."""
    found = [*BUNDLED.glob("*/model.json"), *BUNDLED.glob("*/model_index.json")]
    return {file.parent.name: file.parent for file in sorted(found)}


def path(name: str) -> Path:
    """The folder of a model that comes with the package, for what takes folders but not its name:

    >>> pipe = fewstep.LatentConsistencyModelPipeline.from_pretrained(fewstep.path("words"))

    Raises FileNotFoundError, with the nearest name, for any other.
    """
    if name not in bundled():
        raise FileNotFoundError(f"No model '{name}' comes with the package{nearest(name, bundled())}")
    return bundled()[name]


def load(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    config: Mapping[str, Any] | None = None,
    parameterization: Seen | None = None,
    qkv_order: Order = None,
) -> Model:
    """The model of a source: a folder of a model or of a run, a diffusers pipeline's folder, a file in OpenAI's form
    (.pt, .pth, .safetensors), the name of a bundled model or of a released one (`cd_imagenet64_l2`), an address, or the
    Hub's owner/name. What is there goes before what is downloaded.

    Of an unfinished run it is the averaged model of the last checkpoint. For files in OpenAI's form,

    - `config` tells what their tensors do not: OpenAI's flags, such as {"image_size": 64, "num_head_channels": 64}. The
      names of OpenAI's files tell it too, and so does JSON of the same in `<file>.json`, or a `config.json`, beside it.
    - `parameterization`, "consistency", "edm" or an object, goes before what the file's name says.
    - `qkv_order="head-three-dim"` is for attention of guided-diffusion's.

    The model computes in float32, whatever the file keeps; memory beyond the model itself is needed for one tensor at
    a time (for files from before PyTorch 1.6, for the whole file). Raises FileNotFoundError, with the nearest known
    name, for what is not there, ValueError for a damaged or dangerous file, or one that holds something else.

    >>> model = fewstep.load("mnist")
    >>> model = fewstep.load("openai/diffusers-cd_imagenet64_l2", device="cpu")
    >>> model = fewstep.load("ema_0.9999_100000.pt", config={"image_size": 64, "num_head_channels": 64})
    >>> model.shape
    (3, 64, 64)
    """
    stored = read(source, config=config, parameterization=parameterization, qkv_order=qkv_order)
    try:
        return build(stored.design, stored.weights, device)
    except ValueError as error:
        where = stored.path.parent if stored.format in ("fewstep", "checkpoint") else stored.path
        raise ValueError(f"The model in {where} cannot be loaded: {error}") from None


def read(
    source: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    parameterization: Seen | None = None,
    qkv_order: Order = None,
) -> Stored:
    """The same, not yet built: its design, and its weights as they are in the file. Raises what `load` raises."""
    path = locate(source)
    folder, ours = diffusers_folder.folder_of(path), (path.parent / "model.json").is_file()
    if path.name == "state.safetensors" and ours:
        stored = Stored(path, "checkpoint", *read_checkpoint(path.parent))
    elif path.name == "weights.safetensors" and ours:
        stored = Stored(path, "fewstep", *read_model(path.parent))
    elif path.name == lora_file.FILE:
        stored = Stored(path, "lora", *_with_lora(path))
    elif folder and latent_folder.is_folder(folder):
        stored = Stored(path, "diffusers", *latent_folder.read(folder))
    elif folder:
        stored = Stored(path, "diffusers", *diffusers_folder.read_folder(folder, Path(source).name))
    else:
        try:
            stored = Stored(path, "openai", *openai.read(path, config, qkv_order))
        except ValueError:
            latent_folder.refuse_single(path)
            raise
    if stored.format != "openai" and (config is not None or qkv_order is not None):
        raise ValueError(f"config and qkv_order are for files in OpenAI's form; {source} says itself what it is.")
    if parameterization is not None:
        design = stored.design
        stored = stored._replace(design=replace(design, parameterization=openai.seen(parameterization, design)))
    return stored


def architecture(source: str | Path) -> Architecture:
    """The network of a source; a released model is not downloaded for it. Raises what `load` raises."""
    release = _release(str(source))
    if release and not local(Path(source)) and not kept(release.url).is_file():
        return release.shape
    return read(source).design.architecture


def weights_files(source: str | Path) -> list[Path]:
    """The weights file of a source, and the files that it names where it is an index of others."""
    path = locate(source)
    return [path, *(diffusers_folder.shards(path) if path.name.endswith(".index.json") else [])]


def weights_digest(source: str | Path) -> str:
    """The first 16 hex digits of the SHA-256 of these files, to see whether a model is still the same."""
    return sha256(weights_files(source))[:16]


def locate(source: str | Path) -> Path:
    """The weights file of a source, downloaded where need be; FileNotFoundError, with the nearest name, for none."""
    path, name = Path(source).expanduser(), str(source)
    if found := local(path):
        return found
    if name in bundled() and (found := local(bundled()[name])):
        return found
    if release := _release(name):
        return openai.fetched(release)
    if is_url(name):
        return fetch(name, openai.tensors)
    if hub.is_id(name) and (found := local(hub.fetch(name))):
        return found
    known = nearest(name.removesuffix(".pt"), [*bundled(), *RELEASES])
    raise FileNotFoundError(f"There is no model '{source}': it is no file, no model's or run's folder{known}")


def _release(name: str) -> Release | None:
    return RELEASES.get(name.removesuffix(".pt"))


def local(path: Path) -> Path | None:
    """The weights file in a folder, or the file itself."""
    if path.is_file():
        return path
    if (path / "model" / "model.json").is_file():
        return path / "model" / "weights.safetensors"
    if latent_folder.is_folder(path / "model"):
        return latent_folder.weights_file(path / "model" / "unet")
    for folder in (path / "model", path):
        if (folder / lora_file.FILE).is_file():
            return folder / lora_file.FILE
    if steps := sorted(path.glob("state.safetensors")) or sorted(path.glob("checkpoints/step-*/state.safetensors")):
        return steps[-1]
    if (path / "model.json").is_file():
        return path / "weights.safetensors"
    if diffusers_folder.is_folder(path):
        return diffusers_folder.weights_file(path)
    if (path / "recipe.json").is_file():
        raise FileNotFoundError(f"The run in {path} has no checkpoint yet: let it train a little longer.")
    return None


def read_checkpoint(folder: Path) -> tuple[Design, Mapping[str, Tensor]]:
    """The design and the averaged weights in a training checkpoint; of a LoRA's, those of the changed model."""
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    if isinstance(words := design.condition, Prompts) and words.inside:  # the run may have been moved
        design = replace(design, condition=replace(words, source=str(folder.resolve().parents[1] / "text")))
    rates = read_object(folder / "state.json").get("ema")
    if not isinstance(rates, list) or not rates or not isinstance(rates[0], int | float):
        raise ValueError(f"{folder / 'state.json'} is damaged: it names no averages (ema).")
    rate = float(rates[0])
    tensors = safetensors(folder / "state.safetensors")
    names = {name.removeprefix("student/"): name for name in tensors if name.startswith("student/")}
    averaged = {name: f"ema/{rate!r}/{name}" for name in names}
    found = tensors.renamed({name: a if (a := averaged[name]) in tensors else old for name, old in names.items()})
    return (design, _on_base(design, lora_file.layers(found))) if "lora_scale" in design.about else (design, found)


def _with_lora(path: Path) -> tuple[Design, Mapping[str, Tensor]]:
    """The base of a LoRA that fewstep trained, changed by it."""
    kept, low = path.parent / "fewstep.json", safetensors(path)
    if not kept.is_file():
        raise ValueError(f"{path} is a LoRA and does not say of which model: load it in a pipeline, by its "
                         "load_lora_weights.")  # fmt: skip
    plain, (times, about) = read_object(kept), latent_folder.kept(kept)
    if not isinstance(about.get("base"), str) or not isinstance(about.get("lora_scale"), int | float):
        raise ValueError(f"{kept} is damaged: it names no base or no lora_scale.")
    scheduler: Any = plain.get("scheduler")
    schedule, seen = schedule_of(scheduler, str(kept)), parameterization_of(scheduler, str(kept))
    try:
        base = read(about["base"]).design
    except RecursionError:
        raise ValueError(f"{kept} is damaged: its base is itself a change of this LoRA.") from None
    design = replace(base, schedule=schedule, parameterization=seen, about=about, times=times)
    return design, _on_base(design, low)


def _on_base(design: Design, low: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    base, known = str(design.about["base"]), design.about.get("base_digest")
    if known is not None and known != weights_digest(base):
        warnings.warn(f"{base} is not the model any more that this LoRA was trained on.", stacklevel=2)
    return lora_file.merge(read(base).weights, low, float(design.about["lora_scale"]))
