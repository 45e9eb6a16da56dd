"""A tokenizer of CLIP's kind, made for some captions.

Byte-pair encoding (Sennrich et al. 2016) as CLIP has it: lower case; a word is a run of letters, one figure, or a run
of other signs; its bytes, the last one marked `</w>`, are merged pair by pair, the pair most frequent in the captions
first. The vocabulary is CLIP's in its order: 256 bytes, the 256 marked ones, what the merges make, begin and end.

Every byte is in it, so no word is unknown: one that was never seen comes as pieces, down to single bytes, whose
embeddings no caption has trained.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from fewstep.files import whole_folder

END = "</w>"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")


def make_tokenizer(
    captions: Iterable[str], folder: str | Path, length: int = 16, merges: int = 4096, size: int | None = None
) -> None:
    """Writes a tokenizer that `CLIPTokenizer.from_pretrained(folder)` of transformers loads.

    captions: what it learns its merges from, at most `merges` of them: few captions become one token a word.
    length: L, the tokens of a prompt, begin, end and padding included. A folder that is there is replaced.
    size: of the vocabulary, at least 514, where a text encoder's is decided already: begin and end are its last two,
        and there are size − 514 merges at most.
    Raises ValueError where there are no words, or where a caption has more tokens than L.
    """
    from transformers import CLIPTokenizer

    captions = sorted(set(captions))
    pairs = learned(captions, merges if size is None else min(merges, size - 2 * len(alphabet()) - len(SPECIAL)))
    if not pairs:
        raise ValueError("There are no words to make a tokenizer of: every caption is empty.")
    letters = alphabet()
    tokens = dict.fromkeys([*letters, *(letter + END for letter in letters), *map("".join, pairs), *SPECIAL])
    vocabulary = {token: k for k, token in enumerate(tokens)}
    if size is not None:
        vocabulary |= {token: size - len(SPECIAL) + i for i, token in enumerate(SPECIAL)}
    made = CLIPTokenizer(vocabulary, pairs, model_max_length=length)  # type: ignore[arg-type]
    longest = max(captions, key=lambda caption: len(made(caption).input_ids))
    if (needed := len(made(longest).input_ids)) > length:
        raise ValueError(f"The caption {longest!r:.200} has {needed} tokens, begin and end included, and length is "
                         f"{length}: a tokenizer for these captions needs length={needed} or more.")  # fmt: skip
    with whole_folder(folder) as aside:
        made.save_pretrained(aside)
        (aside / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        lines = "".join(f"{first} {second}\n" for first, second in pairs)
        (aside / "merges.txt").write_text(f"#version: 0.2\n{lines}", encoding="utf-8")


def alphabet() -> list[str]:
    """The 256 printable letters that stand for the bytes, sorted."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def learned(captions: Iterable[str], merges: int) -> list[tuple[str, str]]:
    """The merges, most frequent first, of captions split into words as CLIP splits them."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import CLIPTokenizer

    clip, learner = CLIPTokenizer().backend_tokenizer, Tokenizer(models.BPE(end_of_word_suffix=END))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    letters = alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2 * len(letters) + merges, initial_alphabet=letters,
                                  end_of_word_suffix=END, show_progress=False)  # fmt: skip
    learner.train_from_iterator(captions, trainer)
    found = json.loads(learner.to_str())["model"]["merges"]
    return [(first, second) for first, second in found][:merges]
