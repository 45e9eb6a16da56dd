"""Models as diffusers' ConsistencyModelPipeline keeps them, read and written without diffusers.

    model_index.json                     names the pipeline and the classes of its parts
    unet/config.json                     UNet2DModel: `diffusers_unet`
    unet/diffusion_pytorch_model.…       its weights: `diffusers_names`
    scheduler/scheduler_config.json      CMStochasticIterativeScheduler: `diffusers_scheduler`
    fewstep.json                         written by fewstep, unknown to diffusers: times, class names, origin
    README.md                            the model card

The folder of a UNet2DModel alone (config.json and weights) is read too, with the scheduler's defaults.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.conditions import Labels, Nothing
from fewstep.design import Design, from_json, to_json
from fewstep.files import read_json, refuse_others, whole_folder, write_json
from fewstep.formats.diffusers_names import FromDiffusers, to_diffusers
from fewstep.formats.diffusers_scheduler import NOISE_SCALE, check, grid_of, noise_of, scheduler_of, timesteps
from fewstep.formats.diffusers_unet import config_of, shape_of
from fewstep.formats.releases import release_of
from fewstep.formats.torch_files import open_tensors
from fewstep.networks import UNetShape
from fewstep.ondisk import safetensors, write_tensors
from fewstep.parameterizations import Boundary
from fewstep.saving import card

INDEX = {
    "_class_name": "ConsistencyModelPipeline",
    "scheduler": ["diffusers", "CMStochasticIterativeScheduler"],
    "unet": ["diffusers", "UNet2DModel"],
}

STEM = "diffusion_pytorch_model"
WEIGHTS = tuple(f"{STEM}.{kind}" for kind in (
    "safetensors", "safetensors.index.json", "fp16.safetensors", "safetensors.index.fp16.json",
    "bin", "bin.index.json", "fp16.bin",
))  # fmt: skip
"""The names that weights may have, best first."""

OURS = {"model_index.json", "unet", "scheduler", "fewstep.json", "README.md"}
"""What a written folder holds; one that holds anything else is never replaced."""


def folder_of(file: Path) -> Path | None:
    """The folder to which a file of weights belongs; None where it is no diffusers folder's."""
    if file.name not in WEIGHTS:
        return None
    whole = file.parent.parent
    if file.parent.name == "unet" and (whole / "model_index.json").is_file():
        return whole
    return file.parent if is_folder(file.parent) else None


def is_folder(folder: Path) -> bool:
    """Whether diffusers wrote this folder, or fewstep for diffusers."""
    if (folder / "model_index.json").is_file():
        return True
    config = folder / "config.json"
    return config.is_file() and _class(read_json(config)) == "UNet2DModel"


def read_folder(folder: Path, name: str = "") -> tuple[Design, FromDiffusers]:
    """A model's design and its weights in the dtypes of their file, read when they are asked for.

    By its `name` a published model is known, whose times are then those that its authors found. Raises ValueError,
    with file and key, for what fewstep cannot express or is damaged, FileNotFoundError for what is missing.
    """
    design = read_design(folder, name)
    assert isinstance(design.architecture, UNetShape)
    return design, read_weights(folder, design.architecture)


def read_design(folder: Path, name: str = "") -> Design:
    """All but the weights. Raises ValueError, with file and key, for another pipeline or network; FileNotFoundError
    for what is missing."""
    index, unet, scheduler = _parts(folder)
    if index is not None and (kind := _class(read_json(index))) != INDEX["_class_name"]:
        raise ValueError(f"{index} names a {kind}: fewstep reads the folders of ConsistencyModelPipeline.")
    shape = shape_of(read_json(_there(unet / "config.json")), str(unet / "config.json"))
    plain = read_json(_there(scheduler)) if index is not None else {"_class_name": INDEX["scheduler"][1]}
    noise = noise_of(plain, str(scheduler))
    release = release_of(name) or release_of(folder)
    read = Design(
        shape,
        Boundary(noise.sigma_data, NOISE_SCALE),
        noise.schedule,
        Labels(shape.num_classes) if shape.num_classes else Nothing(),
        times=release.times if release else {},
        about={**({"name": release.name, "text": f"{release.text}."} if release else {}), "levels": noise.grid},
    )
    kept = folder / "fewstep.json"
    return _with_the_rest(read, from_json(read_json(kept), str(kept))) if kept.is_file() else read


def read_weights(folder: Path, shape: UNetShape) -> FromDiffusers:
    """The network's weights, by our names. ValueError where they are not those of the config."""
    path = weights_file(folder)
    files = [_open(file) for file in (shards(path) if path.suffix == ".json" else [path])]
    try:
        return FromDiffusers(shape, files)
    except ValueError as error:
        raise ValueError(f"The model in {folder} cannot be loaded: {error}") from None


def weights_file(folder: Path) -> Path:
    """The file of the weights, or the index of its shards; FileNotFoundError where there is none."""
    _, unet, _ = _parts(folder)
    name = choose(path.name for path in unet.iterdir()) if unet.is_dir() else None
    if name is None:
        raise FileNotFoundError(f"{unet} holds no weights: {WEIGHTS[0]} is missing.")
    return unet / name


def write_folder(
    folder: str | Path, design: Design, weights: Mapping[str, Tensor], *, name: str = "this folder"
) -> None:
    """Writes a consistency model for diffusers; the tensors keep their dtypes. `name` is what the card loads.

    Raises ValueError, with the reason, for a model that diffusers cannot express, FileExistsError for a folder that
    holds other files.
    """
    folder, shape = Path(folder), check(design)
    refuse_others(folder, OURS)
    config, grid = config_of(shape), grid_of(design)
    kept = to_diffusers(shape, weights)
    with whole_folder(folder) as aside:
        (aside / "unet").mkdir()
        write_tensors(kept, aside / "unet" / WEIGHTS[0], {"format": "pt"})
        write_json(aside / "unet" / "config.json", config)
        write_json(aside / "scheduler" / "scheduler_config.json", scheduler_of(design, grid))
        write_json(aside / "model_index.json", INDEX)
        write_json(aside / "fewstep.json", to_json(design))
        (aside / "README.md").write_text(
            card(design, library="diffusers", use=_use(design, grid, name)), encoding="utf-8"
        )


def choose(names: Iterable[str]) -> str | None:
    """The best of these files to read weights from; None where there are none."""
    there = set(names)
    return next((name for name in WEIGHTS if name in there), None)


def shards(index: Path) -> list[Path]:
    """The files that an index of weights names; ValueError for an index of something else."""
    plain = read_json(index)
    names = plain.get("weight_map", {}).values() if isinstance(plain, dict) else []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise ValueError(f"{index} is damaged: it names no files beside it.")
    return [index.with_name(name) for name in sorted(set(names))]


def _open(path: Path) -> Mapping[str, Tensor]:
    return open_tensors(_there(path)) if path.suffix == ".bin" else safetensors(_there(path))


def _parts(folder: Path) -> tuple[Path | None, Path, Path]:
    """model_index.json, the network's folder, the scheduler's file; of a network alone there is no index."""
    index = folder / "model_index.json"
    if index.is_file():
        return index, folder / "unet", folder / "scheduler" / "scheduler_config.json"
    return None, folder, folder / "scheduler_config.json"


def _class(plain: Any) -> str | None:
    return plain.get("_class_name") if isinstance(plain, Mapping) else None


def _there(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the folder is no complete diffusers pipeline.")
    return path


def _with_the_rest(read: Design, kept: Design) -> Design:
    """What diffusers' files say goes before what fewstep.json says, which knows more: somebody may have edited them."""
    read = replace(read, times=kept.times, class_names=kept.class_names, about=kept.about)
    ours, theirs = kept.architecture, read.architecture
    if isinstance(ours, UNetShape) and isinstance(theirs, UNetShape) and config_of(ours) == config_of(theirs):
        return replace(read, architecture=ours)  # with what changes no weight, such as use_checkpoint
    return read


def _use(design: Design, grid: int, name: str) -> list[str]:
    """Python that draws a picture in one step, and in two where there are good times."""
    label = "class_labels=0, " if design.architecture.num_classes else ""
    lines = [
        "from diffusers import ConsistencyModelPipeline",
        "",
        f'pipe = ConsistencyModelPipeline.from_pretrained("{name}")',
        f"image = pipe({label}num_inference_steps=1).images[0]",
    ]
    if found := timesteps(design, grid, 2):
        lines.append(f"image = pipe({label}num_inference_steps=None, timesteps={found}).images[0]")
    return lines
