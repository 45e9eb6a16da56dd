"""`fewstep train RECIPE`: trains by a recipe whose every leaf can be changed from the command line."""

import os
import runpy
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import tyro
from tyro.conf import arg
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from fewstep.cli import Misuse
from fewstep.cli.parsing import described, flag, leaves, refuse_unknown, sayable
from fewstep.codec import nearest

if TYPE_CHECKING:
    from fewstep.training.fit import Run
    from fewstep.training.recipe import Recipe

HELP = """usage: fewstep train RECIPE [OPTIONS]

Train a model. RECIPE is a name, DATA-METHOD, or a Python file of yours that defines `recipe = Recipe(...)`, such as

  fewstep train digits-ect
  fewstep train mnist-edm --data mnist-train.zip
  fewstep train mnist-cd --data mnist-train.zip --teacher runs/mnist-edm

The same command goes on with a run that was stopped.

  fewstep train --list            every recipe
  fewstep train RECIPE --help     its settings; --help-all for the rarely used ones too
  fewstep train RECIPE --dry-run  what it would do, in parameters, memory and time
"""

SHORT = {"--data": "--data.path", "--size": "--data.size", "--channels": "--data.channels"}
"""Flags with a shorter name."""

FIXED = ("name", "times")
"""Fields of a recipe that are no settings."""

RARE = frozenset(
    """sigma_data noise_scale guidance channels_last compile coupling keep workers
    crop labels classes captions caption uncaptioned pipe split memory betas weight_decay floor t_min t_max rho
    image_channels image_size num_classes out_channels embedding patch attention num_heads num_head_channels
    use_scale_shift_norm resblock_updown attention_resolutions num_res_blocks
    p_mean p_std kappa b pooling below weights rule""".split()  # noqa: SIM905
)
"""Fields that only --help-all shows."""

RARE_IN = {
    *(("Latent", name) for name in ("prediction", "told", "timestep_scaling", "cache_precision", "recompute")),
    *(("Lora", name) for name in ("alpha", "dropout", "targets")),
    *(("Discrete", name) for name in ("steps", "beta_start", "beta_end", "spacing", "betas", "origin", "zero_snr")),
    ("Recipe", "compile"),
}
"""The same, of one class: its fields have names that elsewhere are used often."""


@dataclass(frozen=True)
class Train:
    """What is asked of a run besides its recipe."""

    recipe: Annotated[Any, arg(name="")]
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    """Where the run is kept. Default: runs/RECIPE."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Say what would be done: settings, parameters, memory, the cost of a step."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also write TensorBoard files."""
    device: str = "auto"
    """auto, cpu, cuda."""


def main(args: Sequence[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if args[0] == "--list":
        return list_recipes()
    if args[0].startswith("-"):
        raise Misuse("the recipe comes first: fewstep train RECIPE ...; fewstep train --list names them")
    options = parse(find(args[0]), args[1:], f"fewstep train {args[0]}")
    if options.dry_run:
        from fewstep.cli.dryrun import report

        report(options.recipe)
        return 0
    return train(options, args)


def list_recipes() -> int:
    from fewstep import recipes

    for name, make in recipes.RECIPES.items():
        first = (make.__doc__ or "").strip().split("\n")[0]
        print(f"  {name:20} {first}")
    return 0


def find(name: str) -> "Recipe":
    """The recipe of a name, or in a Python file."""
    if name.endswith(".py") or os.sep in name:
        return from_file(Path(name).expanduser())
    from fewstep import recipes

    if name not in recipes.RECIPES:
        raise Misuse(f"there is no recipe '{name}'{nearest(name, recipes.names())}")
    return recipes.recipe(name)


def from_file(path: Path) -> "Recipe":
    """`recipe`, a value or a function without arguments, in a Python file of the user's; named after the file."""
    from fewstep.training.recipe import Recipe

    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe file {path}.")
    found = runpy.run_path(str(path)).get("recipe")
    found = found() if callable(found) else found
    if not isinstance(found, Recipe):
        raise ValueError(f"{path} must define `recipe = Recipe(...)`, or a function `recipe()` that returns one.")
    return replace(found, name=path.stem) if found.name == "custom" else found


def parse(recipe: "Recipe", args: Sequence[str], prog: str) -> Train:
    """The options in `args`, over this recipe."""
    words = [long(word) for word in args]
    own = [flag(f.name) for f in fields(Train) if f.name != "recipe"]
    paths = {path: value for path, value in leaves(recipe) if path[0] not in FIXED}
    known = [flag(*path) for path in paths] + [no(*path) for path, value in paths.items() if isinstance(value, bool)]
    refuse_unknown(words, ["--help", "--help-all", *own, *known, *SHORT], prog)
    everything = "--help-all" in words
    words = ["--help" if word == "--help-all" else word for word in words]
    short = ("--help" in words or "-h" in words) and not everything
    shown = "The settings used most; --help-all shows all." if short else "All settings."
    about = f"Train by the recipe {recipe.name}. {shown}"
    return tyro.cli(Train, args=words, default=Train(recipe), prog=prog, description=about, registry=registry(short))


def long(word: str) -> str:
    name, equals, value = word.partition("=")
    return SHORT.get(name, name) + equals + value


def no(*path: str) -> str:
    """--data.no-flip for --data.flip."""
    return flag(*path[:-1], f"no_{path[-1]}")


def registry(short: bool) -> ConstructorRegistry:
    """How tyro takes a frozen value apart: by the default's own classes; a short help leaves the rare fields out."""
    rules = ConstructorRegistry()

    @rules.struct_rule
    def of_default(info: StructTypeInfo) -> StructConstructorSpec | None:
        value = info.default
        if not is_dataclass(value) or isinstance(value, (type, Train)):
            return None
        cls, hints = type(value), get_type_hints(type(value))
        about = described(cls)
        spec = []
        for name in (f.name for f in fields(value)):
            part = getattr(value, name)
            hidden = short and (name in RARE or (cls.__name__, name) in RARE_IN)
            if name not in FIXED and not hidden and (is_dataclass(part) or sayable(cls, name, part)):
                kind = type(part) if is_dataclass(part) else hints[name]
                spec.append(StructFieldSpec(name, kind, part, about.get(name)))
        return StructConstructorSpec(lambda **parts: replace(value, **parts), tuple(spec))

    return rules


def train(options: Train, args: Sequence[str]) -> int:
    from fewstep.model import pick_device
    from fewstep.training.fit import fit
    from fewstep.training.track import watch

    recipe = options.recipe
    pick_device(options.device)
    folder = Path(options.out or f"runs/{recipe.name}").expanduser()
    device = None if options.device == "auto" else options.device
    run = fit(recipe, folder, device=device, given=given(args, recipe))
    began = run.state.step
    if run.main:
        print("\n".join(beginning(run)), flush=True)
    for _ in watch(run, tensorboard=options.tensorboard):
        pass
    if run.main:
        print("\n".join(ending(run, began, command(args))), flush=True)
    return 0 if run.state.step >= recipe.steps else 130


def given(args: Sequence[str], recipe: "Recipe") -> list[tuple[str, ...]]:
    """The paths of the settings that are among `args`."""
    said = {long(word).split("=")[0].replace("_", "-") for word in args}
    return [path for path, _ in leaves(recipe) if flag(*path) in said]


def beginning(run: "Run") -> list[str]:
    """What is about to be trained, in words."""
    import torch

    recipe, images = run.recipe, run.images
    channels, height, width = images.shape
    classes = f", {images.num_classes} classes" if images.num_classes else ", no classes"
    damaged = f", {len(images.damaged)} damaged ones left out" if images.damaged else ""
    threads = f", {torch.get_num_threads()} threads" if run.device.type == "cpu" else ""
    count = sum(p.numel() for p in run.state.network.parameters())
    source = recipe.start if recipe.start not in (None, "random") else recipe.teacher if recipe.start is None else None
    if run.state.step:
        source = f"step {run.state.step} of the run in {run.folder}"
    processes = f", {run.processes.world} processes" if run.processes.world > 1 else ""
    return [
        f"recipe:   {recipe.name} ({type(recipe.objective).__name__}), {recipe.steps} steps of {recipe.batch} pictures",
        f"data:     {recipe.data.path}: {len(images)} pictures {height}×{width}×{channels}{classes}{damaged}",
        f"network:  {type(recipe.architecture).__name__}, {count:,} parameters",
        f"device:   {run.device}{threads}{processes}",
        f"folder:   {run.folder}",
        f"starts:   from {source or 'random weights'}",
    ]


def command(args: Sequence[str]) -> str:
    """The command that was given, to be given again."""
    world = os.environ.get("WORLD_SIZE", "1")
    start = ["fewstep"] if world == "1" else ["torchrun", "--nproc-per-node", world, "-m", "fewstep.cli"]
    return shlex.join([*start, "train", *args])


def ending(run: "Run", began: int, again: str) -> list[str]:
    """Where the model is, and the next command."""
    place, step = shlex.quote(str(run.folder)), run.state.step
    consistent = run.design.parameterization.consistent
    asking = f"{' --prompt WORDS' if run.recipe.latent else ''}{' --steps 2' if consistent else ''}"
    sampling = f"draw pictures:  fewstep sample {place}{asking}"
    if not run.recipe.objective.denoises:
        sampling = f"use it:         fewstep train RECIPE --latent.autoencoder {place}"
    if step < run.recipe.steps:
        return [
            f"kept:           step {step} of {run.recipe.steps}, in {run.folder}",
            f"go on:          {again}",
            sampling,
        ]
    already = f"The run in {run.folder} was finished already."
    said = already if began == step else f"Done: the model is in {run.folder / 'model'}."
    previews = sorted((run.folder / "previews").glob("*.png"))
    return [said, *([f"a preview:      {previews[-1]}"] if previews else []), sampling]
