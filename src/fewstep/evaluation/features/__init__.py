"""Features: what a score sees of pictures.

    inception   TensorFlow's Inception of 2015: FID, sFID, KID, Inception Score      downloaded (91 MB)
    dinov2      DINOv2 ViT-L/14: FD-DINOv2                                           from the Hub, needs fewstep[latent]
    clip        CLIP ViT-L/14 at 336: CMMD, CLIP score; clip:OWNER/NAME another one  from the Hub, needs fewstep[latent]
    vgg         LPIPS's VGG16                                                        from the Hub
    mnist       a reader of 28 × 28 digits                                           comes with fewstep
    digits      a reader of 8 × 8 digits                                             comes with fewstep
    simple      random filters, for an energy distance                               no weights

`auto` chooses among them by the pictures' shape.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.codec import nearest
from fewstep.evaluation.types import Features

if TYPE_CHECKING:
    import torch

NAMES = ("inception", "dinov2", "clip", "vgg", "mnist", "digits", "simple")
"""What `open_features` knows by name."""

WEIGHTS = (".pth", ".pt", ".safetensors", ".bin")


def open_features(
    source: "str | Path | Callable | Features", device: "str | torch.device" = "cpu", *, name: str | None = None
) -> Features:
    """The features of that name; or of weights in a file, at an address or in a folder of transformers; or of a module.

    `source` is one of NAMES; `clip:OWNER/NAME`, `dinov2:OWNER/NAME` or their folder; the path or address of weights
    (Inception as torch-fidelity or NVIDIA have it, VGG16, a reader of digits); or a module or function, which `name`
    names (see `fewstep.evaluation.features.own`). Raises ValueError for an unknown name, with the nearest, and for a
    file that holds something else; FileNotFoundError, with the place where they belong, for weights that cannot be had;
    ImportError, with the line to type, for a missing package.
    """
    if isinstance(source, Features):
        return source
    if not isinstance(source, str | Path):
        return _own(source, device, name)
    features = _opened(str(source), device)
    if name is not None:
        raise ValueError(f"The features '{features.name}' have a name already; only your own modules are given one.")
    return features


def auto(shape: tuple[int, ...]) -> str:
    """The features for pictures (C, H, W) where nobody asks for any: a reader for its own digits, else Inception."""
    own: dict[tuple[int, ...], str] = {(1, 28, 28): "mnist", (1, 8, 8): "digits"}
    return own.get(tuple(shape), "inception")


def _opened(source: str, device: "str | torch.device") -> Features:
    from fewstep.formats.download import is_url
    from fewstep.formats.hub import is_id

    kind, _, repository = source.partition(":")
    if source in NAMES:
        return _named(source, device)
    if kind in ("clip", "dinov2") and repository:
        return _transformers(repository, kind, device)
    if is_url(source):
        from fewstep.formats.download import fetch

        return _file(fetch(source, lambda path: _file(path, device)), device)
    path = Path(source).expanduser()
    if path.is_dir():
        return _transformers(str(path), None, device)
    if path.is_file():
        return _file(path, device)
    if path.suffix in WEIGHTS:
        raise FileNotFoundError(f"There are no weights at {path}.")
    if is_id(source):
        return _transformers(source, None, device)
    raise ValueError(f"There are no features '{source}'{nearest(source, NAMES)}")


def _named(name: str, device: "str | torch.device") -> Features:
    if name == "inception":
        from fewstep.evaluation.features.inception_files import open_inception

        return open_inception(None, device)
    if name in ("dinov2", "clip"):
        from fewstep.evaluation.features.vision import CLIP, DINOV2

        return _transformers(CLIP if name == "clip" else DINOV2, name, device)
    if name == "vgg":
        from fewstep.evaluation.features.vgg import Vgg

        return Vgg(None, device)
    if name == "simple":
        from fewstep.evaluation.features.simple import Simple

        return Simple(device)
    from fewstep.evaluation.features.readers import Readings, bundled, load_reader

    return Readings(name, load_reader(bundled(name)), device)


def _transformers(source: str, kind: str | None, device: "str | torch.device") -> Features:
    from fewstep.evaluation.features.vision import PUBLISHED, open_vision

    folder = Path(source).expanduser()
    name = f"{folder.name} (a folder)" if folder.is_dir() else PUBLISHED.get(source, source)
    return open_vision(str(folder) if folder.is_dir() else source, kind, name, device)


def _file(path: Path, device: "str | torch.device") -> Features:
    """The features whose weights a file holds, told by the names of its tensors."""
    from fewstep.evaluation.features import inception_files, readers
    from fewstep.evaluation.features.vgg import Vgg

    found = inception_files.tensors(path)
    if path.suffix == ".safetensors" and readers.architecture(path):
        return readers.Readings(path.name, readers.load_reader(path), device)
    if inception_files.is_inception(found):
        return inception_files.open_inception(path, device)
    if "features.0.weight" in found:
        return Vgg(str(path), device)
    raise ValueError(f"{path} holds none of the networks that features are taken from: Inception of 2015-12-05, VGG16 "
                     "or a reader of digits. A module of your own is given to open_features itself.")  # fmt: skip


def _own(source: object, device: "str | torch.device", name: str | None) -> Features:
    from fewstep.evaluation.features.inception_files import PUBLISHED
    from fewstep.evaluation.features.own import Own
    from fewstep.evaluation.features.vision import PUBLISHED as OF_THE_HUB

    if not callable(source):
        raise ValueError(f"Features are a name, a file or something that can be called, not a {type(source).__name__}.")
    if name in (*NAMES, PUBLISHED, *OF_THE_HUB.values()):
        raise ValueError(f"The name '{name}' stands for published features: give your own another.")
    return Own(source, name, device)
