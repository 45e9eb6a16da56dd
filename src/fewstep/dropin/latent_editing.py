"""Pictures from a prompt and a picture: SDEdit (Meng et al. 2021) and Algorithm 4 (Song et al. 2023), in latents.

img2img    x ← α E(picture) + σ z, at the level that `strength` says;  then as from noise
inpaint    the same, and x_0 ← E(picture) where the mask is black, at every step; at the end the picture's own pixels

A latent is known where all of its pixels are. Pictures are those of `fewstep.dropin.latent_codec`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin
from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_img2img import (
    LatentConsistencyModelImg2ImgPipeline as Theirs,
)
from diffusers.pipelines.stable_diffusion.pipeline_output import StableDiffusionPipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from fewstep.dropin.latent_call import Call, Scale, Size, Whole
from fewstep.dropin.latent_run import LatentRun, Plan
from fewstep.dropin.latent_said import Text, Words
from fewstep.dropin.pictures import masks
from fewstep.dropin.stepping import Generators, known_arguments
from fewstep.editing import Inpaint


class LatentEdit(LatentRun, Theirs, StableDiffusionXLLoraLoaderMixin):
    """What both kinds of edit share."""

    def _noised(self, clean: Callable[[int], Tensor], generator: Generators) -> Callable[..., Tensor]:
        """A start of a run: clean(n) latents, noised to its first timestep."""

        def start(n: int, dtype: torch.dtype, first: Tensor) -> Tensor:
            x_0 = clean(n).to(self._place, dtype)
            z = randn_tensor(x_0.shape, generator=generator, device=x_0.device, dtype=dtype)
            return self.scheduler.add_noise(x_0, z, first)

        return start

    def _pixels(self, latents: Tensor) -> tuple[int, int]:
        height, width = latents.shape[-2:]
        return height * self.vae_scale_factor, width * self.vae_scale_factor


class LatentConsistencyModelImg2ImgPipeline(LatentEdit):
    """Redraws pictures as a prompt says; takes the place of diffusers' class of this name, and is one.

    What LatentConsistencyModelPipeline says of models and differences holds here too. Besides:
    - Custom timesteps with a strength end without noise; a small strength does as many steps as it leaves levels for.
    - Transparent pictures are laid over white, grey ones are taken; several pictures need as many prompts, and each
      prompt's variants keep to its own picture.

    >>> from diffusers.utils import load_image
    >>> pipe = fewstep.LatentConsistencyModelImg2ImgPipeline.from_pretrained("SimianLuo/LCM_Dreamshaper_v7")
    >>> pipe("a fox", load_image("cat.png"), strength=0.5).images[0].save("fox.png")
    """

    _kind = "Img2Img"

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        prompt: Text = None,
        image: Any = None,
        num_inference_steps: Whole = 4,
        strength: float | int = 0.8,
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
        """Pictures like `image` (one, or one a prompt), in its size.

        `image`: pictures, or tensors of as many channels as latents have: latents, as this pipeline makes them.
        `strength`: in (0, 1], which share of the levels is stepped through: more keeps less of the picture. The number
        of steps stays `num_inference_steps`.
        `latents`: where to start (n, c, h, w), noised already; then of `image` only the size counts.
        `generator` gives the noise of the autoencoder, then the first noise, then that of each later step.
        The rest, what comes back and what is raised: see LatentConsistencyModelPipeline.
        """
        words = Words(prompt, negative_prompt, prompt_2, negative_prompt_2, prompt_embeds, negative_prompt_embeds,
                      pooled_prompt_embeds, negative_pooled_prompt_embeds, clip_skip)  # fmt: skip
        call = Call(guidance_scale, num_images_per_prompt, generator, latents, ip_adapter_image,
                    ip_adapter_image_embeds, output_type, return_dict, cross_attention_kwargs, callback_on_step_end,
                    callback_on_step_end_tensor_inputs, callback, callback_steps, original_size,
                    crops_coords_top_left, target_size)  # fmt: skip
        return self._redrawn(words, call, image, (num_inference_steps, original_inference_steps, timesteps, strength))

    def _redrawn(self, words: Words, call: Call, image: Any, plan: Plan) -> StableDiffusionPipelineOutput | tuple:
        given = self._latents_given(image)
        x = self._given(image)[0] if given is None else given
        check_number(len(x), words.count, "pictures")
        encode = lambda n: self._drawn(*self._encoded(x), n, call.generator)  # noqa: E731
        repeat = lambda n: x.repeat_interleave(n // len(x), 0)  # noqa: E731
        size = self._pixels(x) if given is not None else (x.shape[-2], x.shape[-1])
        return self._run(words, call, plan, size, self._noised(encode if given is None else repeat, call.generator))


class LatentConsistencyModelInpaintPipeline(LatentEdit):
    """Fills the white part of a mask as a prompt says; what is black in it keeps its pixels.

    What LatentConsistencyModelPipeline says of models and differences holds here too. Saved, it is a pipeline that
    draws: diffusers has no class that fills with a latent consistency model.

    >>> from diffusers.utils import load_image
    >>> pipe = fewstep.LatentConsistencyModelInpaintPipeline.from_pretrained("SimianLuo/LCM_Dreamshaper_v7")
    >>> pipe("a fox", load_image("cat.png"), load_image("mask.png")).images[0].save("filled.png")
    """

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        prompt: Text = None,
        image: Any = None,
        mask_image: Any = None,
        num_inference_steps: Whole = 4,
        strength: float | int = 1.0,
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
        """Pictures that are `image` (one, or one a prompt) where `mask_image` (likewise) is black.

        `mask_image`: of the picture's size, white (1, 255) where to fill, greys from the middle, what is transparent
        counts as white. Where a size is no multiple of the autoencoder's factor, both are made smaller first.
        `strength`: 1 forgets what was in the hole, less starts from it as img2img does.
        `latents`: where to start (n, c, h, w), noised already.
        `output_type`: "latent" is not pasted over: known latents are what the autoencoder made of the picture.
        The rest, what comes back and what is raised: see LatentConsistencyModelPipeline.
        """
        words = Words(prompt, negative_prompt, prompt_2, negative_prompt_2, prompt_embeds, negative_prompt_embeds,
                      pooled_prompt_embeds, negative_pooled_prompt_embeds, clip_skip)  # fmt: skip
        call = Call(guidance_scale, num_images_per_prompt, generator, latents, ip_adapter_image,
                    ip_adapter_image_embeds, output_type, return_dict, cross_attention_kwargs, callback_on_step_end,
                    callback_on_step_end_tensor_inputs, callback, callback_steps, original_size,
                    crops_coords_top_left, target_size)  # fmt: skip
        plan = (num_inference_steps, original_inference_steps, timesteps, strength)
        return self._filled(words, call, image, mask_image, plan)

    def _filled(
        self, words: Words, call: Call, image: Any, mask_image: Any, plan: Plan
    ) -> StableDiffusionPipelineOutput | tuple:
        if self._latents_given(image) is not None:
            raise ValueError("`image` has as many channels as latents, whose pixels cannot be kept: give the picture.")
        x, size = self._given(image)
        mask = _alike(masks(mask_image), size, (x.shape[-2], x.shape[-1]))
        check_number(len(x), words.count, "pictures")
        check_number(len(mask), words.count, "masks")
        known, std = self._encoded(x)
        n, factor = words.count * call.copies, self.vae_scale_factor
        pixels = Inpaint(_repeated(mask, n))
        hole = Inpaint(F.max_pool2d(pixels.mask, factor))
        forget = plan[3] == 1

        def clean(n: int) -> Tensor:
            x_0 = self._drawn(known, std, n, call.generator)
            return hole.measure(x_0) if forget else x_0

        return self._run(
            words, call, plan, (x.shape[-2], x.shape[-1]), self._noised(clean, call.generator),
            lambda x_0: hole.project(x_0, _repeated(known, n).to(x_0)),
            lambda made: pixels.project(made, _repeated(x, n).to(made)),
        )  # fmt: skip


def _alike(mask: Tensor, came: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """The mask in the picture's size, by the pixels nearest; ValueError unless it has that, or the one it came in."""
    if tuple(mask.shape[-2:]) not in (came, size):
        raise ValueError(f"`mask_image` is {mask.shape[-1]}×{mask.shape[-2]} pixels, the picture "
                         f"{came[1]}×{came[0]}: make them alike first.")  # fmt: skip
    return mask if tuple(mask.shape[-2:]) == size else F.interpolate(mask, size)


def check_number(given: int, prompts: int, name: str) -> None:
    """Raises ValueError unless one was given, or as many as there are prompts."""
    if given not in (1, prompts):
        raise ValueError(f"{given} {name} were given for {prompts} prompts: give one, or one a prompt.")


def _repeated(x: Tensor, n: int) -> Tensor:
    return x.repeat_interleave(n // len(x), 0)
