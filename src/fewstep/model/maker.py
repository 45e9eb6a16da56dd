"""From what is asked to pictures, batch by batch: what all that a model draws has in common.

indices -> what each shows (`asking`), its noise (seed, draw, index) -> x_0 (`drawing`) -> decoded
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.design import Design
from fewstep.editing import edit_times
from fewstep.model.asking import Asking, wish
from fewstep.model.drawing import is_latent, jump_times, walk_times
from fewstep.model.placing import pick_device
from fewstep.sampling import Noise
from fewstep.schedules import Schedule
from fewstep.solvers import Estimate
from fewstep.tensors import noise as unit_noise

EDIT_STEPS = 8
"""Network calls of an edit in pixels unless told otherwise."""

BATCH, LATENT_BATCH = 256, 8
"""Pictures drawn at once unless told otherwise."""

Shape = tuple[int, int, int]
Run = Callable[[range, Estimate, dict[str, Any], Noise], Tensor]
"""(indices, the function, its keywords, their noise) → x_0."""


class Maker:
    """A model's parts, its noise levels, and the loop over batches; `Editor` and `Model` build on it."""

    def __init__(self, denoiser: Denoiser, design: Design, device: str | torch.device = "auto"):
        self.design = design
        self.device = pick_device(device)
        self.denoiser = denoiser.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cpu":  # convolutions and norms are faster so: see docs/benchmarks.md
            self.denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def schedule(self) -> Schedule:
        return self.design.schedule

    @property
    def shape(self) -> Shape:
        """(C, H, W) of its pictures."""
        return self.design.space.pictures(self._inner)

    @property
    def num_classes(self) -> int:
        """0 for a model that is not told classes."""
        return self.design.architecture.num_classes

    @property
    def consistent(self) -> bool:
        """Whether it is a consistency function, rather than a diffusion model (a teacher)."""
        return self.design.parameterization.consistent

    @property
    def latent(self) -> bool:
        """Whether it works in the latents of an autoencoder, rather than in pixels."""
        return is_latent(self.design)

    @property
    def batch(self) -> int:
        """Pictures drawn at once unless told otherwise."""
        return LATENT_BATCH if self.latent else BATCH

    def times(self, steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
        """The noise levels of a run of Algorithm 1: `times` themselves, or good ones for `steps` calls.

        Raises ValueError for both at once and for unusable ones.
        """
        return jump_times(self.design, steps, times)

    def walk_times(self, sampler: str, steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
        """The noise levels of a walk of `steps` steps (18; latents: 50 network calls), or along `times`, with its end:
        where nothing is noise (it need not be given), but for `progdist`, which ends at t_min or at the last given.

        Raises ValueError for both at once and for unusable ones.
        """
        return walk_times(self.design, sampler, steps, times)

    def edit_times(self, steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
        """The same for Algorithm 4: `times` themselves, or `fewstep.editing.edit_times` for `steps` calls (8)."""
        if times is not None:
            return self.times(steps, times)
        return edit_times(self.schedule, EDIT_STEPS if steps is None else steps)

    def _edited(self, pictures: Tensor, apply: Callable[..., Tensor], *, seed: int = 0, first: int = 0,
                batch: int | None = None, **asked: Unpack[Asking]) -> Tensor:  # fmt: skip
        """`apply` to the x_0 of the pictures, batch by batch."""

        def run(rows: range, f: Estimate, cond: dict[str, Any], noise: Noise) -> Tensor:
            part = pictures[rows.start - first : rows.stop - first].to(self.device, torch.float32)
            return apply(self.design.space.encode(part), rows, f, cond, noise)

        indices = range(first, first + len(pictures))
        return self._in_batches(run, indices, self._inner_of(pictures), asked, seed, batch)

    def _in_batches(self, run: Run, indices: range, shape: Shape, asked: Mapping[str, Any], seed: int,
                    batch: int | None, progress: Callable[[int], None] | None = None) -> Tensor:  # fmt: skip
        """The pictures with these indices, whose x_0 are of this shape."""
        batch = self.batch if batch is None else batch
        if batch < 1:
            raise ValueError(f"batch is at least 1, not {batch}.")
        wished, of_pictures, parts = wish(self.design, seed, indices, asked), self.design.space.pictures(shape), []
        for start in range(0, len(indices), batch):
            rows = indices[start : start + batch]
            f, cond = wished.part(start, start + batch).of(self.denoiser, of_pictures[1:], self.device)
            parts.append(self._pictures(run(rows, f, cond, self._noise(seed, rows, shape))))
            if progress:
                progress(len(rows))
        return torch.cat(parts) if parts else torch.empty(0, *of_pictures)

    def _pictures(self, x_0: Tensor) -> Tensor:
        """Decoded; what an autoencoder makes is held to [-1, 1]."""
        pictures = self.design.space.decode(x_0).float().cpu()
        return pictures.clamp(-1, 1) if self.latent else pictures

    def _noise(self, seed: int, rows: range, shape: Shape) -> Noise:
        """Draw number `draw` of each picture: a function of (seed, draw, index) alone."""
        return lambda draw, like: unit_noise(seed, rows, shape, a=draw).to(self.device)

    @property
    def _inner(self) -> Shape:
        """(c, h, w) of its x_0."""
        a = self.design.architecture
        return a.image_channels, a.image_size, a.image_size

    def _sized(self, height: int | None, width: int | None) -> Shape:
        """(c, h, w) of x_0 for pictures of this size."""
        if height is None and width is None:
            return self._inner
        channels, own_height, own_width = self.shape
        return self._inner_of(torch.empty(0, channels, height or own_height, width or own_width))

    def _inner_of(self, pictures: Tensor) -> Shape:
        """(c, h, w) of the x_0 of pictures (n, C, H, W); ValueError where the model makes none of their shape."""
        factor, (channels, *_) = self.design.space.factor, self.shape
        if not self.latent and (pictures.ndim != 4 or tuple(pictures.shape[1:]) != self.shape):
            raise ValueError(f"Pictures for this model are (n, {', '.join(map(str, self.shape))}), "
                             f"not {tuple(pictures.shape)}.")  # fmt: skip
        if self.latent and (pictures.ndim != 4 or pictures.shape[1] != channels or min(pictures.shape[2:]) < 1
                            or any(side % factor for side in pictures.shape[2:])):  # fmt: skip
            raise ValueError(f"Pictures for this model are (n, {channels}, H, W), H and W multiples of {factor}; these "
                             f"are {tuple(pictures.shape)}.")  # fmt: skip
        return self._inner[0], pictures.shape[2] // factor, pictures.shape[3] // factor
