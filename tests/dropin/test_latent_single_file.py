"""Whole models in one file, as Stable Diffusion's own code and ComfyUI keep them."""

import shutil

import latent_helpers as tiny
import ldm_helpers as ldm
import pytest
import torch

import fewstep
from fewstep.formats import load

Draw = fewstep.LatentConsistencyModelPipeline
PIPELINES = (Draw, fewstep.LatentConsistencyModelImg2ImgPipeline, fewstep.LatentConsistencyModelInpaintPipeline)


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def made(request, tmp_path_factory):
    """(the pipeline, its file, a folder of its configuration without any weights)."""
    folder, kind = tmp_path_factory.mktemp("single"), request.param
    pipe = tiny.pipeline(folder / kind, kind, **({"second_width": 48} if kind == "sdxl" else {}))
    file = ldm.write(folder / "model.safetensors", pipe)
    config = shutil.copytree(folder / kind, folder / "config", ignore=shutil.ignore_patterns("*.safetensors"))
    return pipe, file, config


@pytest.mark.parametrize("cls", PIPELINES)
def test_every_weight_arrives_without_the_hub(made, cls, tmp_path):
    stock, file, config = made
    pipe = cls.from_single_file(str(file), config=str(config))
    assert type(pipe) is cls
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (part := getattr(stock, name, None)) is not None:
            own, theirs = getattr(pipe, name).state_dict(), part.state_dict()
            assert own.keys() == theirs.keys()
            assert all(torch.equal(own[n], theirs[n]) for n in theirs)
    if cls is Draw:
        pipe.save_pretrained(tmp_path / "m")
        assert load(tmp_path / "m", device="cpu").sample(prompts="a three", steps=1).shape == (1, 3, 16, 16)


def test_what_is_missing_is_said(made, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    file = made[1]

    def nothing(*args, **kwargs):
        raise LocalEntryNotFoundError("no way")

    monkeypatch.setattr("diffusers.loaders.single_file._download_diffusers_model_config_from_hub", nothing)
    with pytest.raises(FileNotFoundError, match=r"holds weights alone and what they leave open .*give config="):
        Draw.from_single_file(str(file))
    with pytest.raises(ValueError, match=r"in one file, which has no tokenizer: .*from_single_file.*config=FOLDER"):
        load(file)


def test_a_guidance_embedding_is_given_with_its_unet(tmp_path):
    stock = tiny.pipeline(tmp_path / "lcm", "lcm")
    file = ldm.write(tmp_path / "model.safetensors", stock)
    with pytest.raises(ValueError, match=r"not all weights were found .*guidance embedding, unet="):
        Draw.from_single_file(str(file), config=str(tmp_path / "lcm"))
    pipe = Draw.from_single_file(str(file), config=str(tmp_path / "lcm"), unet=stock.unet)
    pipe.set_progress_bar_config(disable=True)
    asked = {"prompt": "a seven", "num_inference_steps": 1, "output_type": "pt"}
    made, wanted = (p(**asked, generator=torch.Generator().manual_seed(0)).images for p in (pipe, stock))
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)
