"""Prompts as a latent model's network wants them.

Stable Diffusion   prompt = a text encoder's last states (n, L, D), normed; `clip_skip` k reads k layers earlier
SDXL               prompt = both encoders' states before the last layer (`clip_skip` k: k earlier still), side by side;
                   pooled = the second encoder's projection (n, P)

Real guidance (w = scale − 1 outside the network) also wants what the picture shall not be: the negative prompt, or the
empty one; for SDXL models that were trained so, zeros stand for the empty one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.utils.peft_utils import scale_lora_layers
from torch import Tensor, nn

from fewstep.dropin.latent_memory import KEPT, Memory
from fewstep.dropin.latent_said import Text, Words, listed
from fewstep.dropin.stepping import logger


class PromptPipeline:
    """The part of a pipeline that reads. `memory_of_prompts(0)` switches off that prompts are remembered."""

    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any
    unet: Any
    config: Any
    maybe_convert_prompt: Any

    def memory_of_prompts(self, size: int = KEPT) -> None:
        """From now on the embeddings of the last `size` prompts (or lists of them) are kept; 0 keeps none.

        An embedding is used again only while the text encoder is what it was: `latent_memory` says how that is known.
        """
        self._memory = Memory(size)

    @property
    def told_sizes(self) -> bool:
        """Whether this is an SDXL-shaped model: two text encoders, and a U-Net that is told sizes."""
        if self.text_encoder_2 is not None:
            return True
        return self.unet is not None and self.unet.config.addition_embed_type == "text_time"

    def encode_prompt(
        self,
        prompt: Text,
        device: Any,
        num_images_per_prompt: int | np.integer,
        do_classifier_free_guidance: bool,
        negative_prompt: Text = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        lora_scale: float | None = None,
        clip_skip: int | np.integer | None = None,
        prompt_2: Text = None,
        negative_prompt_2: Text = None,
        pooled_prompt_embeds: Tensor | None = None,
        negative_pooled_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor | None, ...]:
        """(prompt, negative), each (n · num_images_per_prompt, L, D), the variants of one prompt one after another; for
        SDXL also their pooled forms. Without guidance the negative ones are None. See `Words` for what may be given."""
        words = Words(prompt, negative_prompt, prompt_2, negative_prompt_2, prompt_embeds, negative_prompt_embeds,
                      pooled_prompt_embeds, negative_pooled_prompt_embeds, clip_skip)  # fmt: skip
        with self._scaled(lora_scale):
            told = self._positive(words, device)
            none = (None,) * len(told)
            against = self._negative(words, told, device) if do_classifier_free_guidance else none
        parts = [part for pair in zip(told, against, strict=True) for part in pair]
        return tuple(None if part is None else self._repeated(part, num_images_per_prompt, device) for part in parts)

    def _positive(self, words: Words, device: Any) -> tuple[Tensor, ...]:
        if words.prompt is not None:
            read = self._read([words.prompt, words.prompt_2 or words.prompt], device, words.clip_skip)
            return _with_pooled(read, words.pooled_prompt_embeds, "pooled_prompt_embeds")
        return self._embedded(words.prompt_embeds, words.pooled_prompt_embeds, "")

    def _negative(self, words: Words, told: tuple[Tensor, ...], device: Any) -> tuple[Tensor, ...]:
        """For as many prompts, as long as they are."""
        if words.negative_prompt_embeds is not None:
            given = self._embedded(words.negative_prompt_embeds, words.negative_pooled_prompt_embeds, "negative_")
            if given[0].shape != told[0].shape:
                raise ValueError(f"The prompt's embedding is {tuple(told[0].shape)}, "
                                 f"the negative one's {tuple(given[0].shape)}: they have to be alike.")  # fmt: skip
            return given
        if not words.negative and self.told_sizes and self.config.get("force_zeros_for_empty_prompt", True):
            return tuple(torch.zeros_like(part) for part in told)
        first = listed(words.negative_prompt or "", words.count, "negative_prompt")
        second = listed(words.negative_prompt_2 or first, words.count, "negative_prompt_2")
        read = self._read([first, second], device, None, told[0].shape[1])  # diffusers skips no layer of these
        return _with_pooled(read, words.negative_pooled_prompt_embeds, "negative_pooled_prompt_embeds")

    def _embedded(self, embeds: Tensor | None, pooled: Tensor | None, kind: str) -> tuple[Tensor, ...]:
        assert embeds is not None
        if not self.told_sizes:
            return (embeds,)
        if pooled is None:
            raise ValueError(f"SDXL is told a pooled prompt too: with `{kind}prompt_embeds` pass "
                             f"`{kind}pooled_prompt_embeds`.")  # fmt: skip
        if len(pooled) != len(embeds):
            raise ValueError(f"`{kind}prompt_embeds` are {len(embeds)}, `{kind}pooled_prompt_embeds` {len(pooled)}: "
                             "give as many of both.")  # fmt: skip
        return embeds, pooled

    def _read(self, texts: list[Text], device: Any, skip: Any, length: int | None = None) -> tuple[Tensor, ...]:
        readers = [(self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2)]
        if not self.told_sizes:
            return self._states(*readers[0], texts[0], device, skip, length)[:1]
        there = [(*pair, text) for pair, text in zip(readers, texts, strict=True) if pair[1] is not None]
        if not there:
            raise ValueError("This pipeline has no text encoder: pass `prompt_embeds` and `pooled_prompt_embeds`.")
        states = [self._states(*reader, device, skip, length) for reader in there]
        return torch.cat([prompt for prompt, _ in states], -1), states[-1][1]

    def _states(
        self, tokenizer: Any, encoder: Any, text: Text, device: Any, skip: Any, length: int | None
    ) -> tuple[Tensor, Tensor]:
        """One encoder's states (n, L, D) and its other output, remembered."""
        if encoder is None or tokenizer is None:
            raise ValueError("This pipeline has no text encoder: pass `prompt_embeds`.")
        tokens = _tokens(tokenizer, self.maybe_convert_prompt(listed(text), tokenizer), length)
        masked = getattr(encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(device) if masked else None
        asked = (tuple(map(tuple, tokens.input_ids.tolist())), skip, self.told_sizes, str(device))
        read = lambda: _forward(encoder, tokens.input_ids.to(device), mask, skip, self.told_sizes)  # noqa: E731
        states, other = self._memory(encoder, asked, read)
        return states, other

    @contextmanager
    def _scaled(self, lora_scale: float | None) -> Iterator[None]:
        """The text encoders' adapters at this strength, for a while."""
        encoders = [part for part in (self.text_encoder, self.text_encoder_2) if part is not None]
        if lora_scale is None:
            yield
            return
        self._lora_scale = lora_scale  # which adapters loaded later begin with
        with kept_scales(*encoders):
            for encoder in encoders:
                scale_lora_layers(encoder, lora_scale)
            yield

    def _repeated(self, part: Tensor, copies: Any, device: Any) -> Tensor:
        network = self.unet if self.unet is not None else self.text_encoder
        return part.to(device, network.dtype if network is not None else None).repeat_interleave(copies, 0)


@contextmanager
def kept_scales(*parts: nn.Module) -> Iterator[None]:
    """Puts the strengths of adapters back afterwards. diffusers divides them by what it multiplied them with, and for
    a strength of 0, which it cannot divide by, forgets what `set_adapters` said."""
    layers: list[Any] = [layer for part in parts for layer in part.modules() if hasattr(layer, "merged_adapters")]
    before = [(layer, dict(layer.scaling)) for layer in layers if hasattr(layer, "scaling")]
    try:
        yield
    finally:
        for layer, scaling in before:
            layer.scaling.update(scaling)


def _with_pooled(read: tuple[Tensor, ...], pooled: Tensor | None, name: str) -> tuple[Tensor, ...]:
    """What was read of prompts, with the pooled form that was given for them."""
    if pooled is None:
        return read
    if pooled.shape != read[1].shape:
        raise ValueError(f"`{name}` is {tuple(pooled.shape)}, and for these prompts {tuple(read[1].shape)} is needed.")
    return read[0], pooled.to(read[1])


def _tokens(tokenizer: Any, texts: list[str], length: int | None) -> Any:
    """Token ids (n, L), with a warning that names what did not fit."""
    most = length or tokenizer.model_max_length
    tokens = tokenizer(texts, padding="max_length", max_length=most, truncation=True, return_tensors="pt")
    for text, ids in zip(texts, tokenizer(texts).input_ids, strict=True):
        if len(ids) > most:
            logger.warning(f"Of this prompt only {most} tokens are read: {text!r}. This is cut off: "
                           f"{tokenizer.decode(ids[most - 1 : -1])!r}.")  # fmt: skip
    return tokens


def _forward(encoder: Any, ids: Tensor, mask: Tensor | None, skip: Any, two: bool) -> tuple[Tensor, Tensor]:
    """The states that are read, and the encoder's first output (of a projecting encoder: the pooled prompt)."""
    out = encoder(ids, attention_mask=mask, output_hidden_states=two or skip is not None)
    if not two and skip is None:
        return out[0], out[0]
    layers = out.hidden_states
    place = len(layers) - 1 - (skip or 0) - two
    if place < 0:
        raise ValueError(f"`clip_skip`={skip} leaves no layer of a text encoder that has {len(layers) - 1}.")
    if two:
        return layers[place], out[0]
    inner = getattr(encoder, "text_model", encoder)  # which transformers 5 has merged into its owner
    return inner.final_layer_norm(layers[place]), out[0]
