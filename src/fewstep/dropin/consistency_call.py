"""What all calls of the consistency pipelines may ask, and how their callbacks hear of every step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewstep.codec import nearest
from fewstep.conditions import Asked
from fewstep.dropin.stepping import Generators

OUTPUTS = ("pil", "np", "pt", "latent")
TENSORS = ("latents", "denoised")


@dataclass(frozen=True, eq=False)
class Call:
    """What every call may ask, apart from its pictures and its noise levels. Raises ValueError for what cannot be."""

    class_labels: Asked
    """One for all, one a picture, or None: drawn from the generator."""
    generator: Generators
    """Where noise and labels come from."""
    latents: Tensor | None
    """Unit noise (n, C, H, W) to start from."""
    output_type: str
    """One of OUTPUTS."""
    return_dict: bool
    """An ImagePipelineOutput, or a tuple of one."""
    callback: Callable[[int, Tensor, Tensor], None] | None
    """callback(i, t, latents), every `callback_steps` steps."""
    callback_steps: int
    """How often."""
    callback_on_step_end: Callable[..., dict[str, Any] | None] | None
    """callback(pipe, i, t, tensors) → the tensors to change, or nothing."""
    callback_on_step_end_tensor_inputs: Sequence[str]
    """Which of TENSORS it is shown."""

    def __post_init__(self):
        if self.output_type not in OUTPUTS:
            raise ValueError(f"output_type={self.output_type!r} is not supported{nearest(self.output_type, OUTPUTS)}")
        if not isinstance(self.callback_steps, int) or self.callback_steps < 1:
            raise ValueError(f"`callback_steps` has to be a positive integer, not {self.callback_steps!r}.")
        for name in self._shown:
            if name not in TENSORS:
                raise ValueError(f"callback_on_step_end cannot be shown '{name}'{nearest(name, TENSORS)}")

    @property
    def _shown(self) -> Sequence[str]:
        """Callbacks of diffusers' own class say by themselves what they want to see."""
        return getattr(self.callback_on_step_end, "tensor_inputs", self.callback_on_step_end_tensor_inputs)

    def told(self, pipe: Any, i: int, t: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Tells the callbacks of step i; the latents, which they may have replaced."""
        latents = tensors["latents"]
        if self.callback_on_step_end is not None:
            answer = self.callback_on_step_end(pipe, i, t, {name: tensors[name] for name in self._shown})
            latents = (answer or {}).get("latents", latents)
        if self.callback is not None and i % self.callback_steps == 0:
            self.callback(i, t, latents)
        return latents
