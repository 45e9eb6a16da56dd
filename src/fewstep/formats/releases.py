"""The twelve models that OpenAI released with the paper (Song et al. 2023), and the times to draw with them.

    edm_*_ema    the teachers, diffusion models
    cd_*_l2      consistency distillation with ℓ2, N = 40
    cd_*_lpips   consistency distillation with LPIPS, N = 40
    ct_*         consistency training with LPIPS, N = 201 (ImageNet) or 151 (LSUN) in the end

each for imagenet64, bedroom256 and cat256. Times are those of the released commands, places on the Karras grid of N.
"""

from dataclasses import dataclass
from pathlib import Path

from fewstep.networks import UNetShape
from fewstep.schedules import Karras

BASE = "https://openaipublic.blob.core.windows.net/consistency/"
"""Where the files are."""

IMAGENET = UNetShape(
    image_size=64,
    model_channels=192,
    num_res_blocks=3,
    channel_mult=(1, 2, 3, 4),
    attention_resolutions=(32, 16, 8),
    num_head_channels=64,
    num_classes=1000,
)
LSUN = UNetShape(
    image_size=256,
    model_channels=256,
    num_res_blocks=2,
    channel_mult=(1, 1, 2, 2, 4, 4),
    attention_resolutions=(32, 16, 8),
    num_head_channels=64,
    use_scale_shift_norm=False,
)
SHAPES = {"imagenet64": IMAGENET, "bedroom256": LSUN, "cat256": LSUN}
"""The network for each data set."""

PICTURES = {"imagenet64": "ImageNet 64×64", "bedroom256": "LSUN bedrooms 256×256", "cat256": "LSUN cats 256×256"}


@dataclass(frozen=True)
class Release:
    """One of the released files."""

    name: str
    """Its name, without `.pt`."""
    data: str
    """imagenet64, bedroom256 or cat256."""
    method: str
    """How it was trained."""
    levels: int | None = None
    """N, the number of times that a consistency model was trained on."""
    middle: int | None = None
    """The place on that grid of the second of two times, where one was published."""

    @property
    def url(self) -> str:
        return f"{BASE}{self.name}.pt"

    @property
    def shape(self) -> UNetShape:
        """Its network."""
        return SHAPES[self.data]

    @property
    def text(self) -> str:
        """What it is."""
        return f"{self.method} on {PICTURES[self.data]}, OpenAI 2023"

    @property
    def times(self) -> dict[str, tuple[float, ...]]:
        """Noise levels for one step, and for two where they were published."""
        if self.levels is None:
            return {}
        grid = Karras().grid(self.levels).tolist()
        two = {} if self.middle is None else {"2": (grid[0], grid[self.middle])}
        return {"1": (grid[0],), **two}


def _of(data: str, l2: int | None, lpips: int | None, ct: int, scales: int) -> list[Release]:
    return [
        Release(f"edm_{data}_ema", data, "diffusion model (EDM)"),
        Release(f"cd_{data}_l2", data, "consistency distillation (ℓ2)", 40, l2),
        Release(f"cd_{data}_lpips", data, "consistency distillation (LPIPS)", 40, lpips),
        Release(f"ct_{data}", data, "consistency training (LPIPS)", scales, ct),
    ]


RELEASES = {
    release.name: release
    for release in (
        *_of("imagenet64", 22, 22, 106, 201),
        *_of("bedroom256", 18, 17, 67, 151),
        *_of("cat256", None, None, 62, 151),
    )
}
"""The released files, by name."""


def release_of(path: str | Path) -> Release | None:
    """The release whose name is in the name of this file."""
    return next((release for name, release in RELEASES.items() if name in Path(path).name), None)


def shape_named(path: str | Path) -> UNetShape | None:
    """The network of the data set whose name is in the name of this file."""
    return next((shape for data, shape in SHAPES.items() if data in Path(path).name), None)
