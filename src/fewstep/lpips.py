"""LPIPS: how different two pictures look (Zhang et al. 2018), with VGG16 and the linear heads of version 0.1.

    φ_l(x)      features after relu1_2, relu2_2, relu3_3, relu4_3, relu5_3, each position scaled to unit length
    d(x, y)     = Σ_l mean over positions of w_l · (φ_l(x) − φ_l(y))²,   w_l ≥ 0 learned from people's judgements

The two codes of the 2023 paper use two different functions under this name:

    OpenAI's PyTorch code (ImageNet, LSUN)  LPIPS()                              average pooling, resize below 256 only
    the JAX code (CIFAR-10)                 LPIPS(pooling="max", below=None)     max pooling, always at 224

Max pooling without a resize, LPIPS(pooling="max", size=None), is the original LPIPS.
"""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fewstep.distances import Distance
from fewstep.tensors import at_least_float32

HUB, HUB_FILE = "timm/vgg16.tv_in1k", "model.safetensors"
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of VGG16's convolutions; pooling lies between the stages."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, for pictures in [0, 1]."""


@dataclass(frozen=True)
class LPIPS(Distance):
    """Learned perceptual distance of pictures in [-1, 1] with 1 or 3 channels.

    The network is loaded at the first call, kept, and moved to the device of x, in float32 or better. It is frozen:
    gradients reach the pictures only. Raises FileNotFoundError where the weights cannot be had.
    """

    pooling: Literal["max", "average"] = "average"
    """`average` is OpenAI's PyTorch code, `max` its JAX code for CIFAR-10 and the original LPIPS."""
    size: int | None = 224
    """Compare at this size, after a bilinear resize without antialiasing; None keeps the size."""
    below: int | None = 256
    """Resize only pictures narrower than this (OpenAI's PyTorch code); None resizes all (its JAX code)."""
    weights: str | None = None
    """VGG16's weights, a .safetensors or .pth file as torchvision or timm name them; None asks the Hub for timm's."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = at_least_float32(x), at_least_float32(y)  # float16 cannot hold the squares' sum
        network = _network(self.weights, x.device, x.dtype)
        pairs = zip(self._features(network, x), self._features(network, y), network.heads, strict=True)
        return sum(((a - b) ** 2).mean((2, 3)) @ head for a, b, head in pairs)  # pyright: ignore[reportReturnType]

    def _features(self, network: "Network", x: Tensor) -> Iterator[Tensor]:
        """The five features of pictures (n, C, H, W), of unit length at each position."""
        pool = F.max_pool2d if self.pooling == "max" else F.avg_pool2d
        x = (self._resized(_colour(x)) / 2 + 0.5 - network.mean) / network.std
        for i, stage in enumerate(network.stages):
            x = pool(x, 2) if i else x
            for weight, bias in stage:
                x = F.relu(F.conv2d(x, weight, bias, padding=1))
            yield x / (_length(x) + 1e-10)

    def _resized(self, x: Tensor) -> Tensor:
        if self.size is None or (self.below is not None and x.shape[-1] >= self.below):
            return x
        return F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)


class Network(NamedTuple):
    """VGG16's convolutions (weight, bias) by stage, the heads' weights (C,), ImageNet's mean and std (3, 1, 1)."""

    stages: list[list[tuple[Tensor, Tensor]]]
    heads: list[Tensor]
    mean: Tensor
    std: Tensor


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # the weights are kept: a first call for a score must not spoil training
def _network(weights: str | None, device: torch.device, dtype: torch.dtype) -> Network:
    from safetensors.torch import load_file

    place = lambda t: t.to(device, dtype)  # noqa: E731
    heads = load_file(str(files("fewstep") / "lpips_heads" / "vgg.safetensors"))
    return Network(
        stages=[[(place(weight), place(bias)) for weight, bias in stage] for stage in read_vgg16(weights)],
        heads=[place(heads[f"head.{i}"]) for i in range(len(STAGES))],
        mean=place(torch.tensor(MEAN)[:, None, None]),
        std=place(torch.tensor(STD)[:, None, None]),
    )


def read_vgg16(weights: str | None) -> list[list[tuple[Tensor, Tensor]]]:
    """The convolutions (weight, bias) of each stage from a file, float32; what else the file holds is left unread.

    Raises FileNotFoundError where there is no file, ValueError for a file that is not VGG16's weights.
    """
    path = Path(weights).expanduser() if weights is not None else _from_hub()
    if not path.is_file():
        raise FileNotFoundError(f"There are no VGG16 weights at {path}.")
    state, index, stages = _read(path), 0, []
    for channels in STAGES:
        stage = []
        for width in channels:
            pair = state.get(f"features.{index}.weight"), state.get(f"features.{index}.bias")
            if pair[0] is None or pair[1] is None or pair[1].shape != (width,):
                raise ValueError(f"{path} is not VGG16's weights: features.{index} is missing or has another shape.")
            stage.append(pair)
            index += 2  # a convolution and its ReLU
        stages.append(stage)
        index += 1  # the pooling
    return stages


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} holds something else than tensors, so it was not loaded: {error}") from error


def _from_hub() -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(HUB, HUB_FILE))
    except (OSError, ValueError) as error:  # offline, no such entry in the cache, no answer
        raise FileNotFoundError(
            f"LPIPS needs VGG16's weights, and {HUB} cannot be reached. Where there is a network, download "
            f"https://huggingface.co/{HUB}/resolve/main/{HUB_FILE} and name the file: LPIPS(weights='{HUB_FILE}')."
        ) from error


def _colour(x: Tensor) -> Tensor:
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"LPIPS compares pictures (n, 1 or 3, H, W), not {tuple(x.shape)}.")
    return x.expand(-1, 3, -1, -1)


def _length(x: Tensor) -> Tensor:
    """‖x‖ over the channels (n, 1, H, W); its gradient is finite where x = 0, as after a ReLU."""
    return (x**2).sum(1, keepdim=True).clamp(min=1e-20).sqrt()
