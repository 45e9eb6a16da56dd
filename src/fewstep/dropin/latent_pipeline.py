"""Pictures from a prompt in a few steps (Luo et al. 2023), with diffusers' own call."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin
from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
    LatentConsistencyModelPipeline as Theirs,
)
from diffusers.pipelines.stable_diffusion.pipeline_output import StableDiffusionPipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from fewstep.dropin.latent_call import Call, Scale, Size, Whole
from fewstep.dropin.latent_run import LatentRun
from fewstep.dropin.latent_said import Text, Words
from fewstep.dropin.stepping import Generators, known_arguments

__all__ = ["LatentConsistencyModelPipeline", "StableDiffusionPipelineOutput"]


class LatentConsistencyModelPipeline(LatentRun, Theirs, StableDiffusionXLLoraLoaderMixin):
    """Draws pictures of what a prompt says; takes the place of diffusers' class of this name, and is one.

    The models: a latent consistency model whose U-Net is told the guidance scale; any Stable Diffusion or SDXL model,
    with an LCM-LoRA or distilled; with AutoencoderKL or AutoencoderTiny. A scheduler of another kind gives its noise
    schedule to an LCMScheduler. From the same noise the pictures equal those of diffusers to 1e-4 in float32, of
    StableDiffusion(XL)Pipeline with its LCMScheduler where the U-Net is not told the scale.

    **Different on purpose**
    - Unknown arguments, latents of another shape, other kinds of output and sizes that the autoencoder cannot make
      (any multiple of its factor it can) are refused.
    - A negative prompt works by real guidance, and is refused where it could have no effect.
    - `guidance_scale` may be a list or a tensor, one a prompt or one a picture. Left out it is 8.5 where the U-Net is
      told it, else 1: no guidance, and half the work; an LCM-LoRA bears up to 2.
    - `clip_skip` works with transformers 5. A callback may return nothing.
    - Half-precision models give float32 arrays and tensors.
    - Embeddings of prompts are remembered from call to call (`memory_of_prompts`).
    - What is saved names the class of diffusers that can run the model.

    >>> pipe = fewstep.LatentConsistencyModelPipeline.from_pretrained("SimianLuo/LCM_Dreamshaper_v7")
    >>> pipe("a small cat", num_inference_steps=4, guidance_scale=8).images[0].save("cat.png")

    With an LCM-LoRA, any Stable Diffusion model or SDXL:

    >>> pipe = fewstep.LatentConsistencyModelPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5")
    >>> pipe.load_lora_weights("latent-consistency/lcm-lora-sdv1-5")
    >>> pipe("a small cat", negative_prompt="thin", guidance_scale=1.5).images[0].save("cat.png")
    """

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        prompt: Text = None,
        height: Whole | None = None,
        width: Whole | None = None,
        num_inference_steps: Whole = 4,
        original_inference_steps: Whole | None = None,
        timesteps: Sequence[int] | np.ndarray | Tensor | None = None,
        guidance_scale: Scale = None,
        num_images_per_prompt: Whole | None = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        ip_adapter_image: Any = None,
        ip_adapter_image_embeds: list[Tensor] | None = None,
        output_type: str | None = "pil",
        return_dict: bool = True,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        clip_skip: Whole | None = None,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        callback_steps: Whole | None = None,
        negative_prompt: Text = None,
        negative_prompt_embeds: Tensor | None = None,
        prompt_2: Text = None,
        negative_prompt_2: Text = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
        original_size: Size = None,
        crops_coords_top_left: Size = None,
        target_size: Size = None,
    ) -> StableDiffusionPipelineOutput | tuple:
        """Pictures of one prompt or of several, `num_images_per_prompt` of each, one after another.

        `prompt`: a text or several; or `prompt_embeds` (n, L, D). `negative_prompt`: the same, for real guidance.
        `height`, `width`: multiples of the autoencoder's factor; the U-Net's own size unless said.
        `num_inference_steps` levels of the `original_inference_steps` (the scheduler's) that the model was distilled
        on, or `timesteps`, strictly decreasing.
        `generator`: one for all or a list of one a picture; it gives the first noise, then that of each later step.
        `latents`: unit noise (n, c, h, w) in the place of the first draw.
        `output_type`: "pil", "np" float32 (n, H, W, C) or "pt" (n, C, H, W) in [0, 1], or "latent", undecoded.
        `cross_attention_kwargs`: {"scale": s} sets the strength of LoRA adapters for this call.
        `callback_on_step_end(pipe, i, t, tensors)` is shown those of "latents" (where the next step starts), "denoised"
        (the estimate), "prompt_embeds" and "w_embedding" that `callback_on_step_end_tensor_inputs` names, and may
        return others in their place; `callback(i, t, latents)` is called every `callback_steps` steps.
        `prompt_2` … `target_size` are for SDXL-shaped models: words for the second encoder, and what they are told of
        sizes.

        Returns a StableDiffusionPipelineOutput, or a tuple of two: the pictures, and what the safety checker says.
        Raises ValueError or TypeError for what cannot be done.
        """
        words = Words(prompt, negative_prompt, prompt_2, negative_prompt_2, prompt_embeds, negative_prompt_embeds,
                      pooled_prompt_embeds, negative_pooled_prompt_embeds, clip_skip)  # fmt: skip
        call = Call(guidance_scale, num_images_per_prompt, generator, latents, ip_adapter_image,
                    ip_adapter_image_embeds, output_type, return_dict, cross_attention_kwargs, callback_on_step_end,
                    callback_on_step_end_tensor_inputs, callback, callback_steps, original_size,
                    crops_coords_top_left, target_size)  # fmt: skip
        size = self._size(height, width)
        start = lambda n, dtype, _: randn_tensor(  # noqa: E731
            self._shape(n, size), generator=generator, device=self._place, dtype=dtype
        )
        return self._run(words, call, (num_inference_steps, original_inference_steps, timesteps, 1.0), size, start)

    def _size(self, height: Whole | None, width: Whole | None) -> tuple[int, int]:
        """(height, width) in pixels; ValueError for what is no multiple of the autoencoder's factor."""
        factor, sample = self.vae_scale_factor, self.unet.config.sample_size
        sides = (sample, sample) if isinstance(sample, int) else tuple(sample)
        given = (sides[0] * factor if height is None else height, sides[1] * factor if width is None else width)
        if any(side < 1 or side % factor for side in given):
            raise ValueError(f"`height` and `width` have to be divisible by {factor}, the factor of this model's "
                             f"autoencoder, but are {given[0]} and {given[1]}.")  # fmt: skip
        return int(given[0]), int(given[1])
