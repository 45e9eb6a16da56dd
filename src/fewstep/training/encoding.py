"""Latents and text embeddings, computed once and kept on disk.

    x_0 = μ(x) + σ(x) z     z ~ N(0, I), drawn anew for every (seed, step, row)

An autoencoder answers a picture with a Gaussian. Its mean and standard deviation are kept, in place of one sample, so
training sees as many latents of a picture as it would without a cache. Mirrored pictures are encoded too where the
data ask for flips: a mirrored latent is not the latent of a mirror image.

float16 is enough for both (`fp16`, half the disk): it rounds a latent of unit variance by less than 1e-3, far below
the noise of any training time; numbers above 65504 are refused, and `fp32` takes them.

Pictures are numbered by their captions: `labels` are numbers in the table of different captions, and −1 is the empty
prompt, so what hides labels hides prompts. This file knows no networks: it is given functions.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor

from fewstep.images import Data, Images, distinct
from fewstep.images.opening import signed
from fewstep.images.parallel import cores
from fewstep.tensors import AUGMENT, rng
from fewstep.training.caching import cached

Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Pictures float32 (n, C, H, W) in [−1, 1], on the CPU -> mean and standard deviation (n, c, h, w) of their latents,
scaled as the network sees them; None for a deterministic autoencoder."""

Embed = Callable[[list[str]], Mapping[str, Tensor]]
"""Texts -> what a network is told of them, each (n, …) with one shape for all texts: {"prompt": (n, L, D), …}."""

Precision = Literal["fp16", "fp32"]


@final
class Encoded:
    """The latents of pictures, in the place of `Images` where batches are made. Threads may share it."""

    in_memory = False
    """Drawing them is work that threads can do ahead."""

    def __init__(self, images: Images, records: np.ndarray) -> None:
        self.images, self._records, self._numbers = images, records, records["number"]
        self.shape: tuple[int, int, int] = records.dtype["mean"].shape[1:]
        """Of a latent (c, h, w)."""
        self.table: tuple[str, ...] = ()
        """The different captions."""
        labels, self.class_names = images.labels, images.class_names
        if images.captions is not None:
            self.table, labels = distinct(images.captions)
            self.class_names = ()
        self.labels = labels[self._numbers]
        """int64 (n,): numbers in `table` (−1 the empty prompt); those of the classes where there are no captions."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def data(self) -> Data:
        return self.images.data

    @property
    def captions(self) -> list[str] | None:
        """What is said of each picture."""
        said = self.images.captions
        return None if said is None else [said[i] for i in self._numbers]

    @property
    def num_classes(self) -> int:
        """0 where captions stand in the place of classes."""
        return len(self.class_names)

    @property
    def damaged(self) -> list[str]:
        return self.images.damaged

    def name(self, i: int) -> str:
        """The file of picture i."""
        return self.images.name(int(self._numbers[i]))

    def picture(self, i: int) -> np.ndarray:
        """uint8 (H, W, C): the picture itself."""
        return self.images.picture(int(self._numbers[i]))

    def rows(self, indices: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 (b, c, h, w) and labels (b,) of `indices`; `draws` (b, 3) in [0, 1): flip, and the seed of z.

        The two numbers that would place a random crop seed z, so x_0 is a function of picture and draws alone.
        """
        views = (draws[:, 0] < 0.5) & self.data.flip
        x_0 = self._records["mean"][indices, views.astype(np.int64)].astype(np.float32)
        if "std" in (self._records.dtype.names or ()):
            z = np.empty_like(x_0)
            for row, (a, b) in zip(z, (draws[:, 1:] * 2.0**53).astype(np.uint64).tolist(), strict=True):
                rng(a, AUGMENT, b).standard_normal(dtype=np.float32, out=row)
            x_0 += self._records["std"][indices, views.astype(np.int64)] * z
        return x_0, self.labels[indices]


@final
class Embedded:
    """The embeddings of different captions and of the empty prompt."""

    def __init__(self, captions: Sequence[str], records: np.ndarray) -> None:
        self.captions, self._records = tuple(captions), records

    def __len__(self) -> int:
        return len(self.captions)

    def gather(self, ids: Tensor) -> dict[str, Tensor]:
        """The embeddings (n, …) of captions by their numbers (n,), −1 the empty prompt, on the device of `ids`.

        Numbers of all precisions come out as float32, whole ones as they were. Raises IndexError outside −1…len−1.
        """
        rows = ids.cpu().numpy() + 1
        if rows.size and not 0 <= rows.min() <= rows.max() <= len(self):
            raise IndexError(f"captions are numbered −1 to {len(self) - 1}, not {rows.min() - 1} to {rows.max() - 1}")
        found = {name: torch.from_numpy(self._records[name][rows]) for name in self._records.dtype.names or ()}
        moved = {name: values.to(ids.device) for name, values in found.items()}
        return {name: values.float() if values.is_floating_point() else values for name, values in moved.items()}


def encode_images(
    images: Images,
    encode: Encode,
    *,
    folder: str | Path,
    fingerprint: str,
    batch: int = 16,
    precision: Precision = "fp16",
    progress: bool = True,
) -> Encoded:
    """The latents of all pictures, out of the cache in `folder` as far as it holds them, the rest computed.

    `fingerprint` says which weights `encode` has: others make another cache. Other files, sizes, crops or flips do too;
    other captions do not.
    Raises ValueError for random crops, which have no latents to keep, for numbers that are not finite in `precision`,
    and where too many pictures turn out damaged; OSError where there is no room.
    """
    data = images.data
    if data.crop == "random" and data.size is not None:
        raise ValueError(
            "Latents cannot be kept of random crops, which are new in every step: take the centre (--data.crop centre)."
        )
    geometry = {"size": data.size, "channels": data.channels, "crop": data.crop, "flip": data.flip}
    made_from = {"pictures": images.digest(), "shape": images.shape, **geometry} | _model(fingerprint, precision)
    what = f"encoding {data.path}"
    with ThreadPoolExecutor(cores(), thread_name_prefix="pictures") as pool, torch.no_grad():

        def compute(numbers: range) -> dict[str, np.ndarray]:
            found = list(pool.map(images.decoded, numbers))
            x = signed(np.stack([pixels for pixels, _ in found]))
            views = [encode(x), encode(x.flip(-1))] if data.flip else [encode(x)]
            means, stds = zip(*views, strict=True)
            number = {"number": np.array([i for _, i in found], np.int64)}
            return number | _stacked("mean", means, precision) | _stacked("std", stds, precision)

        count = len(images)
        return Encoded(
            images, cached(folder, "latents", made_from, count, compute, batch=batch, what=what, progress=progress)
        )


def embed_captions(
    captions: Sequence[str],
    embed: Embed,
    *,
    folder: str | Path,
    fingerprint: str,
    batch: int = 64,
    precision: Precision = "fp16",
    progress: bool = True,
) -> Embedded:
    """The embeddings of different captions (`Encoded.table`), out of the cache in `folder` or computed.

    The first text that `embed` is asked for is the empty prompt, which it may answer with zeros, as SDXL's is.
    Raises ValueError for numbers that are not finite in `precision`, OSError where there is no room.
    """
    texts = ["", *captions]
    said = sha256("\0".join(texts).encode()).hexdigest()

    def compute(numbers: range) -> dict[str, np.ndarray]:
        answers = embed(texts[numbers.start : numbers.stop])
        return {name: _plain(name, values, precision) for name, values in answers.items()}

    made_from = {"captions": said, **_model(fingerprint, precision)}
    what = f"embedding {len(captions)} captions"
    with torch.no_grad():
        records = cached(folder, "prompts", made_from, len(texts), compute, batch=batch, what=what, progress=progress)
    return Embedded(captions, records)


def _model(fingerprint: str, precision: Precision) -> dict[str, str]:
    if not fingerprint:
        raise ValueError("A cache needs the fingerprint of the weights that fill it, so that others are told apart.")
    if precision not in ("fp16", "fp32"):
        raise ValueError(f"precision must be 'fp16' or 'fp32', not {precision!r}")
    return {"model": fingerprint, "precision": precision}


def _stacked(name: str, views: Sequence[Tensor | None], precision: Precision) -> dict[str, np.ndarray]:
    """{name: (n, views, c, h, w)}; nothing where there is nothing."""
    there = [view for view in views if view is not None]
    return {name: _plain(name, torch.stack(there, 1), precision)} if there else {}


def _plain(name: str, values: Tensor, precision: Precision) -> np.ndarray:
    if not values.is_floating_point():
        return values.cpu().numpy()
    with np.errstate(over="ignore"):
        plain = values.detach().float().cpu().numpy().astype(np.float16 if precision == "fp16" else np.float32)
    if not np.isfinite(plain).all():
        largest = float(values.abs().max())
        hint = ": keep them with precision='fp32'" if np.isfinite(largest) else ""
        raise ValueError(f"{name} has numbers up to {largest:.3g}, which are not finite in {precision}{hint}")
    return plain
