"""Small models with random weights: a network whose last layer starts at zero would make every one the same."""

import torch

from fewstep.conditions import Labels, Nothing
from fewstep.design import Design
from fewstep.model import Model, build
from fewstep.networks import CompactShape
from fewstep.parameterizations import EDM, Boundary


def random_model(*, classes: int = 10, channels: int = 1, consistent: bool = True, size: int = 8, **design) -> Model:
    shape = CompactShape(channels, size, classes, widths=(8, 12), blocks=1, embedding=16)
    generator = torch.Generator().manual_seed(1)
    weights = {
        name: torch.randn(w.shape, generator=generator) * 1.0 / max(1, w[0].numel() if w.ndim > 1 else 1) ** 0.5
        for name, w in shape.build().state_dict().items()
    }
    condition = Labels(classes) if classes else Nothing()
    parameterization = Boundary() if consistent else EDM()
    return build(Design(shape, parameterization, condition=condition, **design), weights, "cpu")
