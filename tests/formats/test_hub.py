"""The Hugging Face Hub, as a folder in the place of its two calls: what is fetched, what is put there, what is said."""

import shutil
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import latent_helpers
import pytest
import torch
from diffusers import ConsistencyModelPipeline
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from model_helpers import random_model
from unet_helpers import IMAGENET, design_of, random_weights

import fewstep
from fewstep.formats.diffusers_folder import write_folder
from fewstep.model import build
from fewstep.parameterizations import EDM


class Hub:
    """Repositories in a folder; what was fetched lies in `cache`."""

    def __init__(self, place: Path):
        self.place, self.cache, self.reachable = place / "hub", place / "cache", True

    def repo(self, repo_id: str) -> Path:
        return self.place / repo_id

    def model_info(self, repo_id: str, *, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in self.list_repo_files(repo_id)])

    def list_repo_files(self, repo_id: str) -> list[str]:
        if not self.reachable:
            raise ConnectionError("no way")
        if not self.repo(repo_id).is_dir():
            raise _refusal(RepositoryNotFoundError)
        return [str(path.relative_to(self.repo(repo_id))) for path in self.repo(repo_id).rglob("*") if path.is_file()]

    def snapshot_download(self, repo_id: str, *, allow_patterns=("*",), local_files_only: bool = False) -> str:
        here = self.cache / repo_id.replace("/", "--")
        if local_files_only and not here.is_dir():
            raise LocalEntryNotFoundError("not in the cache")
        for name in [] if local_files_only else self.list_repo_files(repo_id):
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (here / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.repo(repo_id) / name, here / name)
        return str(here)

    def fetched(self, repo_id: str) -> list[str]:
        here = self.cache / repo_id.replace("/", "--")
        return sorted(str(path.relative_to(here)) for path in here.rglob("*") if path.is_file())


def _refusal(kind):
    error = kind.__new__(kind)
    error.args = ("refused",)
    return error


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    hub = Hub(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", hub.model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.chdir(tmp_path)
    return hub


def test_a_model_of_fewstep(hub):
    model = random_model()
    model.save(hub.repo("me/digits"))
    (hub.repo("me/digits") / "samples.png").touch()
    found = fewstep.load("me/digits", device="cpu")
    assert found.design == model.design
    assert torch.equal(found.sample(2), model.sample(2))
    assert hub.fetched("me/digits") == ["model.json", "weights.safetensors"]


def test_a_pipeline_of_diffusers_and_one_file_of_its_weights(hub):
    repo = hub.repo("openai/diffusers-cd_imagenet64_l2")
    write_folder(repo, design_of(IMAGENET), random_weights(IMAGENET))
    (repo / "fewstep.json").unlink()
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors", "model.onnx"):
        (repo / "unet" / name).touch()
    model = fewstep.load("openai/diffusers-cd_imagenet64_l2", device="cpu")
    assert model.design.architecture == IMAGENET
    assert model.times(2) == [80.0, pytest.approx(1.3824, abs=5e-5)]  # known by its name
    assert hub.fetched("openai/diffusers-cd_imagenet64_l2") == [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]


def test_weights_in_shards(hub, tmp_path):
    write_folder(tmp_path / "m", design_of(IMAGENET), random_weights(IMAGENET))
    pipe = ConsistencyModelPipeline.from_pretrained(tmp_path / "m")
    pipe.save_pretrained(hub.repo("me/m"), max_shard_size="1MB")
    fewstep.load("me/m", device="cpu")
    names = [Path(name).name for name in hub.fetched("me/m")]
    assert "diffusion_pytorch_model.safetensors.index.json" in names
    assert sum(name.endswith(".safetensors") for name in names) > 1


def test_nothing_large_comes_of_what_cannot_be_read(hub):
    write_folder(hub.repo("me/sd"), design_of(IMAGENET), random_weights(IMAGENET))
    index = hub.repo("me/sd") / "model_index.json"
    index.write_text(index.read_text().replace("ConsistencyModelPipeline", "StableDiffusionPipeline"))
    with pytest.raises(ValueError, match="names a StableDiffusionPipeline"):
        fewstep.load("me/sd")
    assert not any("pytorch_model" in name for name in hub.fetched("me/sd"))
    hub.repo("me/data").mkdir()
    (hub.repo("me/data") / "photos.zip").touch()
    with pytest.raises(ValueError, match="'me/data' on the Hub holds no model that fewstep reads"):
        fewstep.load("me/data")
    assert hub.fetched("me/data") == []


def test_a_model_fetched_before_loads_without_the_hub(hub):
    random_model().save(hub.repo("me/digits"))
    fewstep.load("me/digits")
    hub.reachable = False
    fewstep.load("me/digits")
    with pytest.raises(
        FileNotFoundError, match="'me/other': it is no folder here, .* cannot be reached now .Connection"
    ):
        fewstep.load("me/other")


def test_what_the_hub_does_not_have_or_show(hub, monkeypatch):
    with pytest.raises(FileNotFoundError, match="the Hugging Face Hub shows none of that name"):
        fewstep.load("me/nothing")

    def members_only(self, repo_id, *, timeout):
        raise _refusal(GatedRepoError)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", members_only)
    with pytest.raises(FileNotFoundError, match=r"ask for access on https://huggingface\.co/me/secret, then log in"):
        fewstep.load("me/secret")


def test_what_is_here_goes_before_the_hub(hub, tmp_path):
    random_model(about={"name": "here"}).save(tmp_path / "me" / "digits")
    random_model(about={"name": "there"}).save(hub.repo("me/digits"))
    assert fewstep.load("me/digits").design.about["name"] == "here"


# -- to the Hub ------------------------------------------------------------------------------------------------------


@pytest.fixture
def put(hub, monkeypatch) -> list[tuple]:
    """What was asked of HfApi; folders that were uploaded are repositories then."""
    asked: list[tuple] = []

    def create_repo(self, repo_id, *, private, exist_ok):
        asked.append(("create", repo_id, private, exist_ok, self.token))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        asked.append(("upload", repo_id, commit_message))
        shutil.copytree(folder_path, hub.repo(repo_id))

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub.HfApi, "whoami", lambda self: {"name": "me"})
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    return asked


def test_a_model_goes_to_the_hub_and_comes_back(hub, put, monkeypatch):
    model = random_model(times={"2": (80.0, 0.5)})
    page = model.push_to_hub("me/digits", private=True, token="hf_x", commit_message="Better")
    assert page == "https://huggingface.co/me/digits"
    assert put == [("create", "me/digits", True, True, "hf_x"), ("upload", "me/digits", "Better")]
    assert sorted(hub.list_repo_files("me/digits")) == ["README.md", "model.json", "weights.safetensors"]
    assert torch.equal(fewstep.load("me/digits", device="cpu").sample(2), model.sample(2))
    card = (hub.repo("me/digits") / "README.md").read_text()
    assert "library_name: fewstep" in card
    assert "license" not in card
    exec(card.split("```python\n")[1].split("```")[0])  # it names the repository
    assert Path("grid.png").is_file()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_mine")
    model.push_to_hub("others")  # of the account that is logged in
    assert put[2:] == [("create", "me/others", None, True, None), ("upload", "me/others", "A model of fewstep")]


def test_a_model_goes_to_the_hub_for_diffusers(hub, put):
    weights = random_weights(IMAGENET)
    model = build(design_of(IMAGENET, times={"2": (80.0, 1.3824)}), weights, "cpu")
    fewstep.push_to_hub(model, "me/m", format="diffusers", token="hf_x")
    assert sorted(hub.list_repo_files("me/m")) == [
        "README.md",
        "fewstep.json",
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    card = (hub.repo("me/m") / "README.md").read_text()
    assert 'ConsistencyModelPipeline.from_pretrained("me/m")' in card
    assert "timesteps=[22, 0]" in card
    assert fewstep.load("me/m").design == model.design


def test_a_latent_model_goes_to_the_hub_and_comes_back(hub, put, tmp_path):
    latent_helpers.pipeline(tmp_path / "stock", "lcm")
    model = fewstep.load(tmp_path / "stock", device="cpu")
    model.push_to_hub("me/words", token="hf_x")
    fewstep.push_to_hub(model, "me/again", format="diffusers", token="hf_x")
    files = hub.list_repo_files("me/words")
    assert sorted(files) == sorted(hub.list_repo_files("me/again"))
    assert {"model_index.json", "fewstep.json", "README.md", "unet/diffusion_pytorch_model.safetensors"} <= set(files)
    assert 'DiffusionPipeline.from_pretrained("me/words")' in (hub.repo("me/words") / "README.md").read_text()
    again = fewstep.load("me/words", device="cpu")
    asked = {"prompts": "a three", "steps": 2}
    torch.testing.assert_close(again.sample(**asked), model.sample(**asked), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="no form of its own for a latent model"):
        model.push_to_hub("me/words", format="fewstep", token="hf_x")


@pytest.mark.parametrize("variant", ["both", "half"])
def test_of_every_part_one_form_is_fetched(hub, variant):
    pipe = latent_helpers.pipeline(hub.repo("me/sd"), "sdxl")
    half = type(pipe).from_pretrained(hub.repo("me/sd"), torch_dtype=torch.float16)
    if variant == "half":
        shutil.rmtree(hub.repo("me/sd"))
    half.save_pretrained(hub.repo("me/sd"), variant="fp16")
    half.save_pretrained(hub.repo("me/sd"), variant="fp16", safe_serialization=False)
    (hub.repo("me/sd") / "text_encoder" / "openvino_model.bin").touch()
    (hub.repo("me/sd") / "unet" / "diffusion_pytorch_model.non_ema.safetensors").touch()
    end = ".fp16.safetensors" if variant == "half" else ".safetensors"
    fewstep.load("me/sd", device="cpu").sample(prompts="a three", steps=1)
    assert [name for name in hub.fetched("me/sd") if name.endswith((".safetensors", ".bin"))] == [
        f"text_encoder/model{end}",
        f"text_encoder_2/model{end}",
        f"unet/diffusion_pytorch_model{end}",
        f"vae/diffusion_pytorch_model{end}",
    ]


def test_uploads_that_cannot_be_made(put, monkeypatch):
    model = random_model()
    with pytest.raises(PermissionError, match="You are not logged in to the Hugging Face Hub: run `hf auth login`"):
        model.push_to_hub("me/digits")
    with pytest.raises(ValueError, match="uploaded as one of fewstep, diffusers, not as 'onnx'"):
        model.push_to_hub("me/digits", format="onnx", token="hf_x")
    with pytest.raises(ValueError, match="diffusers has no Compact network"):
        model.push_to_hub("me/digits", format="diffusers", token="hf_x")
    teacher = build(design_of(IMAGENET, parameterization=EDM(noise_scale=250.0)), random_weights(IMAGENET), "cpu")
    with pytest.raises(ValueError, match="a diffusion model, not a consistency model"):
        teacher.push_to_hub("me/m", format="diffusers", token="hf_x")
    assert put == []

    def refused(self, repo_id, **options):
        raise _refusal(RepositoryNotFoundError)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refused)
    with pytest.raises(OSError, match="'me/digits' was not uploaded: refused"):
        model.push_to_hub("me/digits", token="hf_x")
