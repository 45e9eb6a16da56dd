"""The run that all latent pipelines share.

    x_0 ← the scheduler's estimate from F(x, t, prompt, γ(w))            a U-Net that is told w = scale − 1
    x_0 ← … from F(x, t, nothing) + scale · (F(x, t, prompt) − F(x, t, nothing))   real guidance, where it is not
    x   ← α x_0 + σ z at the next level

An edit corrects x_0; its x then moves by α times as much. The last x_0 is decoded.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.pipeline_output import StableDiffusionPipelineOutput
from diffusers.schedulers.scheduling_lcm import LCMScheduler as Theirs
from torch import Tensor

from fewstep.dropin.latent_call import SDXL_TENSORS, TENSORS, Call, Scale
from fewstep.dropin.latent_codec import LatentCodec
from fewstep.dropin.latent_parts import as_lcm
from fewstep.dropin.latent_said import Words
from fewstep.dropin.latent_scheduler import LCMScheduler
from fewstep.dropin.latent_words import kept_scales
from fewstep.networks.adapters.latent_unet import embed_guidance

EMBEDDED_SCALE = 8.5
"""The guidance scale where the network is told it and nothing is said."""

Plan = tuple[Any, Any, Any, float | int]
"""num_inference_steps, original_inference_steps, timesteps, strength."""

Start = Callable[[int, torch.dtype, Tensor], Tensor]
"""(n, precision, first timestep (1,)) → latents to start from."""


class LatentRun(LatentCodec):
    """The loop, and what a call leaves readable."""

    _callback_tensor_inputs = list(TENSORS)  # noqa: RUF012
    _guidance_scale: Scale = 1.0
    _cross_attention_kwargs: Any = None
    _clip_skip: int | np.integer | None = None
    _num_timesteps = 0
    _place = torch.device("cpu")
    prepare_ip_adapter_image_embeds: Any
    progress_bar: Any
    run_safety_checker: Any

    @property
    def guidance_scale(self) -> Scale:
        """Of the last call, as it was asked for."""
        return self._guidance_scale

    @property
    def cross_attention_kwargs(self) -> Any:
        """Of the last call."""
        return self._cross_attention_kwargs

    @property
    def clip_skip(self) -> int | np.integer | None:
        """Of the last call."""
        return self._clip_skip

    @property
    def num_timesteps(self) -> int:
        """Steps of the last call."""
        return self._num_timesteps

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a step is two calls of the U-Net: it is not told the scale, and some scale is above 1."""
        return not self.told_guidance and bool((torch.as_tensor(self._guidance_scale) > 1).any())

    def _run(
        self,
        words: Words,
        call: Call,
        plan: Plan,
        size: tuple[int, int],
        start: Start,
        project: Callable[[Tensor], Tensor] | None = None,
        settle: Callable[[Tensor], Tensor] | None = None,
    ) -> StableDiffusionPipelineOutput | tuple:
        """Pictures of `size` (height, width); `project` corrects the estimates, `settle` the decoded pictures."""
        self._remember(words, call)
        self._place = self._execution_device  # asked once, for diffusers looks through all modules to tell it
        n = words.count * call.copies
        if isinstance(call.generator, list) and len(call.generator) != n:
            raise ValueError(f"{len(call.generator)} generators were given for {n} pictures: give one, or one each.")
        self._check_latents(call, n, size)
        timesteps = self._planned(*plan)
        told, images = self._told(words, call, size)
        dtype = told["prompt_embeds"].dtype
        x = start(n, dtype, timesteps[:1]) if call.latents is None else call.latents.to(self._place)
        with kept_scales(self.unet):
            x_0 = self._loop(call, x.to(dtype), timesteps, told, images, words.count, project)
        return self._finished(x_0.to(dtype), call, settle)

    def _remember(self, words: Words, call: Call) -> None:
        """Checks what depends on the model, and keeps what callbacks and users may read."""
        asked = call.guidance_scale
        self._guidance_scale = (EMBEDDED_SCALE if self.told_guidance else 1.0) if asked is None else asked
        self._cross_attention_kwargs, self._clip_skip = call.cross_attention_kwargs, words.clip_skip
        call.scales(self._guidance_scale, words.count)
        call.check_shown((*TENSORS, *(SDXL_TENSORS if self.told_sizes else ())))
        if (foreign := [*words.second, *call.sized]) and not self.told_sizes:
            raise ValueError(f"Only SDXL-shaped models take `{foreign[0]}`, and this is none.")
        if words.negative and self.told_guidance:
            raise ValueError(
                "This latent consistency model is told its guidance scale and has learnt to lead away from the empty "
                "prompt: no negative prompt can change that. Leave it out, or use a model without time_cond_proj_dim."
            )
        if words.negative and not self.do_classifier_free_guidance:
            raise ValueError("A negative prompt needs guidance: pass a `guidance_scale` above 1, such as 1.5.")

    def _check_latents(self, call: Call, n: int, size: tuple[int, int]) -> None:
        channels = self.vae.config.latent_channels
        if self.unet.config.in_channels != channels:
            raise ValueError(f"This U-Net takes {self.unet.config.in_channels} channels, and the autoencoder's latents "
                             f"have {channels}: U-Nets made for inpainting are for diffusers' own class.")  # fmt: skip
        if call.latents is not None and tuple(call.latents.shape) != (shape := self._shape(n, size)):
            raise ValueError(f"`latents` of {n} pictures of {size[1]}×{size[0]} are {shape}, "
                             f"not {tuple(call.latents.shape)}.")  # fmt: skip

    def _shape(self, n: int, size: tuple[int, int]) -> tuple[int, ...]:
        return (n, self.unet.config.in_channels, *(side // self.vae_scale_factor for side in size))

    def _planned(self, steps: Any, original: Any, timesteps: Any, strength: float | int) -> Tensor:
        """The scheduler, ready for a run; diffusers' own LCMScheduler makes way for fewstep's."""
        if type(self.scheduler) is Theirs:
            self.scheduler = as_lcm(self.scheduler)
        if not isinstance(self.scheduler, Theirs | LCMScheduler):
            raise TypeError(f"{type(self).__name__} steps with an LCMScheduler, not {type(self.scheduler).__name__}: "
                            "pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config).")  # fmt: skip
        steps = steps if timesteps is None else None
        steps, original = (int(n) if isinstance(n, np.integer) else n for n in (steps, original))
        self.scheduler.set_timesteps(steps, self._place, original, timesteps, strength)
        self._num_timesteps = len(self.scheduler.timesteps)
        return self.scheduler.timesteps

    def _told(self, words: Words, call: Call, size: tuple[int, int]) -> tuple[dict[str, Any], Any]:
        """What the U-Net is told, by the names that callbacks know; and the embedded pictures of IP-adapters.

        With real guidance everything has 2 n rows, the first n of them against.
        """
        device, guided = self._place, self.do_classifier_free_guidance
        images, n = None, words.count * call.copies
        if call.ip_adapter_image is not None or call.ip_adapter_image_embeds is not None:
            images = self.prepare_ip_adapter_image_embeds(
                call.ip_adapter_image, call.ip_adapter_image_embeds, device, n, guided
            )
        prompt, against, *more = self.encode_prompt(
            words.prompt, device, call.copies, guided, words.negative_prompt, words.prompt_embeds,
            words.negative_prompt_embeds, (self.cross_attention_kwargs or {}).get("scale"), words.clip_skip,
            words.prompt_2, words.negative_prompt_2, words.pooled_prompt_embeds, words.negative_pooled_prompt_embeds,
        )  # fmt: skip
        told: dict[str, Any] = {"prompt_embeds": _both(against, prompt), "w_embedding": None}
        if self.told_guidance:
            w = (call.scales(self._guidance_scale, words.count) - 1).float()
            embedded = embed_guidance(w, self.unet.config.time_cond_proj_dim)
            told["w_embedding"] = embedded.to(device, told["prompt_embeds"].dtype)
        if more:
            told["add_text_embeds"] = _both(more[1], more[0])
            told["add_time_ids"] = self._sizes(call, size).repeat(len(told["prompt_embeds"]), 1)
        return told, images

    def _sizes(self, call: Call, size: tuple[int, int]) -> Tensor:
        parts = (call.original_size or size, call.crops_coords_top_left or (0, 0), call.target_size or size)
        if any(len(part) != 2 for part in parts):
            raise ValueError("`original_size`, `crops_coords_top_left` and `target_size` are pairs of numbers.")
        numbers = [float(number) for part in parts for number in part]
        return torch.tensor([numbers], dtype=self.unet.dtype, device=self._place)

    def _loop(
        self,
        call: Call,
        x: Tensor,
        timesteps: Tensor,
        told: dict[str, Any],
        images: Any,
        prompts: int,
        project: Callable[[Tensor], Tensor] | None,
    ) -> Tensor:
        """The last estimate."""
        denoised = x
        with self.progress_bar(total=len(timesteps)) as bar:
            for i, t in enumerate(timesteps):
                scales = call.scales(self._guidance_scale, prompts) if self.do_classifier_free_guidance else None
                raw = self._predicted(x, t, told, images, scales)
                x, denoised = self.scheduler.step(raw, t, x, generator=call.generator, return_dict=False)
                if project is not None:
                    corrected = project(denoised)
                    x = x + self._share(timesteps[i + 1 : i + 2]).to(x) * (corrected - denoised)
                    denoised = corrected
                told |= {"latents": x, "denoised": denoised}
                call.hear(self, i, t, told)
                x, denoised = told["latents"].to(told["prompt_embeds"].dtype), told["denoised"]
                bar.update()
        return denoised

    def _share(self, following: Tensor) -> Tensor:
        """α of the next level: how much of an estimate is in the sample there; 1 after the last."""
        share = self.scheduler.alphas_cumprod.cpu()[following.cpu()] ** 0.5
        return share if len(share) else torch.ones(1)

    def _predicted(self, x: Tensor, t: Tensor, told: dict[str, Any], images: Any, scales: Tensor | None) -> Tensor:
        """F (n, c, h, w), guided by `scales` (n,) where there are any."""
        more = {} if images is None else {"image_embeds": images}
        if "add_time_ids" in told:
            more |= {"text_embeds": told["add_text_embeds"], "time_ids": told["add_time_ids"]}
        raw = self.unet(
            x if scales is None else torch.cat([x, x]),
            t,
            timestep_cond=told["w_embedding"],
            encoder_hidden_states=told["prompt_embeds"],
            cross_attention_kwargs=self.cross_attention_kwargs,
            added_cond_kwargs=more or None,
            return_dict=False,
        )[0]
        if scales is None:
            return raw
        against, towards = raw.chunk(2)
        return against + scales.to(raw)[:, None, None, None] * (towards - against)

    def _finished(
        self, x_0: Tensor, call: Call, settle: Callable[[Tensor], Tensor] | None
    ) -> StableDiffusionPipelineOutput | tuple:
        """Decoded, looked at by the safety checker, and in the form that was asked for."""
        image, flagged = x_0, None
        if call.output_type != "latent":
            image = self._decoded(x_0)
            image = image if settle is None else settle(image)
            image, flagged = self.run_safety_checker(image, self._place, x_0.dtype)
        shown: Sequence[bool] = [not bad for bad in flagged] if flagged is not None else [True] * len(image)
        image: Any = self.image_processor.postprocess(image, output_type=call.output_type, do_denormalize=list(shown))
        self.maybe_free_model_hooks()
        return StableDiffusionPipelineOutput(image, flagged) if call.return_dict else (image, flagged)


def _both(against: Tensor | None, towards: Tensor | None) -> Tensor:
    assert towards is not None
    return towards if against is None else torch.cat([against, towards])
