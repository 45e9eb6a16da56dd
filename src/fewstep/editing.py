"""Editing without training (Song et al. 2023, Algorithm 4).

What is known of a picture is an orthogonal projection P of it: the pixels outside a hole, the luminance, the means of
patches. From a measured reference y the sampler's every estimate is corrected so that it agrees with what is known:

    x_0 ← x_0 − P x_0 + P y

For an orthogonal transform A and the mask Ω of Algorithm 4 this is A⁻¹[(A y) ⊙ (1 − Ω) + (A x_0) ⊙ Ω], without
forming A.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.sampling import Noise, fresh_noise, last, trajectory
from fewstep.schedules import Schedule
from fewstep.solvers import Estimate

STROKE_TIMES = (5.38, 2.24)
"""The paper's two times for stroke-guided generation (figure 13): how far a painting is noised, and the second
call."""

LUMINANCE = (0.2989, 0.5870, 0.1140)
"""Weights of red, green and blue in the grey value."""


class Measurement(ABC):
    """An orthogonal projection P, given by `measure`; linear, idempotent and self-adjoint."""

    @abstractmethod
    def measure(self, x: Tensor) -> Tensor:
        """P x (n, C, H, W): what is known of x, laid out as a picture."""

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """x − P x + P y: x, made to agree with the reference y in all that is known."""
        return x - self.measure(x) + self.measure(y)

    def part(self, start: int, stop: int) -> "Measurement":
        """The measurement of pictures start … stop − 1 of a larger batch."""
        return self

    def prepare(self, reference: Tensor, shape: Sequence[int]) -> Tensor:
        """The reference (n, …) that the user gave as pictures of `shape` (C, H, W); raises ValueError if it cannot
        be."""
        if tuple(reference.shape[1:]) != tuple(shape):
            raise ValueError(f"The picture to edit is {tuple(reference.shape[1:])}, the model makes {tuple(shape)}.")
        return reference


@dataclass(frozen=True, eq=False)
class Inpaint(Measurement):
    """Fill what the mask marks: 1 (white) is the hole, 0 is kept. Fractions are refused.

    >>> model, mask = fewstep.load("mnist"), torch.zeros(28, 28)
    >>> mask[14:] = 1
    >>> x = model.sample(4, labels=7)
    >>> y = model.edit(x, fewstep.Inpaint(mask), labels=7)
    >>> torch.equal(y[:, :, :14], x[:, :, :14])
    True
    """

    mask: Tensor
    """(H, W), (1, H, W), (C, H, W) or (n, 1 or C, H, W), of zeros and ones."""

    def __post_init__(self):
        object.__setattr__(self, "mask", torch.as_tensor(self.mask))
        if not 2 <= self.mask.ndim <= 4:
            raise ValueError(f"A mask is (H, W), (1, H, W) or (n, 1, H, W), not {tuple(self.mask.shape)}.")
        if not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ValueError("A mask holds only 0 (keep) and 1 (fill); threshold it first, for example mask > 0.5.")

    def part(self, start: int, stop: int) -> "Inpaint":
        return Inpaint(self.mask[start:stop]) if self.mask.ndim == 4 and len(self.mask) > 1 else self

    def prepare(self, reference: Tensor, shape: Sequence[int]) -> Tensor:
        reference = super().prepare(reference, shape)
        self._hole(reference)  # raises where they do not fit
        return reference

    def measure(self, x: Tensor) -> Tensor:
        return torch.where(self._hole(x), torch.zeros_like(x), x)

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(self._hole(x), x, y)  # the same as x − P x + P y, and exact to the bit

    def coarser(self, factor: int) -> "Inpaint":
        """The mask of values that are `factor` pixels wide: a hole where any of their pixels is one."""
        planes = self.mask.float().reshape(-1, *self.mask.shape[-3:] if self.mask.ndim > 2 else (1, *self.mask.shape))
        return Inpaint(F.max_pool2d(planes.amax(1, keepdim=True), factor))

    def _hole(self, x: Tensor) -> Tensor:
        given = tuple(self.mask.shape)
        if given[-2:] != x.shape[-2:]:
            last = given[-3:-1] == x.shape[-2:]
            hint = ": its channels come last, mask[..., 0] is one of them" if last else ""
            raise ValueError(f"The mask is {given}, the pictures are {tuple(x.shape[-2:])}{hint}.")
        if len(given) == 4 and given[0] not in (1, len(x)):
            raise ValueError(f"{given[0]} masks were given for {len(x)} pictures: give one, or one each.")
        if len(given) > 2 and given[-3] not in (1, x.shape[1]):
            raise ValueError(f"The mask has {given[-3]} channels, the pictures have {x.shape[1]}: give one, (1, H, W).")
        return self.mask.to(x.device).bool().expand(x.shape)


@dataclass(frozen=True)
class Colorize(Measurement):
    """Keep the luminance, make the colours: P = v vᵀ over the channels, v the normalised luminance weights.

    >>> model = fewstep.load("cd_imagenet64_l2")
    >>> y = model.edit(torch.zeros(1, 1, 64, 64), fewstep.Colorize(), steps=2, labels=281)
    """

    def measure(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            raise ValueError(f"Colorization needs pictures of 3 channels; this model has {x.shape[1]}.")
        v = torch.tensor(LUMINANCE, dtype=x.dtype, device=x.device)
        v = v / v.norm()
        return torch.einsum("nchw,c,d->ndhw", x, v, v)

    def prepare(self, reference: Tensor, shape: Sequence[int]) -> Tensor:
        grey = reference.expand(-1, 3, -1, -1) if reference.shape[1] == 1 else reference
        return super().prepare(grey, shape)


@dataclass(frozen=True)
class SuperResolve(Measurement):
    """Keep the mean of every f × f patch, make the detail.

    >>> y = fewstep.load("mnist").edit(torch.zeros(1, 1, 7, 7), fewstep.SuperResolve(4), labels=3)
    >>> y.shape
    torch.Size([1, 1, 28, 28])
    """

    factor: int
    """f, how many times larger each side becomes; it must divide the model's size."""

    def __post_init__(self):
        if not isinstance(self.factor, Integral) or self.factor < 1:
            raise ValueError(f"The factor of a super-resolution is a whole number from 1, not {self.factor}.")

    def measure(self, x: Tensor) -> Tensor:
        self._check(x.shape[-2:])
        small = F.avg_pool2d(x, self.factor)
        return small.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)

    def prepare(self, reference: Tensor, shape: Sequence[int]) -> Tensor:
        """Takes a small picture, or one of full size (whose patches are then averaged)."""
        self._check(shape[-2:])
        if tuple(reference.shape[-2:]) == (shape[-2] // self.factor, shape[-1] // self.factor):
            reference = reference.repeat_interleave(self.factor, -2).repeat_interleave(self.factor, -1)
        return super().prepare(reference, shape)

    def _check(self, size: Sequence[int]) -> None:
        if size[0] % self.factor or size[1] % self.factor:
            raise ValueError(f"The factor {self.factor} does not divide the size {size[0]}×{size[1]}.")


def edit_times(schedule: Schedule, steps: int) -> list[float]:
    """`steps` times for `edit`, even in ln t from t_max/4 to t_max/200.

    What is known fixes the large shapes, so more noise than that only forgets them; and below, the model no longer
    blends what it made with what it was given (docs/results.md has the comparison with Karras's spacing).
    """
    if steps < 1:
        raise ValueError(f"steps is at least 1, not {steps}.")
    high, low = math.log(schedule.t_max / 4), math.log(schedule.t_max / 200)
    return torch.linspace(high, low, steps, dtype=torch.float64).exp().tolist()


def edit(
    f: Estimate,
    schedule: Schedule,
    measurement: Measurement,
    reference: Tensor,
    times: Sequence[float],
    *,
    noise: Noise = fresh_noise,
    clip: bool = True,
    **cond: Any,
) -> Tensor:
    """Algorithm 4: pictures (n, C, H, W) that agree with `reference` in all that `measurement` knows, exactly.

    The start is y + times[0] z for the measured reference y. One network call a time.
    """
    y = measurement.measure(reference)
    x = schedule.perturb(y, noise(0, y), torch.tensor(times[0], dtype=torch.float64))
    correct = lambda x_0: measurement.project(x_0, reference)  # noqa: E731
    return last(trajectory(f, schedule, x, times, project=correct, noise=noise, clip=clip, **cond))


def redraw(
    f: Estimate,
    schedule: Schedule,
    painting: Tensor,
    times: Sequence[float] = STROKE_TIMES,
    *,
    noise: Noise = fresh_noise,
    clip: bool = True,
    **cond: Any,
) -> Tensor:
    """Stroke-guided generation (SDEdit, Meng et al. 2021; Song et al. 2023, figure 13).

    The painting (n, C, H, W) is noised to times[0] and sampled from there: a smaller time keeps more of it.
    """
    x = schedule.perturb(painting, noise(0, painting), torch.tensor(times[0], dtype=torch.float64))
    return last(trajectory(f, schedule, x, times, noise=noise, clip=clip, **cond))


def slerp(z_a: Tensor, z_b: Tensor, fraction: float | Tensor) -> Tensor:
    """Spherical interpolation between unit noises of one shape, sample by sample (Song et al. 2023, appendix D).

    sin((1 − a) φ)/sin φ z_a + sin(a φ)/sin φ z_b, φ the angle between the samples: the result is as likely as both
    ends.
    Samples that are (anti-)parallel are joined by a straight line. `fraction` is a number or (n,).
    """
    a, b = z_a.flatten(1).cpu().double(), z_b.flatten(1).cpu().double()  # not every device has float64
    cosine = F.cosine_similarity(a, b, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)
    fraction = torch.as_tensor(fraction).cpu().double().expand(len(a))
    sine = torch.sin(angle)
    straight = sine < 1e-6
    safe = torch.where(straight, 1.0, sine)
    left = torch.where(straight, 1 - fraction, torch.sin((1 - fraction) * angle) / safe)
    right = torch.where(straight, fraction, torch.sin(fraction * angle) / safe)
    return (left[:, None] * a + right[:, None] * b).reshape(z_a.shape).to(z_a.dtype).to(z_a.device)
