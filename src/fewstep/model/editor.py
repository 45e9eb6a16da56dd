"""What a model makes of pictures that are there: edits without training (Song et al. 2023, Algorithm 4; SDEdit).

In pixels what is known is fixed exactly (`fewstep.editing`). In latents it is put into every estimate, and into the
decoded picture once more, since an autoencoder keeps no pixel as it was.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from fewstep.editing import STROKE_TIMES, Inpaint, Measurement, edit, slerp
from fewstep.model.asking import Asking
from fewstep.model.drawing import chosen_sampler, draw, noised, run_times
from fewstep.model.maker import Maker
from fewstep.sampling import Noise, begin, check_times
from fewstep.solvers import Estimate
from fewstep.tensors import noise as unit_noise


class Editor(Maker):
    """The edits; `Model` builds on it."""

    @torch.no_grad()
    def edit(
        self,
        pictures: Tensor,
        measurement: Measurement,
        *,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        **asked: Unpack[Asking],
    ) -> Tensor:
        """Pictures that agree with the given ones in all that the measurement knows (Algorithm 4), exactly.

        `pictures` (n, C, H, W) in [-1, 1]; SuperResolve also takes small ones, Colorize grey ones. Measured references
        keep what is known also where it lies outside [-1, 1]. Of a latent model only Inpaint can be asked: what others
        know of pixels is not a projection of latents.
        """
        options: dict[str, Any] = {"seed": seed, "first": first, "batch": batch, **asked}
        if self.latent and isinstance(measurement, Inpaint):
            return self.inpaint(pictures, measurement.mask, steps=steps, times=times, **options)
        if self.latent:
            raise ValueError(f"{type(measurement).__name__} fixes values of pixels, and this model works in latents: "
                             "it takes inpaint and img2img.")  # fmt: skip
        chosen = self.edit_times(steps, times)
        reference = measurement.prepare(pictures, self.shape)
        return self._edited(reference, lambda part, rows, f, cond, noise: edit(
            f, self.schedule, measurement.part(rows.start - first, rows.stop - first), part, chosen,
            noise=noise, **cond
        ), **options)  # fmt: skip

    @torch.no_grad()
    def inpaint(
        self,
        pictures: Tensor,
        mask: Tensor,
        *,
        strength: float = 1.0,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        sampler: str | None = None,
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        **asked: Unpack[Asking],
    ) -> Tensor:
        """Pictures (n, C, H, W) with what the mask marks (see `fewstep.Inpaint`) made anew, the rest kept exactly.

        Pixels: `edit` with an Inpaint. Latents: every estimate is given the known latents; what a hole touches is made
        anew, and known pixels are put back in the picture. With a strength below 1 (see `img2img`) what was in the hole
        is redrawn; otherwise it has no influence.
        """
        known = Inpaint(mask)
        options: dict[str, Any] = {"seed": seed, "first": first, "batch": batch, **asked}
        if not self.latent:
            if strength != 1 or sampler:
                raise ValueError("strength and sampler are for inpainting with latent models; this one takes times.")
            return self.edit(pictures, known, steps=steps, times=times, **options)
        sampler = chosen_sampler(self.design, sampler)
        levels = run_times(self.design, sampler, steps, times, strength)
        left = known.measure(pictures)
        given = pictures if strength < 1 else left
        return known.project(self._redrawn(given, sampler, levels, known, **options), pictures)

    @torch.no_grad()
    def img2img(
        self,
        pictures: Tensor,
        strength: float = 0.5,
        *,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        **asked: Unpack[Asking],
    ) -> Tensor:
        """Pictures (n, C, H, W), redrawn by a latent model: the more, the larger `strength` in (0, 1] is.

        A consistency model is called `steps` times (4) on the first ⌊strength · origin⌋ of the levels that it was
        distilled on (Luo et al. 2023), a diffusion model walks the last ⌊strength · steps⌋ of its steps (50).

        >>> model = fewstep.load("words")
        >>> x = model.img2img(model.sample(prompts="a large seven"), 0.7, prompts="a large one")
        """
        if not self.latent:
            raise ValueError("img2img's strength is a share of a latent model's levels; a model of pixels redraws from "
                             "a noise level: redraw(pictures, times=…).")  # fmt: skip
        sampler = chosen_sampler(self.design, sampler)
        levels = run_times(self.design, sampler, steps, None, strength)
        return self._redrawn(pictures, sampler, levels, None, seed=seed, first=first, batch=batch, **asked)

    @torch.no_grad()
    def redraw(
        self,
        pictures: Tensor,
        *,
        times: Sequence[float] = STROKE_TIMES,
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        **asked: Unpack[Asking],
    ) -> Tensor:
        """Stroke-guided generation: realistic pictures that follow the given paintings (n, C, H, W).

        The painting is noised to times[0]; a larger one gives the model more freedom. The times of a latent model are
        levels of its own; `img2img` chooses them by a strength.

        >>> painting = -torch.ones(1, 1, 28, 28)
        >>> painting[..., 4:24, 12:16] = 1
        >>> x = fewstep.load("mnist").redraw(painting, labels=1)
        """
        if self.latent and tuple(times) == STROKE_TIMES:
            raise ValueError("These times are noise levels in pixels; for a latent model see img2img.")
        sampler = chosen_sampler(self.design, None) if self.latent else "consistency"
        levels = run_times(self.design, sampler, None, times)
        return self._redrawn(pictures, sampler, levels, None, seed=seed, first=first, batch=batch, **asked)

    @torch.no_grad()
    def denoise(self, pictures: Tensor, sigma: float, *, seed: int = 0, **asked: Unpack[Asking]) -> Tensor:
        """The clean pictures in noisy ones (n, C, H, W) whose noise has standard deviation `sigma`; one network
        call.

        >>> model = fewstep.load("mnist")
        >>> x = model.sample(4, labels=7)
        >>> y = model.denoise(x + 0.5 * torch.randn_like(x), 0.5, labels=7)
        """
        if self.latent:
            raise ValueError("Noise in pixels is no noise in latents, and this model works in latents: it cannot "
                             "remove it. img2img with a small strength redraws a picture.")  # fmt: skip
        self._inner_of(pictures)
        check_times([sigma], self.schedule)
        return self._edited(pictures, lambda part, rows, f, cond, noise: f(part, sigma, **cond).clamp(-1, 1), seed=seed,
                            **asked)  # fmt: skip

    @torch.no_grad()
    def interpolate(
        self,
        seed_a: int,
        seed_b: int,
        n: int = 8,
        *,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        **asked: Unpack[Asking],
    ) -> Tensor:
        """n pictures from the first picture of seed_a to that of seed_b, along the great circle between their noises.

        Unless `labels` says otherwise, all show the class that seed_a draws.

        >>> x = fewstep.load("mnist").interpolate(seed_a=0, seed_b=1, n=8, labels=3)
        """
        sampler = chosen_sampler(self.design, None) if self.latent else "consistency"
        levels, shape = run_times(self.design, sampler, steps, times), self._inner
        fractions = torch.linspace(0, 1, n, dtype=torch.float64)
        if self.num_classes and asked.get("labels") is None:
            asked["labels"] = int(self.design.condition.ask(None, seed_a, range(1)))

        def run(rows: range, f: Estimate, cond: dict[str, Any], noise: Noise) -> Tensor:
            def between(draw: int, like: Tensor) -> Tensor:
                a, b = (unit_noise(seed, [0], shape, a=draw).expand(len(rows), *shape) for seed in (seed_a, seed_b))
                return slerp(a, b, fractions[rows.start : rows.stop]).to(self.device)

            x = begin(self.schedule, between(0, torch.empty(0)), levels)
            clip = self.design.space.bounded
            return draw(f, self.schedule, sampler, x, levels, noise=between, clip=clip, cond=cond)

        return self._in_batches(run, range(n), shape, asked, seed_a, max(1, n) if not self.latent else None)

    def _redrawn(self, pictures: Tensor, sampler: str, levels: list[float], known: Inpaint | None, *, seed: int,
                 first: int, batch: int | None, **asked: Unpack[Asking]) -> Tensor:  # fmt: skip
        """From the pictures, noised to levels[0]; what is known of them is put into every estimate."""
        space, schedule = self.design.space, self.schedule
        self._inner_of(pictures)

        def apply(x_0: Tensor, rows: range, f: Estimate, cond: dict[str, Any], noise: Noise) -> Tensor:
            kept = known.part(rows.start - first, rows.stop - first).coarser(space.factor) if known else None
            project = (lambda estimate: kept.project(estimate, x_0)) if kept else None
            x = noised(schedule, x_0, noise(0, x_0), levels[0])
            return draw(f, schedule, sampler, x, levels, noise=noise, clip=space.bounded, project=project, cond=cond)

        return self._edited(pictures, apply, seed=seed, first=first, batch=batch, **asked)
