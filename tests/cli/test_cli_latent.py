"""sample and edit with text-to-image models: what the library draws, refusals before anything is written, resuming."""

import json
import os
import subprocess
import sys

import latent_helpers
import numpy as np
import pytest
import torch
from cli_helpers import save_image
from PIL import Image
from safetensors.torch import load_file, save_file

import fewstep
from fewstep.images import read_picture, to_uint8
from fewstep.model import Model

A, B = "a thick slanted three", "the small zero"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("latent")
    for kind in ("lcm", "sd"):
        latent_helpers.pipeline(place / kind, kind)
    return place


def read(path):
    with np.load(path) as found:
        return dict(found)


def about(path):
    with open(path) as file:
        return json.load(file)


def close(a, b):
    assert np.abs(a.astype(int) - b.astype(int)).max() <= 1


def test_prompts_in_turn(cli, folders):
    source = folders / "lcm"
    said = cli("sample", source, "--prompt", A, "--prompt", B, "-n", 3, "--steps", 2, "--seed", 4, "--out", "x.npz")
    assert said.code == 0, said.err
    found, model = read("x.npz"), fewstep.load(source)
    assert set(found) == {"arr_0"}
    assert found["arr_0"].shape == (3, 16, 16, 3)
    close(found["arr_0"], to_uint8(model.sample(3, prompts=[A, B, A], steps=2, seed=4)))
    wanted = {"prompts": [A, B], "guidance": [8.0], "steps": 2, "times": [999.0, 499.0], "sampler": "consistency"}
    assert wanted.items() <= about("x.json").items()


def test_prompts_from_a_file_and_everything_else(cli, folders, tmp_path):
    (tmp_path / "words.txt").write_text(f"{A}\n\n{B}\n", encoding="utf-8")
    options = ("--guidance", 1.5, 4, "--negative", "nine", "--height", 24, "--steps", 3)
    said = cli("sample", folders / "sd", "--prompts", "words.txt", *options, "--npz")
    assert said.code == 0, said.err
    found, model = read("samples_2x24x16x3.npz")["arr_0"], fewstep.load(folders / "sd")
    x = model.sample(2, prompts=[A, B], guidance=[1.5, 4.0], negative="nine", height=24, steps=3)
    assert found.shape == (2, 24, 16, 3)
    close(found, to_uint8(x))
    kept = about("samples_2x24x16x3.json")
    assert (kept["sampler"], len(kept["times"]), kept["negative"], kept["guidance"]) == ("euler", 4, "nine", [1.5, 4.0])


def test_batches_and_an_interruption_change_nothing(cli, folders, monkeypatch):
    common = ("sample", folders / "lcm", "--prompt", A, "--prompt", B, "-n", 5, "--steps", 1)
    cli(*common, "--out", "whole.npz")
    drawn, draw = [], Model.sample

    def stopping(self, n, **options):
        drawn.append(options["first"])
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(self, n, **options)

    monkeypatch.setattr(Model, "sample", stopping)
    assert "2 of 5" in cli(*common, "--batch", 2, "--out", "x.npz").err
    other = ("sample", folders / "lcm", "--prompt", B, "-n", 5, "--steps", 1)
    assert "made otherwise" in cli(*other, "--out", "x.npz").err
    assert cli(*common, "--batch", 2, "--out", "x.npz").code == 0
    assert drawn == [0, 2, 2, 4]
    close(read("x.npz")["arr_0"], read("whole.npz")["arr_0"])
    assert "there already" in cli(*common, "--out", "x.npz").out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], 'say it with --prompt "..."'),
        (["--prompt", A, "--prompts", "none.txt"], "contradict"),
        (["--prompts", "none.txt"], "no file none.txt"),
        (["--prompt", A, "--label", 3], "told what to draw in words: leave out --labels"),
        (["--prompt", A, "--negative", "nine"], "told its guidance scale"),
        (["--prompt", A, "--width", 15], "multiples of 2"),
        (["--prompt", A, "--guidance", 1, 2, "--steps", 60], "distilled on 50 levels"),
        (["--prompt", A, "--sampler", "dpm"], "there is dpm++"),
    ],
)
def test_refusals_leave_nothing_behind(cli, folders, args, words):
    said = cli("sample", folders / "lcm", *args)
    assert said.code == 1
    assert words in said.err
    assert os.listdir() == []


def test_pixel_models_know_no_words(cli, tiny):
    assert "takes labels, 0 to 2" in cli("sample", tiny, "--prompt", A).err
    said = cli("sample", tiny, "--label", 1, "--guidance", 3, "-n", 2, "--out", "x.npz")
    assert said.code == 0, said.err
    np.testing.assert_array_equal(read("x.npz")["arr_0"], to_uint8(fewstep.load(tiny).sample(2, labels=1, guidance=3)))
    assert about("x.json")["guidance"] == [3.0]


def test_img2img_and_inpainting(cli, folders, tmp_path):
    save_image(tmp_path / "a.png", 16, 3)
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 5:] = 255
    Image.fromarray(mask).save("m.png")
    model, x = fewstep.load(folders / "lcm"), read_picture("a.png", 16, 3).expand(2, -1, -1, -1)
    common = ("--image", "a.png", "--prompt", A, "-n", 2, "--guidance", 4, "--seed", 1)
    said = cli("edit", "img2img", folders / "lcm", *common, "--strength", 0.6, "--steps", 2, "--out", "redrawn")
    assert said.code == 0, said.err
    expected = model.img2img(x, 0.6, steps=2, prompts=A, guidance=4.0, seed=1)
    found = np.stack([np.asarray(Image.open(f"redrawn/{i:06d}.png")) for i in range(2)])
    close(found, to_uint8(expected))
    kept = about("redrawn.json")
    assert (kept["strength"], kept["noise_levels"], kept["prompt"]) == (0.6, [599.0, 299.0], A)
    said = cli("edit", "inpaint", folders / "lcm", *common, "--mask", "m.png", "--out", "filled")
    assert said.code == 0, said.err
    found = np.stack([np.asarray(Image.open(f"filled/{i:06d}.png")) for i in range(2)])
    np.testing.assert_array_equal(found[:, :, :5], to_uint8(x)[:, :, :5])
    close(found, to_uint8(model.inpaint(x, torch.from_numpy(mask > 0).float(), prompts=A, guidance=4.0, seed=1)))
    assert about("filled.json")["noise_levels"] == [999.0, 759.0, 499.0, 259.0]
    assert cli("edit", "interpolate", folders / "lcm", "--prompt", A, "-n", 3).code == 0


@pytest.mark.parametrize(
    ("given", "size", "made", "said"),
    [
        ((24, 14), (), (24, 14), ""),
        ((33, 19), (), (32, 18), "a.png is 33×19: resized to 32×18."),  # whole latents are 2 pixels wide
        ((60, 30), (), (44, 22), "a.png is 60×30: resized to 44×22."),  # 4 · 16² = 1024 pixels at most
        ((60, 30), (48, 24), (48, 24), "resized to 48×24."),
        ((24, 14), (16, 16), (16, 16), "resized and cropped in the centre to 16×16."),
    ],
)
def test_an_edit_keeps_the_size_of_its_picture(cli, folders, tmp_path, given, size, made, said):
    pixels = np.random.default_rng(0).integers(0, 256, (given[1], given[0], 3), np.uint8)
    Image.fromarray(pixels).save("a.png")
    Image.fromarray(np.full(given[::-1], 255, np.uint8)).save("m.png")
    more = ("--size", *size) if size else ()
    common = (folders / "lcm", "--image", "a.png", "--prompt", A, "-n", 1, "--steps", 1, *more)
    redrawn = cli("edit", "img2img", *common, "--out", "redrawn")
    assert redrawn.code == 0, redrawn.err
    assert (said in redrawn.out) if said else ("resized" not in redrawn.out)
    found = np.asarray(Image.open("redrawn/000000.png"))
    assert found.shape == (made[1], made[0], 3)
    if not said:
        model, x = fewstep.load(folders / "lcm"), read_picture("a.png")
        close(found[None], to_uint8(model.img2img(x, steps=1, prompts=A)))
    assert cli("edit", "inpaint", *common, "--mask", "m.png", "--out", "filled").code == 0
    assert Image.open("filled/000000.png").size == made


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["img2img", "--image", "a.png", "--prompt", A, "--size", 15, 16], "--size is two multiples of 2"),
        (["img2img", "--image", "a.png"], "--prompt"),
        (["img2img", "--image", "a.png", "--prompt", A, "--strength", 0], "strength is more than 0"),
        (["colorize", "--image", "a.png", "--prompt", A], "Colorize fixes values of pixels"),
        (["stroke", "--image", "a.png", "--prompt", A], "see img2img"),
        (["denoise", "--image", "a.png", "--prompt", A, "--sigma", 0.3], "Noise in pixels"),
    ],
)
def test_what_cannot_be_edited(cli, folders, tmp_path, args, words):
    save_image(tmp_path / "a.png", 16, 3)
    said = cli("edit", args[0], folders / "lcm", *args[1:])
    assert said.code == 1
    assert words in said.err
    assert os.listdir() == ["a.png"]


def test_img2img_of_pixels_is_refused(cli, tiny, tmp_path):
    save_image(tmp_path / "a.png")
    assert "redraw" in cli("edit", "img2img", tiny, "--image", "a.png").err
    said = cli("edit", "inpaint", tiny, "--image", "a.png", "--mask", "a.png", "--size", 16, 16)
    assert "--size is for latent models; this one makes" in said.err
    assert "no option --promt; did you mean '--prompt'?" in cli("sample", tiny, "--promt", A).err


def test_without_diffusers_one_sentence_says_what_to_install(cli, folders, monkeypatch):
    script = (
        "import sys; sys.modules['diffusers'] = None\n"
        "from fewstep.cli import main; sys.exit(main(sys.argv[1:]))"
    )  # fmt: skip
    command = [sys.executable, "-c", script, "sample", str(folders / "lcm"), "--prompt", A]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == ("fewstep: Latent models need diffusers, which is not installed: pip install "
                           "'fewstep[latent]'.\n")  # fmt: skip
    assert "Stable Diffusion" in cli("models").out
    monkeypatch.setattr("fewstep.cli.models.installed", lambda name: None)
    assert "pip install 'fewstep[latent]'" in cli("models").out


def test_an_lcm_lora_makes_a_few_step_model(cli, folders, tmp_path):
    from fewstep.networks.adapters import Lora

    unet = latent_helpers.unet()
    Lora(rank=2, alpha=2.0).add_to(unet)
    torch.manual_seed(5)
    low = {f"unet.{name}".replace(".default.", "."): 0.1 * torch.randn_like(w) for name, w in unet.state_dict().items()
           if ".lora_" in name}  # fmt: skip
    Lora(rank=2, alpha=2.0).save(tmp_path, low)
    file = "pytorch_lora_weights.safetensors"
    common = ("sample", folders / "sd", "--prompt", A, "--out", "x.npz")
    said = cli(*common, "--lora", f"{file}:0.5", "--sampler", "consistency")
    assert said.code == 0, said.err
    model = fewstep.load(folders / "sd")
    model.add_lora(file, 0.5, consistent=True)
    close(read("x.npz")["arr_0"], to_uint8(model.sample(prompts=A)))
    kept = about("x.json")
    assert (kept["lora"], kept["guidance"], kept["steps"]) == ([f"{file}:0.5"], [1.0], 4)
    assert "made otherwise" in cli(*common, "--lora", file, "--sampler", "consistency").err
    assert "There is no LoRA 'none.safetensors'" in cli(*common, "--lora", "none.safetensors:2").err
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file)  # trained further
    assert "made otherwise" in cli(*common, "--lora", f"{file}:0.5", "--sampler", "consistency").err
