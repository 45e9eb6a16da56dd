"""`fewstep sample`: draws pictures into one grid, an .npz or a folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagConversionOff, Positional, UseAppendAction, arg

from fewstep.cli import Misuse, configured, sources
from fewstep.cli.crew import Crew, bar, crew, own_device
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from fewstep.cli.outputs import Output
    from fewstep.formats.mmagic import MMagic
    from fewstep.model import Model
    from fewstep.sampling import Churn


@dataclass(frozen=True)
class Sample:
    """Draw pictures.

    Picture i depends on (seed, i) and what it is asked to show only, whatever the batch and the number of processes:

      fewstep sample mnist --labels 7
      fewstep sample mnist -n 2000 --labels all --out mnist.npz
      fewstep sample cd_imagenet64_l2 --steps 2 --label 3 -n 50000 --npz
      fewstep sample SimianLuo/LCM_Dreamshaper_v7 --prompt "a lighthouse" --steps 4 --guidance 8
      torchrun --nproc-per-node 2 -m fewstep.cli sample runs/mine -n 50000 --out mine.npz

    A run that was interrupted goes on by the same command."""

    source: Annotated[Positional[str], arg(metavar="SOURCE", help_behavior_hint="")] = ""
    """A run's folder, a saved model, a bundled name (see: fewstep models), a checkpoint or the name of a release of
    OpenAI's, an entry of mmagic's zoo, a text-to-image pipeline of diffusers."""
    n: Annotated[int | None, arg(aliases=["-n"], metavar="INT")] = None
    """How many pictures. Default: one for each prompt, else 16."""
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Network calls a picture (for a diffusion model's samplers: steps). Default 1 (18); for a latent model 4 (50)."""
    times: Annotated[tuple[float, ...], arg(metavar="TIME ...")] = ()
    """Noise levels of the calls, decreasing, such as 80 0.82, in the place of --steps."""
    seed: int = 0
    """The source of all randomness."""
    labels: Annotated[tuple[str, ...], arg(metavar="LABEL ...", aliases=["--label"])] = ()
    """Classes by number or name, taken in turn: picture i shows the one at i mod their count. all: every class.
    Default: random, from the seed."""
    prompt: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TEXT")] = ()
    """What a text-to-image model draws; given several times, the prompts are taken in turn."""
    prompts: Annotated[str | None, arg(metavar="FILE")] = None
    """The same from a file, one a line."""
    negative: Annotated[str | None, arg(metavar="TEXT")] = None
    """What guidance leads away from."""
    guidance: Annotated[tuple[float, ...], arg(metavar="SCALE ...")] = ()
    """How closely prompts (or classes) are followed, 1 is no guidance; several are taken in turn. Default: 8 for a
    latent model that is told its scale, 7.5 for a latent diffusion model, else 1."""
    lora: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SOURCE[:SCALE]")] = ()
    """A LoRA for a latent model, a file or a Hub id; several add up. With --sampler consistency it is an LCM-LoRA,
    which makes a few-step model of a diffusion model."""
    height: Annotated[int | None, arg(metavar="INT")] = None
    """Of a latent model's pictures. Default: what it was trained on."""
    width: Annotated[int | None, arg(metavar="INT")] = None
    """The same."""
    sampler: Annotated[
        Literal["consistency", "heun", "euler", "dpm", "midpoint", "dpm++", "progdist", "ancestral"] | None,
        arg(metavar="NAME"),
    ] = None
    """How pictures are drawn: consistency, heun, euler, dpm, midpoint, dpm++, progdist or ancestral. Default:
    consistency, for a diffusion model heun, in latents euler."""
    s_churn: float = 0.0
    """Fresh noise during heun, dpm, euler or midpoint (Karras et al. 2022, Algorithm 2), over all steps together."""
    s_tmin: float = 0.0
    """Only at noise levels from here …"""
    s_tmax: float = float("inf")
    """… up to here."""
    s_noise: float = 1.0
    """Scale of the fresh noise."""
    clip: FlagConversionOff[bool] = True
    """Keep every estimate within [-1, 1]."""
    out: Annotated[str | None, arg(aliases=["-o"], metavar="PATH")] = None
    """x.png: one grid. x.npz: arr_0 uint8 (n, H, W, C), arr_1 labels. A folder: single PNGs. Default: samples.png."""
    npz: bool = False
    """Write OpenAI's samples_NxHxWxC.npz, in the folder --out or here; its values are cut off, not rounded."""
    mmagic_config: Annotated[str | None, arg(metavar="FILE")] = None
    """A configuration of mmagic's, which is read, not run; the options given here go before it."""
    weights: Annotated[str | None, arg(metavar="FILE")] = None
    """The weights for that, or for an entry of mmagic's zoo. Default: those that it names."""
    first: int = 0
    """The index of the first picture."""
    batch: Annotated[int | None, arg(metavar="INT")] = None
    """Pictures at once. Default 256, for a latent model 8."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    force: bool = False
    """Overwrite what was made with other settings."""


def main(args: Sequence[str]) -> int:
    options = parse(Sample, args, "fewstep sample")
    if config := configured.configuration(options):
        changed = replace(Sample(), **configured.defaults(config, options))
        options = parse(Sample, args, "fewstep sample", default=changed)
    options = worded(options)
    check(options, config)
    with crew() as us:
        return run(options, config, us)


def worded(options: Sample) -> Sample:
    """With the prompts of the file, and the number of pictures."""
    if options.prompts is not None and options.prompt:
        raise ValueError("--prompt and --prompts contradict each other: give one of the two.")
    prompt = options.prompt if options.prompts is None else sources.prompts_in(options.prompts)
    return replace(options, prompt=prompt, n=(len(prompt) or 16) if options.n is None else options.n)


def check(options: Sample, config: "MMagic | None") -> None:
    if (options.n or 0) < 1 or (options.batch is not None and options.batch < 1) or options.first < 0:
        raise ValueError("-n and --batch are whole numbers from 1, --first from 0.")
    if options.steps is not None and options.times:
        raise ValueError("--steps and --times contradict each other: give one of the two.")
    if options.npz and Path(options.out or "").suffix:
        raise ValueError(f"--npz names its file itself: --out is a folder for it, not {options.out}.")
    if config is None and not options.source:
        raise Misuse("say which model: fewstep sample SOURCE ...")
    if config is None and options.weights:
        raise ValueError("--weights goes with --mmagic-config or an entry of mmagic's zoo: name a model as SOURCE.")


def run(options: Sample, config: "MMagic | None", us: Crew) -> int:
    import fewstep
    from fewstep.cli.outputs import choose, openai_name

    assert options.n is not None  # `worded` has counted
    source, labels = options.source, options.labels
    if config is None:
        model = fewstep.load(source, device=own_device(options.device))
    else:
        source, model = configured.load(config, options, own_device(options.device))
        labels = labels if model.num_classes else ()
        if us.main:
            print(*configured.remarks(config, options, model), sep="\n")
    sources.add_loras(model, options.lora, options.sampler == "consistency")
    asking = sources.asking(model, labels, options.prompt, options.negative, options.guidance)
    origin = sources.origin(source)
    settings = {"n": options.n, "first": options.first, "seed": options.seed, "asked": list(labels),
                **words(options, model), **walk(options.sampler, options.steps, options.times, model),
                **unusual(options), "sha256": origin["sha256"]}  # fmt: skip
    shape = (model.shape[0], options.height or model.shape[1], options.width or model.shape[2])
    named = str(Path(options.out or ".") / openai_name(options.n, shape)) if options.npz else options.out
    output = choose(named, "samples.png", settings, options.force)
    if not us.first(lambda: output.begin(options.force)):
        if us.main:
            print(f"{output.path} is there already, made with these settings (--force draws it again).")
        return 0
    try:
        seconds = draw(model, output, options, asking, us)
        us.meet()
    except BaseException as stop:
        kept = output.give_up() if us.main else 0
        if not isinstance(stop, KeyboardInterrupt):
            raise
        go_on = f" The same command goes on: {kept} of {options.n} pictures are in {output.parts}." if kept else ""
        raise KeyboardInterrupt("interrupted." + go_on) from None
    if us.main:
        about = {**origin, **sources.versions(), "device": str(model.device), "seconds_per_image": seconds}
        output.finish(about)
        print(f"{output.path}: {options.n} pictures, {per_image(seconds)} (how they were made: {output.sidecar})")
    us.meet()
    return 0


def walk(sampler: str | None, steps: int | None, times: Sequence[float], model: "Model") -> dict[str, Any]:
    """The sampler and its noise levels, written out; those of a diffusion model with their end."""
    from fewstep.model.drawing import chosen_sampler, run_times

    sampler = chosen_sampler(model.design, sampler)
    chosen = run_times(model.design, sampler, steps, times or None)
    return {"sampler": sampler, "steps": len(chosen) - (sampler != "consistency"), "times": chosen}


def words(options: Sample, model: "Model") -> dict[str, Any]:
    """What a text-to-image model is asked, and what is asked of other models beside their labels."""
    from fewstep.model.asking import usual_guidance

    prompted = model.design.condition.words
    said = {"prompts": list(options.prompt)} if options.prompt else {}
    said |= {"lora": list(options.lora), "lora_sha256": sources.loras_digest(options.lora)} if options.lora else {}
    scales = list(options.guidance) or ([usual_guidance(model.design)] if prompted else [])
    others = {"negative": options.negative, "height": options.height, "width": options.width}
    kept = {name: value for name, value in others.items() if value is not None}
    return {**said, **({"guidance": scales} if scales else {}), **kept}


def churn(options: Sample) -> "Churn":
    from fewstep.sampling import Churn

    idle = [name for name in ("s_tmin", "s_tmax", "s_noise") if getattr(options, name) != getattr(Churn(), name)]
    if idle and not options.s_churn:
        raise ValueError(f"--{idle[0].replace('_', '-')} is part of churn, and there is none: give --s-churn too.")
    return Churn(options.s_churn, options.s_tmin, options.s_tmax, options.s_noise)


def unusual(options: Sample) -> dict[str, Any]:
    """The settings that most runs do without."""
    from fewstep.sampling import Churn

    asked = churn(options)
    fresh = {name: value for name, value in vars(asked).items() if asked.s_churn and value != vars(Churn())[name]}
    return {**fresh, **({} if options.clip else {"clip": False}), **({"cut_off": True} if options.npz else {})}


def draw(model: "Model", output: "Output", options: Sample, asking: sources.Asking, us: Crew) -> float:
    """Draws this process's share of what is missing; seconds a picture."""
    from fewstep.cli.outputs import cut_off
    from fewstep.images import to_uint8

    assert options.n is not None
    levels = cut_off if options.npz else to_uint8
    indices = range(options.first, options.first + options.n)
    missing = sum(map(len, output.missing(indices, options.n)))
    size = min(options.batch or model.batch, max(1, -(-missing // us.world)))
    mine = output.missing(indices, size)[us.rank :: us.world]
    us.meet()  # all have looked before the first part is written
    began, drawn = time.perf_counter(), 0
    with bar(options.n, options.n - missing, us) as advance:
        for rows in mine:
            asked = asking(rows)
            x = model.sample(
                len(rows),
                times=output.settings["times"],
                seed=options.seed,
                sampler=output.settings["sampler"],
                first=rows.start,
                batch=options.batch,
                height=options.height,
                width=options.width,
                churn=churn(options),
                clip=options.clip,
                **asked,
            )
            output.add(rows, levels(x), sources.labels_shown(model, asked.get("labels"), options.seed, rows))
            drawn += len(rows)
            advance(len(rows) * us.world)
    return (time.perf_counter() - began) / max(1, drawn)


def per_image(seconds: float) -> str:
    return f"{seconds:.2f} s each" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms each"
