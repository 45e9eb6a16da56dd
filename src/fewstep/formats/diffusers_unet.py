"""`unet/config.json` of diffusers ↔ the shape of the papers' U-Net.

UNet2DModel can be many networks. The papers' U-Net is one with 32 groups in every norm, cosines first in the time
embedding, attention in the middle, and the same way of halving and doubling at every level: inside residual blocks
("resnet") or by a plain convolution ("conv"). What lies outside is refused by its key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from fewstep.networks import UNetShape

FIXED = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "add_attention": True,
    "class_embed_type": None,
}
"""What makes a UNet2DModel the papers' U-Net; these are also its defaults."""

FREE = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "attention_head_dim": 8,
    "attn_norm_num_groups": None,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
    "time_embedding_dim": None,
    "num_train_timesteps": None,
}
"""The other arguments and their defaults; a config may leave any out."""

BLOCKS = {
    "AttnDownBlock2D": None,
    "ResnetDownsampleBlock2D": "resnet",
    "DownBlock2D": "conv",
    "AttnUpBlock2D": None,
    "ResnetUpsampleBlock2D": "resnet",
    "UpBlock2D": "conv",
}
"""How a level halves or doubles; one with attention does as downsample_type or upsample_type says."""


@dataclass(frozen=True)
class Config:
    """A JSON of diffusers with the defaults filled in."""

    told: Mapping[str, Any]
    where: str
    """The file, for refusals."""

    @classmethod
    def read(cls, plain: Any, kind: str, defaults: Mapping[str, Any], where: str) -> "Config":
        """Raises ValueError for the config of another class, and for keys that mean something unknown."""
        found = plain.get("_class_name") if isinstance(plain, Mapping) else None
        if found != kind:
            raise ValueError(f"{where} is not the config of diffusers' {kind}, but of {found or 'nothing known'}.")
        config = cls({**defaults, **{key: value for key, value in plain.items() if not key.startswith("_")}}, where)
        for key in config.told.keys() - defaults.keys():
            if config.told[key] not in (None, False):
                config.refuse(key, "which fewstep does not know")
        return config

    def __getitem__(self, key: str) -> Any:
        return self.told[key]

    def whole(self, key: str) -> int:
        value = self.told[key]
        return value if type(value) is int and value > 0 else self.refuse(key, "where a whole number from 1 belongs")

    def number(self, key: str) -> float:
        value = self.told[key]
        return float(value) if type(value) in (int, float) else self.refuse(key, "where a number belongs")

    def refuse(self, key: str, why: str) -> NoReturn:
        raise ValueError(f"{self.where} has {key} = {self.told[key]!r}, {why}.")


def shape_of(plain: Any, where: str) -> UNetShape:
    """The network of a UNet2DModel's config; ValueError, with the key, for one that the papers' U-Net cannot be."""
    config = Config.read(plain, "UNet2DModel", FIXED | FREE, where)
    widths = _widths(config)
    _check_fixed(config, widths)
    attends, updown = _levels(config, len(widths))
    size = _size(config)
    return UNetShape(
        image_channels=config.whole("in_channels"),
        image_size=size,
        num_classes=0 if config["num_class_embeds"] is None else config.whole("num_class_embeds"),
        model_channels=widths[0],
        num_res_blocks=config.whole("layers_per_block"),
        channel_mult=tuple(width // widths[0] for width in widths),
        attention_resolutions=tuple(size >> level for level, here in enumerate(attends) if here),
        **_heads(config),
        dropout=config.number("dropout"),
        use_scale_shift_norm=config["resnet_time_scale_shift"] == "scale_shift",
        resblock_updown=updown,
    )


def config_of(shape: UNetShape) -> dict[str, Any]:
    """The config of a shape; ValueError for one that UNet2DModel cannot be."""
    widths, size = shape.widths(), shape.image_size
    if shape.channel_mult[:1] != (1,) or shape.out_channels not in (None, shape.image_channels):
        raise ValueError(
            "diffusers' UNet2DModel has as many channels in its first level as in its time embedding (channel_mult "
            f"begins with 1, not {shape.channel_mult}), and a consistency model's output those of its input."
        )
    attends = [size >> level in shape.attention_resolutions for level in range(len(widths))]
    kind = "resnet" if shape.resblock_updown else "conv"
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if kind == "resnet" else ("DownBlock2D", "UpBlock2D")
    return {
        "_class_name": "UNet2DModel",
        **FIXED,
        "sample_size": size,
        "in_channels": shape.image_channels,
        "out_channels": shape.image_channels,
        "down_block_types": ["AttnDownBlock2D" if here else plain[0] for here in attends],
        "up_block_types": ["AttnUpBlock2D" if here else plain[1] for here in reversed(attends)],
        "block_out_channels": list(widths),
        "layers_per_block": shape.num_res_blocks,
        "downsample_type": kind,
        "upsample_type": kind,
        "dropout": shape.dropout,
        "attention_head_dim": _head_width(shape, attends),
        "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift" if shape.use_scale_shift_norm else "default",
        "num_class_embeds": shape.num_classes or None,
        "time_embedding_dim": None,
        "num_train_timesteps": None,
    }


def _check_fixed(config: Config, widths: list[int]) -> None:
    beyond = "which fewstep's U-Net cannot express"
    for key, value in FIXED.items():
        if config[key] != value:
            config.refuse(key, f"{beyond}: it has {value!r}")
    if config["time_embedding_dim"] not in (None, 4 * widths[0]):
        config.refuse("time_embedding_dim", f"{beyond}: it has {4 * widths[0]}, four times its first level")
    if config["out_channels"] != config["in_channels"]:
        config.refuse("out_channels", f"but in_channels = {config['in_channels']!r}: a consistency model has as many")
    if config["resnet_time_scale_shift"] not in ("default", "scale_shift"):
        config.refuse("resnet_time_scale_shift", f"{beyond}: it has 'default' or 'scale_shift'")
    implied = config["attn_norm_num_groups"] is None and config["resnet_time_scale_shift"] == "default"
    if config["attn_norm_num_groups"] != 32 and not implied:
        config.refuse("attn_norm_num_groups", f"{beyond}: its attention has a norm of 32 groups")


def _widths(config: Config) -> list[int]:
    widths = config["block_out_channels"]
    if not isinstance(widths, list | tuple) or not widths or any(type(w) is not int or w < 1 for w in widths):
        config.refuse("block_out_channels", "where a list of whole numbers belongs")
    if any(width % widths[0] for width in widths):
        config.refuse("block_out_channels", "which fewstep's U-Net cannot express: all are multiples of the first")
    return list(widths)


def _size(config: Config) -> int:
    sides = config["sample_size"]
    sides = list(sides) if isinstance(sides, list | tuple) else [sides]
    size = sides[0] if sides and sides == sides[:1] * len(sides) else None
    return size if type(size) is int else config.refuse("sample_size", "where the side of square pictures belongs")


def _levels(config: Config, count: int) -> tuple[list[bool], bool]:
    """Which levels attend, from the picture down, and whether residual blocks do the resizing."""
    ways: set[str] = set()
    attends = []
    for way, turn in (("down", 1), ("up", -1)):
        key, resize = f"{way}_block_types", config[f"{way}sample_type"] or "conv"
        given = config[key]
        kinds = [str(kind) for kind in given][::turn] if isinstance(given, list | tuple) else []
        if len(kinds) != count or any(kind not in BLOCKS or way not in kind.lower() for kind in kinds):
            known = ", ".join(kind for kind in BLOCKS if way in kind.lower())
            config.refuse(key, f"where {count} of these belong: {known}")
        attends.append([BLOCKS[kind] is None for kind in kinds])
        ways |= {BLOCKS[kind] or resize for kind in kinds[:-1]}  # the coarsest level is not resized
    if attends[0] != attends[1]:
        config.refuse("up_block_types", "which does not attend at the same sizes as down_block_types")
    if len(ways) > 1 or not ways <= {"resnet", "conv"}:
        config.refuse(
            "down_block_types",
            "which, with downsample_type and upsample_type, resizes in ways that fewstep's U-Net cannot express: "
            f"{', '.join(sorted(ways))}; it is 'resnet' or 'conv' throughout",
        )
    return attends[0], ways != {"conv"}


def _heads(config: Config) -> dict[str, Any]:
    if config["attention_head_dim"] is None:
        return {"num_heads": 1}
    return {"num_head_channels": config.whole("attention_head_dim")}


def _head_width(shape: UNetShape, attends: list[bool]) -> int | None:
    """attention_head_dim: channels a head, None for one head whatever the width."""
    if shape.num_head_channels is not None:
        return shape.num_head_channels
    if shape.num_heads == 1:
        return None
    used = {width for width, here in zip(shape.widths(), attends, strict=True) if here} | {shape.widths()[-1]}
    if len(used) > 1:
        raise ValueError(f"diffusers' UNet2DModel has heads of one width, but {shape.num_heads} heads at every level "
                         f"of {sorted(used)} channels have several.")  # fmt: skip
    return used.pop() // shape.num_heads
