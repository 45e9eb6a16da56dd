"""A model: a denoiser, the space it works in and what it can be asked for; the things a user does with pictures.

Every picture depends on (seed, its index, what it is asked to show) alone: not on the batch size, nor on how many
processes share the work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from fewstep.denoiser import Denoiser
from fewstep.design import Design
from fewstep.model.asking import Asking
from fewstep.model.drawing import SAMPLERS as SAMPLERS
from fewstep.model.drawing import chosen_sampler, draw, run_times
from fewstep.model.editor import Editor
from fewstep.model.maker import EDIT_STEPS as EDIT_STEPS
from fewstep.model.placing import pick_device, placed
from fewstep.networks.adapters import LatentUNet, fuse
from fewstep.parameterizations import Latched
from fewstep.sampling import Churn, Noise, begin
from fewstep.solvers import Estimate


class Model(Editor):
    """A trained model. `denoiser(x_t, t, labels=…)` is the function itself; the methods draw and edit pictures.

    Pictures are float32 (n, C, H, W) in [-1, 1] on the CPU. `times` are real noise levels, `steps` the number of
    network calls (of a walk: steps), which takes the times stored with the model, else evenly spread ones.

    What to show is said alike everywhere (`fewstep.model.asking.Asking`), for all pictures or for each. A model of
    classes takes `labels`; left out, they are drawn per image from the seed; -1 asks for no class. A latent model takes
    `prompts`, and `negative` ones where it is not told its guidance scale. `guidance` is 1 (none) for pixels, for a
    latent model 8 where it is told, 7.5 for a diffusion model, else 1.

    >>> model = fewstep.load("mnist")
    >>> x = model.sample(4, steps=2, seed=0, labels=7)
    >>> torch.allclose(model.sample(1, first=3, steps=2, seed=0, labels=7), x[3:], atol=1e-4)
    True
    >>> words = fewstep.load("words")
    >>> x = words.sample(prompts=["a large thick seven", "a small zero"], steps=2, guidance=4)
    """

    @torch.no_grad()
    def sample(
        self,
        n: int | None = None,
        *,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        seed: int = 0,
        sampler: str | None = None,
        first: int = 0,
        batch: int | None = None,
        height: int | None = None,
        width: int | None = None,
        churn: Churn | None = None,
        clip: bool = True,
        progress: Callable[[int], None] | None = None,
        **asked: Unpack[Asking],
    ) -> Tensor:
        """n pictures, the ones with indices first … first + n − 1; n is that of a list of prompts, else 1.

        `sampler` is one of SAMPLERS: `consistency` (with `steps` or `times`) unless this is a diffusion model, which
        takes `heun` with 18 steps, in latents `euler` with 50. `churn` adds fresh noise to a walk along the ODE; `clip`
        keeps every estimate in [-1, 1] (pixels only: latents have no such bounds). A latent model also draws sizes
        other than its own, `height` and `width` in pixels. `progress` is called with the number of pictures of each
        finished batch. Raises ValueError for what cannot be asked.
        """
        prompts = asked.get("prompts")
        n = (1 if prompts is None or isinstance(prompts, str) else len(prompts)) if n is None else n
        sampler, shape = chosen_sampler(self.design, sampler, churn), self._sized(height, width)
        levels, held = run_times(self.design, sampler, steps, times), clip and self.design.space.bounded

        def run(rows: range, f: Estimate, cond: dict[str, Any], noise: Noise) -> Tensor:
            x = begin(self.schedule, noise(0, torch.empty(len(rows), *shape, device=self.device)), levels)
            return draw(f, self.schedule, sampler, x, levels, noise=noise, clip=held, churn=churn, cond=cond)

        return self._in_batches(run, range(first, first + n), shape, asked, seed, batch, progress)

    def add_lora(self, source: str | Path, scale: float = 1.0, *, consistent: bool = False) -> None:
        """Changes a latent model for good by a LoRA: a file, a folder, a Hub id, in diffusers' or kohya's form.

        `consistent` says that it makes a consistency function of a diffusion model, as LCM-LoRA does: the model is then
        drawn from in a few calls, without guidance unless asked. Raises ValueError for a LoRA that does not fit.

        >>> model = fewstep.load("stable-diffusion-v1-5/stable-diffusion-v1-5")
        >>> model.add_lora("latent-consistency/lcm-lora-sdv1-5", consistent=True)
        >>> x = model.sample(prompts="a small cat", steps=4)
        """
        network, seen = self.denoiser.network, self.design.parameterization
        if not isinstance(network, LatentUNet):
            raise ValueError("LoRAs are for latent models; this one works in pixels.")
        fuse(network, source, scale)
        seen = Latched(seen) if consistent and not seen.consistent else seen
        about = {**self.design.about, "lora": [*self.design.about.get("lora", ()), f"{source}:{scale:g}"]}
        self.design = replace(self.design, parameterization=seen, about=about)
        self.denoiser.parameterization = seen

    def save(self, folder: str | Path) -> None:
        """Writes the model to a folder: model.json, weights.safetensors and a model card; a latent model as a folder of
        diffusers, with all of its parts. See `fewstep.load`.

        An existing model there is replaced only once the new one is complete. Raises FileExistsError for a folder that
        holds other files.
        """
        from fewstep import write  # the forms of files are a floor above models

        weights = self.denoiser.network.state_dict()
        write("diffusers" if self.latent else "fewstep", Path(folder), self.design, weights)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        format: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "A model of fewstep",
    ) -> str:
        """Uploads the model and its card to the Hugging Face Hub, in the form of fewstep or of "diffusers", which is a
        latent model's only one.

        See `fewstep.push_to_hub(model, repo_id, …)`, which this calls.
        """
        from fewstep import push_to_hub  # the forms of files are a floor above models

        return push_to_hub(self, repo_id, format=format, private=private, token=token, commit_message=commit_message)


def build(design: Design, weights: Mapping[str, Tensor], device: str | torch.device = "auto") -> Model:
    """The model of a design with these weights (the network's state dict), in float32.

    Raises ValueError, with their names, for weights that are missing, too many or of another shape.
    """
    place = pick_device(device)
    network = placed(design.architecture, weights, place)
    return Model(Denoiser(network, design.schedule, design.parameterization), design, place)
