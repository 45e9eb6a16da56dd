"""Editing without training (Song et al. 2023, Algorithm 4 and figure 13) as pipelines over diffusers' components.

What is known of a picture (its pixels outside a hole, its luminance, the means of its patches) is kept exactly:
output_type="pt" holds it to float32 rounding, within [0, 1]. Colours that would leave that range are drawn back towards
grey, detail towards its patch's mean; clipping would change what is known.

Pictures come in as `fewstep.dropin.pictures` says: PIL images, arrays and tensors in [0, 1], uint8, lists, batches.
They are never resized: one of another size than the model's is refused with the way to mend it. All other arguments
are those of ConsistencyModelPipeline, with n = (pictures given) x `num_images_per_image`, the variants of one picture
one after another; class_labels are one for all or one each of these n. Without `timesteps` and `sigmas`,
`num_inference_steps` (8) levels are chosen that suit an edit: from σ_max/4 to σ_max/200, even in ln σ.
"""

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor

from fewstep.conditions import Asked
from fewstep.dropin.consistency_call import Call
from fewstep.dropin.consistency_run import ConsistencyPipeline, Indices, Levels
from fewstep.dropin.pictures import check_size, masks, pictures, within
from fewstep.dropin.stepping import Generators, known_arguments
from fewstep.editing import LUMINANCE, STROKE_TIMES, Colorize, Inpaint, Measurement, SuperResolve, edit_times
from fewstep.model import EDIT_STEPS


class ConsistencyEditPipeline(ConsistencyPipeline, ABC):
    """Algorithm 4 for one measurement."""

    def _edit(
        self,
        call: Call,
        plan: tuple[int | None, Indices, Levels],
        copies: int,
        reference: Tensor,
        measurement: Measurement,
        least: Callable[[Tensor], Tensor],
    ) -> ImagePipelineOutput | tuple:
        """`copies` edits of each reference (n, C, H, W); `least` as in `pictures.within`."""
        scheduler = self._planned(*_or_default(plan), spaced=lambda steps: edit_times(self._schedule(), steps))
        reference = _repeated(reference, copies).to(self._execution_device)
        return self._run(
            call,
            len(reference),
            scheduler,
            measurement.measure(reference),
            lambda x_0: measurement.project(x_0, reference.to(x_0)),
            lambda x: within(x, reference.to(x), least),
        )

    def _given(self, image: Any, channels: int | None, name: str = "image") -> Tensor:
        """The pictures handed over, in the model's size."""
        x = pictures(image, channels, name)
        check_size(x, *self.picture_shape[1:], name)
        return x

    def _coloured(self) -> None:
        if self.picture_shape[0] != 3:
            raise ValueError(f"{type(self).__name__} needs a model of 3 channels, not {self.picture_shape[0]}.")


class ConsistencyModelInpaintPipeline(ConsistencyEditPipeline):
    """Fills the white part of a mask; what is black in it stays exactly as it was.

    >>> from diffusers.utils import load_image
    >>> pipe = fewstep.ConsistencyModelInpaintPipeline.from_pretrained("openai/diffusers-cd_imagenet64_l2")
    >>> image, mask = (load_image(path).resize((64, 64)) for path in ("cat.png", "mask.png"))
    >>> pipe(image, mask, class_labels=281).images[0].save("filled.png")
    """

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        image: Any,
        mask_image: Any,
        class_labels: Asked = None,
        num_inference_steps: int | None = None,
        timesteps: Indices = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        callback_steps: int = 1,
        sigmas: Levels = None,
        num_images_per_image: int = 1,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """`mask_image`: one for all pictures or one each, white (1, 255) where to fill, as in diffusers; greys count
        from the middle, what is transparent counts as white. The rest: see the module."""
        call = Call(class_labels, generator, latents, output_type, return_dict, callback, callback_steps,
                    callback_on_step_end, callback_on_step_end_tensor_inputs)  # fmt: skip
        reference, mask = self._given(image, self.picture_shape[0]), masks(mask_image)
        check_size(mask, *self.picture_shape[1:], "mask_image")
        if len(mask) not in (1, len(reference)):
            raise ValueError(f"{len(mask)} masks were given for {len(reference)} pictures: give one, or one each.")
        hole = Inpaint(_repeated(mask, num_images_per_image) if len(mask) > 1 else mask)
        return self._edit(call, (num_inference_steps, timesteps, sigmas), num_images_per_image, reference, hole,
                          lambda factor: factor)  # fmt: skip


class ConsistencyModelColorizePipeline(ConsistencyEditPipeline):
    """Gives grey pictures their colours; the luminance of every pixel is kept."""

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        image: Any,
        class_labels: Asked = None,
        num_inference_steps: int | None = None,
        timesteps: Indices = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        callback_steps: int = 1,
        sigmas: Levels = None,
        num_images_per_image: int = 1,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """`image`: grey, or coloured, of which the luminance 0.2989 R + 0.5870 G + 0.1140 B is used. The rest: see the
        module. Raises ValueError for a model that does not draw three channels."""
        call = Call(class_labels, generator, latents, output_type, return_dict, callback, callback_steps,
                    callback_on_step_end, callback_on_step_end_tensor_inputs)  # fmt: skip
        self._coloured()
        grey = _grey(self._given(image, None))
        return self._edit(call, (num_inference_steps, timesteps, sigmas), num_images_per_image, grey, Colorize(),
                          lambda factor: factor.amin(1, keepdim=True))  # fmt: skip


class ConsistencyModelSuperResolutionPipeline(ConsistencyEditPipeline):
    """Makes small pictures large; the mean of every patch is kept."""

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        image: Any,
        class_labels: Asked = None,
        num_inference_steps: int | None = None,
        timesteps: Indices = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        callback_steps: int = 1,
        sigmas: Levels = None,
        num_images_per_image: int = 1,
        factor: int | None = None,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """`image`: smaller than the model's pictures by a whole `factor`, which then need not be said; or of their
        size, with a `factor`, by which it is averaged first. The rest: see the module."""
        call = Call(class_labels, generator, latents, output_type, return_dict, callback, callback_steps,
                    callback_on_step_end, callback_on_step_end_tensor_inputs)  # fmt: skip
        small = pictures(image, self.picture_shape[0])
        patches = SuperResolve(_factor(small, self.picture_shape, factor))
        reference = patches.measure(patches.prepare(small, self.picture_shape))
        return self._edit(call, (num_inference_steps, timesteps, sigmas), num_images_per_image, reference, patches,
                          lambda least: _patchwise_least(least, patches.factor))  # fmt: skip


class ConsistencyModelImg2ImgPipeline(ConsistencyEditPipeline):
    """Turns paintings in rough strokes into pictures that follow them (SDEdit, Meng et al. 2021)."""

    @torch.no_grad()
    @known_arguments
    def __call__(
        self,
        image: Any,
        class_labels: Asked = None,
        num_inference_steps: int | None = None,
        timesteps: Indices = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
        callback_steps: int = 1,
        sigmas: Levels = None,
        num_images_per_image: int = 1,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple:
        """`image`: the paintings. The first of `sigmas` is how far they are noised: less keeps more of them, more
        gives the model more freedom. There is no `strength`: the noise level says it directly. Without `timesteps` and
        `sigmas` they are the paper's 5.38 and 2.24, or `num_inference_steps` levels between these. The rest: see the
        module."""
        call = Call(class_labels, generator, latents, output_type, return_dict, callback, callback_steps,
                    callback_on_step_end, callback_on_step_end_tensor_inputs)  # fmt: skip
        painting = _repeated(self._given(image, self.picture_shape[0]), num_images_per_image)
        plan = _or_default((num_inference_steps, timesteps, sigmas), len(STROKE_TIMES))
        scheduler = self._planned(*plan, spaced=lambda steps: np.geomspace(*STROKE_TIMES, steps).tolist())
        return self._run(call, len(painting), scheduler, painting)


def _or_default(
    plan: tuple[int | None, Indices, Levels], steps: int = EDIT_STEPS
) -> tuple[int | None, Indices, Levels]:
    """The plan, with a number of steps where it says nothing at all."""
    return (steps, None, None) if all(part is None for part in plan) else plan


def _repeated(x: Tensor, copies: int) -> Tensor:
    if copies < 1:
        raise ValueError(f"num_images_per_image is a whole number from 1, not {copies}.")
    return x.repeat_interleave(copies, 0)


def _grey(x: Tensor) -> Tensor:
    """(n, 1 or 3, H, W) → (n, 3, H, W), grey, with the luminance that x has."""
    if x.shape[1] == 3:
        weights = x.new_tensor(LUMINANCE)
        x = (x * (weights / weights.sum())[:, None, None]).sum(1, keepdim=True)
    return x.expand(-1, 3, -1, -1)


def _factor(small: Tensor, shape: Sequence[int], factor: int | None) -> int:
    """How many times larger each side becomes, from the sizes unless it is said."""
    (height, width), (_, high, wide) = small.shape[-2:], shape
    found = factor or max(1, high // height)
    fits = (height * found, width * found) == (high, wide)
    if not fits and (factor is None or (height, width) != (high, wide)):
        wanted = f"the {wide}×{high} of this model" + (f", {found} times smaller" if factor else ", by a whole factor")
        raise ValueError(f"`image` is {width}×{height} pixels, not {wanted}: resize it first.")
    if factor is None and found == 1:
        raise ValueError(f"`image` has the model's size, {wide}×{high}: say by which factor= it is to be averaged.")
    return found if factor is None else factor


def _patchwise_least(x: Tensor, factor: int) -> Tensor:
    """The smallest value of every patch, in each of its pixels."""
    least = -F.max_pool2d(-x, factor)
    return least.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
