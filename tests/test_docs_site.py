"""The documentation site is whole: a page for every module, links that lead somewhere; and the numbers on it that are
cheap to compute anew. `make docs` itself holds the site against every public name (docs/_ext/api_complete.py)."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import fewstep
from fewstep import editing, recipes
from fewstep.formats.mmagic_zoo import ZOO
from fewstep.formats.releases import RELEASES
from fewstep.images import Data, open_images
from fewstep.model import EDIT_STEPS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="a built package has no docs beside it")

PAGES = sorted(DOCS.glob("*.md"))
LINK = re.compile(r"(?<!\\)\]\((?P<file>[^)#:]*)(#(?P<anchor>[^)]+))?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

NUMERALS = {6: "six", 12: "twelve"}


@pytest.fixture(scope="module")
def pages():
    """The module that writes the API's pages."""
    sys.path.insert(0, str(DOCS / "_ext"))
    yield importlib.import_module("api_pages")
    sys.path.remove(str(DOCS / "_ext"))


def test_every_module_has_a_page_and_a_way_to_it(pages, tmp_path):
    pages.write_pages(tmp_path)
    written = {file.stem: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.rst")}
    assert set(written) == set(pages.modules())
    for name, text in written.items():
        assert f".. automodule:: {name}\n" in text
        parent = name.rpartition(".")[0]
        way = (DOCS / "api.md").read_text(encoding="utf-8") if parent in ("", "fewstep") else written[parent]
        assert f"api/{name}\n" in way or f":doc:`{name}`" in way, f"{name} is on no page"


def test_every_page_is_in_the_table_of_contents():
    named = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(encoding="utf-8"), re.DOTALL)
    assert {page.stem for page in PAGES} - {"index"} == {
        line for block in named for line in block.split() if not line.startswith(":") and (DOCS / f"{line}.md").exists()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page, pages):
    for link in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        to = page.parent / link["file"] if link["file"] else page
        if to.parent.name == "api":
            assert to.stem in pages.modules(), link[0]
        else:
            assert to.exists(), f"{page.name}: {link[0]}"
            assert not link["anchor"] or link["anchor"] in anchors(to), f"{page.name}: {link[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page, pages):
    for name in re.findall(r"\{py:obj\}`([\w.]+)`", page.read_text(encoding="utf-8")):
        module = next(part for part in prefixes(name) if part in pages.modules())
        thing = importlib.import_module(module)
        for part in name.removeprefix(module).strip(".").split("."):
            thing = getattr(thing, part) if part else thing
        home = getattr(thing, "__module__", name)
        assert name.startswith((home, *pages.INHERITING)), f"{name} is written in {home}"


def test_a_site_that_lacks_a_public_name_does_not_build(pages, monkeypatch):
    pytest.importorskip("sphinx")
    from types import SimpleNamespace

    complete = importlib.import_module("api_complete")
    said: list[str] = []
    monkeypatch.setattr(complete.logging, "getLogger", lambda name: SimpleNamespace(warning=said.append))
    home = pages.home_of("LCMScheduler", fewstep.PUBLIC["LCMScheduler"])
    complete.check(None, SimpleNamespace(domaindata={"py": {"objects": {f"{home}.step": None}}}))
    assert f"{home} is on no page" in said
    assert f"{home}.add_noise is on no page" in said
    assert f"{home}.step is on no page" not in said


def prefixes(name: str) -> list[str]:
    """a.b.c, a.b, a."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(len(parts), 0, -1)]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def million(recipe: str, digits: int = 0) -> str:
    count = sum(p.numel() for p in recipes.recipe(recipe).architecture.outline().parameters())
    return f"{count / 1e6:.{digits}f} million"


def test_the_small_numbers_on_the_pages():
    karras, times = fewstep.Karras(), dict(enumerate(recipes.recipe("mnist-cd").times, 1))
    red, green, blue = editing.LUMINANCE
    digits = f"{len(open_images(Data('digits'))):,}"
    said = {
        "README.md": [
            f"OpenAI's {NUMERALS[len(RELEASES)]} releases by name",
            f"model of {million('mnist-edm', 1)} parameters that is part",
        ],
        "docs/own-pictures.md": [
            f"compact, {million('digits-edm', 2)} parameters",
            f"compact, {million('mnist-edm', 1)}",
            f"compact, {million('cifar10-edm')}",
            f"U-Net, {million('imagenet64-edm')}",
            f"U-Net, {million('lsun256-edm')}",
            f"{digits} coloured digits",
            f"`mnist-cd` sets to {recipes.recipe('mnist-cd').guidance:g}",
        ],
        "docs/first-ten-minutes.md": [
            f"{digits} digits of 8×8",
            f"the largest level, {karras.t_max:g}",
            f"takes {2 * 18 - 1} calls a picture",
        ],
        "docs/editing.md": [
            f"({editing.STROKE_TIMES[0]:g} unless told",
            f"{red:.4f} R + {green:.4f} G + {blue:.4f} B",
            f"`--steps {EDIT_STEPS}` spaces them",
        ],
        "docs/glossary.md": [f"t_min = {karras.t_min:g} to t_max = {karras.t_max:g}"],
        "docs/results.md": [f"two at {times[2][0]:g} and {times[2][1]:g} (the bundled model)"],
        "docs/from-mmagic.md": [f"the {NUMERALS[len(ZOO)]} entries of the zoo"],
    }
    for page, sentences in said.items():
        text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
        for sentence in sentences:
            assert sentence in text, f"{page} does not say: {sentence}"
