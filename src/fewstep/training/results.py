"""What a run makes: weights to draw with in between, and `model/` at its end.

pictures          fewstep's own folder
latents           a diffusers pipeline
LoRA              pytorch_lora_weights.safetensors, the same in kohya's form, and what they change
an autoencoder    diffusers' folder, scaling_factor = 1/standard deviation of the latents of the data
"""

from pathlib import Path

import torch
from torch import Tensor

from fewstep.design import Design
from fewstep.files import refuse_others, whole_folder, write_json
from fewstep.formats import latent_folder
from fewstep.formats.ddpm_scheduler import scheduler_of
from fewstep.images import Images
from fewstep.images.opening import signed
from fewstep.networks.adapters import Autoencoder, AutoencoderShape
from fewstep.networks.adapters.lora import FILE, KOHYA, layers, merged
from fewstep.saving import write_model
from fewstep.training.recipe import Recipe
from fewstep.training.state import State

MARKS = ("model.json", "model_index.json", "config.json", "fewstep.json")
"""A finished model's folder has one of these; folders are written whole."""

AUTOENCODER = ("config.json", "diffusion_pytorch_model.safetensors")
LORA = (FILE, KOHYA, "fewstep.json", "README.md")
"""What these folders hold."""

MEASURED = 1024
"""Pictures whose latents are measured."""


def there(folder: Path) -> bool:
    """Whether the model is written."""
    return any((folder / name).is_file() for name in MARKS)


def weights(recipe: Recipe, state: State, *, averaged: bool = True) -> dict[str, Tensor]:
    """The state dict to draw with: the first average, or the weights themselves; low-rank layers merged."""
    found = state.averaged() if averaged else state.network.state_dict()
    lora = recipe.latent.lora if recipe.latent else None
    return merged(found, lora.alpha / lora.rank) if lora else found


def write(folder: Path, recipe: Recipe, design: Design, state: State, images: Images) -> None:
    """Writes the trained model; what is there stays until it is complete."""
    if isinstance(design.architecture, AutoencoderShape):
        refuse_others(folder, AUTOENCODER)
        autoencoder = with_scaling(averaged_autoencoder(design.architecture, state), images)
        with whole_folder(folder) as aside:
            autoencoder.save(aside)
    elif recipe.latent and recipe.latent.lora:
        refuse_others(folder, LORA)
        about = {"about": dict(design.about), "times": dict(design.times), "scheduler": scheduler_of(design)}
        with whole_folder(folder) as aside:
            recipe.latent.lora.save(aside, layers(state.averaged()))
            write_json(aside / "fewstep.json", about)
            (aside / "README.md").write_text(card(design), encoding="utf-8")
    elif recipe.latent:
        latent_folder.write(folder, design, weights(recipe, state))
    else:
        write_model(folder, design, state.averaged())


def averaged_autoencoder(shape: AutoencoderShape, state: State) -> Autoencoder:
    """A copy with the averaged weights, on the CPU."""
    network = shape.build()
    network.load_state_dict({name: w.cpu() for name, w in state.averaged().items()})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def with_scaling(autoencoder: Autoencoder, images: Images) -> Autoencoder:
    """The same, whose latents have unit variance over the data: Var = Var(mean) + E std²."""
    autoencoder.vae.register_to_config(scaling_factor=1.0, shift_factor=None)
    count = min(len(images), MEASURED)
    chosen = [round(i * (len(images) - 1) / max(1, count - 1)) for i in range(count)]
    parts = [autoencoder.moments(torch.stack([signed(images.picture(i)).permute(2, 0, 1) for i in chosen[j : j + 32]]))
             for j in range(0, count, 32)]  # fmt: skip
    mean, std = (torch.cat(part).double() for part in zip(*parts, strict=True))
    deviation = (mean.var() + (std**2).mean()).sqrt()
    autoencoder.vae.register_to_config(scaling_factor=float(1 / deviation))
    return autoencoder


def card(design: Design) -> str:
    """The model card of a LoRA."""
    base = design.about["base"]
    return "\n".join([
        "---", "library_name: diffusers", f"base_model: {base}", "tags: [lora, text-to-image]", "---",
        f"# {design.about['name']}", "", f"A latent consistency LoRA for {base}.", "",
        "```python", "from diffusers import DiffusionPipeline, LCMScheduler", "",
        f'pipe = DiffusionPipeline.from_pretrained("{base}")',
        "pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)",
        'pipe.load_lora_weights("this folder")',
        'image = pipe("a prompt", num_inference_steps=4, guidance_scale=1).images[0]', "```", "",
    ])  # fmt: skip
