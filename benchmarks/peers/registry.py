"""What takes part: methods by name, each with its settings and where its code comes from."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from fewstep.networks import CompactShape
from fewstep.tensors import DROPOUT, rng

from . import cloneofsimo, diffusers_script, ect, fastgen, fewstep_own, kinyugo, openai
from .checkouts import Checkout, digest, place
from .method import SHAPE, Method, Settings, ours


class Entry(NamedTuple):
    """A line of the table."""

    title: str
    kind: type
    settings: Settings
    source: Checkout | None = None
    share: float = 1.0
    """Of the budget that it has."""
    trial: bool = False
    """Whether it answers a question about our own, with one seed, and takes no part in the comparison."""

    @property
    def own(self) -> bool:
        return self.source is None


def _both(title: str, kind: type, published: Settings, own: Settings, source: Checkout) -> dict[str, Entry]:
    name = title.split(" ")[0].lower()
    return {
        f"{name}-published": Entry(f"{title}, published settings", kind, published, source),
        f"{name}-ours": Entry(f"{title}, our settings", kind, own, source),
    }


ENTRIES: dict[str, Entry] = {
    "fewstep-ct": Entry("fewstep CT", fewstep_own.OwnCT, ours()),
    "fewstep-ict": Entry("fewstep iCT", fewstep_own.OwnICT, ours()),
    "fewstep-ect": Entry("fewstep ECT", fewstep_own.OwnECT, ours()),
    "fewstep-ect-ot": Entry("fewstep ECT, coupled", fewstep_own.CoupledECT, ours()),
    **_both("OpenAI CT", openai.OpenAI, openai.PUBLISHED, openai.OURS, openai.SOURCE),
    **_both("diffusers iCT", diffusers_script.DiffusersICT, diffusers_script.PUBLISHED, diffusers_script.OURS,
            diffusers_script.SOURCE),
    **_both("Kinyugo-CT", kinyugo.KinyugoCT, kinyugo.CT_PUBLISHED, kinyugo.CT_OURS, kinyugo.SOURCE),
    **_both("Kinyugo-iCT", kinyugo.KinyugoICT, kinyugo.ICT_PUBLISHED, kinyugo.ICT_OURS, kinyugo.SOURCE),
    **_both("cloneofsimo CT", cloneofsimo.Cloneofsimo, cloneofsimo.PUBLISHED, cloneofsimo.OURS, cloneofsimo.SOURCE),
    **_both("ECT from nothing", ect.ECT, ect.PUBLISHED, ect.OURS, ect.SOURCE),
    **_both("FastGen CM", fastgen.FastGen, fastgen.PUBLISHED, fastgen.OURS, fastgen.SOURCE),
}  # fmt: skip
ENTRIES |= {
    f"{name}-half": entry._replace(title=f"{entry.title}, half the time", share=0.5)
    for name, entry in ENTRIES.items()
    if name in ("fewstep-ect", "fewstep-ect-ot")
}

ENTRIES |= {
    "fewstep-ct-norm": Entry("CT: norm of the whole", fewstep_own.NormCT, ours(), trial=True),
    "fewstep-ect-norm": Entry("ECT: norm of the whole, weight 1", fewstep_own.NormECT, ours(), trial=True),
    "fewstep-ect-norm-gap": Entry(
        "ECT: norm of the whole, weight 1/(t − s)", fewstep_own.NormGapECT, ours(), trial=True
    ),
    "fewstep-ect-even": Entry("ECT: Huber of each value, weight 1", fewstep_own.EvenECT, ours(), trial=True),
}

LEFT_OUT = {
    "FastGen sCT": "another objective (a tangent by forward-mode differentiation, a learned variance), begun from a "
    "diffusion model there; FastGen's CM is the consistency training among its methods",
    "FastGen TCM": "its second stage begins with a consistency model: not training from nothing",
    "mmagic": "it samples from consistency models; its `ConsistencyModel` has neither a loss nor a training step",
    "LPIPS in OpenAI CT and Kinyugo CT": "its VGG and AlexNet weights have to be downloaded; the mean square that both "
    "offer is used",
}
"""What does not run, and why."""


def network(seed: int, shape: CompactShape | None = None) -> nn.Module:
    """The network with the first weights of a seed, the same for everyone."""
    torch.manual_seed(int(rng(seed, DROPOUT).integers(1 << 62)))
    shape = shape or CompactShape(image_channels=SHAPE[0], image_size=SHAPE[1])
    return shape.build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def method(name: str, seed: int, peers: Path | None) -> Method:
    """The method, ready to train. FileNotFoundError where its checkout is missing."""
    entry = ENTRIES[name]
    if entry.source is not None:
        entry.kind.load(place(peers, entry.source))
    made = network(seed)
    torch.manual_seed(seed)
    return entry.kind(made, entry.settings, seed)


def version(name: str, peers: Path | None) -> str:
    """The commit of the code, or its digest where it is another."""
    source, kind = ENTRIES[name].source, ENTRIES[name].kind
    if source is None:
        import fewstep

        return f"fewstep {fewstep.__version__}"
    found = digest(place(peers, source), kind.FILES)
    return f"{source.name} at {source.commit[:10] if found == source.digest else f'another commit ({found})'}"
