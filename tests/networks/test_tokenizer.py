"""Tokenizers made for captions, read by the stock CLIPTokenizer."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from transformers import CLIPTokenizer

from fewstep.networks.adapters.tokenizer import learned, make_tokenizer

CAPTIONS = ["a thick slanted three", "an eight, small and thin", "a thin, upright nine", "the digit three"] * 2
WORDS = {"a", "an", "and", "digit", "eight", "nine", "slanted", "small", "the", "thick", "thin", "three", "upright"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    make_tokenizer(CAPTIONS, folder, length=9)
    return folder


def pairs_of(words):
    """How often each two neighbours occur in words {parts: count}."""
    counts = Counter()
    for parts, n in words.items():
        for pair in pairwise(parts):
            counts[pair] += n
    return counts


def merged(parts, pair):
    """The parts with every occurrence of the pair joined."""
    joined = []
    while parts:
        step = 2 if parts[:2] == pair else 1
        joined.append("".join(parts[:step]))
        parts = parts[step:]
    return tuple(joined)


def test_every_merge_joins_a_most_frequent_pair():
    captions = sorted({caption.replace(",", "") for caption in CAPTIONS})
    words = Counter((*word[:-1], word[-1] + "</w>") for caption in captions for word in caption.split())
    for pair in learned(captions, 10_000):
        counts = pairs_of(words)
        assert counts[pair] == max(counts.values())
        words = Counter({merged(parts, pair): n for parts, n in words.items()})
    assert set(words) == {(word + "</w>",) for word in WORDS}


def test_words_of_the_captions_are_one_token_each(folder):
    words = CLIPTokenizer.from_pretrained(folder)
    assert words.model_max_length == 9
    assert words.tokenize("A  thick SLANTED three") == ["a</w>", "thick</w>", "slanted</w>", "three</w>"]
    assert all(words.tokenize(word) == [word + "</w>"] for word in WORDS)
    for caption in CAPTIONS:
        ids = words(caption).input_ids
        assert (ids[0], ids[-1]) == (words.bos_token_id, words.eos_token_id)
        assert words.decode(ids, skip_special_tokens=True).replace(" ,", ",") == caption


def test_prompts_are_padded_with_the_end_and_cut(folder):
    words = CLIPTokenizer.from_pretrained(folder)
    told = words(["a three", "", "a " * 20], padding="max_length", max_length=9, truncation=True).input_ids
    assert [len(row) for row in told] == [9, 9, 9]
    end = words.eos_token_id
    assert told[0][3:] == [end] * 6
    assert told[1] == [words.bos_token_id] + [end] * 8
    assert words.pad_token_id == end == len(words) - 1


def test_words_never_seen_come_in_pieces_and_none_is_unknown(folder):
    words = CLIPTokenizer.from_pretrained(folder)
    for strange in ("thinner", "zwölf", "三", "🙂", "3"):
        pieces = words.tokenize(strange)
        assert words.eos_token not in pieces
        assert pieces[-1].endswith("</w>")
        assert words.decode(words(strange).input_ids, skip_special_tokens=True) == strange
    assert words.tokenize("thinner")[0] == "thi"  # "thin" ends with n</w>, so its pieces are thi and n</w>


def test_the_files_are_clips_own_and_the_same_each_time(folder, tmp_path):
    make_tokenizer(iter(reversed(CAPTIONS)), tmp_path / "again", length=9)
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    from_files = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=9)
    for text in [*CAPTIONS, "thinner zwölf 3!"]:
        assert from_files(text).input_ids == CLIPTokenizer.from_pretrained(folder)(text).input_ids


def test_few_merges_leave_pieces(tmp_path):
    make_tokenizer(CAPTIONS, tmp_path / "few", length=40, merges=3)
    assert len((tmp_path / "few" / "merges.txt").read_text().splitlines()) == 4
    assert len(CLIPTokenizer.from_pretrained(tmp_path / "few")) == 512 + 3 + 2


def test_what_makes_no_tokenizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every caption is empty"):
        make_tokenizer(["", "  "], tmp_path / "none")
    with pytest.raises(ValueError, match="'an eight, small and thin' has 8 tokens.*length=8 or more"):
        make_tokenizer(CAPTIONS, tmp_path / "short", length=7)
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_of_a_size_decided_before(tmp_path):
    """The encoder's configuration has begin and end as its last two, and every word is a token all the same."""
    make_tokenizer(["a thick three", "the small zero"], tmp_path, length=8, size=600)
    made = CLIPTokenizer.from_pretrained(tmp_path)
    ids = made("a thick three", padding="max_length", max_length=8).input_ids
    assert (ids[0], ids[4:]) == (598, [599] * 4)
    assert made.convert_ids_to_tokens(ids[1:4]) == ["a</w>", "thick</w>", "three</w>"]
    make_tokenizer(["a thick three"], tmp_path, length=16, size=516)  # two merges only
    few = CLIPTokenizer.from_pretrained(tmp_path)("a thick three").input_ids
    assert (len(few), few[0], few[-1]) == (10, 514, 515)
