"""The score of a run's model as it is now (`fewstep.evaluation`): the averaged weights, always the same noise.

    a consistency model   one network call a picture
    a diffusion model     what its previews take: 10 steps of Heun, in latents 20 of DDIM

Noise, classes and captions are functions of the recipe's seed, apart from those of training, so a run with scores and
one without have the same weights. What the features see of the data is kept (`fewstep.evaluation.caching`).
"""

import warnings
from typing import Any

import torch
from torch import Tensor

from fewstep.evaluation.evaluating import Yardstick
from fewstep.evaluation.opening import Asking
from fewstep.evaluation.telling import class_words
from fewstep.networks.adapters import AutoencoderShape
from fewstep.training.fit import Run
from fewstep.training.previews import STEPS, WALK, chosen, drawn, how

BATCH, LATENT_BATCH = 64, 8
"""Pictures drawn at once, unless a micro-batch is smaller."""


class Measuring:
    """Call it to measure; None where the recipe asks for no score, and for autoencoders."""

    def __init__(self, run: Run):
        asked = run.recipe.score
        self.run, self.asked = run, asked if asked is not None and asked.n else None
        if isinstance(run.design.architecture, AutoencoderShape):
            self.asked = None
        self.yardstick: Yardstick | None = None

    @torch.no_grad()
    def __call__(self) -> dict[str, Any]:
        """{"score": value, "score_name": title}, or nothing."""
        if self.asked is None:
            return {}
        try:
            if self.yardstick is None:
                self.yardstick = self._yardstick()
            line = self.yardstick(*self._drawn(self.asked.n)).scores[0]
        except (
            ValueError,
            OSError,
            ImportError,
            torch.OutOfMemoryError,
        ) as error:  # a run is worth more than its score
            warnings.warn(f"No score is taken: {error}", stacklevel=2)
            self.asked = None
            return {}
        return {"score": line.value, "score_name": line.title}

    def _yardstick(self) -> Yardstick:
        assert self.asked is not None
        run, asked = self.run, self.asked
        return Yardstick(run.images, features=asked.features, scores=asked.by, at_most=asked.n,
                         device=str(run.device))  # fmt: skip

    def _drawn(self, n: int) -> tuple[Tensor, Asking]:
        """Pictures (n, C, H, W) in [-1, 1], and what they were asked for."""
        assert self.asked is not None
        run, model, steps = self.run, self.run.model(), self.asked.steps
        batch = min(LATENT_BATCH if run.recipe.latent else BATCH, run.recipe.micro_batch or BATCH)
        device = str(run.device)
        if not run.recipe.latent:
            labels = None if not model.num_classes else torch.arange(n) % model.num_classes
            x = model.sample(n, seed=run.recipe.seed, labels=labels, batch=batch, **how(run, model, steps))
            return x, Asking(labels=None if labels is None else class_words(model, labels), device=device)
        steps = steps or (STEPS[0] if model.consistent else WALK)
        parts = [range(start, min(start + batch, n)) for start in range(0, n, batch)]
        x = torch.cat([drawn(run, model, n, rows, steps) for rows in parts])
        captions = run.images.captions
        return x, Asking(prompts=None if captions is None else [captions[i] for i in chosen(run, n)], device=device)
