"""In which files the parts of a pipeline may lie: half precision alone, shards, pickles; and what is refused."""

import os
import shutil

import diffusers
import latent_helpers as tiny
import pytest
import torch
from safetensors.torch import load_file, save_file

from fewstep.formats import latent_folder, load
from fewstep.formats.writing import write
from fewstep.networks.adapters import TextEncoder, Tokenizer
from fewstep.networks.adapters.stored import all_of, chosen, reading

ASKED = {"prompts": "a three", "steps": 1}


def drawn(folder):
    return load(folder, device="cpu").sample(**ASKED)


def rounded(folder, out):
    """A folder whose weights are what half precision leaves of another's, kept in full."""
    shutil.copytree(folder, out)
    for file in out.rglob("*.safetensors"):
        tensors = {n: w.half().float() if w.is_floating_point() else w for n, w in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})
    return out


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_parts_in_every_form_draw_the_same(kind, tmp_path):
    pipe = tiny.pipeline(tmp_path / "stock", kind)
    wanted, of_half = drawn(tmp_path / "stock"), drawn(rounded(tmp_path / "stock", tmp_path / "rounded"))
    pipe.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    pipe.save_pretrained(tmp_path / "pickles", safe_serialization=False)
    half = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "stock", torch_dtype=torch.float16)
    half.save_pretrained(tmp_path / "half", variant="fp16")
    half.save_pretrained(tmp_path / "half-shards", variant="fp16", max_shard_size="60KB")
    for name, picture in {"shards": wanted, "pickles": wanted, "half": of_half, "half-shards": of_half}.items():
        files = {file.name for file in (tmp_path / name / "unet").iterdir()}
        assert "diffusion_pytorch_model.safetensors" not in files
        torch.testing.assert_close(drawn(tmp_path / name), picture, atol=1e-5, rtol=0)
    half.save_pretrained(tmp_path / "stock", variant="fp16")  # beside the whole ones, which go before
    torch.testing.assert_close(drawn(tmp_path / "stock"), wanted, atol=1e-5, rtol=0)
    write("diffusers", tmp_path / "again", *latent_folder.read(tmp_path / "stock"))
    assert {w.dtype for w in load_file(tmp_path / "again/vae/diffusion_pytorch_model.safetensors").values()} == {
        torch.float32
    }


def test_each_text_encoder_keeps_its_own_dtype(tmp_path):
    pipe = tiny.pipeline(tmp_path / "stock", "sdxl")
    pipe.text_encoder_2.half().save_pretrained(tmp_path / "stock" / "text_encoder_2")
    write("diffusers", tmp_path / "again", *latent_folder.read(tmp_path / "stock"))
    for part, dtype in {"text_encoder": torch.float32, "text_encoder_2": torch.float16}.items():
        stock, again = (load_file(tmp_path / name / part / "model.safetensors") for name in ("stock", "again"))
        assert {w.dtype for w in again.values() if w.is_floating_point()} == {dtype}
        assert all(torch.equal(again[name], w) for name, w in stock.items())


@pytest.mark.parametrize("kind", ["sd", "lcm", "sdxl"])
def test_a_folder_in_half_precision_runs_in_stock_diffusers_without_a_dtype(kind, tmp_path):
    tiny.pipeline(tmp_path / "stock", kind)
    write("diffusers", tmp_path / "half", *latent_folder.read(tmp_path / "stock"), torch.float16)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "half")
    pipe.set_progress_bar_config(disable=True)
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    assert {part.dtype for part in parts} == {torch.float32}
    asked = {"prompt": "a three", "num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "pt"}
    same = type(pipe).from_pretrained(rounded(tmp_path / "stock", tmp_path / "rounded"), scheduler=pipe.scheduler)
    same.set_progress_bar_config(disable=True)
    made, wanted = (p(**asked, generator=torch.Generator().manual_seed(0)).images for p in (pipe, same))
    assert float((made - wanted).abs().max()) < 1e-6
    whole = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "half", torch_dtype=torch.float16)
    assert {p.dtype for p in whole.components.values() if isinstance(p, torch.nn.Module)} == {torch.float16}


def test_the_best_form_and_all_of_it():
    safe, half = "model.safetensors", "model.fp16.safetensors"
    assert chosen([half, safe, "pytorch_model.bin"]) == safe
    assert chosen(["pytorch_model.bin", half]) == half
    assert chosen(["openvino_model.bin", "flax_model.msgpack", "model.onnx"]) is None
    stem = "diffusion_pytorch_model"
    names = {
        f"{stem}.safetensors.index.json": f"{stem}-{{}}-of-00002.safetensors",
        f"{stem}.safetensors.index.fp16.json": f"{stem}.fp16-{{}}-of-00002.safetensors",
        "pytorch_model.bin.index.json": "pytorch_model-{}-of-00002.bin",
    }
    files = [form.format(f"0000{i}") for form in names.values() for i in (1, 2)] + [*names, "config.json"]
    for index, form in names.items():
        assert all_of(files) == [index, *(form.format(f"0000{i}") for i in (1, 2))]
        files.remove(index)
    old = [f"{stem}-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)]
    index = f"{stem}.safetensors.index.fp16.json"
    assert all_of([*old, index]) == [index, *old]


class Program:
    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


PARTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.mark.parametrize("part", PARTS)
def test_damaged_dangerous_and_missing_files_are_named(part, tmp_path):
    pipe = tiny.pipeline(tmp_path / "m")
    place, file = tmp_path / "m" / part, tmp_path / "m" / part / f"{PARTS[part]}.safetensors"
    pipe.save_pretrained(tmp_path / "m")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=rf"{part}/{file.name} is damaged or no safetensors file"):
        drawn(tmp_path / "m")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{part} holds no weights: .*safetensors"):
        drawn(tmp_path / "m")
    pickle = place / f"{'pytorch_model' if part == 'text_encoder' else PARTS[part]}.bin"
    torch.save({"a": Program(tmp_path / "run")}, pickle)
    with pytest.raises(
        ValueError, match=rf"{pickle.name} .*more than tensors.*: it is refused, and none of it was run"
    ):
        drawn(tmp_path / "m")
    assert not (tmp_path / "run").exists()
    pickle.unlink()
    if part == "unet":
        pipe.unet.save_pretrained(place, max_shard_size="60KB")
        next(place.glob("*-00002-of-*")).unlink()
        with pytest.raises(FileNotFoundError, match=r"00002-of-.* is missing, and .*index\.json names it"):
            drawn(tmp_path / "m")


def test_half_a_text_encoder_and_no_tokenizer(tmp_path):
    tiny.pipeline(tmp_path / "m")
    file = tmp_path / "m" / "text_encoder" / "model.safetensors"
    kept = load_file(file)
    name = next(n for n in kept if "layers.1" in n)
    save_file({n: w for n, w in kept.items() if n != name}, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="text_encoder holds not all of a CLIPTextModel: .*layers.1.* is missing"):
        TextEncoder.load(tmp_path / "m")
    config = tmp_path / "m" / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"model_max_length": 12', '"x": 12'))
    with pytest.raises(ValueError, match="tokenizer does not say how long prompts may be: model_max_length"):
        Tokenizer(tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "tokenizer")
    with pytest.raises(FileNotFoundError, match=r"tokenizer holds no tokenizer: vocab\.json is missing"):
        Tokenizer(tmp_path / "m")
    assert reading("owner/name", "vae") == {}
