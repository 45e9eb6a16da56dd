"""Where diffusers' UNet2DModel keeps the weights of the papers' U-Net. With l a level, j a block of that level:

    time_embed.0, .2; label_emb        time_embedding.linear_1, .linear_2; class_embedding
    input_blocks.0.0                   conv_in
    input_blocks.i.0, .1               down_blocks.l.resnets.j, .attentions.j; after a level's last .downsamplers.0
    middle_block.0, .1, .2             mid_block.resnets.0, .attentions.0, .resnets.1
    output_blocks.i.0, .1, …           up_blocks.l.resnets.j, .attentions.j, and last in a level .upsamplers.0
    out.0, .2                          conv_norm_out, conv_out

Attention's 1 × 1 convolutions are linear layers there: the same numbers without the last two axes. Its qkv, whose rows
are ordered (three, head, dim), is cut into to_q, to_k and to_v. So nothing is rounded, in either direction.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fewstep.networks import UNetShape
from fewstep.ondisk import outline

ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
"""All that lies outside the levels."""

WITHIN = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
    "op": "conv",
}
"""Layers within a block; others are called alike."""


class There(NamedTuple):
    """Where a tensor of ours lies in diffusers' network."""

    names: tuple[str, ...]
    """Its name there; of a qkv, the names of its three parts."""
    shape: torch.Size
    """The shape of each part."""
    ours: torch.Size
    """The shape of the whole, here."""


def there(shape: UNetShape) -> dict[str, There]:
    """Every tensor of the network by its name here."""
    with torch.device("meta"):
        ours = {name: w.shape for name, w in shape.build().state_dict().items()}
    blocks = ENDS | dict(_levels(shape))
    return {name: _there(name, size, blocks) for name, size in ours.items()}


def to_diffusers(shape: UNetShape, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights under diffusers' names; the tensors are views of the given ones."""
    found = {}
    for name, place in there(shape).items():
        parts = weights[name].chunk(len(place.names))
        found |= {new: part.reshape(place.shape) for new, part in zip(place.names, parts, strict=True)}
    return found


class FromDiffusers(Mapping[str, Tensor]):
    """diffusers' weights, in one file or several, under our names: each is put together when it is asked for.

    `outline` tells dtypes and shapes without reading. Raises ValueError, with their names, for weights that are
    missing, too many or of another shape.
    """

    def __init__(self, shape: UNetShape, files: Sequence[Mapping[str, Tensor]]):
        self.places, self.files = there(shape), {name: file for file in files for name in file}
        known = {name: w for file in files for name, w in outline(file).items()}
        _check({name: place.shape for place in self.places.values() for name in place.names}, known)
        self.outline = {
            name: torch.empty(place.ours, dtype=known[place.names[0]].dtype, device="meta")
            for name, place in self.places.items()
        }

    def __getitem__(self, name: str) -> Tensor:
        place = self.places[name]
        parts = [self.files[new][new] for new in place.names]
        return (torch.cat(parts) if len(parts) > 1 else parts[0]).reshape(place.ours)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _check(wanted: Mapping[str, torch.Size], known: Mapping[str, Tensor]) -> None:
    both = [name for name in wanted if name in known]
    wrong = {
        "missing": sorted(wanted.keys() - known.keys()),
        "that the network does not have": sorted(known.keys() - wanted.keys()),
        "of another shape": [name for name in both if known[name].shape != wanted[name]],
    }
    if found := [f"{len(names)} {kind} ({_some(names)})" for kind, names in wrong.items() if names]:
        raise ValueError(f"The weights do not fit the config: of {len(wanted)} tensors {'; '.join(found)}.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _there(name: str, ours: torch.Size, blocks: Mapping[str, str]) -> There:
    block = max((b for b in blocks if name.startswith(b + ".")), key=len)
    layer, kind = name[len(block) + 1 :].rpartition(".")[::2]
    if layer == "qkv":
        return There(tuple(f"{blocks[block]}.to_{part}.{kind}" for part in "qkv"), _third(ours), ours)
    new = ".".join(part for part in (blocks[block], WITHIN.get(layer, layer), kind) if part)
    return There((new,), ours[:2] if layer == "proj_out" else ours, ours)


def _third(qkv: torch.Size) -> torch.Size:
    return torch.Size((qkv[0] // 3, *qkv[1:2]))


def _levels(shape: UNetShape) -> Iterator[tuple[str, str]]:
    """(block here, block there) for everything within a level."""
    last, blocks = len(shape.channel_mult) - 1, shape.num_res_blocks
    index = 1
    for level in range(last + 1):
        for j in range(blocks):
            yield f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{j}"
            yield f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{j}"
            index += 1
        if level < last:
            yield f"input_blocks.{index}.0", f"down_blocks.{level}.downsamplers.0"
            index += 1
    for index in range((last + 1) * (blocks + 1)):
        level, j = divmod(index, blocks + 1)
        attends = shape.image_size >> (last - level) in shape.attention_resolutions
        yield f"output_blocks.{index}.0", f"up_blocks.{level}.resnets.{j}"
        if attends:
            yield f"output_blocks.{index}.1", f"up_blocks.{level}.attentions.{j}"
        yield f"output_blocks.{index}.{1 + attends}", f"up_blocks.{level}.upsamplers.0"
