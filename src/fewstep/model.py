"""A model: a denoiser, the space it works in and what it can be asked for; the things a user does with pictures.

Every picture depends on (seed, its index, its label) alone: not on the batch size, nor on how many processes share
the work.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.conditions import Asked
from fewstep.denoiser import Denoiser
from fewstep.design import Design
from fewstep.editing import STROKE_TIMES, Measurement, edit, edit_times, redraw, slerp
from fewstep.ondisk import outline
from fewstep.sampling import (
    Churn,
    Noise,
    ancestral,
    begin,
    check_times,
    last,
    solve,
    spaced_times,
    teacher_times,
    trajectory,
)
from fewstep.saving import write_model
from fewstep.schedules import Schedule
from fewstep.solvers import Euler, Heun, Midpoint, Solver
from fewstep.tensors import noise as unit_noise

SOLVERS: dict[str, Solver] = {
    "heun": Heun(),
    "euler": Euler(),
    "dpm": Midpoint(rho=3.0),
    "midpoint": Midpoint(rho=1.0),
    "progdist": Euler(),
}
"""The steps of the samplers that walk a diffusion model's ODE. `progdist` is for progressively distilled models: it
ends at t_min, the others at 0."""

SAMPLERS = ("consistency", *SOLVERS, "ancestral")
"""How pictures are drawn: `consistency` is Algorithm 1, the others walk a diffusion model's ODE or SDE."""

TEACHER_STEPS = 18
"""Steps of a diffusion model unless told otherwise: 35 network calls with Heun."""

EDIT_STEPS = 8
"""Network calls of an edit unless told otherwise."""

BATCH = 256
"""Pictures drawn at once unless told otherwise."""


class Model:
    """A trained model. `denoiser(x_t, t, labels=…)` is the function itself; the methods draw and edit pictures.

    Pictures are float32 (n, C, H, W) in [-1, 1] on the CPU. `labels` is an int, a list or a tensor of n; left out,
    they
    are drawn per image from the seed; -1 asks for no class. `times` are real noise levels, `steps` the number of
    network
    calls, which takes the times stored with the model, else Karras-spaced ones.
    """

    def __init__(self, denoiser: Denoiser, design: Design, device: str | torch.device = "auto"):
        self.design = design
        self.device = pick_device(device)
        self.denoiser = denoiser.to(self.device).eval().requires_grad_(False)
        if self.device.type == "cpu":  # convolutions and norms are faster so: see docs/benchmarks.md
            self.denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def schedule(self) -> Schedule:
        return self.design.schedule

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its pictures."""
        a = self.design.architecture
        return a.image_channels, a.image_size, a.image_size

    @property
    def num_classes(self) -> int:
        """0 for an unconditional model."""
        return self.design.architecture.num_classes

    @property
    def consistent(self) -> bool:
        """Whether it is a consistency function, rather than a diffusion model (a teacher)."""
        return self.design.parameterization.consistent

    def times(self, steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
        """The noise levels of a run of Algorithm 1: `times` themselves, or good ones for `steps` calls.

        Raises ValueError for both at once and for unusable ones.
        """
        if times is not None:
            if steps is not None and steps != len(times):
                raise ValueError(f"steps={steps} and {len(times)} times contradict each other: give one of the two.")
            check_times(list(times), self.schedule)
            return [float(t) for t in times]
        steps = 1 if steps is None else steps
        return list(self.design.times.get(str(steps), ())) or spaced_times(self.schedule, steps)

    def walk_times(self, sampler: str, steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
        """The noise levels of a walk of `steps` steps (18), or along `times`, with its end: where nothing is noise (it
        need not be given), but for `progdist`, which ends at t_min or at the last time given.

        Raises ValueError for both at once and for unusable ones.
        """
        clean = [] if sampler == "progdist" else [self.schedule.clean]
        if times is None:
            steps = TEACHER_STEPS if steps is None else steps
            return teacher_times(self.schedule, steps) if clean else self.schedule.grid(steps + 1).tolist()
        levels = [float(t) for t in times if t != self.schedule.clean]
        check_times(levels, self.schedule)
        walk = [*levels, *clean]
        if len(walk) < 2:
            raise ValueError(f"The sampler {sampler} needs at least two times: where it starts and where it ends.")
        if steps is not None and steps != len(walk) - 1:
            raise ValueError(f"steps={steps} and {len(levels)} times contradict each other: give one of the two.")
        return walk

    def edit_times(self, steps: int | None = None, times: Sequence[float] | None = None) -> list[float]:
        """The same for Algorithm 4: `times` themselves, or `fewstep.editing.edit_times` for `steps` calls (8)."""
        if times is not None:
            return self.times(steps, times)
        return edit_times(self.schedule, EDIT_STEPS if steps is None else steps)

    @torch.no_grad()
    def sample(
        self,
        n: int = 1,
        *,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        seed: int = 0,
        labels: Asked = None,
        sampler: str | None = None,
        first: int = 0,
        batch: int = BATCH,
        churn: Churn | None = None,
        clip: bool = True,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """n pictures, the ones with indices first … first + n − 1.

        `sampler` is one of SAMPLERS: `consistency` (with `steps` or `times`) unless this is a diffusion model, which
        takes `heun` with 18 steps. `churn` adds fresh noise to a walk along the ODE; `clip` keeps every estimate in
        [-1, 1]. `progress` is called with the number of pictures of each finished batch. Raises ValueError for what
        cannot be asked.
        """
        sampler = sampler or ("consistency" if self.consistent else "heun")
        if sampler not in SAMPLERS:
            raise ValueError(f"There is no sampler '{sampler}'; there are: {', '.join(SAMPLERS)}.")
        if churn and churn.s_churn and sampler not in SOLVERS:
            raise ValueError(f"Churn is for walks along the ODE ({', '.join(SOLVERS)}), not for {sampler}.")
        asked = self._ask(labels, seed, range(first, first + n))

        def draw(rows: range, cond: dict[str, Any], noise: Noise) -> Tensor:
            z = noise(0, torch.empty(len(rows), *self.shape, device=self.device))
            if sampler == "consistency":
                return self._multistep(z, self.times(steps, times), noise, clip, cond)
            return self._walk(sampler, z, self.walk_times(sampler, steps, times), churn, noise, clip, cond)

        return self._in_batches(draw, range(first, first + n), asked, seed, batch, progress)

    @torch.no_grad()
    def edit(
        self,
        pictures: Tensor,
        measurement: Measurement,
        *,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        seed: int = 0,
        labels: Asked = None,
        first: int = 0,
        batch: int = BATCH,
    ) -> Tensor:
        """Pictures that agree with the given ones in all that the measurement knows (Algorithm 4), exactly.

        `pictures` (n, C, H, W) in [-1, 1]; SuperResolve also takes small ones, Colorize grey ones. Measured
        references
        keep what is known also where it lies outside [-1, 1].
        """
        chosen = self.edit_times(steps, times)
        reference = measurement.prepare(pictures, self.shape)
        return self._edited(reference, labels, seed, first, batch, lambda part, rows, cond, noise: edit(
            self.denoiser, self.schedule, measurement.part(rows.start - first, rows.stop - first), part, chosen,
            noise=noise, **cond
        ))  # fmt: skip

    @torch.no_grad()
    def redraw(
        self,
        pictures: Tensor,
        *,
        times: Sequence[float] = STROKE_TIMES,
        seed: int = 0,
        labels: Asked = None,
        first: int = 0,
        batch: int = BATCH,
    ) -> Tensor:
        """Stroke-guided generation: realistic pictures that follow the given paintings (n, C, H, W).

        The painting is noised to times[0]; a larger one gives the model more freedom.
        """
        self._check_shape(pictures)
        return self._edited(pictures, labels, seed, first, batch, lambda part, rows, cond, noise: redraw(
            self.denoiser, self.schedule, part, times, noise=noise, **cond
        ))  # fmt: skip

    @torch.no_grad()
    def denoise(self, pictures: Tensor, sigma: float, *, labels: Asked = None, seed: int = 0) -> Tensor:
        """The clean pictures in noisy ones (n, C, H, W) whose noise has standard deviation `sigma`; one network
        call."""
        self._check_shape(pictures)
        check_times([sigma], self.schedule)
        return self._edited(pictures, labels, seed, 0, BATCH, lambda part, rows, cond, noise: self.denoiser(
            part, sigma, **cond
        ).clamp(-1, 1))  # fmt: skip

    @torch.no_grad()
    def interpolate(
        self,
        seed_a: int,
        seed_b: int,
        n: int = 8,
        *,
        steps: int | None = None,
        times: Sequence[float] | None = None,
        labels: Asked = None,
    ) -> Tensor:
        """n pictures from the first picture of seed_a to that of seed_b, along the great circle between their noises.

        Unless `labels` says otherwise, all show the class that seed_a draws.
        """
        chosen = self.times(steps, times)
        label = self._ask(labels, seed_a, range(1)) if labels is None else self._ask(labels, seed_a, range(n))
        fractions = torch.linspace(0, 1, n, dtype=torch.float64)

        def between(draw: int, like: Tensor) -> Tensor:
            a, b = (unit_noise(seed, [0], self.shape, a=draw) for seed in (seed_a, seed_b))
            return slerp(a.expand(n, *self.shape), b.expand(n, *self.shape), fractions).to(self.device)

        z = between(0, torch.empty(0))
        cond = self.design.condition(label.expand(n).to(self.device))
        return self.design.space.decode(self._multistep(z, chosen, between, True, cond)).float().cpu()

    def save(self, folder: str | Path) -> None:
        """Writes the model to a folder: model.json, weights.safetensors and a model card. See `fewstep.load`.

        An existing model there is replaced only once the new one is complete.
        """
        write_model(folder, self.design, self.denoiser.network.state_dict())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        format: str = "fewstep",
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "A model of fewstep",
    ) -> str:
        """Uploads the model and its card to the Hugging Face Hub, in the form of fewstep or of "diffusers".

        See `fewstep.push_to_hub(model, repo_id, …)`, which this calls.
        """
        from fewstep import push_to_hub  # the forms of files are a floor above models

        return push_to_hub(self, repo_id, format=format, private=private, token=token, commit_message=commit_message)

    def _multistep(self, z: Tensor, times: list[float], noise: Noise, clip: bool, cond: dict[str, Any]) -> Tensor:
        start = begin(self.schedule, z, times)
        return last(trajectory(self.denoiser, self.schedule, start, times, noise=noise, clip=clip, **cond))

    def _walk(self, sampler: str, z: Tensor, times, churn: Churn | None, noise: Noise, clip: bool, cond) -> Tensor:
        x, options = begin(self.schedule, z, times), {"noise": noise, "clip": clip, **cond}
        if sampler == "ancestral":
            return ancestral(self.denoiser, self.schedule, x, times, **options)
        x = solve(self.denoiser, self.schedule, x, times, solver=SOLVERS[sampler], churn=churn, **options)
        return x.clamp(-1, 1) if clip else x

    def _edited(self, pictures: Tensor, labels: Asked, seed: int, first: int, batch: int, apply) -> Tensor:
        indices = range(first, first + len(pictures))

        def draw(rows: range, cond: dict[str, Any], noise: Noise) -> Tensor:
            part = pictures[rows.start - first : rows.stop - first]
            return apply(self.design.space.encode(part.to(self.device, torch.float32)), rows, cond, noise)

        return self._in_batches(draw, indices, self._ask(labels, seed, indices), seed, batch, None)

    def _in_batches(self, draw, indices: range, labels: Tensor, seed: int, batch: int, progress) -> Tensor:
        if batch < 1:
            raise ValueError(f"batch is at least 1, not {batch}.")
        parts = []
        for start in range(0, len(indices), batch):
            rows = indices[start : start + batch]
            cond = self.design.condition(labels[start : start + batch].to(self.device))
            x_0 = draw(rows, cond, self._noise(seed, rows))
            parts.append(self.design.space.decode(x_0).float().cpu())
            if progress:
                progress(len(rows))
        return torch.cat(parts) if parts else torch.empty(0, *self.shape)

    def _noise(self, seed: int, rows: range) -> Noise:
        """Draw number `draw` of each picture: a function of (seed, draw, index) alone."""
        return lambda draw, like: unit_noise(seed, rows, self.shape, a=draw).to(self.device)

    def _ask(self, labels: Asked, seed: int, indices: range) -> Tensor:
        return self.design.condition.ask(labels, seed, indices)

    def _check_shape(self, pictures: Tensor) -> None:
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != self.shape:
            raise ValueError(f"Pictures for this model are (n, {', '.join(map(str, self.shape))}), "
                             f"not {tuple(pictures.shape)}.")  # fmt: skip


def build(design: Design, weights: Mapping[str, Tensor], device: str | torch.device = "auto") -> Model:
    """The model of a design with these weights (the network's state dict), in float32.

    No second copy is made in memory: the network is laid out without weights, and they are taken over one at a time,
    converted. Raises ValueError, with their names, for weights that are missing, too many or of another shape.
    """
    place = pick_device(device)
    network = design.architecture.outline()
    wanted = network.state_dict()
    _check_weights(wanted, outline(weights))
    own = {name: _taken_over(weights[name], like, place) for name, like in wanted.items()}
    network.load_state_dict(own, assign=True)
    return Model(Denoiser(network, design.schedule, design.parameterization), design, place)


def _taken_over(w: Tensor, like: Tensor, device: torch.device) -> Tensor:
    """A copy in the dtype of `like`, on the device and in the memory layout that a model has there."""
    last = device.type == "cpu" and w.ndim == 4
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty(w.shape, dtype=like.dtype, device=device, memory_format=layout).copy_(w)


def _check_weights(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    shapes = {name: (tuple(given[name].shape), tuple(w.shape)) for name, w in wanted.items() if name in given}
    wrong = {
        "missing": [name for name in wanted if name not in given],
        "that the network does not have": [name for name in given if name not in wanted],
        "of another shape": [f"{name} {a}, not {b}" for name, (a, b) in shapes.items() if a != b],
    }
    found = [f"{len(names)} {kind} ({_first(names)})" for kind, names in wrong.items() if names]
    if found:
        raise ValueError(f"The weights do not fit the network: of {len(wanted)} tensors {'; '.join(found)}.")


def _first(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def pick_device(device: str | torch.device) -> torch.device:
    """`auto` takes the accelerator where there is one; a device that is not there is refused in one sentence."""
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if str(device) == "auto":
        return there or torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"'{device}' is no kind of device: use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("This PyTorch sees no CUDA device: use device='cpu', or install a CUDA build of PyTorch.")
    found = torch.accelerator.device_count() if there and chosen.type == there.type else 0
    if chosen.type not in ("cpu", "meta") and (chosen.index or 0) >= found:
        raise ValueError(f"There is no device '{device}' here: use device='auto' or 'cpu'.")
    return chosen
