"""Where pictures go: one grid, an .npz for evaluation or a folder of PNGs; a JSON beside it says how they were made.

A long run keeps its finished batches in NAME.parts/ until all are there; the same command goes on from them. What
exists and was made otherwise is never overwritten unasked.
"""

import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fewstep.codec import differences
from fewstep.files import read_json, whole_file, write_json

if TYPE_CHECKING:
    from torch import Tensor

GRIDS = (".png", ".jpg", ".jpeg", ".webp")
LARGEST_GRID = 2500

Settings = Mapping[str, Any]
"""All that decides the pictures, as plain JSON."""


class Part(NamedTuple):
    """Some finished pictures."""

    images: np.ndarray
    """uint8 (k, H, W, C)."""
    labels: np.ndarray
    """int64 (k,); -1 without."""


@dataclass(frozen=True)
class Output:
    """An output and the settings that it shall be made with."""

    path: Path
    settings: Settings

    @property
    def parts(self) -> Path:
        return self.path.with_name(self.path.name + ".parts")

    @property
    def sidecar(self) -> Path:
        """samples.json for samples.png; where that is another's samples.png.json, then samples.png.sidecar.json."""
        name = self.path.name
        names = (self.path.with_suffix(".json").name, f"{name}.json", f"{name}.sidecar.json")
        for path in map(self.path.with_name, names):
            if not path.exists() or _json(path).get("output") == name:
                return path
        raise FileExistsError(
            f"{name}.sidecar.json is in the way of what is told of {self.path}: choose another --out."
        )

    @property
    def exists(self) -> bool:
        return self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir()))

    def done(self) -> bool:
        """Whether it is there, made with these settings."""
        return self.exists and not self.against(_json(self.sidecar))

    def conflict(self) -> str:
        """What is in the way, in words; empty if nothing is."""
        if self.exists and (lines := self.against(_json(self.sidecar))):
            return f"{self.path} is there already, {lines}"
        if self.parts.exists() and (lines := self.against(_json(self.parts / "settings.json"))):
            return f"{self.parts} keeps an unfinished run, {lines}"
        return ""

    def against(self, kept: Mapping[str, Any]) -> str:
        """How kept settings differ from these, in words."""
        if "decided_by" not in kept:
            return "of unknown origin"
        lines = differences(_settings(kept), dict(self.settings))
        return f"made otherwise ({'; '.join(lines[:4])})" if lines else ""

    def begin(self, force: bool) -> bool:
        """Makes ready to draw; False where it is done already. ValueError where something is in the way."""
        if self.path.suffix.lower() in GRIDS and self.settings.get("n", 0) > LARGEST_GRID:
            n = self.settings["n"]
            raise ValueError(f"A grid of {n} pictures is too large: name an .npz or a folder with --out.")
        if self.path.suffix and self.path.suffix.lower() not in (*GRIDS, ".npz") and not self.path.is_dir():
            raise ValueError(f"{self.path} can be a .png (a grid), an .npz, or a folder (no suffix).")
        if self.done() and not force:
            return False
        if (words := self.conflict()) and not force:
            raise ValueError(f"{words}: choose another name with --out, or overwrite it with --force.")
        if self.parts.exists() and self.against(_json(self.parts / "settings.json")):
            shutil.rmtree(self.parts)
        self.parts.mkdir(parents=True, exist_ok=True)
        write_json(self.parts / "settings.json", self._described())
        return True

    def missing(self, indices: range, size: int) -> list[range]:
        """What no part holds yet, in ranges of at most `size`."""
        have = {i for rows in self._ranges() for i in rows}
        chunks: list[range] = []
        for i in indices:
            if i in have:
                continue
            if chunks and chunks[-1].stop == i and len(chunks[-1]) < size:
                chunks[-1] = range(chunks[-1].start, i + 1)
            else:
                chunks.append(range(i, i + 1))
        return chunks

    def add(self, rows: range, images: np.ndarray, labels: list[int] | None) -> None:
        with whole_file(self.parts / f"{rows.start:08d}-{rows.stop:08d}.npz") as aside:
            numbers = np.full(len(rows), -1) if labels is None else np.array(labels, dtype=np.int64)
            with open(aside, "wb") as file:
                np.savez(file, images=images, labels=numbers)

    def collected(self) -> Iterator[Part]:
        """The parts, in order."""
        for rows in self._ranges():
            with np.load(self.parts / f"{rows.start:08d}-{rows.stop:08d}.npz") as part:
                yield Part(part["images"], part["labels"])

    def finish(self, about: Mapping[str, Any], *, columns: int | None = None) -> None:
        """Writes the output from its parts, then its sidecar, and removes the parts."""
        kind = self.path.suffix.lower()
        old = _settings(_json(self.sidecar))
        if kind == ".npz":
            write_npz(self.path, self.collected)
        elif kind in GRIDS:
            write_grid(self.path, self.collected, columns)
        else:
            write_folder(self.path, self.collected, self.settings.get("first", 0), _numbers(old))
        labels = np.concatenate([part.labels for part in self.collected()]).tolist()
        shown = {"labels": labels} if max(labels, default=-1) >= 0 else {}
        write_json(self.sidecar, {**self._described(), **about, **shown})
        shutil.rmtree(self.parts, ignore_errors=True)

    def give_up(self) -> int:
        """After an interruption: how many pictures are kept; an empty folder is removed."""
        kept = sum(map(len, self._ranges()))
        if not kept:
            shutil.rmtree(self.parts, ignore_errors=True)
        return kept

    def _described(self) -> dict[str, Any]:
        return {"output": self.path.name, **self.settings, "decided_by": list(self.settings)}

    def _ranges(self) -> list[range]:
        names = [path.stem.split("-") for path in self.parts.glob("[0-9]*-[0-9]*.npz")]
        return sorted((range(int(a), int(b)) for a, b in names), key=lambda rows: rows.start)


def choose(path: str | None, default: str, settings: Settings, force: bool = False) -> Output:
    """The output that was named, else the first of default.png, default-2.png … that is free or made so."""
    if path is not None:
        return Output(Path(path).expanduser(), settings)
    stem, suffix = Path(default).stem, Path(default).suffix
    outputs = (Output(Path(stem + (f"-{k}" if k > 1 else "") + suffix), settings) for k in count(1))
    return next(output for output in outputs if force or not output.conflict())


def openai_name(n: int, shape: tuple[int, int, int]) -> str:
    """What OpenAI's image_sample.py calls its file of n pictures (C, H, W)."""
    channels, height, width = shape
    return f"samples_{n}x{height}x{width}x{channels}.npz"


def cut_off(x: "Tensor") -> np.ndarray:
    """float (n, C, H, W) → uint8 (n, H, W, C) as OpenAI's scripts have it: 127.5 (x + 1) without its fraction."""
    levels = ((x + 1) * 127.5).clamp(0, 255)
    return levels.byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


Collected = Callable[[], Iterator[Part]]


def write_npz(path: Path, collected: Collected) -> None:
    """`arr_0` uint8 (n, H, W, C) and, with labels, `arr_1` int64 (n,), as OpenAI's evaluation reads them."""
    shapes, labels = zip(*((p.images.shape, p.labels) for p in collected()), strict=True)
    numbers = np.concatenate(labels)
    with whole_file(path) as aside, zipfile.ZipFile(aside, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            _header(file, (len(numbers), *shapes[0][1:]), "|u1")
            for part in collected():
                file.write(np.ascontiguousarray(part.images).tobytes())
        if len(numbers) and numbers.max() >= 0:
            with archive.open("arr_1.npy", "w", force_zip64=True) as file:
                _header(file, numbers.shape, "<i8")
                file.write(numbers.astype("<i8").tobytes())


def write_grid(path: Path, collected: Collected, columns: int | None = None) -> None:
    from fewstep.images import save_picture
    from fewstep.images.grid import tile

    save_picture(tile(np.concatenate([part.images for part in collected()]), columns), path)


def write_folder(path: Path, collected: Collected, first: int, old: set[str]) -> None:
    """000000.png and on. What an earlier run (`old`) left beyond them is removed; other files are left alone."""
    from PIL import Image

    from fewstep.images import save_picture

    i = first
    for part in collected():
        for picture in part.images:
            plain = picture[:, :, 0] if picture.shape[2] == 1 else picture
            save_picture(Image.fromarray(plain), path / _name(i))
            i += 1
    for name in old - {_name(k) for k in range(first, i)}:
        (path / name).unlink(missing_ok=True)


def _settings(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a sidecar keeps."""
    return {name: kept.get(name) for name in kept.get("decided_by", ())}


def _numbers(settings: Settings) -> set[str]:
    first = settings.get("first", 0)
    return {_name(i) for i in range(first, first + settings.get("n", 0))}


def _name(i: int) -> str:
    return f"{i:06d}.png"


def _header(file: Any, shape: tuple[int, ...], kind: str) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})


def _json(path: Path) -> dict[str, Any]:
    try:
        plain = read_json(path)
    except (OSError, ValueError):
        return {}
    return plain if isinstance(plain, dict) else {}
