"""The options of `fewstep edit`, a class a kind."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

Times = Annotated[tuple[float, ...], arg(metavar="TIME ...")]
Number = Annotated[int | None, arg(metavar="INT")]
Name = Annotated[str | None, arg(metavar="PATH", aliases=["-o"])]
Words = Annotated[str | None, arg(metavar="TEXT")]
Scale = Annotated[float | None, arg(metavar="SCALE")]
Share = Annotated[float | None, arg(metavar="SHARE")]
Size = Annotated[tuple[int, int] | None, arg(metavar="WIDTH HEIGHT")]
Class = Annotated[str | None, arg(metavar="CLASS", aliases=["--labels"])]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What all edits share."""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """A run's folder, a saved model or a bundled name (see: fewstep models)."""
    label: Class = None
    """The class to show, by number or name. Default: drawn from the seed."""
    prompt: Words = None
    """What a text-to-image model is to show."""
    negative: Words = None
    """What guidance leads away from."""
    guidance: Scale = None
    """How closely that is followed; 1 is no guidance. Default: as in fewstep sample."""
    n: Annotated[int, arg(aliases=["-n"])] = 4
    """How many variants."""
    seed: int = 0
    """The source of all randomness: variant i depends on (seed, i)."""
    out: Name = None
    """x.png: one grid, what was given first. A folder: the results as single PNGs. Default: edit-KIND.png."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite what was made with other settings."""


@dataclass(frozen=True, kw_only=True)
class Stepped(Edit):
    steps: Number = None
    """Network calls. Default 8; for a latent model as in fewstep sample."""
    times: Times = ()
    """Noise levels of the calls, decreasing, in the place of --steps."""


@dataclass(frozen=True, kw_only=True)
class Inpaint(Stepped):
    """Fill the white part of a mask. What is black in it is kept exactly."""

    image: Annotated[str, arg(metavar="PNG")]
    """The picture."""
    mask: Annotated[str, arg(metavar="PNG")]
    """White where it is to be filled; greys count from the middle."""
    strength: Share = None
    """Latent models: below 1, what is white is redrawn from what was there (see img2img). Default 1."""
    size: Size = None
    """Latent models: that of the results; pictures are resized and cropped to it. Default: the picture's own, in whole
    latents. One of more than 4 times the pixels that the model was trained on is made smaller first: beyond that memory
    runs out and what is drawn repeats itself."""


@dataclass(frozen=True, kw_only=True)
class Img2img(Edit):
    """Redraw a picture as a prompt says, with a text-to-image model."""

    image: Annotated[str, arg(metavar="PNG")]
    """The picture."""
    strength: float = 0.5
    """How much of it is redrawn, above 0 and up to 1."""
    steps: Number = None
    """Network calls, for a diffusion model steps, of which strength takes its share. Default 4 (50)."""
    size: Size = None
    """Latent models: that of the results; pictures are resized and cropped to it. Default: the picture's own, in whole
    latents. One of more than 4 times the pixels that the model was trained on is made smaller first: beyond that memory
    runs out and what is drawn repeats itself."""


@dataclass(frozen=True, kw_only=True)
class Colorize(Stepped):
    """Give a grey picture its colours; the brightness of every pixel is kept."""

    image: Annotated[str, arg(metavar="PNG")]
    """The picture; of a coloured one only the brightness is used."""


@dataclass(frozen=True, kw_only=True)
class Superres(Stepped):
    """Make a small picture large; the mean of every patch is kept."""

    image: Annotated[str, arg(metavar="PNG")]
    """A small picture, or a full one that is averaged first."""
    factor: int = 4
    """How many times larger each side becomes; it divides the model's size."""


@dataclass(frozen=True, kw_only=True)
class Stroke(Edit):
    """Turn a painting in rough strokes into a picture that follows it."""

    image: Annotated[str, arg(metavar="PNG")]
    """The painting."""
    times: Times = (5.38, 2.24)
    """How far the painting is noised, then lower levels; a larger first one gives more freedom."""


@dataclass(frozen=True, kw_only=True)
class Denoise(Edit):
    """Remove noise of a known strength, in one network call."""

    image: Annotated[str, arg(metavar="PNG")]
    """The noisy picture."""
    sigma: float
    """Standard deviation of its noise, for values in [-1, 1] (for 0 … 255: divide by 127.5)."""
    n: Annotated[int, arg(aliases=["-n"])] = 1
    """How many variants (they differ in their random class only)."""


@dataclass(frozen=True, kw_only=True)
class Interpolate(Stepped):
    """Join the pictures of two seeds by pictures between them."""

    seed_a: int = 0
    """The first picture's seed."""
    seed_b: int = 1
    """The last picture's seed."""
    n: Annotated[int, arg(aliases=["-n"])] = 8
    """How many pictures, the ends included."""
    steps: Number = None
    """Network calls. Default 1."""
