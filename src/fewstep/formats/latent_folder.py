"""Models of latent diffusion as diffusers' pipelines keep them.

    model_index.json              names the pipeline and the classes of its parts
    unet/                         UNet2DConditionModel, told a guidance scale where it has time_cond_proj_dim
    scheduler/                    its noise levels: `ddpm_scheduler`
    vae/                          the space
    text_encoder/ tokenizer/      the condition; for SDXL text_encoder_2/ tokenizer_2/ too
    fewstep.json                  written by fewstep, unknown to diffusers: times, origin

Read are the folders of every pipeline with these parts. Written are StableDiffusionPipeline (a teacher, or a
consistency model that is not told a guidance scale), LatentConsistencyModelPipeline and StableDiffusionXLPipeline.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fewstep.codec import decode, fits
from fewstep.conditions import Prompts
from fewstep.design import Design
from fewstep.files import read_object, refuse_others, whole_folder, write_json
from fewstep.formats.ddpm_scheduler import parameterization_of, schedule_of, scheduler_of
from fewstep.formats.diffusers_folder import shards
from fewstep.formats.torch_files import open_tensors
from fewstep.networks import Architecture
from fewstep.networks.adapters import Autoencoder, LatentUNetShape, TextEncoder, Tokenizer
from fewstep.networks.adapters.stored import all_of, weights_file
from fewstep.networks.adapters.text import FOLDERS
from fewstep.ondisk import Changed, OnDisk, cast, outline, safetensors, write_tensors
from fewstep.parameterizations import Parameterization
from fewstep.schedules import Discrete
from fewstep.spaces import Latents

Part = TypeVar("Part", bound=nn.Module)

UNET = "UNet2DConditionModel"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = ("unet", "scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
OURS = {"model_index.json", "fewstep.json", "README.md", *PARTS}
"""What a written folder holds; one that holds anything else is never replaced."""


def is_folder(folder: Path) -> bool:
    """Whether this is a pipeline's folder with a U-Net that is told prompts."""
    config = folder / "unet" / "config.json"
    if not (folder / "model_index.json").is_file() or not config.is_file():
        return False
    return read_object(config).get("_class_name") == UNET


def read(folder: str | Path) -> tuple[Design, Mapping[str, Tensor]]:
    """A model's design and its U-Net's weights, under the names of `LatentUNet`, read when they are asked for.

    Autoencoder and text encoders are those of the folder, loaded when they are first needed. Raises ValueError, with
    file and key, for what fewstep cannot express, FileNotFoundError for what is missing.
    """
    folder = Path(folder).resolve()
    return read_design(folder), _weights(folder / "unet")


def read_design(folder: str | Path) -> Design:
    """All but the weights."""
    folder = Path(folder).resolve()
    index, config = read_object(folder / "model_index.json"), _json(folder / "unet" / "config.json")
    schedule, seen = read_levels(folder)
    shape = LatentUNetShape({name: value for name, value in config.items() if not name.startswith("_")})
    times, about = kept(folder / "fewstep.json")
    return Design(
        shape,
        seen,
        schedule,
        _prompts(folder, index, shape),
        Latents(str(folder)),
        times=times,
        about=about or {"name": folder.name},
    )


def kept(path: Path) -> tuple[dict[str, tuple[float, ...]], dict[str, Any]]:
    """Times and more in a fewstep.json; nothing where it is not there, ValueError where it is damaged."""
    plain = read_object(path) if path.is_file() else {}
    times, about = decode(plain.get("times", {}), ()), plain.get("about", {})
    if not fits(times, Mapping[str, tuple[float, ...]]) or not isinstance(about, dict):
        raise ValueError(f"{path} is damaged: times are lists of numbers by steps, about is an object.")
    return times, about


def read_levels(folder: Path) -> tuple[Discrete, Parameterization]:
    """The noise levels and what the network predicts; ValueError, with file and key, for other than a DDPM's."""
    path = folder / "scheduler" / "scheduler_config.json"
    plain = _json(path)
    return schedule_of(plain, str(path)), parameterization_of(plain, str(path))


def _prompts(folder: Path, index: Mapping[str, Any], shape: LatentUNetShape) -> Prompts:
    if not shape.told_sizes:
        return Prompts(str(folder))
    zero = bool(index.get("force_zeros_for_empty_prompt", True))
    return Prompts(str(folder), size=pictures(folder, shape)[1], zero_empty=zero)


def pictures(folder: Path, shape: Architecture) -> tuple[int, int, int]:
    """(C, H, W) of the pictures of a model; nothing but JSON is read for it."""
    path = folder / "vae" / "config.json"
    config = _json(path)
    widths = config.get("block_out_channels") or config.get("encoder_block_out_channels")
    if not isinstance(widths, list) or not isinstance(channels := config.get("in_channels"), int):
        raise ValueError(f"{path} is damaged: block_out_channels or in_channels is missing.")
    side = shape.image_size * 2 ** (len(widths) - 1)
    return channels, side, side


def needed(files: Iterable[str]) -> list[str]:
    """Out of a repository's files those to fetch: of every part its descriptions and one form of its weights."""
    kept: list[str] = []
    for part in PARTS:
        own = [name.removeprefix(f"{part}/") for name in files if name.startswith(f"{part}/")]
        told = [name for name in own if name.endswith((".json", ".txt", ".model")) and ".index." not in name]
        kept += [f"{part}/{name}" for name in (*told, *all_of(own))]
    return kept


def _weights(folder: Path) -> Mapping[str, Tensor]:
    """Those of a U-Net."""
    files = [open_tensors(path) if path.suffix == ".bin" else safetensors(path) for path in _files(folder)]
    named = [f.renamed({f"unet.{n}": n for n in f}) if isinstance(f, OnDisk) else {f"unet.{n}": f[n] for n in f}
             for f in files]  # fmt: skip
    return named[0] if len(named) == 1 else Joined(named)


def _files(folder: Path) -> list[Path]:
    """The files with a part's weights. FileNotFoundError for one that is missing, ValueError for a damaged index."""
    path = weights_file(folder)
    found = shards(path) if path.suffix == ".json" else [path]
    if missing := [file for file in found if not file.is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing, and {path.name} names it.")
    return found


class Joined(Changed):
    """The tensors of several files."""

    def __init__(self, files: Sequence[Mapping[str, Tensor]]):
        self.weights: Mapping[str, Any] = {name: file for file in files for name in file}
        self.outline = {name: w for file in files for name, w in outline(file).items()}

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[name][name]


def refuse_single(path: Path) -> None:
    """Raises ValueError, with what to do, for one file in the form of Stable Diffusion's own code."""
    if path.suffix == ".safetensors" and any(name.startswith("model.diffusion_model.") for name in safetensors(path)):
        raise ValueError(
            f"{path} is a whole text-to-image model in one file, which has no tokenizer: make a folder of it by "
            f'fewstep.LatentConsistencyModelPipeline.from_single_file("{path}", config=FOLDER).save_pretrained(OUT), '
            "where FOLDER is a diffusers pipeline of the same kind."
        )


def write(
    folder: str | Path,
    design: Design,
    weights: Mapping[str, Tensor],
    dtype: torch.dtype | None = None,
    *,
    name: str = "this folder",
) -> None:
    """Writes a model for diffusers; autoencoder, text encoders and tokenizers are copied from where the design says.

    `weights` are those of a `LatentUNet`, a text encoder that was trained with it among them. All is written in
    `dtype`, else as it is: the copied parts in that of their files. Raises ValueError, with the reason, for a model
    that diffusers cannot express, or values beyond the dtype; FileExistsError for a folder that holds other files.
    """
    folder, shape, space, words = Path(folder), design.architecture, design.space, design.condition
    if not isinstance(shape, LatentUNetShape) or not isinstance(space, Latents) or not isinstance(words, Prompts):
        raise ValueError("Only a latent U-Net with an autoencoder and prompts is a folder of Stable Diffusion's kind.")
    refuse_others(folder, OURS)
    scheduler = scheduler_of(design)
    weights = weights if dtype is None else cast(weights, dtype)
    with whole_folder(folder) as aside:
        (aside / "unet").mkdir()
        unet = {n.removeprefix("unet."): w for n, w in weights.items() if n.startswith("unet.")}
        write_tensors(unet, aside / "unet" / WEIGHTS, {"format": "pt"})
        write_json(aside / "unet" / "config.json", {"_class_name": UNET, **shape.config})
        write_json(aside / "scheduler" / "scheduler_config.json", scheduler)
        autoencoder = _cast(Autoencoder.load(space.source), dtype or _dtype(Path(space.source), "vae"))
        autoencoder.save(aside / "vae")
        _encoder(shape, words, weights, dtype).save(aside)
        Tokenizer(words.source).save(aside)
        write_json(aside / "model_index.json", index_of(shape, scheduler["_class_name"], autoencoder.kind, words))
        write_json(aside / "fewstep.json", {"about": dict(design.about), "times": dict(design.times)})
        (aside / "README.md").write_text(_card(design, name), encoding="utf-8")


def _encoder(
    shape: LatentUNetShape, words: Prompts, weights: Mapping[str, Tensor], dtype: torch.dtype | None
) -> TextEncoder:
    """The text encoder that was trained with the network, else the one that it was told prompts by."""
    if shape.text:
        made = TextEncoder.of(shape.text)
        made.load_state_dict({n.removeprefix("text."): w for n, w in weights.items() if n.startswith("text.")})
        return _cast(made, dtype)
    loaded = TextEncoder.load(words.source)
    for encoder, part in zip(loaded.encoders, FOLDERS, strict=False):
        _cast(encoder, dtype or _dtype(Path(words.source), part))
    return loaded


def _dtype(folder: Path, part: str) -> torch.dtype | None:
    """What a part's files hold; None where it is elsewhere, or no safetensors file."""
    files = _files(folder / part) if (folder / part).is_dir() else []
    whole = [w for file in files if file.suffix == ".safetensors" for w in safetensors(file).outline.values()]
    kinds = {w.dtype for w in whole if w.is_floating_point()}
    return kinds.pop() if len(kinds) == 1 else None


def _cast(part: Part, dtype: torch.dtype | None) -> Part:
    """A part in a dtype; ValueError for values beyond its range."""
    if dtype is not None:
        part.load_state_dict(dict(cast(part.state_dict(), dtype)), assign=True)
    return part


def index_of(shape: LatentUNetShape, scheduler: str, autoencoder: str, words: Prompts) -> dict[str, Any]:
    """model_index.json."""
    parts = {
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", UNET],
        "vae": ["diffusers", autoencoder],
    }
    if shape.told_sizes:
        second = {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}
        second |= {"tokenizer_2": ["transformers", "CLIPTokenizer"]}
        told = {"force_zeros_for_empty_prompt": words.zero_empty}
        return {"_class_name": "StableDiffusionXLPipeline", **parts, **second, **told}
    name = "LatentConsistencyModelPipeline" if shape.told_guidance else "StableDiffusionPipeline"
    return {"_class_name": name, **parts, "safety_checker": [None, None], "requires_safety_checker": False}


def _card(design: Design, name: str) -> str:
    """The model card: what is known of the model, and Python that draws with it. A licence is the author's to add."""
    consistent = design.parameterization.consistent
    kind, steps = ("latent consistency model", 4) if consistent else ("latent diffusion model", 50)
    about = [f"- {key}: {value}" for key, value in design.about.items() if key not in ("name", "text")]
    return "\n".join([
        "---", "library_name: diffusers", "pipeline_tag: text-to-image", "---",
        f"# {design.about.get('name', 'A ' + kind)}", "", f"A {kind}, told prompts.", "", *about, "",
        "```python", "from diffusers import DiffusionPipeline", "",
        f'pipe = DiffusionPipeline.from_pretrained("{name}")',
        f'image = pipe("a prompt", num_inference_steps={steps}).images[0]', "```", "",
    ])  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the folder is no complete diffusers pipeline.")
    return read_object(path)
