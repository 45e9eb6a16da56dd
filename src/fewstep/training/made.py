"""`made.json` in a run's folder: with which versions, on which hardware and on how many pictures it was trained.

    [{"from_step": 0, "versions": {"fewstep": …}, "hardware": "…, 2 threads", "pictures": 1797, …}, …]

One entry for each time that the run was begun or went on. It names no host, no user and no path.
"""

import platform
from pathlib import Path

import torch

from fewstep import __version__
from fewstep.files import read_json, write_json
from fewstep.training.fit import Run


def note(run: Run) -> None:
    """Writes `made.json`: for each time that the run was begun or went on, from which step, with what and on what."""
    path, step = run.folder / "made.json", run.state.step
    if step >= run.recipe.steps and path.is_file():
        return
    channels, height, width = run.images.shape
    now = {
        "from_step": step,
        "versions": {"fewstep": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "hardware": hardware(run.device),
        "processes": run.processes.world,
        "pictures": len(run.images),
        "shape": [channels, height, width],
        "classes": run.images.num_classes,
        "parameters": sum(p.numel() for p in run.state.network.parameters()),
    }
    earlier = [part for part in read_json(path) if part["from_step"] < step] if path.is_file() else []
    write_json(path, [*earlier, now])


def hardware(device: torch.device) -> str:
    """A device in words, without the name of the machine."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{platform.machine()}, {device.type}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    threads = torch.get_num_threads()
    return f"{next(found, platform.processor() or platform.machine())}, {threads} thread{'s' * (threads > 1)}"
