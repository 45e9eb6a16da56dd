"""Pictures from noise (Song et al. 2023, Algorithm 1), with diffusers' own call.

Change the import of a program that uses diffusers' class, and leave the rest of it as it is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from fewstep.conditions import Asked
from fewstep.dropin.consistency_call import Call
from fewstep.dropin.consistency_run import ConsistencyPipeline, Indices, Levels
from fewstep.dropin.stepping import Generators, known_arguments


class ConsistencyModelPipeline(ConsistencyPipeline):
    """Draws pictures in one or a few network calls; takes the place of diffusers' class of this name.

    `unet` is a UNet2DModel of any number of channels and any size (`sample_size` an int or (height, width)),
    `scheduler` a CMStochasticIterativeScheduler, diffusers' or fewstep's. From the same latents the pictures equal
    those of diffusers to 1e-5 in float32 (it leaves noise of 6.7e-7 in them). On purpose different: labels come from
    `generator`; nothing is drawn after the last call; a first level below σ_max starts with noise of that level;
    half-precision UNets draw float32 pictures; labels for an unconditional model, unknown arguments and components of
    other kinds are refused.

    >>> pipe = fewstep.ConsistencyModelPipeline.from_pretrained("openai/diffusers-cd_imagenet64_l2")
    >>> pipe(class_labels=145).images[0].save("penguin.png")
    >>> images = pipe(4, class_labels=145, sigmas=[80.0, 1.38]).images
    """

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        batch_size: int = 1,
        class_labels: Asked = None,
        num_inference_steps: int | None = 1,
        timesteps: Indices = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        callback_steps: int = 1,
        sigmas: Levels = None,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """`batch_size` pictures.

        The levels are `sigmas` (real noise levels, decreasing, within σ_min … σ_max), or `timesteps` (diffusers'
        form: strictly descending indices into the training grid, 0 the noisiest level, which comes first all the same:
        [22, 0] of 40 are the levels 80 and 1.38), or `num_inference_steps` levels spaced by the scheduler.
        `class_labels`: one for all, a list or tensor of one each, or None: drawn from `generator`.
        `generator`: one for all or a list of one each; without it torch's global one. It gives the first noise, then
        labels that are missing, then the noise of each later step.
        `latents`: unit noise (n, C, H, W) in the place of the first draw.
        `output_type`: "pil", "np" float32 (n, H, W, C) or "pt" (n, C, H, W) in [0, 1], or "latent", the same in
        [-1, 1].
        `callback(i, t, latents)` is called every `callback_steps` steps; `callback_on_step_end(pipe, i, t, tensors)`
        after each, with those of "latents" (what the next step starts from, after the last the result) and "denoised"
        (the estimate) that `callback_on_step_end_tensor_inputs` names; if it returns a dictionary, its "latents" are
        used.

        Returns an ImagePipelineOutput, or a tuple of one. Raises ValueError or TypeError for what cannot be done.
        """
        call = Call(class_labels, generator, latents, output_type, return_dict, callback, callback_steps,
                    callback_on_step_end, callback_on_step_end_tensor_inputs)  # fmt: skip
        return self._run(call, batch_size, self._planned(num_inference_steps, timesteps, sigmas))
