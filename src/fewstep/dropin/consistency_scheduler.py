"""diffusers' scheduler for consistency models (Song et al. 2023, Algorithm 1), on fewstep's mathematics.

With noise levels σ_1 > σ_2 > … > σ_n and the network F, which sees t_i = 250 ln σ_i and a scaled sample:

    scale_model_input   x / √(σ_i² + σ_d²)
    step                x_0 ← c_skip x + c_out F, clipped to [-1, 1];    x ← x_0 + s_noise √(σ_{i+1}² − σ_min²) z

and after the last step x is x_0 itself. c_skip and c_out are `Boundary`'s, the levels those of `Karras`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils.outputs import BaseOutput
from torch import Tensor

from fewstep.dropin.levels import indices, noise_levels, spaced
from fewstep.dropin.stepping import Generators, Stepping, Timestep, is_integer, known_arguments, logger, unit_noise
from fewstep.parameterizations import EDM, Boundary, Coefficients
from fewstep.schedules import Karras
from fewstep.tensors import at_least_float32

NOISE_SCALE = 250.0


@dataclass
class CMStochasticIterativeSchedulerOutput(BaseOutput):
    """What a step gives."""

    prev_sample: Tensor
    """The sample at the next noise level; after the last step the picture. Shape and precision of the sample."""


class CMStochasticIterativeScheduler(Stepping):
    """Steps of a consistency model; takes the place of diffusers' class of this name, in its pipelines and its files.

    num_train_timesteps: N, how many levels the training grid has; indices in `set_timesteps` count it. At least 2.
    sigma_min, sigma_max: its ends, 0 < sigma_min < sigma_max; at sigma_min the model is the identity.
    sigma_data: standard deviation of the data.
    s_noise: scale of the noise between steps.
    rho: spacing of the grid, even in σ^(1/ρ).
    clip_denoised: clamp estimates to [-1, 1].

    **Randomness**: noise is drawn between two steps, and only there: n steps draw n − 1 times, in the precision and
    on the device of the network's output. These draws equal diffusers', which draws once more after the last step.

    **Different on purpose**
    - After the last step the sample is the estimate itself (diffusers leaves noise of 6.7e-7 in it).
    - `set_timesteps(sigmas=...)` takes real noise levels.
    - `init_noise_sigma` is the first level of the schedule, which diffusers takes for sigma_max whatever it is.
    - Estimates of half-precision networks are computed in float32 and rounded once.
    - A timestep that was rounded to float32 is found; one that is unknown, a step past the end, an empty, repeated,
      negative, fractional or too large index, and arguments that do not exist are errors that say how to mend them.

    **As in diffusers, though it surprises**
    - `timesteps=[22, 0]` are indices, given in decreasing order and run in reverse: first 0 (sigma_max), then 22.
    - n evenly spaced indices are the multiples of N // n: they stop well above sigma_min, and, where n does not divide
      N, leave out the end of the grid.
    - Index N − 1 is sigma_min, where a step changes nothing.
    - Before `set_timesteps`, `timesteps` and `sigmas` are the whole grid in float64, and steps along it work.
    - After the first step of a run the given timestep is not looked at: steps are counted.
    - `is_scale_input_called` stays True once it is, so that the warning about it comes in the first run only.
    """

    @known_arguments
    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 40,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        sigma_data: float = 0.5,
        s_noise: float = 1.0,
        rho: float = 7.0,
        clip_denoised: bool = True,
    ) -> None:
        super().__init__()
        _check(num_train_timesteps, sigma_min, sigma_max, sigma_data, rho)
        self.init_noise_sigma = sigma_max
        """Standard deviation of the noise that a run starts with."""
        self.num_inference_steps: int | None = None
        """The number given to `set_timesteps`; None for custom levels. `len(timesteps)` always counts the steps."""
        self.sigmas = self._schedule.grid(num_train_timesteps)
        """The noise levels and, once they are set, sigma_min after them: float32 (n + 1,), on the CPU."""
        self.timesteps = torch.from_numpy(self.sigma_to_t(self.sigmas.numpy()))
        """250 ln σ of the levels, float64 (n,): what the network is told."""
        self.custom_timesteps = False
        """Whether indices or levels were given one by one."""
        self.is_scale_input_called = False
        """Whether `scale_model_input` was ever called."""

    # -- levels ------------------------------------------------------------------------------------------------------

    @property
    def _schedule(self) -> Karras:
        return Karras(self.config.sigma_min, self.config.sigma_max, self.config.rho)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | Sequence[float] | np.ndarray | Tensor | None = None,
        sigmas: Sequence[float] | Sequence[int] | np.ndarray | Tensor | None = None,
    ) -> None:
        """Sets the noise levels of a run, given in exactly one of three ways, and starts anew.

        num_inference_steps: 1 to N levels of the training grid; see the class for which.
        timesteps: indices of the training grid, 0 for sigma_max to N − 1 for sigma_min, strictly decreasing; they are
            run in reverse, so that [22, 0] starts at sigma_max.
        sigmas: the levels themselves, strictly decreasing, within sigma_min … sigma_max, run in the order given.
        device: where `timesteps` is kept (in float32 on an Apple GPU, which has no float64).

        A run that starts below sigma_max starts from noise of its first level, or from a picture with that noise:
        `init_noise_sigma` says so until the run ends. Raises ValueError for anything else than the above.
        """
        given = [num_inference_steps is not None, timesteps is not None, sigmas is not None]
        if sum(given) != 1:
            raise ValueError(
                "Exactly one of `num_inference_steps`, `timesteps` and `sigmas` says how to sample; "
                f"{sum(given) or 'none'} of them {'were' if sum(given) > 1 else 'was'} given."
            )
        if sigmas is not None:
            asked = noise_levels(sigmas, self.config.sigma_min, self.config.sigma_max)
            levels = torch.tensor(asked, dtype=torch.float64)
        else:
            asked = spaced(num_inference_steps, len(self)) if timesteps is None else indices(timesteps, len(self))
            levels = self._schedule.at(torch.tensor(asked, dtype=torch.float64) / (len(self) - 1))
        self.num_inference_steps = num_inference_steps
        self.custom_timesteps = num_inference_steps is None
        self._hold(levels, device)
        self.restart()

    def _hold(self, levels: Tensor, device: str | torch.device | None) -> None:
        self.init_noise_sigma = levels[0].item()
        self.sigmas = torch.cat([levels, levels.new_tensor([self.config.sigma_min])]).float()
        dtype = torch.float32 if str(device).startswith("mps") else torch.float64
        self.timesteps = torch.from_numpy(self.sigma_to_t(levels.numpy())).to(device=device, dtype=dtype)

    def sigma_to_t(self, sigmas: float | int | np.ndarray | Tensor) -> np.ndarray | np.float64:
        """What the network is told of noise levels: 250 ln σ, float64 in the shape of `sigmas`; finite at 0."""
        levels = torch.from_numpy(np.array(sigmas, dtype=np.float64))
        return self._boundary(levels).noise.numpy()[()]

    # -- coefficients ------------------------------------------------------------------------------------------------

    def _boundary(self, sigma: Tensor) -> Coefficients:
        return Boundary(self.config.sigma_data, NOISE_SCALE)(self._schedule, sigma)

    def get_scalings(self, sigma: float | int | Tensor) -> tuple[Tensor, Tensor]:
        """EDM's (c_skip, c_out) at a noise level, in float32 or better; `step` uses those below."""
        c = EDM(self.config.sigma_data, NOISE_SCALE)(self._schedule, torch.as_tensor(sigma))
        return c.skip, c.out

    def get_scalings_for_boundary_condition(self, sigma: float | int | Tensor) -> tuple[Tensor, Tensor]:
        """(c_skip, c_out) of a consistency function (Song et al. 2023, eq. 5): exactly (1, 0) at sigma_min."""
        c = self._boundary(torch.as_tensor(sigma))
        return c.skip, c.out

    # -- a step ------------------------------------------------------------------------------------------------------

    def scale_model_input(self, sample: Tensor, timestep: Timestep) -> Tensor:
        """The network's input: sample / √(σ² + sigma_data²), in the sample's precision.

        The first call of a run looks `timestep` up. Raises ValueError for an unknown one, or past the last step.
        """
        sigma = self.sigmas[self._place(timestep)]
        self.is_scale_input_called = True
        return (self._boundary(sigma).into * at_least_float32(sample)).to(sample.dtype)

    def step(
        self,
        model_output: Tensor,
        timestep: Timestep,
        sample: Tensor,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> CMStochasticIterativeSchedulerOutput | tuple[Tensor]:
        """The sample at the next level, or, after the last step, the picture.

        model_output and sample: tensors (n, …) of one shape, the network's output and the sample before scaling.
        timestep: a value of `timesteps`.
        generator: one, a list of one for each row, or None for torch's global one; see the class for when it is used.
        return_dict: an output object, or a tuple of one.

        Raises ValueError for integers, unknown timesteps, and past the last step.
        """
        if is_integer(timestep):
            raise ValueError(
                f"A step takes one of scheduler.timesteps, not an integer such as {timestep}: loop with "
                "`for t in scheduler.timesteps`, or pass scheduler.timesteps[i]."
            )
        if not self.is_scale_input_called:
            logger.warning("Call scheduler.scale_model_input on the sample and give its result to the network: "
                           "step was called without, and the pictures will be wrong.")  # fmt: skip
        place = self._place(timestep)
        estimate = self._estimate(model_output, sample, self.sigmas[place])
        if place + 1 < len(self.timesteps):
            noise = self.config.s_noise * at_least_float32(unit_noise(model_output, generator))
            following = self._schedule.again(estimate, noise, self.sigmas[place + 1])
        else:
            following = estimate
            self.init_noise_sigma = self.config.sigma_max  # some pipelines scale their noise before they set the levels
        self._step_index = place + 1
        following = following.to(torch.promote_types(model_output.dtype, sample.dtype))
        return CMStochasticIterativeSchedulerOutput(prev_sample=following) if return_dict else (following,)

    def _estimate(self, model_output: Tensor, sample: Tensor, sigma: Tensor) -> Tensor:
        """x_0, in float32 or better."""
        c_skip, c_out = self.get_scalings_for_boundary_condition(sigma)
        estimate = c_skip * at_least_float32(sample) + c_out * at_least_float32(model_output)
        return estimate.clamp(-1, 1) if self.config.clip_denoised else estimate

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """original_samples (n, …) + σ noise, in their precision. Which σ depends on the place in the run:

        - no begin index is set (training, and most pipelines): that of each of `timesteps` (n,) or (1,), which are
          values of `scheduler.timesteps`;
        - it is set, and a step was made: that of the step to come, whatever `timesteps` say (inpainting);
        - it is set, and none was made: that of the begin index (image to image).

        Raises ValueError for timesteps that are unknown, or integers: random training levels are
        `scheduler.timesteps[torch.randint(len(scheduler.timesteps), (n,))]`, of which index 0 is the noisiest.
        """
        timesteps = timesteps.reshape(-1)
        if self._begin_index is not None:
            places = [self._begin_index if self._step_index is None else self._step_index] * len(timesteps)
        elif is_integer(timesteps):
            raise ValueError(
                "add_noise takes values of scheduler.timesteps, not integers: "
                "pass scheduler.timesteps[indices], where index 0 is the noisiest."
            )
        else:
            known = self.timesteps.cpu()
            places = [self.index_for_timestep(t, known) for t in timesteps.tolist()]
        sigma = self.sigmas[places].to(original_samples.device, original_samples.dtype)
        return self._schedule.perturb(original_samples, noise, sigma)


def _check(n: int, sigma_min: float, sigma_max: float, sigma_data: float, rho: float) -> None:
    """Raises ValueError for a grid that does not exist."""
    if n != int(n) or n < 2:
        raise ValueError(f"num_train_timesteps is a whole number, at least 2 (sigma_max and sigma_min), not {n}.")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"0 < sigma_min < sigma_max must hold, not sigma_min={sigma_min} and sigma_max={sigma_max}.")
    if not (sigma_data > 0 and rho > 0):
        raise ValueError(f"sigma_data and rho are positive, not {sigma_data} and {rho}.")
