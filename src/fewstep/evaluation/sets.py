"""From pictures to a `Set`: what features see of them, gathered block by block.

Blocks are cut the same way however many processes share them and are put together in their order, so the numbers do not
depend on that. Kept are features, logits and texts; of the spatial features only mean and covariance.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewstep.evaluation.gaussians import BATCH, Gaussian
from fewstep.evaluation.opening import Side
from fewstep.evaluation.pictures import Pictures, Stored
from fewstep.evaluation.sharing import Sharing
from fewstep.evaluation.types import Features, Seen, Set

Progress = Callable[[str, int, int], object]
"""(what is done, how many pictures are done, of how many)."""


class Part(NamedTuple):
    """What was seen of one block."""

    rows: list[int]
    """The sound ones."""
    seen: tuple[NDArray | None, ...]
    """Features, spatial features, logits."""
    kinds: set[tuple[int, ...]]
    """Shapes (C, H, W) of these pictures."""
    reasons: dict[str, str]
    """Damaged files of this process so far."""


class Gathered(NamedTuple):
    """What was seen of all pictures: what a cache keeps."""

    rows: NDArray[np.int64]
    """The sound ones."""
    features: NDArray[np.float32]
    spatial: Gaussian | None
    logits: NDArray[np.float32] | None
    kinds: tuple[tuple[int, ...], ...]
    """The shapes that there are."""
    reasons: dict[str, str]


@dataclass
class _Heap:
    """Parts put together in their order."""

    name: str
    total: int
    rows: list[int] = field(default_factory=list)
    arrays: dict[str, NDArray] = field(default_factory=dict)
    waiting: list[NDArray] = field(default_factory=list)
    spatial: Gaussian | None = None
    kinds: set[tuple[int, ...]] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, part: Part) -> None:
        features, spatial, logits = part.seen
        for name, values in (("features", features), ("logits", logits)):
            if values is not None:
                if not np.isfinite(values).all():
                    raise ValueError(f"Some features of {self.name} are not finite numbers: the pictures or the "
                                     "features' weights are broken.")  # fmt: skip
                if name in self.arrays and self.arrays[name].shape[1] != values.shape[1]:
                    raise ValueError(_mixed(self.name, sorted(self.kinds | part.kinds)))
                room = self.arrays.setdefault(name, np.empty((self.total, values.shape[1]), np.float32))
                room[len(self.rows) : len(self.rows) + len(values)] = values
        if spatial is not None:
            self.waiting.append(spatial)
            if sum(map(len, self.waiting)) >= BATCH:
                self.merge()
        self.rows += part.rows
        self.kinds |= part.kinds
        self.reasons |= part.reasons

    def merge(self) -> None:
        more = Gaussian.of(np.concatenate(self.waiting))
        self.spatial = more if self.spatial is None else self.spatial.merged(more)
        self.waiting = []

    def whole(self) -> Gathered:
        if self.waiting:
            self.merge()
        n = len(self.rows)
        arrays = {name: values[:n] for name, values in self.arrays.items()}
        rows, features = np.array(self.rows, np.int64), arrays["features"]
        return Gathered(rows, features, self.spatial, arrays.get("logits"),
                        tuple(sorted(self.kinds)), self.reasons)  # fmt: skip


def gather(pictures: Pictures, features: Features, *, device: torch.device, batch: int, sharing: Sharing,
           progress: Progress | None = None) -> Gathered | None:  # fmt: skip
    """What features see of all pictures; None in the processes that only help.

    Raises ValueError where too many are damaged, or where they are of several sizes that these features cannot join.
    """
    total, heap = len(pictures), _Heap(pictures.name, len(pictures))
    blocks = [range(start, min(start + batch, total)) for start in range(0, total, batch)]
    for turn in range(0, len(blocks), sharing.world):
        mine = blocks[turn + sharing.rank : turn + sharing.rank + 1]
        part = look(pictures, features, mine[0], device) if mine else None
        for each in filter(None, sharing.gathered(part)):
            heap.add(each)
        if progress and sharing.main:
            progress(pictures.name, min((turn + sharing.world) * batch, total), total)
    if not sharing.main:
        return None
    if isinstance(pictures, Stored):
        pictures.require_sound(heap.reasons)
    if not heap.rows:
        raise ValueError(f"{pictures.name} holds no picture that can be read.")
    return heap.whole()


@torch.no_grad()
def look(pictures: Pictures, features: Features, rows: range, device: torch.device) -> Part:
    """What features see of one block."""
    found = [(i, x) for i, x in zip(rows, pictures.read(rows), strict=True) if x is not None]
    kinds: dict[tuple[int, ...], list[int]] = {}
    for place, (_, x) in enumerate(found):
        kinds.setdefault(tuple(x.shape), []).append(place)
    try:
        seen = {kind: features(torch.stack([found[k][1] for k in places]).to(device)) for kind, places in kinds.items()}
    except ValueError as error:
        hint = "Choose one size with --size (and --channels), or features that resize (--features)."
        raise ValueError(f"{pictures.name}: {error} {hint}") from None
    parts = _joined(pictures, kinds, seen, len(found)) if found else (None, None, None)
    return Part([i for i, _ in found], parts, set(kinds), dict(pictures.reasons))


def _joined(pictures: Pictures, kinds: dict[tuple[int, ...], list[int]], seen: dict[Any, Seen],
            n: int) -> tuple[NDArray | None, ...]:  # fmt: skip
    """The rows of pictures of several shapes, in their order."""
    joined = []
    for fields in zip(*seen.values(), strict=True):
        if any(values is None for values in fields):
            joined.append(None)
            continue
        widths = {values.shape[1] for values in fields}
        if len(widths) > 1:
            raise ValueError(_mixed(pictures.name, kinds))
        out = torch.empty(n, widths.pop())
        for places, values in zip(kinds.values(), fields, strict=True):
            out[places] = values.float().cpu()
        joined.append(out.numpy())
    return tuple(joined)


def _mixed(name: str, kinds: Iterable[tuple[int, ...]]) -> str:
    said = ", ".join(kind_of(kind) for kind in kinds)
    return (f"{name} holds pictures of different kinds ({said}), and these features see each as it is: choose "
            "one with --size and --channels, or features that resize (--features).")  # fmt: skip


def kind_of(shape: tuple[int, ...]) -> str:
    """Such as "28×28 grey"."""
    return f"{shape[2]}×{shape[1]} {'grey' if shape[0] == 1 else 'RGB'}"


def kinds_of(found: Gathered) -> str:
    """The sizes that there are, in words."""
    kinds = [kind_of(kind) for kind in found.kinds]
    if len(kinds) == 1:
        return kinds[0]
    return f"of {len(kinds)} kinds ({', '.join(kinds[:3])}{', …' if len(kinds) > 3 else ''})"


def as_set(side: Side, found: Gathered | None, features: Features, text: Tensor | None = None,
           gaussian: Gaussian | None = None) -> Set:  # fmt: skip
    """The set of one side: its statistics, where the file has them, go before `gaussian`, that of its pictures."""
    known = {name: _known(side, *keys) for name, keys in
             (("gaussian", ("mu", "sigma")), ("spatial", ("mu_s", "sigma_s")))}  # fmt: skip
    if found is None:
        return Set(side.name, 0, gaussian=known["gaussian"], spatial_gaussian=known["spatial"], parts=features.parts)
    assert side.pictures is not None
    labels = side.pictures.labels
    return Set(
        side.name,
        len(found.rows),
        features=found.features,
        gaussian=known["gaussian"] or gaussian,
        spatial_gaussian=known["spatial"] or found.spatial,
        logits=found.logits,
        labels=None if labels is None else labels[found.rows],
        class_names=side.pictures.class_names,
        classes=features.classes,
        text=None if text is None else text.float().cpu().numpy(),
        parts=features.parts,
    )


def _known(side: Side, mean: str, covariance: str) -> Gaussian | None:
    if mean not in side.statistics:
        return None
    return Gaussian(side.statistics[mean].astype(np.float64), side.statistics[covariance].astype(np.float64), 0)


def texts(pictures: Pictures, found: Gathered, features: Features, batch: int = 256) -> Tensor | None:
    """Embeddings (n, d) of what was asked for, each prompt read once; None without captions."""
    captions = pictures.captions
    if captions is None:
        return None
    said = [captions[i] for i in found.rows]
    table = sorted(set(said))
    places = {text: k for k, text in enumerate(table)}
    read = torch.cat([features.text(table[k : k + batch]).float().cpu() for k in range(0, len(table), batch)])
    return read[[places[text] for text in said]]
