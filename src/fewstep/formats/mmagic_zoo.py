"""mmagic's zoo of consistency models: what its six configurations ask for, by the names in its metafile.

| | weights | two steps |
|---|---|---|
| ImageNet 64×64 | OpenAI's cd_imagenet64_l2 | at 80 and 1.38: indices 0 and 22 of 40 |
| LSUN bedrooms 256×256 | ct_bedroom256 | at 80 and 3.99: 0 and 67 of 151 |
| LSUN cats 256×256 | ct_cat256 | at 80 and 5.25: 0 and 62 of 151 |
"""

from fewstep.formats.mmagic import MMagic, from_dict


def _entry(size: int, weights: str, ts: str = "", steps: int = 40) -> MMagic:
    """The configuration for the released network of this size."""
    small = size == 64
    unet = {"model_channels": 192 if small else 256, "num_res_blocks": 3 if small else 2, "num_head_channels": 64}
    unet |= {"resblock_updown": True, "use_scale_shift_norm": small}
    about = {"image_size": size, "class_cond": small, "generator": "determ" if small else "determ-indiv", "seed": 42}
    sampler = {"sampler": "multistep" if ts else "onestep", "ts": ts, "steps": steps}
    return from_dict({"unet": unet, "model_path": weights, **about, **sampler})


_SMALL, _LARGE = "consistency_models_8xb256-imagenet1k-{}-64x64", "consistency_models_8xb32-LSUN-{}-{}-256x256"
ZOO: dict[str, MMagic] = {
    _SMALL.format("onestep"): _entry(64, "cd_imagenet64_l2"),
    _SMALL.format("multistep"): _entry(64, "cd_imagenet64_l2", "0,22,39"),
    _LARGE.format("bedroom", "onestep"): _entry(256, "ct_bedroom256"),
    _LARGE.format("bedroom", "multistep"): _entry(256, "ct_bedroom256", "0,67,150", 151),
    _LARGE.format("cat", "onestep"): _entry(256, "ct_cat256"),
    _LARGE.format("cat", "multistep"): _entry(256, "ct_cat256", "0,62,150", 151),
}
"""The zoo, by the names in its metafile."""
