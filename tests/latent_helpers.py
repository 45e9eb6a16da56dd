"""Tiny pipelines in exactly the layouts of Stable Diffusion 1.5, of SDXL and of latent consistency models."""

import json
from pathlib import Path

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WORDS = (
    "a", "the", "thick", "thin", "upright", "slanted", "large", "small", "of", "and", "zero", "one", "two", "three",
    "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
LENGTH = 12


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of letters and a few whole words, with its files in `folder`."""
    letters = [chr(c) for c in range(33, 127)]
    merges, vocab = [], [*letters, *(letter + "</w>" for letter in letters)]
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            if pair not in merges:
                merges.append(pair)
                vocab.append("".join(pair))
            parts = ["".join(pair), *parts[2:]]
    vocab = [*dict.fromkeys(vocab), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(vocab)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=LENGTH)


def text_config(words: CLIPTokenizer, width: int = 32, **more) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(words), hidden_size=width, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=LENGTH, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id, **more,
    )  # fmt: skip


def autoencoder(channels: int = 3, seed: int = 0) -> diffusers.AutoencoderKL:
    torch.manual_seed(seed)
    return diffusers.AutoencoderKL(
        in_channels=channels, out_channels=channels, latent_channels=4, block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=8,
        sample_size=16,
    ).eval()  # fmt: skip


def tiny_autoencoder() -> diffusers.AutoencoderTiny:
    """Of the same factor."""
    torch.manual_seed(2)
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()  # fmt: skip


def unet(seed: int = 0, **more) -> diffusers.UNet2DConditionModel:
    torch.manual_seed(seed)
    config = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 32, "attention_head_dim": 4, "norm_num_groups": 8,
    }  # fmt: skip
    return diffusers.UNet2DConditionModel(**{**config, **more}).eval()


def pipeline(
    folder: Path,
    kind: str = "sd",
    *,
    channels: int = 3,
    told: int = 0,
    prediction: str = "epsilon",
    second_width: int = 32,
):
    """A stock pipeline, saved to `folder`: sd, lcm or sdxl; `told` is time_cond_proj_dim."""
    words, more = tokenizer(folder / "words"), {"time_cond_proj_dim": told or None}
    torch.manual_seed(1)
    schedule = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
    }
    ddim = diffusers.DDIMScheduler(**schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    parts = {"vae": autoencoder(channels), "text_encoder": CLIPTextModel(text_config(words)).eval(), "tokenizer": words}
    if kind == "sdxl":
        more |= {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True,
                 "transformer_layers_per_block": (1, 2), "cross_attention_dim": 32 + second_width,
                 "projection_class_embeddings_input_dim": 6 * 8 + second_width}  # fmt: skip
        second = CLIPTextModelWithProjection(
            text_config(words, second_width, projection_dim=second_width, hidden_act="gelu")
        ).eval()
        parts |= {"text_encoder_2": second, "tokenizer_2": words}
        made = diffusers.StableDiffusionXLPipeline(**parts, unet=unet(**more), scheduler=ddim)
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        if kind == "lcm":
            more["time_cond_proj_dim"], lcm = told or 32, diffusers.LCMScheduler(prediction_type=prediction)
            made = diffusers.LatentConsistencyModelPipeline(**parts, unet=unet(**more), scheduler=lcm)
        else:
            made = diffusers.StableDiffusionPipeline(**parts, unet=unet(**more), scheduler=ddim)
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made
