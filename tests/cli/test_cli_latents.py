"""Latent recipes from the command line: a run of a tiny model, and what the large ones would do."""

import shutil
from pathlib import Path

import diffusers
from latent_training_helpers import pictures, stock

from fewstep import recipes
from fewstep.cli.parsing import leaves
from fewstep.cli.train import parse


def test_a_tiny_model_is_distilled(cli, tmp_path):
    teacher, data = stock(tmp_path / "sd"), pictures(tmp_path)
    small = ["--size", 16, "--steps", 2, "--batch", 4, "--precision", "fp32", "--latent.w", 3, 9, "--latent.told", 16]
    command = ["train", "sd15-lcd", "--teacher", teacher, "--data", data, *small, "--out", "run"]
    said = cli(*command)
    assert said.code == 0, said.err
    for words in ("12 pictures 16×16×3", "LatentUNetShape", f"from {teacher}", "sample run --prompt WORDS --steps 2"):
        assert words in said.out
    assert "finished already" in cli(*command).out
    pipe = diffusers.LatentConsistencyModelPipeline.from_pretrained(tmp_path / "run" / "model")
    assert pipe.unet.config.time_cond_proj_dim == 16
    dry = cli(*command, "--dry-run")
    assert f"parameters: {sum(p.numel() for p in pipe.unet.parameters()) - 16 * 32:,}" in dry.out
    assert "teacher 2" in dry.out


def test_a_teacher_that_is_not_whole_is_refused_before_anything_is_made(cli, tmp_path):
    data = pictures(tmp_path)
    for part, why in {
        "tokenizer": "tokenizer holds no tokenizer: vocab.json is missing",
        "text_encoder": "text_encoder holds no weights",
        "vae": "vae holds no weights",
        "unet": "unet holds no weights",
        "scheduler": "scheduler_config.json is missing",
    }.items():
        teacher = stock(tmp_path / f"no-{part}")  # another folder each: what was loaded is remembered by its path
        shutil.rmtree(Path(teacher, part))
        said = cli(
            "train", "sd15-lcd", "--teacher", teacher, "--data", data, "--size", 16, "--steps", 1, "--out", "run"
        )
        assert said.code == 1
        assert why in said.err
        assert len([line for line in said.err.splitlines() if line.startswith("fewstep: ")]) == 1
        assert {path.name for path in tmp_path.iterdir()} == {f"no-{part}", "pictures3.npz"}
        shutil.rmtree(teacher)


def test_dry_runs_of_large_models(cli):
    said = cli("train", "sd15-lcm-lora", "--dry-run")
    assert said.code == 0, said.err
    for words in ("parameters: 859,520,964", "is not here (yet)", "frozen weights: 3.2 GiB", "micro-batch"):
        assert words in said.out


def test_flags_say_all_but_networks():
    recipe = recipes.recipe("sdxl-lcm-lora")
    paths = {".".join(path) for path, _ in leaves(recipe)}
    assert {"latent.w", "latent.lora.rank", "latent.autoencoder", "schedule.zero_snr"} <= paths
    assert not any(path.startswith("architecture") or path == "latent.words" for path in paths)
    assert not any(path == "latent" for path, _ in leaves(recipes.recipe("digits-ect")))
    given = parse(recipe, ["--latent.lora.rank", "8", "--schedule.zero-snr", "--latent.w", "1", "2"], "x").recipe
    assert (given.latent.lora.rank, given.latent.w, given.schedule.zero_snr) == (8, (1.0, 2.0), True)
