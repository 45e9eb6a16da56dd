"""fewstep evaluate on a text-to-image model: from prompts to a CLIP score."""

import json
from itertools import cycle, islice

import pytest
import torch

pytest.importorskip("transformers")
from vision_helpers import small_clip

import fewstep
from fewstep.evaluation.features import open_features
from fewstep.images import to_uint8

PROMPTS = ["a thick slanted three", "a thin seven", "an upright zero"]


def test_a_clip_score_is_of_the_pictures_of_its_prompts(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    folder = small_clip(tmp_path / "small-clip")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")
    how = ["-n", "5", "--steps", "1", "--seed", "3", "--features", f"clip:{folder}", "--score", "clip"]
    said = cli("evaluate", "words", "--prompts", str(tmp_path / "prompts.txt"), *how, "--out", str(tmp_path / "r.json"))
    assert said.code == 0, said.err
    (line,) = json.loads((tmp_path / "r.json").read_text())["scores"]

    asked = list(islice(cycle(PROMPTS), 5))
    pictures = fewstep.load("words", device="cpu").sample(5, prompts=asked, steps=1, seed=3)
    clip = open_features(str(folder))
    seen = clip(torch.from_numpy(to_uint8(pictures)).permute(0, 3, 1, 2)).features
    each = 100 * (seen * clip.text(asked)).sum(1).clamp(min=0)
    assert line["value"] == pytest.approx(float(each.mean()), rel=1e-4, abs=1e-4)
    assert "CLIP score" in said.out
