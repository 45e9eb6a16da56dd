"""How much memory and time does loading take, for the largest of OpenAI's networks (LSUN-256, 526 million parameters)?

    memory = (peak resident memory of the process − that before loading) / size of the file

Files of random weights are written to a temporary folder, and each is loaded in a process of its own: OpenAI's `.pt` in
fp32 and fp16, fewstep's folder, diffusers' folder by fewstep and by diffusers' `from_pretrained`.

    OMP_NUM_THREADS=1 python benchmarks/loading.py          # --tiny for a look; needs Linux and 6 GB of disk
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.design import Design
from fewstep.formats import diffusers_folder, openai
from fewstep.formats.releases import LSUN
from fewstep.networks import UNetShape
from fewstep.parameterizations import Boundary
from fewstep.saving import write_model

TINY = UNetShape(
    image_size=16, model_channels=32, channel_mult=(1, 2), attention_resolutions=(8,), num_head_channels=32
)


def random_weights(shape: UNetShape, dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = shape.build()
    return {
        name: (0.02 * torch.randn(w.shape, generator=generator)).to(dtype) for name, w in network.state_dict().items()
    }


def files(folder: Path, shape: UNetShape) -> Iterator[tuple[str, Path, str]]:
    """Name, what is loaded, by which loader; the file is there until the next is asked for."""
    design = Design(shape, Boundary(noise_scale=250.0))
    for dtype in (torch.float32, torch.float16):
        openai.write(folder / "model.pt", design, random_weights(shape, dtype))
        yield f"OpenAI's .pt, {str(dtype).removeprefix('torch.')}", folder / "model.pt", "fewstep"
        (folder / "model.pt").unlink()
    write_model(folder / "fewstep", design, random_weights(shape, torch.float32))
    yield "fewstep's folder, float32", folder / "fewstep", "fewstep"
    (folder / "fewstep" / "weights.safetensors").unlink()
    diffusers_folder.write_folder(folder / "diffusers", design, random_weights(shape, torch.float32))
    yield "diffusers' folder, float32", folder / "diffusers", "fewstep"
    yield "diffusers' folder, by diffusers", folder / "diffusers", "diffusers"


def peak() -> int:
    """Bytes that this process had in memory at most; ru_maxrss would count its parent too."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) * 1024


def load_one(source: str, loader: str) -> dict[str, Any]:
    """Loads in this process; all that is needed for it is imported before."""
    if loader == "diffusers":
        from diffusers import ConsistencyModelPipeline

        load = ConsistencyModelPipeline.from_pretrained
        import diffusers.models.unets.unet_2d
        import diffusers.schedulers.scheduling_consistency_models  # noqa: F401
    else:
        import fewstep

        load = fewstep.load
    before, began = peak(), time.perf_counter()
    model = load(source)
    return {
        "seconds": time.perf_counter() - began,
        "bytes": peak() - before,
        "peak": peak(),
        "model": type(model).__name__,
    }


def main(args: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a small network, to see that it runs")
    parser.add_argument("--one", nargs=2, metavar=("SOURCE", "LOADER"), help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.one:
        print(json.dumps(load_one(*options.one)))
        return
    print(f"{'':34} file, MB  memory / file  whole process / file  seconds")
    with tempfile.TemporaryDirectory() as folder:
        for name, source, loader in files(Path(folder), TINY if options.tiny else LSUN):
            size = sum(p.stat().st_size for p in ([source] if source.is_file() else source.rglob("*.safetensors")))
            said = subprocess.run(
                [sys.executable, __file__, "--one", str(source), loader], capture_output=True, text=True
            )
            if said.returncode:
                raise SystemExit(said.stderr)
            found = json.loads(said.stdout.splitlines()[-1])
            print(f"{name:34} {size / 1e6:8.1f}  {found['bytes'] / size:13.2f}  {found['peak'] / size:20.2f}"
                  f"  {found['seconds']:7.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
