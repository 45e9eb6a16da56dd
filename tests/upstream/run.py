"""diffusers' published tests, with fewstep's classes in the place of diffusers'.

    git clone --depth 1 --branch v0.42.1 https://github.com/huggingface/diffusers
    .venv/bin/python tests/upstream/run.py diffusers [options of pytest]

The tests are read from the checkout; diffusers itself is the installed one. Nothing is written into the checkout.
"""

import os
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import diffusers
import pytest

import fewstep

CLASSES = (
    "CMStochasticIterativeScheduler",
    "ConsistencyModelPipeline",
    "LCMScheduler",
    "LatentConsistencyModelPipeline",
    "LatentConsistencyModelImg2ImgPipeline",
)
"""Names that the tests find in `diffusers`: there, fewstep's class is put."""

TESTS = (
    "tests/schedulers/test_scheduler_consistency_model.py",
    "tests/pipelines/consistency_models/test_consistency_models.py",
    "tests/schedulers/test_scheduler_lcm.py",
    "tests/pipelines/latent_consistency_models/test_latent_consistency_models.py",
    "tests/pipelines/latent_consistency_models/test_latent_consistency_models_img2img.py",
)
"""Files of the checkout."""

TOLD = "negative_prompt_embeds, which has no effect on a model that is told its guidance scale, is refused"

DIFFERENT = {
    f"LatentConsistencyModel{task}PipelineFastTests::test_encode_prompt_works_in_isolation": TOLD
    for task in ("", "Img2Img")
}
"""Tests that fail on purpose (`Class::test`), and why. One that passes after all is reported as a failure."""


FIGURES = [
    *(f"test_consistency_model_pipeline_{n}step{cond}" for n in ("one", "multi") for cond in ("", "_class_cond")),
    *(f"test_lcm_{levels}" for levels in ("onestep", "multistep", "custom_timesteps")),
    "test_ip_adapter",
]
"""Tests that compare with figures of weights, or of a tokenizer, on the Hub."""


class Offline:
    """Without a network (HF_HUB_OFFLINE=1) the pipelines' tests run on random weights and a tokenizer of letters, and
    leave out FIGURES."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        sys.path.append(str(Path(__file__).parents[1]))
        from consistency_pipes import unet

        for item in items:
            cls, module = getattr(item, "cls", None), getattr(item, "module", None)
            if item.name in FIGURES:
                item.add_marker(pytest.mark.skip(reason="needs files from the Hub"))
            elif hasattr(cls, "dummy_uncond_unet"):
                cls.dummy_uncond_unet = property(lambda self: unet(32))  # type: ignore[union-attr]
            elif hasattr(module, "CLIPTokenizer"):
                module.CLIPTokenizer = Letters  # type: ignore[union-attr]


class Letters:
    """In the place of CLIPTokenizer."""

    @staticmethod
    def from_pretrained(*_: Any, **__: Any) -> Any:
        """A tokenizer of letters, of CLIP's length."""
        from latent_helpers import tokenizer

        words = tokenizer(Path(mkdtemp()))
        words.model_max_length = 77
        return words


class Expected:
    """Marks what differs on purpose."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for name, reason in DIFFERENT.items():
                if item.nodeid.endswith(f"::{name}"):
                    item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def main(checkout: str, *options: str) -> int:
    """pytest's exit code."""
    missing = [test for test in TESTS if not (Path(checkout) / test).is_file()]
    if missing:
        raise SystemExit(f"{checkout} is no checkout of diffusers: it has no {missing[0]}.")
    for name in CLASSES:
        setattr(diffusers, name, getattr(fewstep, name))
    os.chdir(checkout)
    arguments = ["--rootdir=.", "--config-file=/dev/null", "-p", "no:cacheprovider", "-rxX", *options, *TESTS]
    return pytest.main(arguments, plugins=[Expected(), *([Offline()] if os.environ.get("HF_HUB_OFFLINE") else [])])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.dont_write_bytecode = True
    sys.exit(main(*sys.argv[1:]))
