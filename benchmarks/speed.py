"""How fast is fewstep beside diffusers, with the same network, the same weights, in one process, in turn?

    ratio_i = their time_i / our time_i,    A B A B A B …,    above 1 where fewstep is the faster

Each round times both sides once, one right after the other; the median and the range of these ratios are printed, never
a time: other work on the machine slows both sides alike. Before anything is timed, both must answer alike (to 1e-4).

1. Sampling in one and two steps: `Model.sample` beside diffusers' `ConsistencyModelPipeline(output_type="pt")`.
2. A step of consistency training: `ConsistencyTraining` and `State` beside the same algorithm written with diffusers'
   `UNet2DModel` and `EMAModel` and `torch.optim.RAdam`, draws included.
3. `Model.sample` of one picture beside bare calls of the compact network: here the ratio is the network's share.

    OMP_NUM_THREADS=1 python benchmarks/speed.py          # --quick for a look, --device cuda, --threads 8
"""

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import diffusers
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "tests" / "networks"))
from test_unet import diffusers_network, randomized

from fewstep.conditions import Labels
from fewstep.denoiser import Denoiser
from fewstep.design import Design
from fewstep.discretizations import Grid
from fewstep.distances import PseudoHuber
from fewstep.formats.diffusers_names import to_diffusers
from fewstep.model import Model
from fewstep.networks import CompactShape, UNetShape
from fewstep.objectives import ConsistencyTraining, Draw
from fewstep.parameterizations import Boundary
from fewstep.sampling import begin, last, trajectory
from fewstep.schedules import Karras
from fewstep.targets import StopGradient
from fewstep.tensors import TIMES, TRAIN, noise, uniforms
from fewstep.training.optimizers import RAdam
from fewstep.training.state import State
from fewstep.weightings import InverseGap

SHAPE = UNetShape(
    image_size=32,
    model_channels=64,
    num_res_blocks=2,
    channel_mult=(1, 2),
    attention_resolutions=(16,),
    num_head_channels=32,
)
QUICK = UNetShape(
    image_size=16,
    model_channels=32,
    num_res_blocks=1,
    channel_mult=(1, 2),
    attention_resolutions=(8,),
    num_head_channels=32,
)
LEVELS, RATE, DECAY, CLOSE = 40, 1e-4, 0.999, 1e-4
STEPS = {1: [0], 2: [22, 0]}
"""The pipeline's `timesteps`, last one first: places on the Karras grid, 0 being t_max. fewstep is given the times."""


class Pair(NamedTuple):
    """Two ways to do the same, each a function without arguments."""

    name: str
    theirs: Callable[[], object]
    ours: Callable[[], object]


class Options(NamedTuple):
    """What the command line says."""

    device: torch.device
    quick: bool
    fused: bool
    channels_last: bool

    @property
    def shape(self) -> UNetShape:
        return QUICK if self.quick else SHAPE

    @property
    def batches(self) -> tuple[int, ...]:
        return (1, 4) if self.quick else (1, 16)


# -- the two networks ------------------------------------------------------------------------------------------------


def networks(o: Options) -> tuple[nn.Module, UNet2DModel]:
    """Ours and theirs with the same weights, none of them at its start of zero."""
    torch.manual_seed(0)
    ours = randomized(o.shape.build())
    theirs = diffusers_network(o.shape)
    theirs.load_state_dict(to_diffusers(o.shape, ours.state_dict()))
    layout = torch.channels_last if o.channels_last else torch.contiguous_format
    return ours.to(o.device), theirs.to(o.device, memory_format=layout)  # type: ignore[call-overload]


def agree(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Ends the benchmark unless both are alike; a comparison of different results says nothing."""
    apart = float((ours.cpu() - theirs.cpu()).abs().max())
    if not apart <= CLOSE:
        raise SystemExit(f"{what}: fewstep and diffusers differ by {apart:.1e}; nothing was timed.")


# -- sampling --------------------------------------------------------------------------------------------------------


def sampling(o: Options) -> list[Pair]:
    """One and two steps, one picture and a batch."""
    network, peer = networks(o)
    boundary = Boundary(noise_scale=250.0)
    model = Model(Denoiser(network, Karras(), boundary), Design(o.shape, boundary), o.device)
    pipe = ConsistencyModelPipeline(peer, CMStochasticIterativeScheduler(num_train_timesteps=LEVELS))
    pipe.set_progress_bar_config(disable=True)
    pairs = []
    for steps, levels in STEPS.items():
        times = Karras().grid(LEVELS)[levels[::-1]].tolist()
        agree(f"{steps} step(s)", _ours(model, times), _theirs(pipe, levels, model.shape))
        for n in o.batches:
            pairs.append(Pair(
                f"sampling, {steps} step(s), batch {n}",
                lambda n=n, levels=levels: pipe(n, timesteps=levels, output_type="pt").images,
                lambda n=n, times=times: model.sample(n, times=times),
            ))  # fmt: skip
    return pairs


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@torch.no_grad()
def _ours(model: Model, times: list[float]) -> Tensor:
    source = _generator()
    z = _start(model.shape).to(model.device)
    start = begin(model.schedule, z, times)
    return last(trajectory(model.denoiser, model.schedule, start, times, noise=lambda draw, like: torch.randn(
        like.shape, generator=source).to(like)))  # fmt: skip


def _theirs(pipe: ConsistencyModelPipeline, levels: list[int], shape: tuple[int, ...]) -> Tensor:
    images = pipe(3, timesteps=levels, latents=_start(shape), generator=_generator(), output_type="pt").images
    return 2 * images - 1  # type: ignore[operator]


def _start(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))


# -- training --------------------------------------------------------------------------------------------------------


class Ours:
    """A training step of fewstep: draws, objective, backward, RAdam, average."""

    def __init__(self, network: nn.Module, x_0: Tensor):
        self.x_0, self.k = x_0, 0
        self.objective = ConsistencyTraining(Grid(LEVELS), PseudoHuber(), InverseGap(), StopGradient())
        self.schedule = Karras()
        self.student = Denoiser(network.to(memory_format=torch.channels_last), self.schedule, Boundary())  # type: ignore
        self.state = State(network, RAdam(lr=RATE), [DECAY])

    def draw(self) -> Draw:
        rows, self.k = range(len(self.x_0)), self.k + 1
        z = noise(0, rows, self.x_0.shape[1:], purpose=TRAIN, a=self.k)
        t, s = self.objective.times(uniforms(0, TIMES, self.k, rows), self.schedule, 0.0)
        z, t, s = (a.float().to(self.x_0.device) for a in (z, t, s))
        return Draw(self.schedule, self.x_0, z, t, s, {})

    def __call__(self, draw: Draw | None = None) -> Tensor:
        self.state.optimizer.zero_grad(set_to_none=True)
        loss = self.objective.loss(self.student, self.student, draw or self.draw()).mean()
        loss.backward()
        self.state.optimizer.step()
        self.state.follow(None)
        return loss.detach()


class Theirs:
    """The same algorithm as one would write it with diffusers and torch."""

    def __init__(self, network: UNet2DModel, x_0: Tensor, fused: bool):
        self.network, self.x_0 = network.train(), x_0
        self.scheduler = CMStochasticIterativeScheduler(num_train_timesteps=LEVELS)
        ramp = torch.linspace(0, 1, LEVELS, dtype=torch.float64).numpy()
        self.levels = torch.from_numpy(self.scheduler._convert_to_karras(ramp)).float().to(x_0.device)
        self.optimizer = torch.optim.RAdam(network.parameters(), RATE, foreach=fused or None)
        self.ema = EMAModel(network.parameters(), decay=DECAY, foreach=fused)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        skip, out = self.scheduler.get_scalings_for_boundary_condition(sigma[:, None, None, None])
        into = (sigma**2 + self.scheduler.config.sigma_data**2).rsqrt()[:, None, None, None]
        return skip * x + out * self.network(into * x, 0.25 * sigma.log(), return_dict=False)[0]

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        i = torch.randint(0, LEVELS - 1, (len(self.x_0),), device=self.x_0.device)
        return torch.randn_like(self.x_0), self.levels[i], self.levels[i + 1]

    def __call__(self, draw: Draw | None = None) -> Tensor:
        z, t, s = (draw.z, draw.t, draw.s) if draw else self.draw()
        self.optimizer.zero_grad(set_to_none=True)
        student = self.denoise(self.x_0 + t[:, None, None, None] * z, t)
        with torch.no_grad():
            target = self.denoise(self.x_0 + s[:, None, None, None] * z, s)
        c = 0.00054 * self.x_0[0].numel() ** 0.5
        distance = ((student - target).square().flatten(1).sum(1) + c**2).sqrt() - c
        loss = (distance / (t - s)).mean()
        loss.backward()
        self.optimizer.step()
        self.ema.step(self.network.parameters())
        return loss.detach()


def training(o: Options) -> list[Pair]:
    """A step of consistency training."""
    network, peer = networks(o)
    n = o.batches[-1]
    x_0 = torch.rand(n, 3, o.shape.image_size, o.shape.image_size).to(o.device) * 2 - 1
    ours, theirs = Ours(network.train(), x_0), Theirs(peer, x_0, o.fused)
    for _ in range(2):  # the second loss is that of the weights after a step
        draw = ours.draw()
        one, other = ours(draw), theirs(draw)
        agree("training loss", one / other, torch.ones(()))
    return [Pair(f"a training step, batch {n}", theirs, ours)]


# -- the library's own share -----------------------------------------------------------------------------------------


def overhead(o: Options) -> list[Pair]:
    """Bare calls of the compact network beside one picture of `Model.sample`."""
    torch.manual_seed(0)
    shape = CompactShape(num_classes=10)
    network = randomized(shape.build())
    design = Design(shape, Boundary(), condition=Labels(10))
    model = Model(Denoiser(copy.deepcopy(network), Karras(), Boundary()), design, o.device)
    network = model.denoiser.network
    x, c_noise = torch.randn(1, *model.shape, device=o.device), torch.ones(1, device=o.device)
    label = torch.tensor([7], device=o.device)

    @torch.no_grad()
    def bare(calls: int) -> None:
        for _ in range(calls):
            network(x, c_noise, label)

    return [
        Pair(
            f"bare calls of the compact network, {steps} step(s), batch 1",
            lambda steps=steps: bare(steps),
            lambda steps=steps: model.sample(1, steps=steps, labels=7),
        )
        for steps in STEPS
    ]


# -- timing ----------------------------------------------------------------------------------------------------------


def clock(device: torch.device) -> Callable[[], float]:
    """Processor time where one thread does it all, so that other processes hardly count; else the wall's."""
    if device.type == "cpu":
        return time.process_time if torch.get_num_threads() == 1 else time.perf_counter

    def now() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return now


def ratios(pair: Pair, now: Callable[[], float], rounds: int, seconds: float) -> list[float]:
    """Their time over ours, once a round, after some warming up; short work is repeated within a round."""

    def timed(work: Callable[[], object], repeats: int) -> float:
        began = now()
        for _ in range(repeats):
            work()
        return now() - began

    for work in (pair.theirs, pair.ours):
        timed(work, 1)
    repeats = max(1, round(seconds / max(1e-6, timed(pair.theirs, 1) + timed(pair.ours, 1))))
    return [timed(pair.theirs, repeats) / timed(pair.ours, repeats) for _ in range(rounds)]


CASES = {"sampling": sampling, "training": training, "overhead": overhead}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small network and few rounds: a look, not a result")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="ratios for each case (21; 3 with --quick)")
    parser.add_argument("--seconds", type=float, default=0.2, help="work of at least about so long in each round")
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--fused", action="store_true", help="the peer's RAdam and EMAModel with foreach=True")
    parser.add_argument("--channels-last", action="store_true", help="the peer's network in channels_last too")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    diffusers.logging.set_verbosity_error()
    device = torch.device(args.device)
    options = Options(device, args.quick, args.fused, args.channels_last)
    rounds, seconds = args.rounds or (3 if args.quick else 21), 0.02 if args.quick else args.seconds
    print(f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}, "
          f"{device}, {args.threads} thread(s), {rounds} ratios each")  # fmt: skip
    print(f"{'their time / our time':60s} median   range")
    for name in args.only:
        for pair in CASES[name](options):
            found = ratios(pair, clock(device), rounds, seconds)
            print(f"{pair.name:60s} {statistics.median(found):6.2f}   {min(found):.2f}-{max(found):.2f}", flush=True)


if __name__ == "__main__":
    main()
