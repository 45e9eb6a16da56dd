"""The files in which a part of a diffusers pipeline keeps its weights, and the one of them that is read.

    STEM.safetensors                  whole; STEM is diffusion_pytorch_model, of transformers' parts model
    STEM.safetensors.index.json       in shards, STEM-00001-of-00002.safetensors and so on, which the index names
    STEM.fp16.safetensors, STEM.safetensors.index.fp16.json      the same in half precision
    STEM.bin, STEM.bin.index.json, STEM.fp16.bin                 pickles (of transformers' parts pytorch_model.bin)

They are named in the order of preference: a part is read in full precision where it is there in both.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from fewstep.ondisk import safetensors

_SAFE = ("safetensors", "safetensors.index.json", "fp16.safetensors", "safetensors.index.fp16.json")
_PICKLED = ("bin", "bin.index.json", "fp16.bin")
NAMES = (
    *(f"{stem}.{kind}" for kind in _SAFE for stem in ("diffusion_pytorch_model", "model")),
    *(f"{stem}.{kind}" for kind in _PICKLED for stem in ("diffusion_pytorch_model", "pytorch_model")),
)
"""The names that weights may have, best first."""


def weights_file(folder: Path) -> Path:
    """The file of a part's weights, or the index of its shards; FileNotFoundError where there is none."""
    best = chosen(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else None
    if best is None:
        raise FileNotFoundError(f"{folder} holds no weights: neither {NAMES[0]} nor {NAMES[1]} is there.")
    return folder / best


def chosen(names: Iterable[str]) -> str | None:
    """The best of these names; None where none is a name of weights."""
    there = set(names)
    return next((name for name in NAMES if name in there), None)


def all_of(names: Iterable[str]) -> list[str]:
    """The best of these names, and where it is an index the shards among them that it stands for."""
    there = sorted(names)
    best = chosen(there)
    if best is None or not best.endswith(".json"):
        return [best] if best else []
    stem, kind = re.escape(best.split(".")[0]), best.split(".")[1]
    half = r"(\.fp16-\d+-of-\d+|-\d+-of-\d+\.fp16)" if ".fp16." in best else r"-\d+-of-\d+"
    return [best, *(name for name in there if re.fullmatch(rf"{stem}{half}\.{kind}", name))]


def reading(source: str | Path, part: str = "") -> dict[str, Any]:
    """The keywords with which `from_pretrained` reads that file of a folder's part; none for a name on the Hub.

    Raises FileNotFoundError where there is none, ValueError for a damaged one and for pickles of more than tensors.
    """
    if not Path(source).is_dir():
        return {}
    path = weights_file(Path(source, part))
    if path.suffix == ".safetensors":
        safetensors(path)  # it looks whether the file is whole
    elif path.suffix == ".bin":
        _check_pickle(path)
    return {"use_safetensors": ".safetensors" in path.name, **({"variant": "fp16"} if ".fp16." in path.name else {})}


def _check_pickle(path: Path) -> None:
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # bytes that are no checkpoint raise whatever they happen to meet
        raise ValueError(f"{path} is cut off, no checkpoint, or one of more than tensors: it is refused, and none of "
                         "it was run.") from None  # fmt: skip
