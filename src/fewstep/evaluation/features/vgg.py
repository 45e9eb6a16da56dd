"""What LPIPS compares, as one point a picture: VGG16's five stages, averaged over the places.

    f(x) = ( √w_l · mean over places of φ_l(x) )  for l = 1 … 5        64 + 128 + 256 + 512 + 512 = 1472 numbers

with φ_l of unit length at each place and LPIPS's learned w_l ≥ 0 (`fewstep.lpips`). A mean of squares is no less than
the square of the mean, so ‖f(x) − f(y)‖² ≤ LPIPS(x, y): pictures that LPIPS holds to be near are near.
"""

from typing import final

import torch
from torch import Tensor

from fewstep import lpips
from fewstep.evaluation.features.seeing import checked, digest_of, exact, signed
from fewstep.evaluation.types import Features, Seen

METRIC = lpips.LPIPS(pooling="max", size=224, below=None)
"""The original's pooling, every picture at one size."""


@final
class Vgg(Features):
    """VGG16's features with the weights of a file, or of the Hub. Raises FileNotFoundError where there are none."""

    name = "vgg16-lpips"
    resize = "224×224 bilinear"
    dimension = sum(stage[-1] for stage in lpips.STAGES)

    def __init__(self, weights: str | None, device: str | torch.device):
        self.device = torch.device(device)
        self.network = lpips._network(weights, self.device, torch.float32)
        tensors = [w for stage in self.network.stages for pair in stage for w in pair] + self.network.heads
        self.digest = digest_of({f"{i}": w for i, w in enumerate(tensors)}, type(self).__name__, self.resize)

    def __call__(self, pictures: Tensor) -> Seen:
        x = signed(checked(pictures).to(self.device))
        with exact():
            stages = METRIC._features(self.network, x)
            means = [w.sqrt() * seen.mean((2, 3)) for seen, w in zip(stages, self.network.heads, strict=True)]
        return Seen(torch.cat(means, dim=1))
