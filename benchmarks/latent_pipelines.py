"""The latent pipelines against diffusers' own: seconds of a call, and peak memory with a sliced and a tiled decoder.

    python benchmarks/latent_pipelines.py            # both
    python benchmarks/latent_pipelines.py --only latency

Latency: the same random parts in both pipelines, called in turn in one process; the median of the ratios. Memory:
SD 1.5's autoencoder (83.7 million random weights), latents of 768×768 pixels decoded in a process of its own each, the
peak over what was resident before; left out where less memory is free than it takes.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import fewstep

diffusers: Any = import_module("diffusers")  # whose names are made as they are asked for
sys.path.append(str(Path(__file__).parents[1] / "tests"))

SIDES = {"tiny": ((32, 64), 8), "small": ((64, 128), 32)}
"""Widths of the U-Net, and of the latents' side."""

NEEDED = 6.0
"""GB that decoding two pictures of 768 pixels at once takes, and then some."""


def pipes(size: str, told: bool, folder: Path) -> tuple[Any, Any]:
    """(fewstep's, diffusers') with one set of parts."""
    import latent_helpers  # pyright: ignore[reportMissingImports]

    widths, side = SIDES[size]
    shape = {"block_out_channels": widths, "sample_size": side, "time_cond_proj_dim": 32 if told else None}
    parts = latent_helpers.pipeline(folder / f"{size}-{told}", "lcm" if told else "sd").components
    scheduler = diffusers.LCMScheduler.from_config(parts["scheduler"].config)
    parts |= {"unet": latent_helpers.unet(**shape), "scheduler": scheduler}
    kinds = (diffusers.LatentConsistencyModelPipeline if told else diffusers.StableDiffusionPipeline,)
    made = [kind(**parts, requires_safety_checker=False) for kind in (fewstep.LatentConsistencyModelPipeline, *kinds)]
    for pipe in made:
        pipe.set_progress_bar_config(disable=True)
    return made[0], made[1]


def latency(size: str, told: bool, steps: int, folder: Path, pairs: int = 15) -> None:
    """One line: the median ratio of the pairs, with and without remembered prompts."""
    ours, stock = pipes(size, told, folder)
    asked = {"prompt": "a thick seven", "num_inference_steps": steps, "guidance_scale": 1.5, "output_type": "np"}

    def ratios(remembered: int) -> list[tuple[float, float]]:
        ours.memory_of_prompts(remembered)
        for pipe in (ours, stock):
            pipe(**asked)
        return [(_seconds(ours, asked), _seconds(stock, asked)) for _ in range(pairs)]

    for remembered in (0, 32):
        seconds = ratios(remembered)
        ratio = statistics.median(a / b for a, b in seconds)
        kind = "told the scale" if told else "guided"
        print(f"{size:6} {kind:15} {steps} steps, {'remembered' if remembered else 'embedded anew':13}: "
              f"{statistics.median(a for a, _ in seconds) * 1e3:6.1f} ms, {ratio:.2f} of diffusers' time")  # fmt: skip


def _seconds(pipe: Callable[..., Any], asked: dict[str, Any]) -> float:
    start = time.perf_counter()
    pipe(**asked)
    return time.perf_counter() - start


def decode(sliced: bool, tiled: bool, answer: Any) -> None:
    """GB at the peak, above what was resident before, of decoding two pictures of 768×768."""
    vae = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    pipe: Any = fewstep.LatentConsistencyModelPipeline(
        vae, None, None, None, fewstep.LCMScheduler(), requires_safety_checker=False
    )
    if sliced:
        pipe.enable_vae_slicing()
    if tiled:
        pipe.enable_vae_tiling()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    with torch.no_grad():
        pipe.vae.decode(torch.randn(2, 4, 96, 96))
    answer.put(((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20, time.perf_counter() - start))


def memory() -> None:
    """Four lines, or one that says why not."""
    free = _free()
    if free is not None and free < NEEDED:
        print(f"memory: left out, {free:.1f} GB are free and {NEEDED:g} are needed")
        return
    context = multiprocessing.get_context("spawn")
    for sliced, tiled in ((False, False), (True, False), (False, True), (True, True)):
        answer = context.Queue()
        process = context.Process(target=decode, args=(sliced, tiled, answer))
        process.start()
        peak, seconds = answer.get()
        process.join()
        kind = " and ".join(name for name, on in (("sliced", sliced), ("tiled", tiled)) if on) or "whole"
        print(f"2 pictures of 768×768, {kind:16}: {peak:5.2f} GB, {seconds:5.1f} s", flush=True)


def _free() -> float | None:
    """GB of memory that are free, where the system says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("MemAvailable"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("latency", "memory"))
    only = parser.parse_args().only
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, diffusers {diffusers.__version__}")
    if only != "memory":
        with tempfile.TemporaryDirectory() as folder:
            for size in SIDES:
                for told in (True, False):
                    for steps in (1, 4):
                        latency(size, told, steps, Path(folder))
    if only != "latency":
        memory()


if __name__ == "__main__":
    main()
