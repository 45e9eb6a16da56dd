"""The Python and the commands of the pages run, in their order, as they stand there: on small stand-ins for what they
name, and with training made small."""

import re
import shlex
from pathlib import Path

import pytest
import stand_ins

from fewstep.cli import main

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="a built package has no docs beside it")

PAGES = {
    "evaluation.md": "## Published features",
    "from-diffusers.md": "",
    "from-mmagic.md": "",
    "latent.md": "## A real one",
}
"""What runs, up to a title (""): the end)."""

SMALL = ["--size", "16", "--steps", "2", "--batch", "2", "--micro-batch", "2", "--precision", "fp32", "--workers", "0"]
"""Said last, which counts."""

NETWORK = ["--architecture.model-channels", "32", "--architecture.num-res-blocks", "1"]
"""The same, of recipes for pixels."""

TOO_LARGE = ("fewstep sample consistency_models_8xb256-imagenet1k-multistep-64x64 ",)
"""Commands whose model has to have its own size."""

PART = re.compile(r"^```python\n(?P<python>(?:.*\n)*?)```$|^    (?P<command>fewstep (?:.*\\\n)*.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_ins.furnish(tmp_path)
    text, names = (DOCS / page).read_text(encoding="utf-8"), {}
    parts = list(PART.finditer(text.split(PAGES[page])[0] if PAGES[page] else text))
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
    if arguments[0] != "train":
        return []
    return [*SMALL, *(NETWORK if "paper" in arguments[1] else [])]
