"""Small models of the papers' U-Net with random weights, in the likeness of the released ones."""

import torch
from torch import Tensor

from fewstep.conditions import Labels, Nothing
from fewstep.design import Design
from fewstep.networks import UNetShape
from fewstep.parameterizations import Boundary

IMAGENET = UNetShape(
    image_size=16,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(8,),
    num_head_channels=16,
    num_classes=5,
)
LSUN = UNetShape(
    image_size=16,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 1, 2),
    attention_resolutions=(8, 4),
    num_head_channels=16,
    use_scale_shift_norm=False,
)


def random_weights(shape: UNetShape, dtype: torch.dtype = torch.float32, seed: int = 1) -> dict[str, Tensor]:
    """Weights of which none is at its start of zero or one, such that pictures are no grey and not clipped flat."""
    source = torch.Generator().manual_seed(seed)
    found = {}
    for name, w in shape.build().state_dict().items():
        scale = 3.0 if name == "label_emb.weight" else 0.5 / max(1, w[0].numel()) ** 0.5
        found[name] = (scale * torch.randn(w.shape, generator=source)).to(dtype)
    return found


def design_of(shape: UNetShape, **parts) -> Design:
    """A consistency model as diffusers and OpenAI see it."""
    condition = Labels(shape.num_classes) if shape.num_classes else Nothing()
    return Design(shape, **{"parameterization": Boundary(noise_scale=250.0), "condition": condition, **parts})
