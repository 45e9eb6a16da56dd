"""How an autoencoder is trained (Kingma & Welling 2014; Rombach et al. 2022, appendix G, without the adversary).

    L = d(x̂, x) + γ d'(x̂, x) + β KL(N(μ, s²) ‖ N(0, I)) / D,     x̂ = decode(μ + s z)

μ and s are the encoder's answer to the picture x, D the number of values in x. There are no noise levels: the student
is the autoencoder itself.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fewstep.distances import L1, Distance
from fewstep.objectives.objective import Draw, Objective
from fewstep.schedules import Schedule
from fewstep.tensors import sum_flat


@dataclass(frozen=True)
class Autoencoding(Objective):
    """Reconstruction, and latents not too far from unit noise."""

    distance: Distance = field(default_factory=L1)
    """How picture and reconstruction are compared."""
    also: Distance | None = None
    """d', a second comparison, such as LPIPS; None for none."""
    also_weight: float = 1.0
    """γ: how much the second comparison counts."""
    beta: float = 1e-6
    """How much the divergence of the latents from unit noise counts."""

    consistent = False
    denoises = False

    def times(self, u: Tensor, schedule: Schedule, progress: float) -> tuple[Tensor, Tensor]:
        return torch.ones_like(u), torch.ones_like(u)

    def loss(self, student: nn.Module, target: nn.Module, draw: Draw, *, teacher: nn.Module | None = None) -> Tensor:
        """`student(x, z)` answers (x̂, μ, s); z is as x, of which a latent takes as many values as it needs."""
        again, mean, std = student(draw.x_0, draw.z)
        divergence = sum_flat(mean**2 + std**2 - 1 - 2 * std.clamp(min=1e-20).log()) / 2
        loss = self.distance(again, draw.x_0) + self.beta * divergence / draw.x_0[0].numel()
        return loss if self.also is None else loss + self.also_weight * self.also(again, draw.x_0)
