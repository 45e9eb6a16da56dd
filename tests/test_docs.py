"""The Python and the commands of the pages run, in their order, as they stand there: on small stand-ins for what they
name, and with training made small."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
import stand_ins

from fewstep.cli import VERBS, main

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="a built package has no docs beside it")

PAGES = {
    ("from-diffusers.md",): "",
    ("from-mmagic.md",): "",
    ("latent.md",): "## A real one",
    ("index.md",): "",
    ("first-ten-minutes.md",): "",
    ("own-pictures.md", "editing.md", "gallery.md"): "",
    ("distilling.md",): "",
    ("evaluation.md",): "## Published features",
    ("plots.md",): "",
    ("paper.md",): "",
}
"""What runs, up to a title ("": the end); what the pages of a line make lies there for the next."""

SMALL = ["--steps", "2", "--batch", "2", "--micro-batch", "2", "--precision", "fp32", "--workers", "0"]
"""Said last, which counts."""

QUICK = ["--score.n", "0"]
"""The same, of small recipes and one's own."""

NARROW = ["--size", "16"]
"""The same, of the others."""

NETWORK = ["--architecture.model-channels", "32", "--architecture.num-res-blocks", "1"]
"""The same, of the papers' recipes for pixels."""

TOO_LARGE = (
    "fewstep sample consistency_models_8xb256-imagenet1k-multistep-64x64 ",
    "fewstep train imagenet64-",
    "fewstep train sd15-lcm-lora --data photos/ --teacher stable-diffusion-v1-5/",  # as latent.md's
    "fewstep reproduce heun-vs-euler",
    "fewstep reproduce all",
    "fewstep reproduce distance",
)
"""Commands whose model has to have its own size, or that another page has."""

PART = re.compile(r"^```python\n(?P<python>(?:.*\n)*?)```$|^    (?P<command>fewstep (?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.mark.parametrize("pages", PAGES, ids=lambda pages: pages[0])
def test_what_pages_say_runs(pages, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_ins.furnish(tmp_path)
    for page in pages:
        text, names = (DOCS / page).read_text(encoding="utf-8"), {"__name__": page}
        parts = list(PART.finditer(text.split(PAGES[pages])[0] if PAGES[pages] else text))
        assert parts
        for part in parts:
            command = part["command"]
            if command and not command.startswith(TOO_LARGE):
                arguments = shlex.split(command.replace("\\\n", " "), comments=True)[1:]
                assert main([*arguments, *smaller(arguments)]) == 0, command
            elif not command:
                exec(part["python"], names)
                if file := re.match(r"# (\S+\.py)\n", part["python"]):
                    Path(file[1]).write_text(part["python"], encoding="utf-8")


def smaller(arguments: list[str]) -> list[str]:
    """Flags that make a training run small."""
    verb, recipe = arguments[:2]
    if verb != "train" or "--dry-run" in arguments:
        return []
    if recipe.startswith(("digits-", "mnist-")) or (recipe.endswith(".py") and not recipe.startswith("sdxl")):
        return [*SMALL, *QUICK]
    return [*SMALL, *NARROW, *(NETWORK if "paper" in recipe else [])]


class Understood(Exception):
    """A command was parsed; it is not run."""


def parsed(module, monkeypatch):
    real = module.parse

    def parse(*args, **kwargs):
        real(*args, **kwargs)
        raise Understood

    monkeypatch.setattr(module, "parse", parse)


@pytest.mark.parametrize("page", sorted(["../README.md", *(path.name for path in DOCS.glob("*.md"))]))
def test_every_command_on_every_page_is_understood(page, monkeypatch):
    """Also those that are not run here: verbs, recipes and flags exist, and values are of their kind."""
    text = (DOCS / page).read_text(encoding="utf-8")
    commands = [part["command"] for part in PART.finditer(text) if part["command"]]
    for verb in VERBS:
        parsed(import_module(f"fewstep.cli.{verb}"), monkeypatch)
    for command in commands:
        verb, *arguments = shlex.split(command.replace("\\\n", " "), comments=True)[1:]
        if verb == "train" and not arguments[0].endswith(".py"):
            with pytest.raises(Understood):
                import_module("fewstep.cli.train").main(arguments)
        elif verb != "train" and "..." not in command:
            with pytest.raises(Understood):
                import_module(f"fewstep.cli.{verb}").main(arguments)
