"""`fewstep models`: the models that have a name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fewstep.cli.convert import megabytes
from fewstep.cli.doctor import installed
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from fewstep.design import Design

SIZES = {"imagenet64": "1.2 GB", "bedroom256": "2.1 GB", "cat256": "2.1 GB"}
"""What a download weighs: 4 bytes a parameter."""


@dataclass(frozen=True)
class Models:
    """List the models whose names can be given wherever a model is asked for.

    Some come with the package; those that OpenAI released are downloaded when they are first used."""


def main(args: Sequence[str]) -> int:
    parse(Models, args, "fewstep models")
    from fewstep.formats import bundled

    found = bundled()
    if not found:
        print("No model comes with this installation: train one, such as with `fewstep train digits-ect`.")
    for name, folder in found.items():
        print("\n".join(lines(name, folder)))
    print("\nreleased by OpenAI, downloaded when first used:")
    print("\n".join(released()))
    print(f"\n{latent()}")
    return 0


def latent() -> str:
    """Where text-to-image models come from."""
    if missing := [name for name in ("diffusers", "transformers", "peft") if installed(name) is None]:
        return (f"text-to-image models of diffusers need {', '.join(missing)}, not installed here: "
                "pip install 'fewstep[latent]'")  # fmt: skip
    return "text-to-image models: a diffusers folder (Stable Diffusion 1, 2, XL, LCM), or its name on the Hub"


def released() -> list[str]:
    """OpenAI's models, a line each."""
    from fewstep.formats.download import kept
    from fewstep.formats.releases import RELEASES

    said = []
    for release in RELEASES.values():
        place = kept(release.url)
        where = f"in {place}" if place.is_file() else f"{SIZES[release.data]} to download"
        said.append(f"  {release.name:20} {release.text}; {where}")
    return said


def described(folder: Path) -> "tuple[Design, tuple[int, int, int]]":
    """The design in a folder, and (C, H, W) of its pictures."""
    from fewstep.design import from_json
    from fewstep.files import read_json
    from fewstep.formats import latent_folder

    if latent_folder.is_folder(folder):
        design = latent_folder.read_design(folder)
        return design, latent_folder.pictures(folder, design.architecture)
    design = from_json(read_json(folder / "model.json"), str(folder / "model.json"))
    a = design.architecture
    return design, (a.image_channels, a.image_size, a.image_size)


def lines(name: str, folder: Path) -> list[str]:
    """A model in words."""
    design, (channels, height, width) = described(folder)
    a, about, words = design.architecture, design.about, design.condition.words
    kind = "consistency model" if design.parameterization.consistent else "diffusion model"
    asked = "told prompts" if words else f"{a.num_classes} classes" if a.num_classes else "unconditional"
    said = [f"{name}: {'latent ' * words}{kind}, {height}×{width}×{channels}, {asked}, {megabytes(folder):.1f} MB"]
    for steps, times in design.times.items():
        said.append(f"  times for {steps} step(s): {' '.join(f'{t:g}' for t in times)}")
    if design.class_names and list(design.class_names) != [str(i) for i in range(len(design.class_names))]:
        shown = ", ".join(design.class_names[:12]) + (", …" if len(design.class_names) > 12 else "")
        said.append(f"  classes: {shown}")
    facts = {key: value for key, value in about.items() if key not in ("name", "text")}
    said += [f"  {about['text']}"] if "text" in about else []
    said += [f"  {key}: {value}" for key, value in facts.items() if isinstance(value, str | int | float)]
    return said
