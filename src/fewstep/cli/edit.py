"""`fewstep edit KIND SOURCE`: edits pictures with a model, without training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from fewstep.cli import Misuse, chosen, sources
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.model import Model

Times = Annotated[tuple[float, ...], arg(metavar="TIME ...")]
Number = Annotated[int | None, arg(metavar="INT")]
Name = Annotated[str | None, arg(metavar="PATH", aliases=["-o"])]
Class = Annotated[str | None, arg(metavar="CLASS", aliases=["--labels"])]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What all edits share."""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """A run's folder, a saved model or a bundled name (see: fewstep models)."""
    label: Class = None
    """The class to show, by number or name. Default: drawn from the seed."""
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
    """Network calls. Default 8."""
    times: Times = ()
    """Noise levels of the calls, decreasing, in the place of --steps."""


@dataclass(frozen=True, kw_only=True)
class Inpaint(Stepped):
    """Fill the white part of a mask. What is black in it is kept exactly."""

    image: Annotated[str, arg(metavar="PNG")]
    """The picture."""
    mask: Annotated[str, arg(metavar="PNG")]
    """White where it is to be filled; greys count from the middle."""


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


OPTIONS = (Inpaint, Colorize, Superres, Stroke, Denoise, Interpolate)
KINDS: dict[str, type[Edit]] = {kind.__name__.lower(): kind for kind in OPTIONS}

HELP = "usage: fewstep edit KIND SOURCE ...\n\nEdit pictures with a model, without training.\n\n" + "".join(
    f"  {name:12} {str(kind.__doc__).splitlines()[0]}\n" for name, kind in KINDS.items()
) + "\nfewstep edit KIND --help says more.\n"  # fmt: skip


def main(args: Sequence[str]) -> int:
    if not args:
        raise Misuse(f"say which edit: {', '.join(KINDS)}")
    if args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    kind = chosen("edit", args[0], KINDS)
    return run(kind, parse(KINDS[kind], args[1:], f"fewstep edit {kind}"))


def run(kind: str, options: Edit) -> int:
    import fewstep
    from fewstep.cli.outputs import choose
    from fewstep.images import to_uint8

    if options.n < 1:
        raise ValueError("-n is a whole number from 1.")
    if getattr(options, "steps", None) is not None and getattr(options, "times", ()):
        raise ValueError("--steps and --times contradict each other: give one of the two.")
    model, origin = fewstep.load(options.source, device=options.device), sources.origin(options.source)
    settings = {"edit": kind, **plain(options), "sha256": origin["sha256"]}
    output = choose(options.out, f"edit-{kind}.png", settings, options.force)
    output.begin(options.force or output.done())
    try:
        given, results = EDITS[kind](model, options)
    except BaseException:
        output.give_up()
        raise
    grid = output.path.suffix != ""
    pictures = to_uint8(stacked([*given, *results])) if grid else to_uint8(results)
    output.add(range(len(pictures)), pictures, None)
    calls = {"noise_levels": levels(model, options, kind)}
    about = {**origin, **sources.versions(), **calls, "given": len(given) if grid else 0}
    output.finish(about, columns=len(pictures) if len(pictures) <= 12 else None)
    print(f"{output.path}: {said(len(given) if grid else 0, len(results))} (how they were made: {output.sidecar})")
    return 0


def said(given: int, results: int) -> str:
    return (f"{given} given, " if given else "") + f"{results} made"


def plain(options: Edit) -> dict[str, Any]:
    """The options that decide the result; pictures by path."""
    names = {name: value for name, value in vars(options).items() if name not in ("source", "out", "device", "force")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in names.items()}


def levels(model: "Model", options: Any, kind: str) -> list[float]:
    """The noise levels of the network calls."""
    if kind == "denoise":
        return [options.sigma]
    if kind == "stroke":
        return list(options.times)
    if kind == "interpolate":
        return model.times(options.steps, options.times or None)
    return model.edit_times(options.steps, options.times or None)


# Each edit: what was given, as pictures to show beside the results (1, C, H, W), and the results (n, C, H, W).
Made = tuple[list["Tensor"], "Tensor"]


def inpaint(model: "Model", o: Inpaint) -> Made:
    import fewstep

    size = model.shape[-1]
    image, mask = picture(o.image, model), (picture(o.mask, model, channels=1) > 0).float()
    if not mask.any():
        raise ValueError(f"{o.mask} is black everywhere: white marks what is to be filled.")
    shown = (2 * mask - 1).expand(1, model.shape[0], size, size)
    return [image, shown], measured(model, fewstep.Inpaint(mask[0]), image, o)


def colorize(model: "Model", o: Colorize) -> Made:
    import fewstep

    if model.shape[0] != 3:
        raise ValueError("Colorization needs a model of coloured pictures (3 channels); this one makes grey ones.")
    grey = picture(o.image, model, channels=1)
    return [grey.expand(1, 3, -1, -1)], measured(model, fewstep.Colorize(), grey, o)


def superres(model: "Model", o: Superres) -> Made:
    import fewstep

    measurement = fewstep.SuperResolve(o.factor)
    small = model.shape[-1] // o.factor
    image = picture(o.image, model, size=small if min(size_of(o.image)) <= small else model.shape[-1])
    reference = measurement.prepare(image, model.shape)
    return [measurement.measure(reference)], measured(model, measurement, image, o)


def stroke(model: "Model", o: Stroke) -> Made:
    painting = picture(o.image, model)
    many = painting.expand(o.n, -1, -1, -1)
    return [painting], model.redraw(many, times=o.times, seed=o.seed, labels=label(model, o))


def denoise(model: "Model", o: Denoise) -> Made:
    noisy = picture(o.image, model)
    return [noisy], model.denoise(noisy.expand(o.n, -1, -1, -1), o.sigma, labels=label(model, o), seed=o.seed)


def interpolate(model: "Model", o: Interpolate) -> Made:
    options = {"steps": o.steps, "times": o.times or None, "labels": label(model, o)}
    return [], model.interpolate(o.seed_a, o.seed_b, o.n, **options)


FUNCTIONS = (inpaint, colorize, superres, stroke, denoise, interpolate)
EDITS: dict[str, Callable[["Model", Any], Made]] = {f.__name__: f for f in FUNCTIONS}


def measured(model: "Model", measurement: Any, image: "Tensor", o: Stepped) -> "Tensor":
    many = image.expand(o.n, -1, -1, -1)
    return model.edit(many, measurement, steps=o.steps, times=o.times or None, seed=o.seed, labels=label(model, o))


def label(model: "Model", o: Edit) -> int | None:
    if o.label is None:
        return None
    if not model.num_classes:
        raise ValueError("This model is unconditional: leave out --label.")
    return sources.label_of(o.label, model)


def picture(path: str, model: "Model", *, size: int | None = None, channels: int | None = None) -> "Tensor":
    """A picture (1, C, H, W) in the model's size and channels; says so where it was changed."""
    from fewstep.images import read_picture

    size, channels = size or model.shape[-1], channels or model.shape[0]
    width, height = size_of(path)
    if (width, height) != (size, size):
        cropped = "" if width == height else " and cropped in the centre"
        print(f"{path} is {width}×{height}: resized{cropped} to {size}×{size}.")
    return read_picture(path, size, channels)


def size_of(path: str) -> tuple[int, int]:
    """Width and height; FileNotFoundError, or ValueError for what is no picture."""
    from fewstep.images.decoding import header
    from fewstep.images.sources import missing

    if not Path(path).is_file():
        raise FileNotFoundError(missing(Path(path)))
    with open(path, "rb") as file:
        found = header(file, path)
    return found.width, found.height


def stacked(pictures: Sequence["Tensor"]) -> "Tensor":
    import torch

    return torch.cat([p if p.ndim == 4 else p[None] for p in pictures])
