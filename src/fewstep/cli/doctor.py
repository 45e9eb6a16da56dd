"""`fewstep doctor`: what is here, what is missing and how to get it."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from fewstep.cli.parsing import parse


@dataclass(frozen=True)
class Doctor:
    """Versions, device, memory, disk; what is missing, and the command that gets it."""


def main(args: Sequence[str]) -> int:
    parse(Doctor, args, "fewstep doctor")
    from fewstep import __version__

    print(f"fewstep {__version__}, Python {platform.python_version()} ({sys.executable}), {platform.platform()}")
    missing = packages()
    print("\n".join([*devices(), *room()]))
    for line in missing:
        print(f"missing: {line}")
    print("All is here." if not missing else "What is missing is needed only for what its line says.")
    return 0


def packages() -> list[str]:
    """Prints the versions of what fewstep uses; what is missing, and how to get it."""
    missing = []
    for extra, names in wanted().items():
        found = {name: installed(name) for name in names}
        shown = ", ".join(f"{name} {number}" for name, number in found.items() if number)
        print(f"{extra or 'needed'}: {shown or 'none'}")
        if absent := [name for name, number in found.items() if number is None]:
            command = f"pip install 'fewstep[{extra}]'" if extra else f"pip install {' '.join(absent)}"
            missing.append(f"{', '.join(absent)} ({PURPOSES.get(extra, extra)}): {command}")
    return missing


PURPOSES = {
    "": "fewstep does not work without",
    "latent": "latent models and the diffusers formats",
    "data": "parquet files and data sets from the Hub",
    "demo": "the web demo",
    "tensorboard": "train --tensorboard",
    "plot": "fewstep plot and fewstep reproduce",
    "coupling": "train --coupling optimal-transport",
    "docs": "make docs",
}


def wanted() -> dict[str, list[str]]:
    """The packages that fewstep names, by extra ("" for the base); those of developers left out."""
    try:
        lines = requires("fewstep") or []
    except PackageNotFoundError:
        lines = ["torch", "numpy", "pillow", "safetensors", "huggingface_hub", "accelerate", "tyro", "rich"]
    groups: dict[str, list[str]] = {"": []}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)", line)
        if name and (extra is None or extra[1] != "dev"):
            groups.setdefault(extra[1] if extra else "", []).append(name[0])
    return groups


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def devices() -> list[str]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = [f"CPU: {cores} cores, {torch.get_num_threads()} threads of PyTorch"]
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        said.append(f"cuda:{i}: {torch.cuda.get_device_name(i)}, {size(free)} of {size(total)} free")
    if not torch.accelerator.is_available():
        why = "is built for the CPU" if torch.version.cuda is None else "sees no GPU: check the driver with nvidia-smi"
        said.append(f"no accelerator: this PyTorch {why}")
    elif torch.backends.mps.is_available():
        said.append("mps: Apple's GPU")
    return said


def room() -> list[str]:
    """Free memory and disk."""
    free = shutil.disk_usage(".").free
    known = memory()
    said = [f"memory: {size(known[0])} of {size(known[1])} free" if known else "memory: unknown"]
    said.append(f"disk, here: {size(free)} free" + (" (little: checkpoints may not fit)" if free < 2 << 30 else ""))
    return said


def memory() -> tuple[int, int] | None:
    """(available, total) bytes; None where it cannot be asked."""
    try:
        import psutil  # comes with accelerate
    except ImportError:
        return None
    now = psutil.virtual_memory()
    return now.available, now.total


def size(number: int | float) -> str:
    """Bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit in ("B", "KiB") or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError
