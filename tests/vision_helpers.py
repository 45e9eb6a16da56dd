"""A CLIP of random weights, small enough for tests, as a folder of transformers."""

import json
from pathlib import Path

import torch


def small_clip(folder: Path) -> Path:
    """Pictures of 24 × 24, prompts of up to 12 letters, embeddings of 10 numbers."""
    import transformers

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 12, "eos_token_id": 1, "bos_token_id": 0}
    vision = {**small, "image_size": 24, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    return folder
