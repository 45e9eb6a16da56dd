"""A text encoder of one's own, small and made for the captions that are there: its tokenizer, kept in a pipeline's
layout so that it is loaded as all are, and its configuration.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewstep.files import whole_folder, write_json
from fewstep.networks.adapters.tokenizer import make_tokenizer


def write_words(folder: str | Path, captions: Iterable[str], vocabulary: int, length: int) -> None:
    """Writes `folder`/tokenizer, of `vocabulary` tokens (at least 514) and prompts of `length` tokens.

    Raises ValueError for captions that are empty or longer than that.
    """
    with whole_folder(folder) as aside:
        make_tokenizer(captions, Path(aside) / "tokenizer", length, size=vocabulary)
        index: dict[str, Any] = {"_class_name": "StableDiffusionPipeline"}
        write_json(aside / "model_index.json", {**index, "tokenizer": ["transformers", "CLIPTokenizer"]})


def text_config(vocabulary: int, length: int, width: int, layers: int, heads: int) -> dict[str, Any]:
    """What the config.json of a text encoder for such a tokenizer says."""
    return {
        "vocab_size": vocabulary, "max_position_embeddings": length, "hidden_size": width,
        "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
        "model_type": "clip_text_model",
    }  # fmt: skip
