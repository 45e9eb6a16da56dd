"""DINOv2 and CLIP, as small random models in folders of transformers, against their processors and written formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from vision_helpers import small_clip

from fewstep.evaluation.features import open_features

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, patch_size=56, image_size=56 * 7
    )
    model, folder = transformers.Dinov2Model(config).eval(), tmp_path_factory.mktemp("dino") / "small-dinov2"
    torch.nn.init.normal_(model.embeddings.position_embeddings)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return small_clip(tmp_path_factory.mktemp("clip") / "small-clip")


def test_dinov2_gives_the_class_token_of_pictures_made_by_pillow(dinov2):
    """Place embeddings are resized with the scale of Meta's code, (4 + 0.1) / 7."""
    features = open_features(str(dinov2))
    shown = torch.randint(0, 256, (2, 3, 30, 50), dtype=torch.uint8)
    small = [Image.fromarray(p).resize((224, 224), Image.Resampling.BICUBIC) for p in shown.permute(0, 2, 3, 1).numpy()]
    x = torch.from_numpy(np.stack([np.asarray(p) for p in small])).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    model = transformers.Dinov2Model.from_pretrained(dinov2)
    learned = model.embeddings.position_embeddings.data
    grid = learned[0, 1:].T.reshape(1, 16, 7, 7)
    grid = F.interpolate(grid, scale_factor=4.1 / 7, mode="bicubic")
    assert grid.shape[-2:] == (4, 4)
    places = torch.cat([learned[:, :1], grid.reshape(1, 16, 16).permute(0, 2, 1)], 1)
    model.embeddings.interpolate_pos_encoding = lambda *_: places
    with torch.no_grad():
        wanted = model(pixel_values=x).last_hidden_state[:, 0]
    torch.testing.assert_close(features(shown).features, wanted, rtol=1e-4, atol=1e-5)
    assert (features.name, features.dimension) == ("small-dinov2 (a folder)", 16)


def test_clip_sees_pictures_as_its_processor_prepares_them(clip):
    features = open_features(f"clip:{clip}")
    shown = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8)
    size = {"height": 24, "width": 24}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 24}, crop_size=size)
    pixels = processor([Image.fromarray(p) for p in shown.permute(0, 2, 3, 1).numpy()], return_tensors="pt")
    model = transformers.CLIPModel.from_pretrained(clip)
    with torch.no_grad():
        wanted = model(input_ids=torch.tensor([[0, 1]]), **pixels).image_embeds
    made = features(shown).features
    assert made.shape == (3, 10)
    torch.testing.assert_close(made.norm(dim=1), torch.ones(3))
    assert F.cosine_similarity(made, wanted).min() > 0.999  # the processor may round its resize otherwise


def test_clip_reads_text(clip):
    features = open_features(str(clip))
    prompts = ["a b c", "d", "e f g h i j k l m n o p q r s t"]
    tokenizer = transformers.CLIPTokenizer.from_pretrained(clip)
    tokens = tokenizer(prompts, padding=True, truncation=True, max_length=12, return_tensors="pt")
    model = transformers.CLIPModel.from_pretrained(clip)
    with torch.no_grad():
        wanted = model(pixel_values=torch.zeros(1, 3, 24, 24), **tokens).text_embeds
    torch.testing.assert_close(features.text(prompts), wanted, rtol=1e-4, atol=1e-5)


def test_a_model_of_another_kind_is_refused(dinov2, clip, tmp_path):
    with pytest.raises(ValueError, match="is no CLIP model, but one of the type 'dinov2'"):
        open_features(f"clip:{dinov2}")
    transformers.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="is no DINOv2 or CLIP model, but one of the type 'bert'"):
        open_features(tmp_path / "bert")


def test_a_folder_without_weights_and_a_repository_out_of_reach(tmp_path):
    (tmp_path / "empty").mkdir()
    for source in (str(tmp_path / "empty"), "clip:nobody/nothing", "nobody/nothing"):
        with pytest.raises(FileNotFoundError, match=r"hf download .*(empty|nothing)"):
            open_features(source)


def test_without_transformers_the_line_to_type(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"dinov2-large' need transformers: pip install 'fewstep\[latent\]'"):
        open_features("dinov2")
