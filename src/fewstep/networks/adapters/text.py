"""Prompts as numbers: tokens (n, L), or (n, 2, L) for the two encoders of SDXL, and their embeddings.

Stable Diffusion   prompt = the last layer's normed states (n, L, D)
SDXL               prompt = both encoders' last states but one, side by side; pooled = the second one's projection
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.files import read_json, write_json
from fewstep.networks.adapters.needed import quiet
from fewstep.networks.adapters.stored import reading

FOLDERS = ("text_encoder", "text_encoder_2")
TOKENIZERS = ("tokenizer", "tokenizer_2")


class TextEncoder(nn.Module):
    """One CLIP text encoder, or the two of SDXL."""

    def __init__(self, encoders: Sequence[nn.Module]):
        super().__init__()
        self.encoders = nn.ModuleList(encoders)

    @classmethod
    def of(cls, configs: Sequence[Mapping[str, Any]]) -> "TextEncoder":
        """Freshly initialised, from what each config.json says."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        kinds = (CLIPTextModel, CLIPTextModelWithProjection)
        made = [kind(CLIPTextConfig(**dict(c))) for kind, c in zip(kinds, copy.deepcopy(configs), strict=False)]
        for encoder in made:  # the numbers of the places are no weights: they are there also where weights are not yet
            for name, buffer in [*encoder.named_buffers()]:
                if name.endswith("position_ids"):
                    owner, places = name.rpartition(".")[0], torch.arange(buffer.shape[-1], device="cpu")
                    encoder.get_submodule(owner).register_buffer("position_ids", places[None], persistent=False)
        return cls(made)

    @classmethod
    def load(cls, source: str | Path) -> "TextEncoder":
        """Those of a pipeline's folder or Hub id, in float32, frozen; OSError where there are none."""
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        kinds = (CLIPTextModel, CLIPTextModelWithProjection) if two_encoders(source) else (CLIPTextModel,)
        with quiet():
            found = [_loaded(kind, source, name) for kind, name in zip(kinds, FOLDERS, strict=False)]
        return cls(found).eval().requires_grad_(False)

    @property
    def width(self) -> int:
        """D of a prompt's embedding."""
        return sum(int(encoder.config.hidden_size) for encoder in self.encoders)  # type: ignore[union-attr]

    def save(self, folder: str | Path) -> None:
        """Writes the parts of a pipeline's folder, as transformers does.

        Their configurations ask for float32, whatever the files keep: transformers follows them where no dtype is
        named, and diffusers' other parts are then float32 too.
        """
        for encoder, name in zip(self.encoders, FOLDERS, strict=False):
            with quiet():
                encoder.save_pretrained(Path(folder, name))  # type: ignore[operator]
            config = Path(folder, name, "config.json")
            write_json(config, read_json(config) | {"dtype": "float32"})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """{"prompt": (n, L, D)}, and {"pooled": (n, P)} with two encoders."""
        if len(self.encoders) == 1:
            return {"prompt": self.encoders[0](tokens)[0]}
        pairs = zip(self.encoders, tokens.unbind(1), strict=True)
        states = [encoder(part, output_hidden_states=True) for encoder, part in pairs]
        prompt = torch.cat([state.hidden_states[-2] for state in states], dim=-1)
        return {"prompt": prompt, "pooled": states[1].text_embeds}


def _loaded(kind: Any, source: str | Path, part: str) -> nn.Module:
    """A part of a pipeline; ValueError where its file does not hold all of it, which transformers would make up."""
    options = {"subfolder": part, "dtype": torch.float32, "output_loading_info": True, **reading(source, part)}
    model, found = kind.from_pretrained(str(source), **options)
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{Path(source, part)} holds not all of a {kind.__name__}: {missing[0]} is missing.")
    return model


class Tokenizer:
    """Words to tokens, by the tokenizers of a pipeline's folder or Hub id."""

    def __init__(self, source: str | Path):
        from transformers import CLIPTokenizer

        names = TOKENIZERS if two_encoders(source) else TOKENIZERS[:1]
        for name in names:
            _check_tokenizer(Path(source), name)
        self.tokenizers = [CLIPTokenizer.from_pretrained(str(source), subfolder=name) for name in names]
        if endless := [name for name, t in zip(names, self.tokenizers, strict=True) if t.model_max_length > 1e9]:
            raise ValueError(f"{Path(source, endless[0])} does not say how long prompts may be: model_max_length is "
                             "missing in its tokenizer_config.json.")  # fmt: skip

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """int64 (n, L), or (n, 2, L) for two encoders; what is longer than L is cut off."""
        parts = [
            tokenizer(list(prompts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                      return_tensors="pt").input_ids
            for tokenizer in self.tokenizers
        ]  # fmt: skip
        return parts[0] if len(parts) == 1 else torch.stack(parts, dim=1)

    def cut(self, prompts: Sequence[str]) -> list[str]:
        """A sentence for each prompt that is longer than L: what of it is not read."""
        first, texts, found = self.tokenizers[0], list(dict.fromkeys(prompts)), []
        most = first.model_max_length
        for text, tokens in zip(texts, first(texts).input_ids if texts else (), strict=True):
            if len(tokens) > most:
                lost = first.decode(tokens[most - 1 : -1])
                found.append(f"Of this prompt only {most} tokens are read: {text!r}. This is cut off: {lost!r}.")
        return found

    def save(self, folder: str | Path) -> None:
        """Writes the parts of a pipeline's folder, as transformers does."""
        for tokenizer, name in zip(self.tokenizers, TOKENIZERS, strict=False):
            tokenizer.save_pretrained(Path(folder, name))


def check_words(source: str | Path) -> None:
    """Raises what `TextEncoder.load` and `Tokenizer` would raise for missing or damaged files, and loads no weights."""
    for name in FOLDERS if two_encoders(source) else FOLDERS[:1]:
        reading(source, name)
    Tokenizer(source)


def _check_tokenizer(folder: Path, part: str) -> None:
    """Raises FileNotFoundError for a folder without one, in whose place transformers would put an empty one."""
    if folder.is_dir() and not any((folder / part / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise FileNotFoundError(f"{folder / part} holds no tokenizer: vocab.json is missing.")


def two_encoders(source: str | Path) -> bool:
    """Whether the pipeline has two text encoders, by its model_index.json."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    config = DiffusionPipeline.load_config(str(source))
    return isinstance(config, Mapping) and (config.get(FOLDERS[1]) or [None])[0] is not None
