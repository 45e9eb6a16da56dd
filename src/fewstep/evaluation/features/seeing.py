"""What all features share: they are frozen, they see uint8, and 16 hex digits stand for all that makes the numbers.

    pictures uint8 (n, 1 or 3, H, W)  →  colour or grey  →  resized  →  a network in eval mode  →  Seen

The digest is the beginning of SHA-256 over the weights, by name, and over the words for how a picture reaches them.
Float32 is computed in float32: no TF32, no algorithm that is chosen anew, so the same pictures give the same numbers.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fewstep.evaluation.types import Features, Seen

LUMA = (0.299, 0.587, 0.114)
"""How much red, green and blue make grey (ITU-R 601)."""


class Network(Features):
    """The features of a network. It is kept on one device, to which the pictures are brought."""

    def __init__(self, name: str, network: nn.Module, device: str | torch.device, resize: str, dimension: int):
        self.name, self.resize, self.dimension = name, resize, dimension
        self.device = torch.device(device)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.digest = digest_of(network.state_dict(), type(self).__name__, resize)

    def __call__(self, pictures: Tensor) -> Seen:
        with exact():
            return self.see(checked(pictures).to(self.device))

    @abstractmethod
    def see(self, pictures: Tensor) -> Seen:
        """Pictures uint8 (n, 1 or 3, H, W) on the network's device; no gradient is kept."""


@contextmanager
def exact() -> Iterator[None]:
    """Without gradients, in full float32 and with the same algorithm every time."""
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.no_grad(), torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32


def checked(pictures: Tensor) -> Tensor:
    """The pictures themselves; ValueError for anything but uint8 (n, 1 or 3, H, W)."""
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        kind = str(pictures.dtype).removeprefix("torch.")
        raise ValueError(f"Features see pictures uint8 (n, 1 or 3, H, W), not {kind} {tuple(pictures.shape)}.")
    return pictures


def colour(pictures: Tensor) -> Tensor:
    """(n, 3, H, W): grey is repeated."""
    return pictures.expand(-1, 3, -1, -1)


def grey(pictures: Tensor) -> Tensor:
    """Float32 (n, 1, H, W) in [0, 255]."""
    x = pictures.float()
    return x if x.shape[1] == 1 else (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def signed(x: Tensor) -> Tensor:
    """[0, 255] → [-1, 1]."""
    return x.float() / 127.5 - 1


def fitted(x: Tensor, size: int) -> Tensor:
    """Float (n, C, size, size): bilinear, with a triangle as wide as a new pixel where pictures shrink."""
    if x.shape[-2:] == (size, size):
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def bicubic(pictures: Tensor, size: int, *, square: bool) -> Tensor:
    """Uint8 (n, C, size, size) as Pillow's bicubic filter makes them; `square` cuts out the middle first."""
    if square:
        side = min(pictures.shape[-2:])
        top, left = ((edge - side) // 2 for edge in pictures.shape[-2:])
        pictures = pictures[..., top : top + side, left : left + side]
    if pictures.shape[-2:] == (size, size):
        return pictures
    channels = pictures.cpu().flatten(0, 1).numpy()
    small = [Image.fromarray(channel).resize((size, size), Image.Resampling.BICUBIC) for channel in channels]
    data = torch.frombuffer(bytearray(b"".join(channel.tobytes() for channel in small)), dtype=torch.uint8)
    return data.reshape(*pictures.shape[:2], size, size).to(pictures.device)


def normalized(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Float32 (n, 3, H, W): [0, 1] less the mean, over the deviation, of each colour."""
    x = colour(pictures).float() / 255
    return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]


def digest_of(weights: Mapping[str, Tensor], *words: str) -> str:
    """16 hex digits over words and tensors; the order of the tensors does not matter, their names do."""
    digest = hashlib.sha256("\0".join(words).encode())
    for name in sorted(weights):
        w = weights[name].detach().cpu()
        digest.update(f"\0{name} {w.dtype} {tuple(w.shape)}\0".encode())
        digest.update(w.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
