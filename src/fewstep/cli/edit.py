"""`fewstep edit KIND SOURCE`: edits pictures with a model, without training."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fewstep.cli import Misuse, chosen, sources
from fewstep.cli.edits import (
    Colorize,
    Denoise,
    Edit,
    Img2img,
    Inpaint,
    Interpolate,
    Stepped,
    Stroke,
    Superres,
)
from fewstep.cli.framing import framed, picture, size_of
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from torch import Tensor

    from fewstep.model import Model

OPTIONS = (Inpaint, Img2img, Colorize, Superres, Stroke, Denoise, Interpolate)
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
    elsewhere, unsaid = ("source", "out", "device", "force"), ("prompt", "negative", "guidance", "strength", "size")
    names = {name: value for name, value in vars(options).items()
             if name not in elsewhere and not (name in unsaid and value is None)}  # fmt: skip
    return {name: list(value) if isinstance(value, tuple) else value for name, value in names.items()}


def levels(model: "Model", options: Any, kind: str) -> list[float]:
    """The noise levels of the network calls."""
    if kind == "denoise":
        return [options.sigma]
    if kind == "stroke":
        return list(options.times)
    if model.latent:
        return latent_levels(model, options)
    if kind == "interpolate":
        return model.times(options.steps, options.times or None)
    return model.edit_times(options.steps, options.times or None)


def latent_levels(model: "Model", options: Any) -> list[float]:
    from fewstep.model.drawing import chosen_sampler, run_times

    share, times = getattr(options, "strength", None) or 1.0, getattr(options, "times", ()) or None
    return run_times(model.design, chosen_sampler(model.design, None), options.steps, times, share)


# Each edit: what was given, as pictures to show beside the results (1, C, H, W), and the results (n, C, H, W).
Made = tuple[list["Tensor"], "Tensor"]


def inpaint(model: "Model", o: Inpaint) -> Made:
    image, mask = framed(o.image, model, o), (framed(o.mask, model, o, channels=1) > 0).float()
    if not mask.any():
        raise ValueError(f"{o.mask} is black everywhere: white marks what is to be filled.")
    shown = (2 * mask - 1).expand_as(image)
    many, strength = image.expand(o.n, -1, -1, -1), 1.0 if o.strength is None else o.strength
    options = {"steps": o.steps, "times": o.times or None, "seed": o.seed, **asked(model, o)}
    return [image, shown], model.inpaint(many, mask[0], strength=strength, **options)


def img2img(model: "Model", o: Img2img) -> Made:
    image = framed(o.image, model, o)
    many = image.expand(o.n, -1, -1, -1)
    return [image], model.img2img(many, o.strength, steps=o.steps, seed=o.seed, **asked(model, o))


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
    painting = framed(o.image, model, o)
    many = painting.expand(o.n, -1, -1, -1)
    return [painting], model.redraw(many, times=o.times, seed=o.seed, **asked(model, o))


def denoise(model: "Model", o: Denoise) -> Made:
    noisy = picture(o.image, model)
    return [noisy], model.denoise(noisy.expand(o.n, -1, -1, -1), o.sigma, seed=o.seed, **asked(model, o))


def interpolate(model: "Model", o: Interpolate) -> Made:
    options = {"steps": o.steps, "times": o.times or None, **asked(model, o)}
    return [], model.interpolate(o.seed_a, o.seed_b, o.n, **options)


FUNCTIONS = (inpaint, img2img, colorize, superres, stroke, denoise, interpolate)
EDITS: dict[str, Callable[["Model", Any], Made]] = {f.__name__: f for f in FUNCTIONS}


def measured(model: "Model", measurement: Any, image: "Tensor", o: Stepped) -> "Tensor":
    many = image.expand(o.n, -1, -1, -1)
    return model.edit(many, measurement, steps=o.steps, times=o.times or None, seed=o.seed, **asked(model, o))


def asked(model: "Model", o: Edit) -> dict[str, Any]:
    """What the model is asked to show, as keywords of its methods."""
    from fewstep.model.asking import label_of

    sources.check_words(model, o.prompt is not None)
    if o.label is not None and not model.num_classes:
        told = "is told what to draw in words" if model.design.condition.words else "is unconditional"
        raise ValueError(f"This model {told}: leave out --label.")
    said = {"prompts": o.prompt, "negative": o.negative, "guidance": o.guidance}
    label = {} if o.label is None else {"labels": label_of(o.label, model.design)}
    return {**label, **{name: value for name, value in said.items() if value is not None}}


def stacked(pictures: Sequence["Tensor"]) -> "Tensor":
    import torch

    return torch.cat([p if p.ndim == 4 else p[None] for p in pictures])
