"""Small networks that read digits: two come with the package, so that pictures can be scored with nothing downloaded.

    name     what it learned from                                              what it reads right
    mnist    MNIST, 28 × 28: the 60,000 training pictures                      99.60% of the 10,000 test pictures
    digits   the 8 × 8 digits that come with fewstep: 1,400 of the 1,797       99.2% of the other 397

Features are what the last linear layer sees (96 and 128 numbers), logits its ten classes. The weights are kept in half
precision, and it is these that were measured. Data, command and accuracy stand in the files'
metadata too (`benchmarks/judge.py`, `benchmarks/digits.py`). Neither has seen a generated picture.
"""

from importlib.resources import files
from pathlib import Path
from typing import final

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fewstep.evaluation.features.seeing import Network, fitted, grey, signed
from fewstep.evaluation.types import Seen

BUNDLED = ("mnist", "digits")

DIGITS = tuple("0123456789")


def bundled(name: str) -> Path:
    """Where a reader that comes with the package lies."""
    return Path(str(files("fewstep"))) / "evaluation" / "features" / "bundled" / f"{name}.safetensors"


class Reader(nn.Module):
    """logits = head(features(x)); x is (n, 1, size, size) in [−1, 1]."""

    body: nn.Module
    head: nn.Linear
    size: int

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, float32 (n, width)."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def conv(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU())


@final
class Convolutional(Reader):
    """Four convolutions with batch norm, then 96 features."""

    size = 28

    def __init__(self) -> None:
        super().__init__()
        early = [conv(1, 24, 5, 2), conv(24, 48), nn.MaxPool2d(2), conv(48, 64), conv(64, 64)]
        self.body = nn.Sequential(*early, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 49, 96), nn.ReLU())
        self.head = nn.Linear(96, 10)


@final
class LeNet(Reader):
    """LeNet's shape (valid 5×5 convolutions, pooled) with GELU and 64 features."""

    size = 28

    def __init__(self) -> None:
        super().__init__()
        first = [nn.Conv2d(1, 16, 5), nn.GELU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(16, 32, 5), nn.GELU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(32 * 16, 64), nn.GELU())
        self.head = nn.Linear(64, 10)


@final
class Small(Reader):
    """Two convolutions, pooled, then 128 features."""

    size = 8

    def __init__(self) -> None:
        super().__init__()
        seeing = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
        thinking = [nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 16, 128), nn.ReLU()]
        self.body = nn.Sequential(*seeing, nn.MaxPool2d(2), *thinking)
        self.head = nn.Linear(128, 10)


ARCHITECTURES: dict[str, type[Reader]] = {"convolutional": Convolutional, "lenet": LeNet, "small": Small}


def architecture(path: str | Path) -> str | None:
    """The reader that a safetensors file says it holds; None where it says nothing of the kind."""
    with safe_open(str(path), framework="pt") as file:
        name = (file.metadata() or {}).get("architecture")
    return name if name in ARCHITECTURES else None


def load_reader(path: str | Path) -> Reader:
    """The reader in a file, in eval mode. Raises ValueError for a file that holds none."""
    name = architecture(path)
    if name is None:
        raise ValueError(f"{path} holds no reader of digits: its metadata names none of {', '.join(ARCHITECTURES)}.")
    reader = ARCHITECTURES[name]()
    with safe_open(str(path), framework="pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    reader.load_state_dict({key: w.float() if w.is_floating_point() else w for key, w in weights.items()})
    return reader.eval().requires_grad_(False)


@final
class Readings(Network):
    """The features and logits of a reader. Colour becomes grey."""

    def __init__(self, name: str, reader: Reader, device: str | torch.device):
        self.size = reader.size
        resize = f"grey, {self.size}×{self.size} bilinear, antialiased where pictures shrink"
        super().__init__(name, reader, device, resize, reader.head.in_features)
        self.reader, self.classes = reader, DIGITS

    def see(self, pictures: Tensor) -> Seen:
        features = self.reader.features(signed(fitted(grey(pictures), self.size)))
        return Seen(features, logits=self.reader.head(features))
