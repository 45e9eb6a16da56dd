"""DINOv2 and CLIP, by transformers: the features of FD-DINOv2 (Stein et al. 2023), CMMD (Jayasumana et al. 2024) and
the CLIP score (Hessel et al. 2021).

    DINOv2   224 × 224 by Pillow's bicubic filter, squeezed where a picture is no square; ImageNet's mean and deviation;
             the class token after the last norm, 1024 numbers for ViT-L/14
    CLIP     the middle square, resized by Pillow's bicubic filter to the network's own size; CLIP's mean and deviation;
             the projected embedding, of length 1, as for the text

DINOv2's place embeddings, learned at 37 × 37, are resized to 16 × 16 as in Meta's own code, bicubically with a scale of
16.1 / 37: with transformers' 16 / 37 the numbers are not those that were published.
"""

from typing import Any, NoReturn, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewstep.evaluation.features.seeing import Network, bicubic, normalized
from fewstep.evaluation.types import Seen
from fewstep.lpips import MEAN, STD

DINOV2, CLIP = "facebook/dinov2-large", "openai/clip-vit-large-patch14-336"
PUBLISHED = {
    DINOV2: "dinov2-vitl14",
    CLIP: "clip-vitl14-336",
    "openai/clip-vit-large-patch14": "clip-vitl14",
    "openai/clip-vit-base-patch32": "clip-vitb32",
}
"""Repositories of the Hub, and what the features are called when they come from there."""

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE = 224
OFFSET = 0.1


def open_vision(source: str, kind: str | None, name: str, device: str | torch.device) -> Network:
    """DINOv2 or CLIP from a folder or the Hub, whichever its config says; `kind`, where given, is what it must be.

    Raises ImportError without transformers, FileNotFoundError where there are no weights, ValueError for another model.
    """
    try:
        import transformers
    except ModuleNotFoundError:
        raise ImportError(f"The features '{source}' need transformers: pip install 'fewstep[latent]'.") from None
    found = _from(transformers.AutoConfig, source).model_type
    kinds = {"dinov2": Dinov2, "clip": Clip}
    if found not in kinds or kind not in (None, found):
        wanted = {"dinov2": "DINOv2", "clip": "CLIP", None: "DINOv2 or CLIP"}[kind]
        raise ValueError(f"{source} is no {wanted} model, but one of the type '{found}'.")
    return kinds[found](name, source, device)


@final
class Dinov2(Network):
    """DINOv2's class token."""

    def __init__(self, name: str, source: str, device: str | torch.device):
        from transformers import Dinov2Model

        model = _from(Dinov2Model, source, dtype=torch.float32)
        fix_places(model.embeddings)
        super().__init__(name, model, device, f"{SIZE}×{SIZE} bicubic (Pillow)", model.config.hidden_size)

    def see(self, pictures: Tensor) -> Seen:
        x = normalized(bicubic(pictures, SIZE, square=False), MEAN, STD)
        return Seen(self.network(pixel_values=x).pooler_output)


@final
class Clip(Network):
    """CLIP's embeddings of pictures and of text."""

    def __init__(self, name: str, source: str, device: str | torch.device):
        from transformers import CLIPModel, CLIPTokenizer

        model = _from(CLIPModel, source, dtype=torch.float32)
        self.size, self.source = model.config.vision_config.image_size, source
        self.tokenizer = _from(CLIPTokenizer, source)
        self.longest = model.config.text_config.max_position_embeddings
        resize = f"the middle square, {self.size}×{self.size} bicubic (Pillow)"
        super().__init__(name, model, device, resize, model.config.projection_dim)
        self.model = model

    def see(self, pictures: Tensor) -> Seen:
        x = normalized(bicubic(pictures, self.size, square=True), CLIP_MEAN, CLIP_STD)
        return Seen(F.normalize(self.model.visual_projection(self.model.vision_model(x).pooler_output), dim=1))

    @torch.no_grad()
    def text(self, prompts: list[str]) -> Tensor:
        tokens: Any = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.longest, return_tensors="pt"
        ).to(self.device)
        seen = self.model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return F.normalize(self.model.text_projection(seen.pooler_output), dim=1)


def fix_places(embeddings: Any) -> None:
    """Replaces learned place embeddings (1, 1 + M², d) by those for 224 × 224, resized as in Meta's code."""
    learned = embeddings.position_embeddings.detach()
    m, n = round((learned.shape[1] - 1) ** 0.5), SIZE // embeddings.patch_size
    if m == n:
        return
    grid = learned[:, 1:].unflatten(1, (m, m)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=(n + OFFSET) / m, mode="bicubic", align_corners=False)
    embeddings.position_embeddings = nn.Parameter(
        torch.cat([learned[:, :1], grid.flatten(2).permute(0, 2, 1)], dim=1), requires_grad=False
    )


def _from(cls: Any, source: str, **options: Any) -> Any:
    """`from_pretrained`, with what is missing said in one sentence. Of a repository no code is run."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return cls.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        _missing(source, error)
    finally:
        if bars:
            logging.enable_progress_bar()


def _missing(source: str, error: Exception) -> NoReturn:
    raise FileNotFoundError(
        f"The features need {source}, which is no folder of transformers here, nor in the Hub's cache, nor to be had "
        f"now ({type(error).__name__}). Where there is a network: hf download {source}; the folder that it prints may "
        "then be named as the features."
    ) from None
