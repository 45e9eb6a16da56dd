"""diffusers' scheduler for latent consistency models (Luo et al. 2023), on fewstep's mathematics.

At levels t_1 > t_2 > … > t_n of a DDPM schedule, with the network's output F:

    x_0         from F, which predicts noise, x_0 itself or velocity (`Epsilon`, `Sample`, `Velocity`); perhaps clipped
    denoised    c_skip(t_i) x + c_out(t_i) x_0 (`Latched`)
    x           ← α denoised + σ z at t_{i+1} (`Discrete.again`);  after the last step denoised itself
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from fewstep.codec import nearest
from fewstep.dropin.latent_levels import custom, noise_schedule, original, spread
from fewstep.dropin.stepping import Generators, Stepping, Timestep, known_arguments, unit_noise
from fewstep.formats.ddpm_scheduler import PREDICTIONS
from fewstep.parameterizations import Latched, Parameterization, Sample
from fewstep.tensors import at_least_float32, expand_as


@dataclass
class LCMSchedulerOutput(BaseOutput):
    """What a step gives, both of the sample's shape."""

    prev_sample: Tensor
    """The sample at the next level; after the last step `denoised`."""
    denoised: Tensor | None = None
    """The estimate of the clean sample."""


class LCMScheduler(Stepping):
    """Steps of a latent consistency model; takes the place of diffusers' class of this name, in pipelines and files.

    num_train_timesteps: T, the levels of the noise schedule. At least 2.
    beta_start, beta_end: β of the first and last level.
    beta_schedule: how β grows: "scaled_linear", "linear" or "squaredcos_cap_v2".
    trained_betas: the T values of β themselves, instead of the three above.
    original_inference_steps: how many levels the model was distilled on; runs choose from these.
    clip_sample, clip_sample_range: clamp x_0 to ± clip_sample_range.
    thresholding, dynamic_thresholding_ratio, sample_max_value: instead, clamp each x_0 to that quantile of its absolute
        values, which is held within 1 … sample_max_value, and divide by it (Saharia et al. 2022, section 2.3).
    prediction_type: what the network predicts: "epsilon", "sample" or "v_prediction".
    timestep_scaling: κ of `Latched`: larger lets the identity give way sooner.
    rescale_betas_zero_snr: make the last level pure noise (Lin et al. 2023, Algorithm 1).
    set_alpha_to_one: whether `final_alpha_cumprod` is 1 or the first level's; no step uses it.
    steps_offset, timestep_spacing: without effect, in diffusers too; accepted and kept because files of it have them.

    **Randomness**: noise is drawn between two steps, and only there: n steps draw n − 1 times, in the precision and on
    the device of the sample. These draws equal diffusers'.

    **Different on purpose**
    - Custom timesteps with a strength: `num_inference_steps` counts those that are left, so that no noise is added
      after the last; a strength that leaves none is refused at once.
    - A strength that leaves fewer levels than steps were asked for does as many as there are, and warns.
    - A strength outside (0, 1], no steps, and empty, repeated, negative or fractional timesteps are refused.
    - Levels are counted without the error of binary fractions: 0.58 · 50 is 29 (diffusers: 28).
    - Pure noise (zero terminal SNR) with "epsilon" divides by 2⁻¹² instead of 0.
    - A timestep other than that of the step to be done, a step past the end, a number of `trained_betas` other than
      num_train_timesteps and an argument or prediction type that does not exist are errors that say how to mend them.
    - Estimates, noising and velocities of half-precision tensors are computed in float32 and rounded once.
    - `custom_timesteps` becomes False again; no tensor of the scheduler changes its device.
    """

    sigma_data = 0.5
    """σ_d of `Latched`."""

    @known_arguments
    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.00085,
        beta_end: float = 0.012,
        beta_schedule: str = "scaled_linear",
        trained_betas: np.ndarray | list[float] | None = None,
        original_inference_steps: int = 50,
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        timestep_scaling: float = 10.0,
        rescale_betas_zero_snr: bool = False,
    ) -> None:
        super().__init__()
        _prediction(prediction_type)
        self._schedule = noise_schedule(self.config)
        cumulative = self._schedule.alphas_cumprod
        alphas = torch.cat([cumulative[:1], cumulative[1:] / cumulative[:-1]])
        self.betas = (1 - alphas).float()
        """β of each level, float32 (T,). This and the next three are for reading: no step looks at them."""
        self.alphas = alphas.float()
        """1 − β."""
        self.alphas_cumprod = cumulative.float()
        """ᾱ: the share of the data's variance that is left at each level."""
        self.final_alpha_cumprod = torch.tensor(1.0) if set_alpha_to_one else self.alphas_cumprod[0]
        """ᾱ before the first level."""
        self.init_noise_sigma = 1.0
        """Standard deviation of the noise that a run starts with."""
        self.num_inference_steps: int | None = None
        """How many steps the run has; None before `set_timesteps`."""
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)
        """The levels of the run, decreasing, int64 (n,): what the network is told."""
        self.custom_timesteps = False
        """Whether they were given one by one."""

    # -- levels ------------------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        original_inference_steps: int | None = None,
        timesteps: Sequence[int] | Sequence[float] | np.ndarray | Tensor | None = None,
        strength: float = 1.0,
    ) -> None:
        """Sets the levels of a run and starts anew; `latent_levels` has the formulas.

        num_inference_steps: how many of the levels that the model was distilled on; or
        timesteps: levels of one's own, strictly decreasing within T − 1 … 0.
        device: where `timesteps` is kept.
        original_inference_steps: how many levels the model was distilled on, if other than in the configuration.
        strength: in (0, 1]; below 1 only the less noisy share of the levels is used, for a start from a noised picture.

        Raises ValueError for anything else than the above.
        """
        if (num_inference_steps is None) == (timesteps is None):
            given = "neither" if timesteps is None else "both"
            raise ValueError(f"One of `num_inference_steps` and `timesteps` says how to sample; {given} were given.")
        steps = self.config.original_inference_steps if original_inference_steps is None else original_inference_steps
        schedule = original(self._schedule, len(self), steps)
        asked, choose = (num_inference_steps, spread) if timesteps is None else (timesteps, custom)
        levels = choose(schedule, asked, strength)
        self.num_inference_steps = len(levels)
        self.custom_timesteps = timesteps is not None
        self.timesteps = torch.tensor(levels, dtype=torch.int64, device=device)
        self.restart()

    def previous_timestep(self, timestep: Any) -> Any:
        """The next level of the run, a tensor, −1 after the last; before `set_timesteps`, timestep − 1."""
        if self.num_inference_steps is None:
            return timestep - 1
        place = self.index_for_timestep(timestep)
        return self.timesteps[place + 1] if place + 1 < len(self.timesteps) else torch.tensor(-1)

    # -- a step ------------------------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: Timestep | None = None) -> Tensor:
        """The sample itself, which is what these networks see."""
        return sample

    def get_scalings_for_boundary_condition_discrete(self, timestep: Timestep) -> tuple[Any, Any]:
        """(c_skip, c_out) of `Latched` at a level: numbers for a number, float32 tensors for a tensor; (1, 0) at 0."""
        c = self._latched(self._schedule, torch.as_tensor(timestep, dtype=torch.float64))
        return (c.skip.float(), c.out.float()) if isinstance(timestep, Tensor) else (c.skip.item(), c.out.item())

    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> LCMSchedulerOutput | tuple[Tensor, Tensor]:
        """The sample at the next level, and the estimate of the clean one: after the last step, one and the same.

        model_output and sample: tensors (n, …) of one shape, the network's output and its input.
        timestep: a value of `timesteps`.
        generator: one, a list of one for each row, or None for torch's global one; see the class for when it is used.
        return_dict: an output object, or a tuple of two.

        Raises ValueError before `set_timesteps`, for any timestep but that of the step to be done, and past the end.
        """
        if self.num_inference_steps is None:
            raise ValueError("A run begins with set_timesteps, such as scheduler.set_timesteps(4).")
        place = self._place(timestep)
        t = self.timesteps[place].double().cpu()
        if float(timestep) != t:
            raise ValueError(
                f"Step {place} of this run is at timestep {t:g}, not {float(timestep):g}: loop with "
                "`for t in scheduler.timesteps`, and call set_timesteps before another run."
            )
        denoised = self._estimate(model_output, sample, t)
        dtype = torch.promote_types(model_output.dtype, sample.dtype)
        following, rounded = denoised, denoised.to(dtype)
        if place + 1 < len(self.timesteps):
            noise = unit_noise(rounded, generator).to(denoised.dtype)
            following = self._schedule.again(denoised, noise, self.timesteps[place + 1].double().cpu())
        self._step_index = place + 1
        following = following.to(dtype)
        return LCMSchedulerOutput(following, rounded) if return_dict else (following, rounded)

    @property
    def _latched(self) -> Latched:
        """The boundary condition, around an x_0 that is there already."""
        return Latched(Sample(), self.sigma_data, self.config.timestep_scaling)

    def _estimate(self, model_output: Tensor, sample: Tensor, t: Tensor) -> Tensor:
        """`denoised`, in float32 or better."""
        x, raw = at_least_float32(sample), at_least_float32(model_output)
        x_0 = self._limited(self._through(_prediction(self.config.prediction_type), t, x, raw))
        return self._through(self._latched, t, x, x_0)

    def _through(self, parameterization: Parameterization, t: Tensor, x: Tensor, raw: Tensor) -> Tensor:
        c = parameterization(self._schedule, t)
        return c.skip.item() * x + c.out.item() * raw

    def _limited(self, x_0: Tensor) -> Tensor:
        """Clipped as the configuration asks."""
        if self.config.thresholding:
            limit = x_0.flatten(1).abs().quantile(self.config.dynamic_thresholding_ratio, dim=1)
            limit = expand_as(limit.clamp(1, self.config.sample_max_value), x_0)
            return x_0.clamp(-limit, limit) / limit
        reach = self.config.clip_sample_range
        return x_0.clamp(-reach, reach) if self.config.clip_sample else x_0

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """α original_samples + σ noise, tensors (n, …), at levels `timesteps` (n,) or (1,), in their precision.

        Raises ValueError for levels that are not whole numbers 0 … T − 1.
        """
        t, last = timesteps.to(original_samples.device).reshape(-1), self._schedule.steps - 1
        if not ((t >= 0) & (t <= last) & (t == t.round())).all():
            raise ValueError(f"Timesteps are whole numbers 0 … {last}; these are not: {t.tolist()}.")
        x, z = at_least_float32(original_samples), at_least_float32(noise)
        noisy = self._schedule.perturb(x, z, t.to(x.dtype))
        return noisy.to(torch.promote_types(original_samples.dtype, noise.dtype))

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = α noise − σ sample, what a velocity network learns; shapes and errors as in `add_noise`."""
        return self.add_noise(noise, -sample, timesteps)  # the same sum, of other parts


def _prediction(kind: str) -> Parameterization:
    if kind not in PREDICTIONS:
        raise ValueError(f"There is no prediction_type '{kind}'{nearest(kind, PREDICTIONS)}.")
    return PREDICTIONS[kind]
