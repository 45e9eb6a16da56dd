"""What all calls of the latent pipelines may ask besides words and pictures, and how their callbacks hear of a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewstep.codec import nearest
from fewstep.dropin.consistency_call import OUTPUTS
from fewstep.dropin.stepping import Generators

TENSORS = ("latents", "denoised", "prompt_embeds", "w_embedding")
"""What callbacks may be shown, and may replace."""

SDXL_TENSORS = ("add_text_embeds", "add_time_ids")
"""And of an SDXL-shaped model."""

Whole = int | np.integer
"""A number of things, of any kind."""

Scale = float | int | Sequence[float | int] | np.ndarray | Tensor | None
Size = Sequence[int] | None


@dataclass(frozen=True, eq=False)
class Call:
    """Raises ValueError for what cannot be."""

    guidance_scale: Any
    """w + 1: one, one a prompt, or one a picture; None: 8.5 where it is embedded, else 1."""
    num_images_per_prompt: Whole | None
    """Pictures of each prompt."""
    generator: Generators
    """Where noise comes from."""
    latents: Tensor | None
    """Where to start (n, c, h, w)."""
    ip_adapter_image: Any
    """Pictures for an IP-adapter."""
    ip_adapter_image_embeds: Any
    """The same, embedded."""
    output_type: str | None
    """One of OUTPUTS."""
    return_dict: bool
    """An output object, or a tuple of two."""
    cross_attention_kwargs: Mapping[str, Any] | None
    """For attention processors; its `scale` is the adapters' strength."""
    callback_on_step_end: Callable[..., dict[str, Any] | None] | None
    """callback(pipe, i, t, tensors) → the tensors to replace, or nothing."""
    callback_on_step_end_tensor_inputs: Sequence[str] | None
    """Which tensors it is shown."""
    callback: Callable[[int, Tensor, Tensor], None] | None
    """callback(i, t, latents), every `callback_steps` steps."""
    callback_steps: Whole | None
    """How often; 1 unless said."""
    original_size: Size = None
    """What an SDXL-shaped model is told of the picture: (height, width) before it was resized,"""
    crops_coords_top_left: Size = None
    """(top, left) of the part cut out of it,"""
    target_size: Size = None
    """and (height, width) of the result."""

    def __post_init__(self):
        if self.output_type not in OUTPUTS:
            kind = self.output_type
            raise ValueError(f"output_type={kind!r} is not supported{nearest(str(kind), OUTPUTS)}.")
        for name in ("num_images_per_prompt", "callback_steps"):
            whole(getattr(self, name), name)
        if self.ip_adapter_image is not None and self.ip_adapter_image_embeds is not None:
            raise ValueError("Pass one of `ip_adapter_image` and `ip_adapter_image_embeds`; both were given.")
        embeds = self.ip_adapter_image_embeds
        if embeds is not None and not (isinstance(embeds, list) and all(part.ndim in (3, 4) for part in embeds)):
            raise ValueError("`ip_adapter_image_embeds` is a list of tensors with 3 or 4 axes, one an adapter.")

    @property
    def copies(self) -> int:
        """Pictures of each prompt."""
        return whole(self.num_images_per_prompt, "num_images_per_prompt")

    @property
    def sized(self) -> list[str]:
        """The names of what was said about sizes."""
        names = ("original_size", "crops_coords_top_left", "target_size")
        return [name for name in names if getattr(self, name) is not None]

    @property
    def shown(self) -> Sequence[str]:
        """What callback_on_step_end wants to see; callbacks of diffusers' own class say it by themselves."""
        asked = self.callback_on_step_end_tensor_inputs or ()
        return getattr(self.callback_on_step_end, "tensor_inputs", asked)

    def check_shown(self, known: Sequence[str]) -> None:
        """Raises ValueError where something unknown shall be shown."""
        for name in self.shown:
            if name not in known:
                raise ValueError(f"`callback_on_step_end_tensor_inputs` cannot name '{name}'{nearest(name, known)}.")

    def hear(self, pipe: Any, i: int, t: Tensor, tensors: dict[str, Any]) -> None:
        """Tells the callbacks of step i; `tensors` takes what they replaced."""
        if self.callback_on_step_end is not None:
            answer = self.callback_on_step_end(pipe, i, t, {name: tensors[name] for name in self.shown})
            tensors.update({name: value for name, value in (answer or {}).items() if name in tensors})
        if self.callback is not None and i % whole(self.callback_steps, "callback_steps") == 0:
            self.callback(i, t, tensors["latents"])

    def scales(self, asked: Any, prompts: int) -> Tensor:
        """Guidance scales, float64 (n,), one a picture, of the resolved `guidance_scale`. ValueError for another
        number of them, or for what is no finite number."""
        try:
            given = torch.as_tensor(asked, dtype=torch.float64).cpu()
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"`guidance_scale` is a number, or one for each picture, not {asked!r}.") from None
        n = prompts * self.copies
        if given.ndim > 1 or (given.ndim and len(given) not in (1, prompts, n)) or not given.isfinite().all():
            raise ValueError(f"`guidance_scale` is one finite number, one for each of {prompts} prompts or one for "
                             f"each of {n} pictures, not {asked!r}.")  # fmt: skip
        if given.ndim and len(given) == prompts:
            given = given.repeat_interleave(self.copies)
        return given.expand(n)


def whole(value: Any, name: str) -> int:
    """A number of things: at least one, 1 for None; of any kind of integer. Raises ValueError, with its name."""
    try:
        number = 1 if value is None else index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`{name}` has to be a positive integer, not {value!r}.")
    return number
