"""A stock pipeline's weights in one file under the names of the latent diffusion code (and so of ComfyUI's).

The names are facts about published files: `model.diffusion_model.` the U-Net, `first_stage_model.` the autoencoder,
`cond_stage_model.transformer.` Stable Diffusion's text encoder, `conditioner.embedders.0/1.` those of SDXL.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
OUTER = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "conv_norm_out": "out.0",
         "time_embedding.linear_2": "time_embed.2", "conv_out": "out.2", "add_embedding.linear_1": "label_emb.0.0",
         "add_embedding.linear_2": "label_emb.0.2", "time_embedding.cond_proj": "time_embed.cond_proj"}  # fmt: skip
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj"}  # fmt: skip


def write(path: Path, pipe: Any) -> Path:
    """Everything that such a file holds of a pipeline: no tokenizer, no scheduler, no configuration."""
    found = {f"model.diffusion_model.{unet(n, pipe.unet)}": w for n, w in pipe.unet.state_dict().items()}
    found |= {f"first_stage_model.{vae(n, pipe.vae)}": shaped(n, w) for n, w in pipe.vae.state_dict().items()}
    first = {n.removeprefix("text_model."): w for n, w in pipe.text_encoder.state_dict().items()}
    second = getattr(pipe, "text_encoder_2", None)
    place = "cond_stage_model.transformer" if second is None else "conditioner.embedders.0.transformer"
    found |= {f"{place}.text_model.{n}": w for n, w in first.items()}
    if second is not None:
        found |= {f"conditioner.embedders.1.model.{n}": w for n, w in open_clip(second).items()}
    save_file({n: w.detach().clone().contiguous() for n, w in found.items()}, path)
    return path


def unet(name: str, network: Any) -> str:
    for theirs, ldm in OUTER.items():
        if name.startswith(f"{theirs}."):
            return name.replace(theirs, ldm, 1)
    layers = network.config.layers_per_block
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        kind, j, rest = found[1], int(found[2]), found[3]
        return f"middle_block.{2 * j if kind == 'resnets' else 1}.{inner(rest) if kind == 'resnets' else rest}"
    found = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    assert found
    way, i, kind, j, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{(i + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    attended = bool(getattr(getattr(network, f"{way}_blocks")[i], "attentions", None))
    if kind == "upsamplers":
        return f"output_blocks.{i * (layers + 1) + layers}.{1 + attended}.{rest}"
    place = f"input_blocks.{i * (layers + 1) + j + 1}" if way == "down" else f"output_blocks.{i * (layers + 1) + j}"
    return f"{place}.0.{inner(rest)}" if kind == "resnets" else f"{place}.1.{rest}"


def inner(rest: str) -> str:
    name, end = rest.rsplit(".", 1)
    return f"{RESNET[name]}.{end}"


def vae(name: str, network: Any) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    if "mid_block.attentions.0" in name:
        place, rest = name.split("mid_block.attentions.0.")
        part, end = rest.rsplit(".", 1)
        return f"{place}mid.attn_1.{ATTENTION[part]}.{end}"
    last = len(network.config.block_out_channels) - 1
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{last - int(m[1])}.block", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)


def shaped(name: str, w: Tensor) -> Tensor:
    """The autoencoder's attention is made of convolutions there."""
    return w[..., None, None] if "attentions" in name and w.ndim == 2 else w


def open_clip(encoder: Any) -> dict[str, Tensor]:
    state = {n.removeprefix("text_model."): w for n, w in encoder.state_dict().items()}
    found = {"positional_embedding": state["embeddings.position_embedding.weight"],
             "token_embedding.weight": state["embeddings.token_embedding.weight"],
             "text_projection": state["text_projection.weight"].T}  # fmt: skip
    for n, w in state.items():
        if n.startswith("final_layer_norm."):
            found[n.replace("final_layer_norm", "ln_final")] = w
        if (place := re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", n)) and place[2] in CLIP:
            found[f"transformer.resblocks.{place[1]}.{CLIP[place[2]]}.{place[3]}"] = w
    for i in range(encoder.config.num_hidden_layers):
        for end in ("weight", "bias"):
            parts = [state[f"encoder.layers.{i}.self_attn.{x}_proj.{end}"] for x in "qkv"]
            found[f"transformer.resblocks.{i}.attn.in_proj_{end}"] = torch.cat(parts)
    return found
