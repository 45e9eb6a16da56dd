"""The run that all pipelines of consistency models share.

A UNet2DModel F and the numbers of a scheduler's configuration (σ_min, σ_max, σ_data, ρ) are a `Denoiser` with the
`Boundary` parameterization; F is told 250 ln σ. A step is one call of it, and fresh noise up to the next level:

    x_0 ← D(x, σ_i), clipped to [-1, 1], corrected by an edit;    x ← x_0 + s_noise √(σ_{i+1}² − σ_min²) z

After the last call nothing is added. The scheduler chooses the levels and the numbers by which callbacks know them;
the rest is fewstep's own sampler, in float32 whatever the UNet's precision.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
from diffusers.schedulers.scheduling_consistency_models import CMStochasticIterativeScheduler as Theirs
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from fewstep.conditions import Asked
from fewstep.denoiser import Denoiser
from fewstep.dropin.consistency_call import Call
from fewstep.dropin.consistency_scheduler import NOISE_SCALE, CMStochasticIterativeScheduler
from fewstep.dropin.pictures import check_kind, finished
from fewstep.dropin.stepping import Generators, logger
from fewstep.parameterizations import Boundary
from fewstep.sampling import begin, trajectory
from fewstep.schedules import Karras

Levels = Sequence[float] | np.ndarray | Tensor | None
Indices = Sequence[int] | np.ndarray | Tensor | None


class Network(nn.Module):
    """A UNet2DModel as fewstep's network: called in its own precision, answering in that of x."""

    def __init__(self, unet: UNet2DModel):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """F(x, c_noise) for x (n, C, H, W), c_noise (n,), labels (n,) or None."""
        raw = self.unet(x.to(self.unet.dtype), c_noise, class_labels=labels, return_dict=False)[0]
        return raw.to(x.dtype)


class ConsistencyPipeline(DiffusionPipeline, ABC):
    """Components, checks and the loop. What it saves names diffusers' classes, and loads without fewstep."""

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ["latents", "denoised"]  # noqa: RUF012

    def __init__(self, unet: UNet2DModel, scheduler: SchedulerMixin):
        """Raises TypeError for other components than a UNet2DModel and diffusers' or fewstep's scheduler."""
        super().__init__()
        check_components(type(self).__name__, unet, scheduler)
        self.register_modules(unet=unet, scheduler=scheduler)
        self.safety_checker = None
        self._num_timesteps = 0

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> ImagePipelineOutput | tuple:
        """Pictures."""

    @property
    def num_timesteps(self) -> int:
        """Network calls of the last run."""
        return self._num_timesteps

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """(C, H, W), from the UNet's configuration."""
        config = self.unet.config
        if config.sample_size is None:
            raise ValueError("This UNet's configuration has no sample_size: "
                             "pipe.unet.register_to_config(sample_size=(64, 64)) sets it.")  # fmt: skip
        height, width = (config.sample_size,) * 2 if isinstance(config.sample_size, int) else config.sample_size
        return config.in_channels, height, width

    def to_json_string(self) -> str:
        """The folder's index, in which diffusers' pipeline stands for ours."""
        index = json.loads(super().to_json_string()) | {"_class_name": "ConsistencyModelPipeline"}
        return json.dumps(index, indent=2, sort_keys=True) + "\n"

    def _planned(
        self, steps: int | None, timesteps: Indices, sigmas: Levels, spaced: Callable[[int], Levels] | None = None
    ) -> CMStochasticIterativeScheduler:
        """A scheduler of this run alone, its levels set: `sigmas`, or `timesteps`, or `steps` levels (of `spaced`, or
        its own). The pipeline's scheduler, diffusers' or fewstep's, is read and never changed."""
        if timesteps is not None and sigmas is not None:
            raise ValueError("`timesteps` and `sigmas` contradict each other: give one of the two.")
        if steps is None and timesteps is None and sigmas is None:
            raise ValueError("Give one of `num_inference_steps`, `timesteps` and `sigmas`.")
        check_components(type(self).__name__, self.unet, self.scheduler)
        number = steps if timesteps is None and sigmas is None else None
        if number is not None and spaced is not None:
            number, sigmas = None, spaced(number)
        scheduler: Any = CMStochasticIterativeScheduler.from_config(self.scheduler.config)
        scheduler.set_timesteps(number, self._execution_device, timesteps, sigmas)
        if steps not in (None, 1, len(scheduler.timesteps)):
            logger.warning(f"num_inference_steps={steps} is ignored: {len(scheduler.timesteps)} levels are given.")
        return scheduler

    def _schedule(self) -> Karras:
        config = self.scheduler.config
        return Karras(config.sigma_min, config.sigma_max, config.rho)

    def _run(
        self,
        call: Call,
        n: int,
        scheduler: CMStochasticIterativeScheduler,
        origin: Tensor | None = None,
        project: Callable[[Tensor], Tensor] | None = None,
        settle: Callable[[Tensor], Tensor] | None = None,
    ) -> ImagePipelineOutput | tuple:
        """n pictures: from pure noise, or from `origin` (n, C, H, W) with noise; `project` corrects the estimates,
        `settle` the result."""
        _check_number(n, call.generator)
        check_kind(call.output_type, self.picture_shape[0])
        config, schedule, timesteps = scheduler.config, self._schedule(), scheduler.timesteps
        levels = (timesteps / NOISE_SCALE).exp().tolist()
        self._num_timesteps = len(levels)
        z = self._first_noise(call, n)
        cond = self._cond(call, n)
        denoiser = Denoiser(Network(self.unet), schedule, Boundary(config.sigma_data, NOISE_SCALE))
        f = lambda x, t, **cond: denoiser(x, _exact(t, timesteps), **cond)  # noqa: E731
        x = begin(schedule, z, levels)
        x = x if origin is None else origin.to(x) + x
        options: dict[str, Any] = {"project": project, "clip": config.clip_denoised, **cond}
        with self.progress_bar(total=len(levels)) as bar:  # pyright: ignore[reportCallIssue]
            for i, t in enumerate(timesteps):
                x = denoised = next(trajectory(f, schedule, x, levels[i : i + 1], **options))
                if i + 1 < len(levels):
                    fresh = config.s_noise * self._noise(call, n)
                    x = schedule.again(denoised, fresh, _exact(levels[i + 1], timesteps))
                x = call.told(self, i, t, {"latents": x, "denoised": denoised})
                bar.update()
        self.maybe_free_model_hooks()
        x = settle(x) if settle and call.output_type != "latent" else x
        images = finished(x, call.output_type)
        return ImagePipelineOutput(images=images) if call.return_dict else (images,)

    def _noise(self, call: Call, n: int) -> Tensor:
        """Unit noise, drawn in the UNet's precision as diffusers draws it, kept in float32 or better."""
        shape, device = (n, *self.picture_shape), self._execution_device
        return self._kept(randn_tensor(shape, generator=call.generator, device=device, dtype=self.unet.dtype))

    def _first_noise(self, call: Call, n: int) -> Tensor:
        if call.latents is None:
            return self._noise(call, n)
        shape = (n, *self.picture_shape)
        if tuple(call.latents.shape) != shape:
            raise ValueError(f"The shape of latents is {tuple(call.latents.shape)} but is expected to be {shape}.")
        return self._kept(call.latents.to(self._execution_device))

    def _kept(self, x: Tensor) -> Tensor:
        return x.to(torch.promote_types(self.unet.dtype, torch.float32))

    def _cond(self, call: Call, n: int) -> dict[str, Tensor]:
        """The network's keywords; labels that were not given are drawn after the first noise."""
        classes = self.unet.config.num_class_embeds
        if classes is None:
            if call.class_labels is not None:
                raise ValueError("This model is unconditional: it takes no class_labels.")
            return {}
        labels = _drawn(n, classes, call.generator) if call.class_labels is None else _asked(call.class_labels, n)
        if len(wrong := labels[(labels < 0) | (labels >= classes)]):
            raise ValueError(f"class_labels of this model are 0 to {classes - 1}, not {int(wrong[0])}.")
        return {"labels": labels.to(self._execution_device)}


def check_components(owner: str, unet: Any, scheduler: Any) -> None:
    """Raises TypeError, in the owner's name, for components that cannot draw."""
    if not isinstance(getattr(unet, "_orig_mod", unet), UNet2DModel):  # what torch.compile wraps is looked into
        raise TypeError(f"{owner} needs a UNet2DModel as unet, not {type(unet).__name__}.")
    if not isinstance(scheduler, Theirs | CMStochasticIterativeScheduler):
        raise TypeError(f"{owner} needs a CMStochasticIterativeScheduler as scheduler, not {type(scheduler).__name__}.")


def _check_number(n: int, generator: Generators) -> None:
    if not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"The number of pictures is a whole number from 1, not {n}.")
    if isinstance(generator, list) and len(generator) != n:
        raise ValueError(f"{len(generator)} generators were given for {n} pictures: give one, or one each.")


def _exact(level: float, like: Tensor) -> Tensor:
    """A level in the precision of the scheduler's timesteps: float64 where the device has it, for 250 ln σ moves a
    picture by 2e-5 when it is one rounding off."""
    return torch.tensor(level, dtype=like.dtype, device=like.device)


def _asked(labels: Asked, n: int) -> Tensor:
    """int64 (n,) from one label or n of them."""
    try:
        asked = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"class_labels are whole numbers, not {labels!r}.") from None
    if asked.is_floating_point() or asked.dtype == torch.bool:
        raise ValueError(f"class_labels are whole numbers, not {asked.dtype}.")
    asked = asked.expand(n) if asked.shape in ((), (1,)) else asked
    if asked.shape != (n,):
        raise ValueError(f"{n} pictures need one class label or {n}, not {tuple(asked.shape)}.")
    return asked.to(torch.int64)


def _drawn(n: int, classes: int, generator: Generators) -> Tensor:
    """n random labels from the given generator, or each from its own."""
    if not isinstance(generator, list):
        return torch.randint(classes, (n,), generator=generator, device=generator.device if generator else "cpu")
    return torch.cat([_drawn(1, classes, one).cpu() for one in generator])
