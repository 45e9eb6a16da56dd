"""The diffusers world's networks behind fewstep's interface, against the stock pipelines that use them."""

import warnings

import diffusers
import latent_helpers as tiny
import pytest
import torch
from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
    LatentConsistencyModelPipeline,
)

from fewstep.conditions import Prompts, Table
from fewstep.networks.adapters import Autoencoder, LatentUNetShape, Lora
from fewstep.networks.adapters.latent_unet import embed_guidance
from fewstep.networks.adapters.lora import TARGETS
from fewstep.spaces import Latents

PROMPTS = ["a thick slanted three", "the small zero"]


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def stock(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, tiny.pipeline(folder, request.param), str(folder)


def test_prompts_are_embedded_as_the_stock_pipelines_do(stock):
    kind, pipe, folder = stock
    words = Prompts(folder, size=16 if kind == "sdxl" else None, zero_empty=kind == "sdxl")
    cond = words(words.ask(PROMPTS, 0, range(2)))
    told = pipe.encode_prompt(PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    nothing = words.nothing(cond)
    torch.testing.assert_close(cond["prompt"], told[0])
    torch.testing.assert_close(nothing["prompt"], told[1])
    if kind == "sdxl":
        torch.testing.assert_close(cond["pooled"], told[2])
        torch.testing.assert_close(nothing["pooled"], told[3])
        assert cond["sizes"].tolist() == nothing["sizes"].tolist() == [[16, 16, 0, 0, 16, 16]] * 2


def test_prompts_refuse_what_they_cannot_ask(stock):
    words = Prompts(stock[2])
    assert torch.equal(words.ask(None, 0, range(2)), words.ask(["", ""], 0, range(2)))
    with pytest.raises(ValueError, match="3 images need one prompt or 3, not 2"):
        words.ask(PROMPTS, 0, range(3))
    with pytest.raises(ValueError, match="words"):
        words.ask(7, 0, range(2))
    with pytest.raises(ValueError, match="words"):
        words.ask([1, 2], 0, range(2))


def test_the_unet_is_the_stock_one(stock):
    kind, pipe, folder = stock
    shape = LatentUNetShape(dict(pipe.unet.config))
    network = shape.build().eval()
    network.unet.load_state_dict(pipe.unet.state_dict())
    words = Prompts(folder, size=16 if kind == "sdxl" else None)
    cond = words(words.ask(PROMPTS, 0, range(2)))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 999.0])
    more = {"text_embeds": cond["pooled"], "time_ids": cond["sizes"]} if kind == "sdxl" else None
    theirs = pipe.unet(x, t, cond["prompt"], added_cond_kwargs=more).sample
    torch.testing.assert_close(network(x, t, **cond), theirs)
    assert (shape.image_channels, shape.image_size, shape.num_classes, shape.told_guidance) == (4, 8, 0, 0)


@pytest.mark.parametrize("dim", [16, 17, 256])
def test_the_guidance_embedding_is_the_pipelines(dim):
    w = torch.tensor([0.0, 1.5, 7.0, 13.9])
    assert torch.equal(
        embed_guidance(w, dim), LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, dim)
    )


def test_a_new_guidance_projection_changes_nothing_yet():
    plain = tiny.unet()
    told = LatentUNetShape({**plain.config, "time_cond_proj_dim": 16}).build().eval()
    missing, extra = told.unet.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, extra) == (["time_embedding.cond_proj.weight"], [])
    x, t, prompt = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 999.0]), torch.randn(2, 5, 32)
    ours = told(x, t, prompt=prompt, guidance=torch.tensor([1.0, 7.0]))
    torch.testing.assert_close(ours, plain(x, t, prompt).sample)


def test_a_text_encoder_can_be_part_of_the_network(tmp_path):
    pipe = tiny.pipeline(tmp_path)
    shape = LatentUNetShape(dict(pipe.unet.config), (pipe.text_encoder.config.to_dict(),))
    network = shape.build().eval()
    network.unet.load_state_dict(pipe.unet.state_dict())
    network.text.encoders[0].load_state_dict(pipe.text_encoder.state_dict())
    words = Prompts(str(tmp_path))
    tokens, x, t = words.ask(PROMPTS, 0, range(2)), torch.randn(2, 4, 8, 8), torch.tensor([3.0, 999.0])
    torch.testing.assert_close(network(x, t, tokens=tokens), network(x, t, **words(tokens)))


def test_a_configuration_that_diffusers_cannot_build_is_refused():
    with pytest.raises(ValueError, match="configuration"):
        LatentUNetShape({"block_out_channels": (32,), "down_block_types": ("DownBlock2D",) * 2}).build()
    with pytest.raises(ValueError, match="takes 9 channels and answers with 4"):
        LatentUNetShape({"in_channels": 9, "out_channels": 4}).build()


@pytest.mark.parametrize("scaling", [0.18215, 0.5])
def test_latents_are_the_stock_autoencoders(tmp_path, scaling):
    vae = tiny.autoencoder()
    vae.register_to_config(scaling_factor=scaling, shift_factor=0.1)
    vae.save_pretrained(tmp_path)
    space, images = Latents(str(tmp_path)), torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        posterior = vae.encode(images).latent_dist
        mean, std = space.autoencoder().moments(images)
        torch.testing.assert_close(mean, (posterior.mean - 0.1) * scaling)
        torch.testing.assert_close(std, posterior.std * scaling)
        torch.testing.assert_close(space.encode(images), mean)
        torch.testing.assert_close(space.decode(mean), vae.decode(posterior.mean).sample)
    assert space.autoencoder().factor == 2
    assert not space.bounded


def test_a_tiny_autoencoder_has_no_spread():
    torch.manual_seed(0)
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).eval()  # fmt: skip
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        mean, std = Autoencoder(vae).moments(images)
        torch.testing.assert_close(mean, vae.encode(images).latents)
    assert std.abs().max() == 0
    assert Autoencoder(vae).factor == 2


def test_lora_changes_nothing_at_first_and_is_all_that_learns():
    unet = tiny.unet()
    x, t, prompt = torch.randn(2, 4, 8, 8), torch.tensor([3.0, 999.0]), torch.randn(2, 5, 32)
    before = unet(x, t, prompt).sample
    Lora(rank=4).add_to(unet)
    torch.testing.assert_close(unet(x, t, prompt).sample, before)
    learning = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name for name in learning)
    for end in TARGETS:
        if any(name.endswith(f"{end}.base_layer.weight") for name in dict(unet.named_parameters())):
            assert any(f"{end}.lora_A" in name for name in learning)
    with pytest.raises(ValueError, match="rank"):
        Lora(rank=0)


def test_a_table_gathers_rows_and_the_empty_prompt():
    rows = torch.arange(12.0).reshape(4, 1, 3)  # the last row is the empty prompt's

    table = Table(lambda ids: {"prompt": rows[ids]})
    cond = table(torch.tensor([2, 0]))
    assert torch.equal(cond["prompt"], rows[[2, 0]])
    assert torch.equal(table.nothing(cond)["prompt"], rows[[3, 3]])


def test_a_prompt_that_is_cut_off_is_told(stock):
    words = Prompts(stock[2])
    with pytest.warns(UserWarning, match=r"Of this prompt only \d+ tokens are read.*This is cut off: .*nine"):
        words.ask("a " * 200 + "nine", 0, range(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words.ask("a nine", 0, range(1))
