"""`fewstep convert`: a model in another form, with the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from fewstep.cli import Misuse
from fewstep.cli.parsing import parse

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
"""How files of weights end."""


@dataclass(frozen=True)
class Convert:
    """Write a model in another form.

    fewstep: a folder of model.json and weights. openai: one file, with OpenAI's names, and a JSON of what its tensors
    do not tell. diffusers: a folder for ConsistencyModelPipeline. The weights keep every bit, unless --dtype says
    otherwise; the same model comes back from every form. A latent model is written for diffusers only, with its
    autoencoder and text encoders; a LoRA of fewstep's is merged into its base.

      fewstep convert cd_imagenet64_l2.pt --to diffusers
      fewstep convert openai/diffusers-cd_cat256_l2 --to openai --out cat.pt
      fewstep convert mine.pt --to fewstep --config image_size=64 num_head_channels=64
      fewstep convert runs/words-lcd --to diffusers --dtype float16"""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """A checkpoint, a folder, a name on the Hugging Face Hub: whatever fewstep sample takes."""
    to: Annotated[Literal["fewstep", "openai", "diffusers"], arg(metavar="{fewstep,openai,diffusers}")]
    """The form."""
    out: Annotated[str | None, arg(aliases=["-o"], metavar="PATH")] = None
    """Where to. Default, in this folder: NAME (fewstep), NAME.pt (openai), diffusers-NAME (diffusers)."""
    dtype: Annotated[Literal["float16", "float32"] | None, arg(metavar="{float16,float32}")] = None
    """Round the weights, of a latent model those of all its parts, or widen them; diffusers computes in float32 all the
    same unless it is told a dtype. Default: as they are."""
    config: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")] = ()
    """OpenAI's flags of the network, where its file does not tell them."""
    parameterization: Annotated[Literal["consistency", "edm"] | None, arg(metavar="{consistency,edm}")] = None
    """What the network is, where the name of its file says something else: a consistency or a diffusion model."""
    qkv_order: Annotated[
        Literal["three-head-dim", "head-three-dim"] | None, arg(metavar="{three-head-dim,head-three-dim}")
    ] = None
    """The order of the attention's channels in the file; guided-diffusion's is head-three-dim."""
    force: bool = False
    """Overwrite a model that is there."""


def main(args: Sequence[str]) -> int:
    options = parse(Convert, args, "fewstep convert")
    config, out = flags(options.config), Path(options.out or default_out(options.source, options.to))
    if options.to == "openai" and out.suffix not in (".pt", ".pth"):
        raise ValueError(f"{out} cannot be OpenAI's form, which is one file: name it .pt.")
    from fewstep.formats.openai import beside_of

    made = [out, beside_of(out)] if options.to == "openai" else [out]
    if (there := [path for path in made if path.exists()]) and not options.force:
        raise ValueError(f"{there[0]} is there already: choose another name with --out, or overwrite it with --force.")
    import torch

    from fewstep.formats import read
    from fewstep.formats.writing import write
    from fewstep.ondisk import outline

    stored = read(
        options.source,
        config=config or None,
        parameterization=options.parameterization,
        qkv_order=options.qkv_order,
    )
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    write(options.to, out, stored.design, stored.weights, dtype)
    print("\n".join(said(out, outline(read(out).weights))))
    return 0


def flags(pairs: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE … as a mapping."""
    if strange := [pair for pair in pairs if "=" not in pair]:
        raise Misuse(f"--config takes KEY=VALUE, such as image_size=64, not '{strange[0]}'")
    return dict(pair.split("=", 1) for pair in pairs)


def default_out(source: str, to: str) -> str:
    """A name for the output, after the source's."""
    path = Path(source)
    name = (path.stem if path.suffix in SUFFIXES else path.name or path.resolve().name).removeprefix("diffusers-")
    return {"fewstep": name, "openai": f"{name}.pt", "diffusers": f"diffusers-{name}"}[to]


def said(out: Path, outline: "Mapping[str, Tensor]") -> list[str]:
    """What was written and how to use it."""
    from fewstep.files import read_json

    kinds = ", ".join(sorted({str(w.dtype).removeprefix("torch.") for w in outline.values()}))
    lines = [f"{out}: {len(outline)} tensors, {kinds}, {megabytes(out):.1f} MB", f"  fewstep sample {out}"]
    if (index := out / "model_index.json").is_file():
        pipeline = read_json(index)["_class_name"]
        lines[1] += "" if pipeline == "ConsistencyModelPipeline" else ' --prompt "..."'
        lines.append(f'  {pipeline}.from_pretrained("{out}")  # diffusers; README.md there says more')
    return lines


def megabytes(path: Path) -> float:
    """What a file, or all in a folder, weighs."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file()) / 1e6
