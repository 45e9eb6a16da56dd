"""The table of OpenAI's releases."""

import pytest

from fewstep.formats.releases import RELEASES, release_of, shape_named

DATA = ("imagenet64", "bedroom256", "cat256")
NAMES = [name for data in DATA for name in (f"edm_{data}_ema", f"cd_{data}_l2", f"cd_{data}_lpips", f"ct_{data}")]


def test_the_twelve_names_and_addresses():
    assert list(RELEASES) == NAMES
    assert RELEASES["ct_cat256"].url == "https://openaipublic.blob.core.windows.net/consistency/ct_cat256.pt"


@pytest.mark.parametrize(
    ("name", "levels", "second"),
    [
        ("cd_imagenet64_l2", 40, 1.3824),
        ("cd_imagenet64_lpips", 40, 1.3824),
        ("ct_imagenet64", 201, 1.9128),
        ("cd_bedroom256_lpips", 40, 4.3656),
        ("cd_bedroom256_l2", 40, 3.5197),
        ("ct_bedroom256", 151, 3.9912),
        ("ct_cat256", 151, 5.2485),
    ],
)
def test_the_published_times(name, levels, second):
    assert RELEASES[name].levels == levels
    assert RELEASES[name].times == {"1": (80.0,), "2": (80.0, pytest.approx(second, abs=6e-5))}


def test_no_times_that_were_not_published():
    assert RELEASES["cd_cat256_l2"].times == RELEASES["cd_cat256_lpips"].times == {"1": (80.0,)}
    assert all(RELEASES[name].times == {} for name in NAMES if name.startswith("edm_"))


def test_networks_by_the_names_of_files():
    assert release_of("runs/my-ct_bedroom256.fp16.pt") is RELEASES["ct_bedroom256"]
    assert release_of("ema_0.9999_000100.pt") is None
    shape = shape_named("finetuned_cat256_v2.pt")
    assert shape is not None
    assert (shape.image_size, shape.num_head_channels) == (256, 64)
    assert shape_named("imagenet64/model000100.pt") is None  # the file's own name counts
