"""A tokenizer and a text encoder of one's own: small ones, made for the captions that are there.

The tokenizer is CLIP's kind, byte-pair encoding of lower-case words, whose merges are learned from the captions; it
takes any text, since every byte is a token too. It is kept in a pipeline's layout, so that it is loaded as all are.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewstep.files import whole_folder, write_json

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer(folder: str | Path, captions: Sequence[str], vocabulary: int, length: int) -> None:
    """Writes `folder`/tokenizer, of at most `vocabulary` tokens (at least 514) and prompts of `length` tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))  # type: ignore[call-arg]
    learner.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    learner.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(bytes_) - 2, initial_alphabet=bytes_, end_of_word_suffix="</w>",
        show_progress=False,
    )  # fmt: skip
    learner.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = [*bytes_, *(f"{b}</w>" for b in bytes_), *("".join(pair) for pair in merges)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    vocab |= {BEGIN: vocabulary - 2, END: vocabulary - 1}  # known before the merges are
    made = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=length)  # type: ignore[call-arg]
    with whole_folder(folder) as aside:
        made.save_pretrained(aside / "tokenizer")
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
