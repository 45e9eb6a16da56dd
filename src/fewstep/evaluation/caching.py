"""What features saw of a reference, kept on disk: <cache>/features/<digest>/

    about.json       what it is of; a checksum of each array
    features.npy     float32 (n, d), read from the disk as it is needed
    *.npy            logits, mean and covariance of the spatial features, the rows that are sound

The digest is over the pictures (`Pictures.digest`) and their names, the features' own digest and this layout, so
nothing old is ever found. A folder is written whole; one that is damaged counts as none and is made anew.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.evaluation.gaussians import Gaussian
from fewstep.evaluation.pictures import Pictures
from fewstep.evaluation.sets import Gathered
from fewstep.evaluation.types import Features
from fewstep.files import read_json, whole_folder, write_json
from fewstep.formats.download import cache

LAYOUT = 2
"""Of these folders; another number makes them anew."""


def place(pictures: Pictures, features: Features) -> Path | None:
    """Where what these features see of these pictures is kept; None where it is not."""
    if not features.lasting or not pictures.digest:
        return None
    key = hashlib.blake2b(f"{LAYOUT} {pictures.digest} {features.name} {features.digest}".encode(), digest_size=12)
    for name in pictures.names():  # they are told where a file is damaged
        key.update(f"\n{name}".encode(errors="surrogateescape"))
    return cache() / "features" / key.hexdigest()


def kept(folder: Path) -> Gathered | None:
    """What is kept there; None where there is nothing, or where it is damaged."""
    try:
        about = read_json(folder / "about.json")
        arrays = {name: _array(folder / f"{name}.npy", said) for name, said in about["arrays"].items()}
        n = int(about["n"])
        spatial = Gaussian(arrays["mean_s"], arrays["covariance_s"], n) if "mean_s" in arrays else None
        kinds = tuple((int(c), int(h), int(w)) for c, h, w in about["kinds"])
        return Gathered(arrays["rows"], arrays["features"], spatial, arrays.get("logits"), kinds,
                        dict(about["damaged"]))  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path, found: Gathered, about: dict[str, Any]) -> None:
    """Writes it; a disk that is full or read-only costs the cache, not the numbers."""
    arrays = {"rows": found.rows, "features": found.features, "logits": found.logits}
    if found.spatial is not None:
        arrays |= {"mean_s": found.spatial.mean, "covariance_s": found.spatial.covariance}
    try:
        with whole_folder(folder) as aside:
            sums = {}
            for name, values in arrays.items():
                if values is not None:
                    np.save(aside / f"{name}.npy", values)
                    sums[name] = _checksum(aside / f"{name}.npy")
            said = {**about, "n": len(found.rows), "kinds": found.kinds, "damaged": found.reasons, "arrays": sums}
            write_json(aside / "about.json", said)
    except OSError:
        return


def _array(path: Path, checksum: str) -> np.ndarray:
    if _checksum(path) != checksum:
        raise ValueError(f"{path} is damaged.")
    return np.load(path, mmap_mode="r" if path.stem == "features" else None, allow_pickle=False)


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
