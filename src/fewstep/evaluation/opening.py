"""From what a user names to pictures, or to statistics of them.

    a path      pictures (folder, .zip, .npz, .parquet, .tar), statistics (.npz with mu and sigma, and for sFID mu_s and
                sigma_s), or a model (its folder, a run's, a file of weights)
    a name      of a data set ("digits") or of a model (bundled, or released by OpenAI)
    owner/name  on the Hub: of a model for the samples, of a data set for the reference, else of the other kind

An .npz may hold both pictures and statistics, as OpenAI's reference batches do: Fréchet distances then take the
statistics, which are of more pictures, and neighbours the pictures.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewstep.codec import nearest
from fewstep.conditions import Asked
from fewstep.evaluation.features.seeing import digest_of
from fewstep.evaluation.pictures import Drawn, Given, Pictures, Stored, resized
from fewstep.evaluation.telling import drawn_labels, drawn_prompts
from fewstep.formats.download import is_url
from fewstep.formats.hub import is_id
from fewstep.formats.load import bundled, load, local, weights_digest
from fewstep.formats.releases import RELEASES
from fewstep.images import Data, Images
from fewstep.images.arrays import read_arrays
from fewstep.images.bundled import BUNDLED
from fewstep.images.decoding import SUFFIXES
from fewstep.images.sources import Source, missing
from fewstep.model import Model

DRAWN = 10_000
"""The most pictures that a model draws unless told how many; less where the reference has less."""

APART = 1 << 32
"""The number of the first picture that a reference draws: its noise is never that of the samples."""

STATISTICS = ("mu", "sigma", "mu_s", "sigma_s")

PICTURES = (".zip", ".npz", ".parquet", ".tar")

Named = str | os.PathLike | Data | Images | Model | Tensor | np.ndarray
"""What can be evaluated, or compared with."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison, before features saw it."""

    name: str
    """How a message calls it."""
    pictures: Pictures | None = None
    """None where only statistics are known."""
    statistics: Mapping[str, NDArray] = field(default_factory=dict)
    """mu (d,), sigma (d, d), mu_s, sigma_s, of features that the file does not name."""
    digest: str = ""
    """16 hex digits over a model's weights."""

    def identity(self) -> str:
        """16 hex digits that are others where the pictures, the statistics or the model's weights are; "" where that is
        not known."""
        marks = [self.digest, *(_mark(values.tobytes()) for values in self.statistics.values())]
        marks = [mark for mark in (*marks, self.pictures.digest if self.pictures else "") if mark]
        return _mark(" ".join(marks).encode()) if len(marks) > 1 else "".join(marks)


@dataclass(frozen=True)
class Asking:
    """How many pictures, in what size, and what a model is asked for."""

    n: int | None = None
    """None: all there are; a model draws as many as the reference has, at most 10,000."""
    size: int | None = None
    """Stored pictures are resized and cropped to this."""
    channels: int | None = None
    """Stored pictures become grey (1) or RGB (3)."""
    seed: int = 0
    """Of the choice of n among more, and of what a model draws."""
    labels: Asked = None
    """Classes by number or name, taken in turn. A model: None or "all" is every class, "reference" as the reference has
    them. Stored pictures: what they were asked for; None is what they come with."""
    prompts: Sequence[str] | None = None
    """Taken in turn; None: a model takes the captions of the reference, stored pictures their own."""
    how: Mapping[str, Any] = field(default_factory=dict)
    """The other keywords of `Model.sample`: steps, times, guidance, sampler."""
    device: str = "auto"
    """Where a model draws."""
    apart: bool = False
    """Whether it is a reference: a model then draws other noise and takes no prompts amiss, and stored pictures keep
    their own labels and captions."""
    at_most: int | None = None
    """All there are up to so many, in the place of n; stored pictures only."""


def _mark(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def opened(what: Named, ask: Asking, *, called: str, beside: Side | None = None, drawn: bool = False) -> Side:
    """One side. `beside` is the reference of samples; `drawn` looks for a model first.

    Raises FileNotFoundError, with the nearest name, for what is not there, and ValueError for what cannot be read.
    """
    if isinstance(what, Model):
        return _drawn(what, called, ask, beside)
    if isinstance(what, Tensor | np.ndarray):
        data = Data(called, size=ask.size, channels=ask.channels)
        return _pictures(data, ask, Given(what, called), called)
    if isinstance(what, Images):
        data = resized(what.data, ask.size, ask.channels)
        return _pictures(data, ask, what.origin)
    if isinstance(what, Data):
        return _stored(what, ask)
    name = os.fspath(what)
    kind = kind_of(name)
    if kind == "either":
        return _of_hub(name, ask, beside, drawn)
    if kind == "model":
        return _drawn(load(name, device=ask.device), name, ask, beside, named=name)
    return _stored(Data(name), ask)


def kind_of(name: str) -> str:
    """Whether a name is that of `pictures`, of a `model`, or of `either`; FileNotFoundError for none of them."""
    path = Path(name).expanduser()
    if path.is_file():
        return "pictures" if path.suffix.lower() in (*PICTURES, *SUFFIXES) else "model"
    if path.is_dir():
        return "pictures" if local(path) is None else "model"
    if name in BUNDLED or name.startswith("pipe:") or "{" in name:
        return "pictures"
    if name in bundled() or name.removesuffix(".pt") in RELEASES or is_url(name):
        return "model"
    if is_id(name) and not path.parent.exists() and path.suffix.lower() not in PICTURES:
        return "either"
    known = "" if "; did" in (found := missing(path)) else nearest(name, [*BUNDLED, *bundled(), *RELEASES])
    raise FileNotFoundError(
        f"{found}: it is no file or folder, no data set and no model{known if 'did' in known else ''}"
    )


def _of_hub(name: str, ask: Asking, beside: Side | None, drawn: bool) -> Side:
    ways = [
        lambda: _drawn(load(name, device=ask.device), name, ask, beside, named=name),
        lambda: _stored(Data(name), ask),
    ]
    first, second = ways if drawn else reversed(ways)
    try:
        return first()
    except (FileNotFoundError, ModuleNotFoundError) as error:
        try:
            return second()
        except (FileNotFoundError, ModuleNotFoundError):
            raise error from None


def _stored(data: Data, ask: Asking) -> Side:
    data = resized(data, ask.size, ask.channels)
    path = Path(data.path).expanduser()
    if path.suffix.lower() != ".npz" or not path.is_file():
        return _pictures(data, ask)
    present, statistics = read_arrays(path, STATISTICS)
    if statistics:
        _check(statistics, data.path)
    if statistics and not {"images", "arr_0"} & set(present):
        _require_still(ask, data.path)
        return Side(data.path, None, statistics)
    return replace(_pictures(data, ask), statistics=statistics)


def _pictures(data: Data, ask: Asking, origin: Source | None = None, name: str | None = None) -> Side:
    """Pictures that are there."""
    name = data.path if name is None else name
    _require_still(ask, name)
    labels, prompts = (None, None) if ask.apart else (ask.labels, ask.prompts)
    return Side(name, Stored(data, ask.n, ask.seed, origin, ask.at_most, labels, prompts))


def _require_still(ask: Asking, name: str) -> None:
    """ValueError where a model is asked how to draw, and there is none."""
    if ask.how:
        raise ValueError(f"How a model draws ({', '.join(ask.how)}) was said of {name}, which is no model. (A "
                         "reference that is a model is told its steps with --reference-steps.)")  # fmt: skip


def _check(statistics: Mapping[str, NDArray], where: str) -> None:
    for mean, covariance in (("mu", "sigma"), ("mu_s", "sigma_s")):
        if (mean in statistics) != (covariance in statistics):
            raise ValueError(f"{where} holds one of {mean} and {covariance}: statistics are both.")
        if mean in statistics:
            mu, sigma = statistics[mean], statistics[covariance]
            if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or mu.dtype.kind != "f" or sigma.dtype.kind != "f":
                raise ValueError(f"{mean} and {covariance} in {where} are {mu.dtype} {mu.shape} and {sigma.dtype} "
                                 f"{sigma.shape}: they must be floats (d,) and (d, d).")  # fmt: skip
            if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
                raise ValueError(f"{mean} and {covariance} in {where} are not finite.")


def _drawn(model: Model, name: str, ask: Asking, beside: Side | None, *, named: str | None = None) -> Side:
    other = beside.pictures if beside else None
    if ask.n is not None and ask.n < 1:
        raise ValueError(f"{ask.n} pictures are asked for: {name} draws one or more.")
    n = ask.n or min(DRAWN, len(other) if other is not None else DRAWN)
    said = None if ask.apart and not model.design.condition.words else ask.prompts
    prompts = drawn_prompts(model, name, said, n, other)
    labels = drawn_labels(model, ask.labels, n, other)
    pictures = Drawn(
        model, name, n, seed=ask.seed, first=APART * ask.apart, labels=labels, prompts=prompts, how=ask.how
    )
    digest = digest_of(model.denoiser.network.state_dict()) if named is None else weights_digest(named)
    return Side(name, pictures, digest=digest)
