"""A denoiser: a network seen through a parameterization on a schedule.

    D(x_t, t) = c_skip x_t + c_out F(c_in x_t, c_noise)

It is the one class for teachers and students: a diffusion model estimates E[x_0 | x_t], a consistency function jumps to
the start of the trajectory through x_t, and both map (x_t, t) to an estimate of x_0.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fewstep.parameterizations import Parameterization
from fewstep.schedules import Schedule
from fewstep.tensors import as_times, expand_as


class Denoiser(nn.Module):
    """D(x_t, t), from a network `network(x, c_noise, **cond)` that keeps the shape of x.

    >>> network = fewstep.load("mnist", device="cpu").denoiser.network          # or one of your own
    >>> f = fewstep.Denoiser(network, fewstep.Karras(), fewstep.Boundary())
    >>> x = torch.randn(4, 1, 28, 28)
    >>> torch.equal(f(x, 0.002, labels=None), x)
    True
    """

    def __init__(self, network: nn.Module, schedule: Schedule, parameterization: Parameterization):
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.parameterization = parameterization

    def forward(self, x_t: Float[Tensor, "n *shape"], t: float | Tensor, **cond: Any) -> Float[Tensor, "n *shape"]:
        """The estimate of x_0 from x_t (n, C, H, W) at time t (a number or (n,)), in x_t's dtype.

        `cond` are the network's own keywords, such as `labels` (n,). Coefficients stay in float32 or better, so
        the boundary condition holds exactly in every dtype.
        """
        c = self.parameterization(self.schedule, as_times(t, x_t))
        skip, out, into = (expand_as(part, x_t) for part in (c.skip, c.out, c.into))
        raw = self.network((into * x_t).to(x_t.dtype), c.noise, **cond)
        return (skip * x_t + out * raw).to(x_t.dtype)


class Guided(nn.Module):
    """Classifier-free guidance (Ho & Salimans 2022) as a denoiser around a denoiser.

        D_w(x_t, t | c) = D(x_t, t | c) + w (D(x_t, t | c) − D(x_t, t))

    w = 0 is the plain conditional model; w = guidance_scale − 1. `nothing` turns the condition's keywords into those
    that ask for nothing. A call may bring its own w, one a sample (n,), as the keyword `guidance`.
    """

    def __init__(self, denoiser: nn.Module, w: float | Tensor, nothing: Callable[[Mapping[str, Any]], dict[str, Any]]):
        super().__init__()
        self.denoiser = denoiser
        self.w = w
        self.nothing = nothing

    @property
    def schedule(self) -> Schedule:
        return self.denoiser.schedule  # type: ignore[return-value]

    def forward(self, x_t: Tensor, t: float | Tensor, *, guidance: Tensor | None = None, **cond: Any) -> Tensor:
        """The guided estimate of x_0; one network call on a batch of 2 n."""
        free, t = self.nothing(cond), as_times(t, x_t)
        both = {name: torch.cat([value, free[name]]) for name, value in cond.items()}
        asked, unasked = self.denoiser(torch.cat([x_t, x_t]), torch.cat([t, t]), **both).chunk(2)
        w = self.w if guidance is None else guidance
        w = expand_as(w, x_t).to(x_t.dtype) if isinstance(w, Tensor) else w
        return asked + w * (asked - unasked)
