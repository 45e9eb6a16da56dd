"""What batches are made of: the pictures themselves, or their latents and embedded captions, cached.

Latents and embeddings are made once, in the process that comes first; the others wait and read
(`fewstep.training.encoding`). They are found again by the weights that made them.
"""

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.conditions import Condition, Prompts, Table
from fewstep.images import Images
from fewstep.images.batches import Rows
from fewstep.networks.adapters import TextEncoder, Tokenizer
from fewstep.networks.adapters.words import write_words
from fewstep.spaces import Latents
from fewstep.training.encoding import embed_captions, encode_images
from fewstep.training.latent import Words
from fewstep.training.processes import Processes
from fewstep.training.resolving import Resolved


class Material(NamedTuple):
    """What batches are made of."""

    rows: Rows
    """Pictures or latents, with labels."""
    condition: Condition
    """Turns these labels into the network's keywords."""
    about: dict[str, int | str]
    """What must not change while a run goes on."""


def prepare(resolved: Resolved, images: Images, folder: Path, processes: Processes) -> Material:
    """Latents and embedded prompts, out of the cache as far as it holds them."""
    latent, words, space = resolved.recipe.latent, resolved.condition, resolved.space
    if latent is None:
        return Material(images, resolved.condition, {})
    assert isinstance(words, Prompts)
    assert isinstance(space, Latents)
    cache = Path(latent.cache or folder.parent / "cache").expanduser()
    autoencoder = space.autoencoder(processes.device)
    mark = digest(autoencoder, autoencoder.scaling, autoencoder.shift)

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = autoencoder.moments(x.to(processes.device))
        return mean.cpu(), std.cpu()

    options: dict[str, Any] = {"folder": cache, "precision": latent.cache_precision, "progress": processes.main}
    rows = encode_images(images, encode, fingerprint=mark, **options)
    autoencoder.to("cpu")
    if images.captions is None:
        rows.labels = np.full(len(rows), -1)
    if latent.words:
        _make_words(latent.words, folder, rows.table, processes)
        tokens = Tokenizer(words.source)(["", *rows.table])
        said = hashlib.sha256(tokens.numpy().tobytes()).hexdigest()[:16]
        return Material(rows, Table(lambda ids: {"tokens": tokens[ids + 1]}), {"autoencoder": mark, "captions": said})
    table, said = _embedded(words, rows.table, processes.device, options)
    return Material(rows, table, {"autoencoder": mark, "prompts": said})


def _make_words(words: Words, folder: Path, captions: tuple[str, ...], processes: Processes) -> None:
    if processes.main and not (folder / "text" / "model_index.json").is_file():
        write_words(folder / "text", captions, words.vocabulary, words.length)
    processes.wait()


def _embedded(
    words: Prompts, captions: tuple[str, ...], device: torch.device, options: Mapping[str, Any]
) -> tuple[Table, str]:
    """The table of the captions' embeddings, and a fingerprint of what made them."""
    encoder, tokenizer = TextEncoder.load(words.source).to(device), Tokenizer(words.source)
    if options["progress"] and (cut := tokenizer.cut(captions)):  # told once, by the main process
        warnings.warn(f"{len(cut)} of {len(captions)} captions are too long. {cut[0]}", stacklevel=2)
    mark = digest(encoder, words.zero_empty, tokenizer(["", *captions]).tolist())

    def embed(texts: list[str]) -> dict[str, Tensor]:
        told = {name: value.cpu() for name, value in encoder(tokenizer(texts).to(device)).items()}
        empty = torch.tensor([words.zero_empty and not text for text in texts])
        return {name: value.masked_fill(empty.view(-1, *[1] * (value.ndim - 1)), 0) for name, value in told.items()}

    embedded = embed_captions(captions, embed, fingerprint=mark, **options)
    return Table(lambda ids: words.told(embedded.gather(ids))), mark


def digest(network: nn.Module, *about: Any) -> str:
    """A short digest of a network's weights, and of what else decides what it does."""
    found = hashlib.sha256(repr(about).encode() if about else b"")
    for name, w in network.state_dict().items():
        found.update(name.encode())
        found.update(w.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
