"""The bundled text-to-image model draws what sentences ask for, here and in stock diffusers."""

import sys
from pathlib import Path

import diffusers
import pytest
import torch

import fewstep

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def see():
    sys.path.insert(0, str(BENCHMARKS))
    from judge import load_reader
    from words_judge import JUDGE
    from words_judge import see as look

    reader = load_reader(JUDGE)
    return lambda x: look(reader, x)


def test_digits_are_read_as_asked(see):
    model = fewstep.load("words")
    prompts = [f"the digit {word}" for word in DIGITS] * 2
    for steps in (1, 4):
        x = model.sample(prompts=prompts, steps=steps, guidance=4.0, seed=0)
        right = sum(int(a) == b for a, b in zip(see(x).digits, [*range(10)] * 2, strict=True))
        assert right >= 19


def test_stock_diffusers_draws_the_same():
    folder, options = fewstep.path("words"), {"height": 32, "width": 32, "num_inference_steps": 2, "output_type": "pt"}
    drawn = []
    for pipe in (diffusers.DiffusionPipeline, fewstep.LatentConsistencyModelPipeline):
        made = pipe.from_pretrained(folder)
        made.set_progress_bar_config(disable=True)
        seed = torch.Generator().manual_seed(0)
        drawn.append(made("a large thick seven", guidance_scale=4.0, generator=seed, **options).images)
    torch.testing.assert_close(*drawn, atol=1e-5, rtol=1e-5)
