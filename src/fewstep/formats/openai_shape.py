"""The shape of OpenAI's U-Net, from its tensors and from OpenAI's flags.

Let k = num_res_blocks + 1 and L the number of levels; output block i = k l + j is block j of level l, counted from the
smallest grid up:

    output_blocks.{k l}.0.out_layers.3.weight    [channels of the level, …]
    output_blocks.{k l}.1.qkv.weight             there iff the level attends
    output_blocks.{k l + k − 1}.{1|2}            doubles: a residual block (resblock_updown) or a convolution `conv`
    middle_block.0.emb_layers.1.weight           [2 o or o, …]: scale and shift, or only added
    time_embed.0.weight [4 M, M], label_emb.weight [classes, 4 M], input_blocks.0.0.weight [M, image channels, 3, 3]

Tensors tell neither the size of the images nor the width of an attention head.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fewstep.codec import nearest
from fewstep.formats.releases import SHAPES, shape_named
from fewstep.networks import UNetShape

NUM_HEADS = 4
"""OpenAI's default where no head width is given."""


class Told(NamedTuple):
    """What tensors tell, by the names of OpenAI's flags where there is one."""

    num_channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    use_scale_shift_norm: bool
    resblock_updown: bool
    class_cond: bool
    attends: tuple[bool, ...]
    """For each level, the largest grid first."""
    num_classes: int
    image_channels: int

    def attention_resolutions(self, image_size: int) -> tuple[int, ...]:
        """The sizes of the grids that attend."""
        return tuple(image_size >> level for level, attends in enumerate(self.attends) if attends)


def told(weights: Mapping[str, Tensor]) -> Told:
    """What the tensors tell; ValueError where they are not those of OpenAI's U-Net."""
    try:
        return _told({name: tuple(w.shape) for name, w in weights.items()})
    except KeyError as error:
        raise ValueError(f"this is no U-Net of OpenAI's: it has no tensor {error}.") from None
    except IndexError:
        raise ValueError("this is no U-Net of OpenAI's: its tensors have other shapes.") from None


def _told(shapes: Mapping[str, tuple[int, ...]]) -> Told:
    channels = shapes["time_embed.0.weight"][1]
    ups, doubling, plain = _way_up(shapes)
    levels = len(doubling) + 1
    blocks = ups // levels
    if blocks < 2 or doubling != [blocks * (level + 1) - 1 for level in range(levels - 1)] or ups % levels:
        raise ValueError(
            f"this is no U-Net of OpenAI's: of its {ups} output blocks the ones {doubling} double the grid."
        )
    firsts = [f"output_blocks.{blocks * level}" for level in reversed(range(levels))]
    widths = [shapes[f"{first}.0.out_layers.3.weight"][0] for first in firsts]
    if any(width % channels for width in widths):
        raise ValueError(
            f"levels of {widths} channels are no whole multiples of {channels}, which fewstep's U-Net needs."
        )
    image_channels, out_channels = shapes["input_blocks.0.0.weight"][1], shapes["out.2.weight"][0]
    if out_channels == 2 * image_channels:
        raise ValueError("this network predicts variances too (learn_sigma), and so is no consistency or EDM model.")
    middle = "middle_block.0"
    return Told(
        num_channels=channels,
        channel_mult=tuple(width // channels for width in widths),
        num_res_blocks=blocks - 1,
        use_scale_shift_norm=shapes[f"{middle}.emb_layers.1.weight"][0]
        == 2 * shapes[f"{middle}.in_layers.0.weight"][0],
        resblock_updown=not plain,
        class_cond="label_emb.weight" in shapes,
        attends=tuple(f"{first}.1.qkv.weight" in shapes for first in firsts),
        num_classes=shapes.get("label_emb.weight", (0,))[0],
        image_channels=image_channels,
    )


def _way_up(shapes: Mapping[str, Any]) -> tuple[int, list[int], bool]:
    """The number of output blocks, those that double the grid, and whether plain convolutions do it."""
    parts = {tuple(name.split(".")[1:4]) for name in shapes if name.startswith("output_blocks.")}
    blocks = {int(i) for i, *_ in parts if i.isdigit()}
    doubling = {
        (int(i), kind) for i, j, kind in parts if i.isdigit() and j in ("1", "2") and kind in ("in_layers", "conv")
    }
    return len(blocks), sorted(i for i, _ in doubling), any(kind == "conv" for _, kind in doubling)


# -- OpenAI's flags --------------------------------------------------------------------------------


def _number(value: Any) -> int | None:
    """A whole number; '' and −1, which OpenAI's flags use for it, are nothing."""
    number = None if value in ("", None) else int(str(value))
    return None if number == -1 else number


def _numbers(value: Any) -> tuple[int, ...] | None:
    """(1, 2), [1, 2], 2 or '1,2'."""
    parts = str(value).split(",") if isinstance(value, str | int) else list(value or ())
    return tuple(int(str(part).strip()) for part in parts if str(part).strip()) or None


def _truth(value: Any) -> bool | None:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": None, "none": None}
    return words[str(value).strip().lower()]


FLAGS: dict[str, Callable[[Any], Any]] = {
    "image_size": _number,
    "num_channels": _number,
    "num_res_blocks": _number,
    "num_heads": _number,
    "num_head_channels": _number,
    "channel_mult": _numbers,
    "attention_resolutions": _numbers,
    "class_cond": _truth,
    "use_scale_shift_norm": _truth,
    "resblock_updown": _truth,
}
"""OpenAI's flags that describe the network, and what turns a value or the scripts' string into it."""

IDLE = ("dropout", "use_checkpoint", "use_fp16", "use_new_attention_order", "weight_schedule")
"""Flags of the same commands that change nothing in what a trained network computes."""


def flags(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that say something. ValueError for an unknown one, with the nearest, and for an unusable value."""
    found = {}
    for name, value in config.items():
        if name not in (*FLAGS, *IDLE):
            raise ValueError(f"config has no flag '{name}'{nearest(name, FLAGS)}")
        try:
            meant = FLAGS[name](value) if name in FLAGS else None
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"config: {name} cannot be {value!r}.") from None
        found |= {} if meant is None else {name: meant}
    return found


def flags_of(shape: UNetShape) -> dict[str, Any]:
    """The flags of a shape, as OpenAI's commands take them."""
    return {
        "image_size": shape.image_size,
        "num_channels": shape.model_channels,
        "num_res_blocks": shape.num_res_blocks,
        "num_heads": shape.num_heads,
        "num_head_channels": shape.num_head_channels or -1,
        "channel_mult": ",".join(map(str, shape.channel_mult)),
        "attention_resolutions": ",".join(map(str, shape.attention_resolutions)),
        "class_cond": shape.num_classes > 0,
        "use_scale_shift_norm": shape.use_scale_shift_norm,
        "resblock_updown": shape.resblock_updown,
    }


# -- the shape --------------------------------------------------------------------------------


def shape_of(weights: Mapping[str, Tensor], path: Path, config: Mapping[str, Any]) -> UNetShape:
    """The shape of the network in `path`: its tensors, OpenAI's flags in `config`, the data set in the file's name.

    ValueError where the tensors contradict the flags, and where nothing gives the image size.
    """
    ours, given, named = told(weights), flags(config), shape_named(path)
    image_size = given.get("image_size") or (named.image_size if named else None)
    if image_size is None:
        raise ValueError("its tensors do not tell the image size: give config={'image_size': 64}, or write the same to "
                         f"{path.name}.json beside it.")  # fmt: skip
    known = ours._asdict() | {"attention_resolutions": ours.attention_resolutions(image_size)}
    for name in given.keys() & known.keys():
        if not _agree(name, given[name], known[name]):
            raise ValueError(f"config says {name} {_said(given[name])}, and the weights say {_said(known[name])}.")
    num_heads, num_head_channels = _heads(ours, given, named, path)
    return UNetShape(
        image_channels=ours.image_channels,
        image_size=image_size,
        num_classes=ours.num_classes,
        model_channels=ours.num_channels,
        num_res_blocks=ours.num_res_blocks,
        channel_mult=ours.channel_mult,
        attention_resolutions=known["attention_resolutions"],
        use_scale_shift_norm=ours.use_scale_shift_norm,
        resblock_updown=ours.resblock_updown,
        num_heads=num_heads,
        num_head_channels=num_head_channels,
    )


def _agree(name: str, given: Any, known: Any) -> bool:
    return sorted(given) == sorted(known) if name == "attention_resolutions" else given == known


def _said(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)


def _heads(ours: Told, given: Mapping[str, Any], named: UNetShape | None, path: Path) -> tuple[int, int | None]:
    """Number and width of attention heads; where there is a width it decides.

    The published networks have 64 channels a head. For others, where nothing is given, it is OpenAI's default, aloud.
    """
    if "num_head_channels" in given:
        return given.get("num_heads", NUM_HEADS), given["num_head_channels"]
    if "num_heads" in given:
        return given["num_heads"], None
    published = {(shape.model_channels, shape.channel_mult, shape.num_res_blocks): shape for shape in SHAPES.values()}
    model = named or published.get((ours.num_channels, ours.channel_mult, ours.num_res_blocks))
    attend = [m for m, attends in zip(ours.channel_mult, ours.attends, strict=True) if attends]
    width = model.num_head_channels if model else None
    if width and all(ours.num_channels * m % width == 0 for m in (*attend, ours.channel_mult[-1])):
        return NUM_HEADS, width
    warnings.warn(
        f"The weights in {path} do not tell the width of an attention head; OpenAI's default of {NUM_HEADS} heads is "
        "taken. config={'num_head_channels': …} says it.",
        stacklevel=2,
    )
    return NUM_HEADS, None
