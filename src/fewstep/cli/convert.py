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
    otherwise; the same model comes back from every form.

      fewstep convert cd_imagenet64_l2.pt --to diffusers
      fewstep convert openai/diffusers-cd_cat256_l2 --to openai --out cat.pt
      fewstep convert mine.pt --to fewstep --config image_size=64 num_head_channels=64"""

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """A checkpoint, a folder, a name on the Hugging Face Hub: whatever fewstep sample takes."""
    to: Annotated[Literal["fewstep", "openai", "diffusers"], arg(metavar="{fewstep,openai,diffusers}")]
    """The form."""
    out: Annotated[str | None, arg(aliases=["-o"], metavar="PATH")] = None
    """Where to. Default, in this folder: NAME (fewstep), NAME.pt (openai), diffusers-NAME (diffusers)."""
    dtype: Annotated[Literal["float16", "float32"] | None, arg(metavar="{float16,float32}")] = None
    """Round the weights, or widen them. Default: as they are."""
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
    if out.exists() and not options.force:
        raise ValueError(f"{out} is there already: choose another name with --out, or overwrite it with --force.")
    from fewstep.formats import read
    from fewstep.formats.writing import write
    from fewstep.ondisk import outline

    stored = read(
        options.source,
        config=config or None,
        parameterization=options.parameterization,
        qkv_order=options.qkv_order,
    )
    weights = stored.weights if options.dtype is None else cast(stored.weights, options.dtype)
    write(options.to, out, stored.design, weights)
    print("\n".join(said(options.to, out, outline(weights))))
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


def cast(weights: "Mapping[str, Tensor]", name: str) -> "Mapping[str, Tensor]":
    """The weights in another dtype; ValueError, once they are read, for values beyond its range."""
    import torch

    from fewstep.ondisk import Changed

    dtype = getattr(torch, name)

    def change(tensor: str, w: torch.Tensor) -> torch.Tensor:
        if not w.is_floating_point():
            return w
        new = w.to(dtype)
        if not w.is_meta and bool((new.isinf() & ~w.isinf()).any()):
            raise ValueError(f"{tensor} has values beyond the range of {name}: keep float32.")
        return new

    return Changed(weights, change)


def said(to: str, out: Path, outline: "Mapping[str, Tensor]") -> list[str]:
    """What was written and how to use it."""
    kinds = ", ".join(sorted({str(w.dtype).removeprefix("torch.") for w in outline.values()}))
    megabytes = sum(w.numel() * w.element_size() for w in outline.values()) / 1e6
    lines = [f"{out}: {len(outline)} tensors, {kinds}, {megabytes:.1f} MB", f"  fewstep sample {out}"]
    if to == "diffusers":
        lines.append(f'  ConsistencyModelPipeline.from_pretrained("{out}")  # diffusers; README.md there says more')
    return lines
