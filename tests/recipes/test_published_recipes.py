"""Recipes are values with names; those of the papers hold the papers' numbers."""

import pytest
import torch

from fewstep.distances import Huber, Squared
from fewstep.lpips import LPIPS
from fewstep.networks import UNetShape
from fewstep.recipes import names, recipe
from fewstep.training.recipe import from_json, to_json

ALL = names()


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_builds_and_survives_json(name):
    r = recipe(name)
    assert r.name == name
    assert from_json(to_json(r)) == r
    with torch.device("meta"):
        assert next(r.architecture.build().parameters()).is_meta


@pytest.mark.parametrize("name", ALL)
def test_names_are_data_dash_objective(name):
    data, objective, *variant = name.split("-")
    assert data in ("digits", "mnist", "cifar10", "imagenet64", "lsun256", "sd15", "sdxl", "words")
    assert objective in ("edm", "cd", "ct", "ict", "ect", "pd", "lcd", "lcm", "lcf", "vae", "teacher", "lora")
    assert not variant or variant[0] in ("paper", "continuous", "l2", "lpips", "lora")


@pytest.mark.parametrize("name", ALL)
def test_objective_and_name_agree(name):
    r = recipe(name)
    assert r.objective.needs_teacher == (name.split("-")[1] in ("cd", "pd", "lcd", "lcm", "lora"))
    assert r.objective.consistent == (name.split("-")[1] not in ("edm", "pd", "vae", "teacher"))
    assert all(len(times) == steps and times[0] == 80.0 for steps, times in enumerate(r.times, 1))


@pytest.mark.parametrize("name", ALL)
def test_networks_in_openais_form_are_told_250_ln_t(name):
    r = recipe(name)
    assert r.noise_scale == (250.0 if isinstance(r.architecture, UNetShape) else 0.25)


@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_small_data_have_every_objective(data):
    assert {f"{data}-{objective}" for objective in ("edm", "cd", "ct", "ict", "ect", "pd")} <= set(ALL)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="digits-ect"):
        recipe("digits-etc")


# Song et al. 2023, table 3: learning rate, batch, thousands of iterations, EMA, fp16, dropout.
TABLE_3 = {
    "cifar10-cd-paper": (4e-4, 512, 800, 0.9999, False),
    "cifar10-ct-paper": (4e-4, 512, 800, 0.9999, False),
    "imagenet64-cd-l2": (8e-6, 2048, 600, 0.999943, True),
    "imagenet64-cd-lpips": (8e-6, 2048, 600, 0.999943, True),
    "imagenet64-ct": (8e-6, 2048, 800, 0.999943, True),
    "lsun256-cd-l2": (1e-5, 2048, 600, 0.999943, True),
    "lsun256-cd-lpips": (1e-5, 2048, 600, 0.999943, True),
    "lsun256-ct": (1e-5, 2048, 1000, 0.999943, True),
}


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3(name):
    r = recipe(name)
    lr, batch, thousands, ema, half = TABLE_3[name]
    optimizer = r.optimizer
    assert type(optimizer).__name__ == "RAdam"
    assert (optimizer.lr, optimizer.weight_decay, optimizer.warmup, optimizer.decay) == (lr, 0, 0, "constant")
    assert (r.batch, r.steps, r.clip) == (batch, thousands * 1000, None)
    assert round(r.ema[0], 6) == ema
    assert r.precision == ("fp16" if half else "fp32")
    assert r.data.flip
    assert r.architecture.dropout == 0


@pytest.mark.parametrize(
    ("name", "n", "mu"),
    [
        ("cifar10-cd-paper", 18, 0.0),
        ("imagenet64-cd-l2", 40, 0.95),
        ("imagenet64-cd-lpips", 40, 0.95),
        ("lsun256-cd-l2", 40, 0.95),
        ("lsun256-cd-lpips", 40, 0.95),
    ],
)
def test_table_3_distillation(name, n, mu):
    objective = recipe(name).objective
    assert objective.discretization.count(0.7) == n
    assert objective.target.rate(0.7, objective.discretization) == mu
    assert type(objective.solver).__name__ == "Heun"
    assert recipe(name).start is None


@pytest.mark.parametrize(
    ("name", "s_0", "s_1", "mu_0"),
    [("cifar10-ct-paper", 2, 150, 0.9), ("imagenet64-ct", 2, 200, 0.95), ("lsun256-ct", 2, 150, 0.95)],
)
def test_table_3_training(name, s_0, s_1, mu_0):
    objective = recipe(name).objective
    pairs = objective.discretization
    assert (pairs.count(0.0), pairs.count(1.0)) == (s_0, s_1 + 1)
    assert objective.target.rate(0.0, pairs) == pytest.approx(mu_0)  # exp(s_0 ln μ_0 / s_0)
    assert recipe(name).start == "random"


@pytest.mark.parametrize("name", ["cifar10-cd-continuous-paper", "cifar10-ct-continuous-paper"])
def test_continuous_time(name):
    """The launch script's learning rate; dropout and average of the configuration; both begin with the teacher."""
    r = recipe(name)
    assert (r.optimizer.lr, r.batch, r.steps, r.ema, r.architecture.dropout) == (5e-6, 512, 800_000, (0.9999,), 0.3)
    assert r.objective.stop_gradient
    assert r.objective.distance == LPIPS(pooling="max", below=None)
    assert r.start is None


def test_distances_are_those_of_the_paper_and_its_codes():
    for data in ("imagenet64", "lsun256"):
        assert recipe(f"{data}-cd-l2").objective.distance == Squared()
        for method in ("cd-lpips", "ct"):
            assert recipe(f"{data}-{method}").objective.distance == LPIPS(pooling="average", size=224, below=256)
    for method in ("cd", "ct"):
        assert recipe(f"cifar10-{method}-paper").objective.distance == LPIPS(pooling="max", below=None)


@pytest.mark.parametrize(
    ("name", "lr", "batch", "dropout", "ema"),
    [
        ("cifar10-edm-paper", 1e-3, 512, 0.13, 0.99929),
        ("imagenet64-edm", 1e-4, 4096, 0.1, 0.99994),
        ("lsun256-edm", 1e-4, 2048, 0.1, 0.99994),
    ],
)
def test_teachers(name, lr, batch, dropout, ema):
    r = recipe(name)
    assert (r.objective.p_mean, r.objective.p_std) == (-1.2, 1.2)
    assert (r.optimizer.lr, r.batch, r.architecture.dropout) == (lr, batch, dropout)
    assert round(r.ema[0], 5) == ema


def test_improved_and_easy_consistency_training():
    ict, ect = recipe("cifar10-ict-paper"), recipe("cifar10-ect-paper")
    assert (ict.optimizer.lr, ict.batch, ict.steps, ict.ema, ict.architecture.dropout) == (
        1e-4,
        1024,
        400_000,
        (0.99993,),
        0.3,
    )
    counts = [ict.objective.discretization.count(progress) for progress in (0.0, 0.13, 0.5, 0.99)]
    assert counts == [11, 21, 161, 1281]
    assert (ect.optimizer.lr, ect.batch, ect.steps, ect.ema, ect.architecture.dropout) == (
        1e-4,
        128,
        8000,
        (0.9993,),
        0.2,
    )
    pairs = ect.objective.discretization
    assert (pairs.q, pairs.stages, pairs.p_mean, pairs.p_std) == (256.0, 1, -1.1, 2.0)
    assert not ect.data.flip


def test_progressive_distillation_spends_50000_steps_a_stage():
    r = recipe("cifar10-pd-paper")
    steps = [r.objective.steps(r.progress(k)) for k in (0, 49_999, 50_000, 549_999, 550_000, 649_999, 650_000, 749_999)]
    assert steps == [4096, 4096, 2048, 4, 2, 2, 1, 1]


@pytest.mark.parametrize(("name", "parameters"), [("imagenet64-ct", 295_899_267), ("lsun256-ct", 526_304_771)])
def test_networks_have_the_size_of_the_released_ones(name, parameters):
    with torch.device("meta"):
        network = recipe(name).architecture.build()
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "position", "n"),
    [
        ("cifar10-cd-paper", 11, 18),
        ("imagenet64-cd-l2", 22, 40),
        ("imagenet64-ct", 106, 201),
        ("lsun256-cd-lpips", 17, 40),
        ("lsun256-cd-l2", 18, 40),
        ("lsun256-ct", 67, 151),
    ],
)
def test_second_times_are_the_published_grid_positions(name, position, n):
    r = recipe(name)
    assert r.times[1][1] == pytest.approx(float(r.schedule.grid(n)[position]), abs=1e-4)


# The published scripts' commands and defaults: learning rate, w, EMA of the target, LoRA's rank, width of a picture.
SCRIPTS = {
    "sd15-lcd": (1e-6, (5, 15), 0.95, None, 512),
    "sd15-lcm-lora": (1e-4, (5, 15), None, 64, 512),
    "sdxl-lcm-lora": (1e-4, (3, 15), None, 64, 1024),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_latent_distillation_as_published(name):
    r = recipe(name)
    lr, w, mu, rank, size = SCRIPTS[name]
    optimizer, latent = r.optimizer, r.latent
    assert (type(optimizer).__name__, optimizer.lr, optimizer.betas) == ("AdamW", lr, (0.9, 0.999))
    assert (optimizer.weight_decay, optimizer.warmup, optimizer.decay, r.clip) == (0, 0, "constant", 1.0)
    assert (r.steps, r.batch, r.precision, r.checkpoint_every, r.label_drop) == (1000, 12, "fp16", 200, 0)
    assert (latent.w, latent.told, latent.timestep_scaling, r.sigma_data, r.guidance) == (w, 256, 10, 0.5, 1)
    assert r.objective.target_rate(0.0) == mu
    assert (r.objective.discretization.k, r.schedule.origin, r.objective.distance) == (20, 50, Huber(0.001))
    assert type(r.objective.solver).__name__ == "Euler"
    assert (latent.lora and (latent.lora.rank, latent.lora.alpha, latent.lora.dropout)) == (rank and (rank, rank, 0))
    assert (r.data.size, r.data.captions) == (size, True)
    parameters = sum(p.numel() for p in r.architecture.outline().parameters())
    assert parameters == {512: 859_520_964, 1024: 2_567_463_684}[size]


def test_latent_fine_tuning_as_published():
    r = recipe("sd15-lcf")
    assert (r.optimizer.lr, r.teacher, r.start) == (8e-6, None, "SimianLuo/LCM_Dreamshaper_v7")
    assert (r.objective.discretization.k, r.objective.target_rate(0.0), r.data.size) == (20, 0.95, 768)
    assert r.architecture.told_guidance == 256
