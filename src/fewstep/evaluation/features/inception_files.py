"""The weights of the 2015 Inception network, as the field passes them on.

    torch-fidelity, pytorch-fid   weights-inception-2015-12-05-6726825d.pth   a state dict: Conv2d_1a_3x3.conv.weight
    NVIDIA (StyleGAN, EDM)        inception-2015-12-05.pt                     TorchScript: layers.conv.weight, .beta

Both hold the tensors of TensorFlow's graph, the second under the graph's own names; a .safetensors file of either is
read as well. A TorchScript file is a program: its tensors are read, the program is not run. Only files whose SHA-256 is
listed here are called inception-2015, the name under which scores are FID.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fewstep.evaluation.features import torchscript
from fewstep.evaluation.features.inception import MIXED, STEM, Block, Inception, Inception2015
from fewstep.formats.download import fetch, kept
from fewstep.formats.torch_files import open_tensors
from fewstep.ondisk import safetensors

FILES = {
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth":
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth":
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt":
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
}  # fmt: skip
"""Addresses and SHA-256. The first is fetched; any that lies in the cache is taken."""

PUBLISHED = "inception-2015"


def open_inception(path: Path | None, device: str | torch.device) -> Inception:
    """The features of a file, or of the first file of FILES that is in the cache or can be fetched."""
    path = path or published_file()
    return Inception(name_of(path), load(tensors(path), path), device)


def name_of(path: Path) -> str:
    """What the features of this file are called: inception-2015 for one of FILES only."""
    return PUBLISHED if sha256(path) in FILES.values() else f"inception ({path.name})"


def published_file() -> Path:
    """One of FILES. Raises FileNotFoundError, with the place where it is expected, where none can be had."""
    first = next(iter(FILES))
    try:
        return next((kept(url) for url in FILES if kept(url).is_file()), None) or fetch(first, _as_listed)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"The features 'inception' need their weights. {error}. A file elsewhere is named in place of 'inception'; "
            "NVIDIA's inception-2015-12-05.pt will do too."
        ) from None


def is_inception(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors of these names are such a network."""
    return "Conv2d_1a_3x3.conv.weight" in names or "layers.conv.beta" in names


def tensors(path: Path) -> Mapping[str, Tensor]:
    """What a file of tensors holds. Raises ValueError for anything else."""
    if path.suffix == ".safetensors":
        return safetensors(path)
    return torchscript.tensors(path) if torchscript.is_torchscript(path) else open_tensors(path)


def load(found: Mapping[str, Tensor], path: Path) -> Inception2015:
    """The network with the tensors of a file. Raises ValueError where one is missing or has another shape."""
    with torch.device("meta"):
        network = Inception2015()
    if "layers.conv.beta" in found:
        found = _renamed(found)
    weights = {}
    for name, w in network.state_dict().items():
        if name.endswith(".num_batches_tracked"):
            weights[name] = torch.tensor(0)
        elif name not in found or found[name].shape != w.shape:
            raise ValueError(f"{path} is not the Inception network of 2015-12-05: {name} is missing or has another "
                             "shape.")  # fmt: skip
        else:
            weights[name] = found[name].float()
    network.load_state_dict(weights, assign=True)
    return network


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def graph_names() -> Iterator[tuple[str, str]]:
    """(our name, the graph's scope) of every convolution: Mixed_7a.branch7x7x3_4, mixed_8/tower_1/conv_3."""
    for k, name in enumerate(STEM):
        yield name, _numbered("conv", k)
    with torch.device("meta"):
        blocks = Inception2015()
    for k, name in enumerate(MIXED):
        block = blocks.get_submodule(name)
        assert isinstance(block, Block)
        for ours, scope in _scopes(block):
            yield f"{name}.{ours}", f"{_numbered('mixed', k)}/{scope}"


def _scopes(block: Block) -> Iterator[tuple[str, str]]:
    """A branch of one convolution lies in the block's own scope, unless it follows a pool; the others are towers."""
    towers = 0
    for branch, stages in block.names.items():
        alone = len(stages) == 1 and branch != "branch_pool"
        tower = "" if alone else _numbered("tower", towers) + "/"
        towers += not alone
        for k, names in enumerate(stages):
            for i, name in enumerate(names):
                last = _numbered("conv", k) if len(names) == 1 else f"mixed/{_numbered('conv', i)}"
                yield name, tower + last


def _numbered(scope: str, k: int) -> str:
    """TensorFlow's names for the first, second, third of a kind: conv, conv_1, conv_2."""
    return f"{scope}_{k}" if k else scope


def _renamed(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """NVIDIA's names, where a scope's slash became a dot or an underscore, as ours. The graph's norm has no scale."""
    flat = {name.removeprefix("layers.").replace(".", "_"): w for name, w in found.items()}
    ours = {"fc.weight": flat.get("output_weight", torch.empty(0))}
    for name, scope in graph_names():
        theirs = scope.replace("/", "_")
        parts = {"conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var"}
        ours |= {f"{name}.{part}": flat[f"{theirs}_{w}"] for part, w in parts.items() if f"{theirs}_{w}" in flat}
        if f"{name}.bn.bias" in ours:
            ours[f"{name}.bn.weight"] = torch.ones_like(ours[f"{name}.bn.bias"], dtype=torch.float32)
    return ours


def _as_listed(path: Path) -> None:
    if sha256(path) not in FILES.values():
        raise ValueError("its SHA-256 is not the published one.")
