"""The parts of a latent pipeline: which there are, how they are saved, adapters, and the autoencoder's memory.

One class serves models of three shapes, and what it saves names the class of diffusers that can run it, so that it
loads where fewstep is not installed:

    U-Net told the guidance scale   LatentConsistencyModel(Img2Img)Pipeline
    Stable Diffusion                StableDiffusion(Img2Img)Pipeline
    SDXL                            StableDiffusionXL(Img2Img)Pipeline
"""

import json
from typing import Any

from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers.scheduling_lcm import LCMScheduler as Theirs
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from fewstep.dropin.latent_memory import Memory
from fewstep.dropin.latent_scheduler import LCMScheduler
from fewstep.dropin.latent_words import PromptPipeline
from fewstep.dropin.stepping import logger
from fewstep.formats.ddpm_scheduler import schedule_of

SDXL_ONLY = ("text_encoder_2", "tokenizer_2")
SDXL_LAYERS = ("text_encoder_2_lora_layers", "text_encoder_2_lora_adapter_metadata")
OTHERS_ONLY = ("safety_checker",)


class LatentParts(PromptPipeline, DiffusionPipeline):
    """Components and what concerns them alone."""

    model_cpu_offload_seq = "text_encoder->text_encoder_2->image_encoder->unet->vae"
    _optional_components = ["safety_checker", "feature_extractor", "image_encoder", *SDXL_ONLY]  # noqa: RUF012
    _exclude_from_cpu_offload = ["safety_checker"]  # noqa: RUF012
    _kind = ""
    """How names of diffusers' pipelines for this task end, before "Pipeline"."""

    def __init__(
        self,
        vae: AutoencoderKL | AutoencoderTiny | None,
        text_encoder: CLIPTextModel | None,
        tokenizer: CLIPTokenizer | None,
        unet: UNet2DConditionModel | None,
        scheduler: SchedulerMixin | None,
        safety_checker: StableDiffusionSafetyChecker | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        image_encoder: CLIPVisionModelWithProjection | None = None,
        requires_safety_checker: bool = True,
        text_encoder_2: CLIPTextModelWithProjection | None = None,
        tokenizer_2: CLIPTokenizer | None = None,
        force_zeros_for_empty_prompt: bool = True,
    ):
        """Any scheduler's configuration makes an LCMScheduler. Raises ValueError for a safety checker alone."""
        if safety_checker is not None and feature_extractor is None:
            raise ValueError("A safety checker needs a `feature_extractor` beside it; or pass safety_checker=None.")
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=as_lcm(scheduler),
            safety_checker=safety_checker, feature_extractor=feature_extractor, image_encoder=image_encoder,
            text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2,
        )  # fmt: skip
        self.register_to_config(
            requires_safety_checker=requires_safety_checker, force_zeros_for_empty_prompt=force_zeros_for_empty_prompt
        )
        if safety_checker is None and requires_safety_checker and not self.told_sizes:
            logger.warning("This pipeline has no safety checker: see to it that you keep to the model's licence.")
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._memory = Memory()

    @property
    def vae_scale_factor(self) -> int:
        """How many pixels a latent is wide."""
        vae = getattr(self, "vae", None)
        return 2 ** (len(vae.config.block_out_channels) - 1) if vae is not None else 8

    @property
    def told_guidance(self) -> bool:
        """Whether the U-Net is told the guidance scale; else guidance is a second call of it."""
        return bool(self.unet.config.time_cond_proj_dim)

    @classmethod
    def from_single_file(cls, pretrained_model_link_or_path: Any, **kwargs: Any) -> Any:
        """A pipeline of one file in the form of Stable Diffusion's own code, or ComfyUI's, by diffusers' method.

        Such a file holds weights alone. What it leaves open, shapes and tokenizers, is read out of `config`, the folder
        of a pipeline of the same kind (weights may be missing there); without it diffusers fetches that from the Hub.
        Raises FileNotFoundError where it cannot, ValueError for a file without all that the configuration asks for.
        diffusers finds no guidance embedding in such a file: of a model that is told its scale, pass the `unet` too.
        """
        parent: Any = super()
        try:
            return parent.from_single_file(pretrained_model_link_or_path, **kwargs)
        except LocalEntryNotFoundError:
            raise FileNotFoundError(
                f"{pretrained_model_link_or_path} is not here, or it holds weights alone and what they leave open "
                "cannot be fetched now: give config=, the folder of a diffusers pipeline of the same kind (JSON and "
                "tokenizers suffice)."
            ) from None
        except NotImplementedError as error:  # what no weight was found for is left on the meta device
            if "meta tensor" not in str(error):
                raise
            raise ValueError(
                f"In {pretrained_model_link_or_path} not all weights were found that the configuration asks for: give "
                "config= of a pipeline of the same kind, or the part itself (for a guidance embedding, unet=…)."
            ) from None

    # -- saving ------------------------------------------------------------------------------------------------------

    @property
    def components(self) -> dict[str, Any]:
        """The parts that this shape of model has, for `Other(**pipe.components)`."""
        missing = OTHERS_ONLY if self.told_sizes else SDXL_ONLY
        return {name: part for name, part in super().components.items() if name not in missing or part is not None}

    def to_json_string(self) -> str:
        """The folder's index, naming diffusers' own class and what it takes."""
        index = json.loads(super().to_json_string())
        told = self.unet is not None and self.told_guidance
        family = "StableDiffusionXL" if self.told_sizes else "LatentConsistencyModel" if told else "StableDiffusion"
        left_out = ("safety_checker", "requires_safety_checker")
        if not self.told_sizes:
            left_out = (*SDXL_ONLY, "force_zeros_for_empty_prompt")
        index = {name: value for name, value in index.items() if name not in left_out}
        return json.dumps(index | {"_class_name": f"{family}{self._kind}Pipeline"}, indent=2, sort_keys=True) + "\n"

    # -- adapters ----------------------------------------------------------------------------------------------------

    @property
    def _lora_loadable_modules(self) -> list[str]:
        return ["unet", "text_encoder", *(["text_encoder_2"] if self.text_encoder_2 is not None else [])]

    def load_lora_weights(self, *args: Any, **kwargs: Any) -> None:
        """Adapters for the U-Net and the text encoders: diffusers' loader for Stable Diffusion, or for SDXL."""
        mixin: Any = StableDiffusionXLLoraLoaderMixin if self.told_sizes else StableDiffusionLoraLoaderMixin
        mixin.load_lora_weights(self, *args, **kwargs)

    @classmethod
    def save_lora_weights(cls, *args: Any, **kwargs: Any) -> None:
        """Writes adapters: diffusers' method for Stable Diffusion, or for SDXL where its second encoder has some."""
        second = any(kwargs.get(name) is not None for name in SDXL_LAYERS)
        mixin: Any = StableDiffusionXLLoraLoaderMixin if second else StableDiffusionLoraLoaderMixin
        kept = kwargs if second else {name: value for name, value in kwargs.items() if name not in SDXL_LAYERS}
        mixin.save_lora_weights(*args, **kept)

    def fuse_lora(self, components: list[str] | None = None, *args: Any, **kwargs: Any) -> None:
        """Adds the adapters to the weights, of all parts that have any unless `components` says which."""
        parent: Any = super()
        parent.fuse_lora(components or self._lora_loadable_modules, *args, **kwargs)

    def unfuse_lora(self, components: list[str] | None = None, **kwargs: Any) -> None:
        """Undoes `fuse_lora`."""
        parent: Any = super()
        parent.unfuse_lora(components or self._lora_loadable_modules, **kwargs)

    # -- memory ------------------------------------------------------------------------------------------------------

    def enable_vae_slicing(self) -> None:
        """Pictures are decoded one by one, which takes less memory."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Pictures are decoded together."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Large pictures are encoded and decoded in overlapping tiles, which takes less memory."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Pictures are encoded and decoded whole."""
        self.vae.disable_tiling()


def as_lcm(scheduler: Any) -> Any:
    """fewstep's LCMScheduler of a scheduler's configuration; a subclass of diffusers' own is left as it is."""
    if isinstance(scheduler, LCMScheduler) or (isinstance(scheduler, Theirs) and type(scheduler) is not Theirs):
        return scheduler
    if not isinstance(scheduler, SchedulerMixin):
        return scheduler
    if not isinstance(scheduler, Theirs):
        logger.info(f"{type(scheduler).__name__}'s noise schedule is stepped through by an LCMScheduler.")
    # Without diffusers' note of which values were defaults, for its classes differ in these.
    config: Any = scheduler.config  # type: ignore[attr-defined]
    kind = type(scheduler).__name__
    schedule_of({**config, "_class_name": kind}, "The pipeline's scheduler")  # refuses levels that are no DDPM's
    return LCMScheduler.from_config({k: v for k, v in config.items() if k != "_use_default_values"})
