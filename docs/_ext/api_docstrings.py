"""Docstrings are read in an editor first: plain text with formulas, `code`, lists and a table here and there.

This turns them into what Sphinx reads:

    formulas and code that are indented, columns held apart by spaces      as they stand
    - a point; name: what it means                                         lists
    | a | table |                                                          tables
    >>> an example                                                         code
    `name`                                                                 a link, where it is a name of fewstep's
"""

import ast
import re
from functools import cache

from api_pages import defined, home_of, modules

POINT = re.compile(r"[-*] (?=\S)")
ENTRY = re.compile(r"(?P<name>`?[A-Za-z_]\w*`?(, `?[A-Za-z_]\w*`?)*): (?=\S)")
COLUMNS = re.compile(r"\S {3,}\S")
SPAN = re.compile(r"`([^`]+)`|\*\*(\S[^*]*)\*\*")
ELSEWHERE = ("diffusers.", "huggingface_hub.", "torch.", "transformers.", "peft.")


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def rewrite(app, what: str, name: str, value, options, lines: list[str]) -> None:
    home = getattr(value, "__module__", None) or ""
    if isinstance(value, property):
        home = getattr(value.fget, "__module__", "")
    if home.startswith(ELSEWHERE) or (what in ("method", "attribute", "property") and inherited(app, name)):
        lines[:] = borrowed(lines, home)
    elif name.endswith(".forward") and not value.__doc__:
        lines[:] = []  # PyTorch's words on every `forward`, which say nothing of this one
    else:
        lines[:] = structured(lines, formulas=what == "module")


def inherited(app, name: str) -> bool:
    """Whether a member comes from a class of another library: fewstep's own docstrings are in its files."""
    return not name.startswith("fewstep.") or name.rpartition(".")[2] not in words_of_the_source()


@cache
def words_of_the_source() -> frozenset[str]:
    """Every name that fewstep's own files define."""
    found: set[str] = set()
    for file in modules().values():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return frozenset(found)


def borrowed(lines: list[str], home: str) -> list[str]:
    """Another library's docstring: its first paragraph, and whose it is."""
    first = []
    for line in lines:
        if not line.strip() and first:
            break
        first += [line.strip()] if line.strip() else []
    said = re.sub(r":\w+:`|\[`~?|`\]\([^)]*\)|`\]", "`", " ".join(first)).replace("``", "`")
    whose = f"Inherited from {home.partition('.')[0]}." if home.startswith(ELSEWHERE) else "Inherited."
    return [inline(said), "", whose, ""]


def structured(lines: list[str], *, formulas: bool) -> list[str]:
    """reStructuredText of a docstring. In a module's, all that is indented is a formula."""
    out: list[str] = []
    blocks = paragraphs([line.rstrip() for line in lines])
    for block in blocks:
        out += [*written(block, formulas), ""]
    return out


def paragraphs(lines: list[str]) -> list[list[str]]:
    """What blank lines hold apart; inside indented text a blank line holds nothing apart."""
    found: list[list[str]] = [[]]
    for i, line in enumerate(lines):
        if line:
            found[-1].append(line)
        else:
            later = next((other for other in lines[i:] if other), "")
            inside = found[-1] and found[-1][-1].startswith("    ") and later.startswith("    ")
            if inside and all(other.startswith("    ") for other in found[-1]):
                found[-1].append("")
            else:
                found.append([])
    return [block for block in found if block]


def written(block: list[str], formulas: bool) -> list[str]:
    if block[0].lstrip().startswith(">>> "):
        return literal(block, "pycon")
    if all(line.startswith("    ") or not line for line in block):
        return literal(block)
    if block[0].startswith("|") and len(block) > 2:
        return table(block)
    if sum(bool(COLUMNS.search(line)) for line in block) > 1 and not any(POINT.match(line) for line in block):
        return with_columns(block)
    return prose(block, formulas)


def literal(block: list[str], language: str = "none") -> list[str]:
    margin = min(len(line) - len(line.lstrip()) for line in block if line)
    return [f".. code-block:: {language}", "", *(f"   {line[margin:]}".rstrip() for line in block)]


def with_columns(block: list[str]) -> list[str]:
    """Words up to the first line with columns, and the rest as it stands."""
    first = next(i for i, line in enumerate(block) if COLUMNS.search(line) or line.startswith("    "))
    before = [*prose(block[:first], False), ""] if first else []
    return [*before, *literal(block[first:])]


def table(block: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block]
    rows = [row for row in rows if not all(set(cell) <= set("-: ") for cell in row)]
    out = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        out += [f"   {'* -' if i == 0 else '  -'} {inline(cell)}".rstrip() for i, cell in enumerate(row)]
    return out


def prose(block: list[str], formulas: bool) -> list[str]:
    """A paragraph, in which points, entries and indented formulas begin anew."""
    pieces: list[tuple[str, list[str]]] = []
    for line in block:
        inner, kind = line.strip(), pieces[-1][0] if pieces else ""
        indented = len(line) - len(line.lstrip())
        if POINT.match(inner) and indented < 4:
            pieces.append(("point", [POINT.sub("", inner, count=1)]))
        elif (entry := ENTRY.match(inner)) and not indented:
            pieces.append(("point", [f"**{entry['name'].replace('`', '')}**: {inner[entry.end() :]}"]))
        elif indented >= 4 and (kind == "formula" or formulas or (kind == "text" and pieces[-1][1][-1].endswith(":"))):
            if kind == "formula":
                pieces[-1][1].append(line)
            else:
                pieces.append(("formula", [line]))
        elif not pieces or kind == "formula" or (kind == "point" and not indented and pieces[-1][1][-1].endswith(".")):
            pieces.append(("text", [inner]))
        else:
            pieces[-1][1].append(inner)
    out: list[str] = []
    for kind, lines in pieces:
        if kind == "formula":
            out += ["", *literal(lines), ""]
        else:
            out += ["", f"{'* ' if kind == 'point' else ''}{inline(' '.join(lines))}", ""]
    return out


def inline(text: str) -> str:
    """One line of text, everything that Sphinx would read as markup escaped but `code` and **weight**."""
    out, end = "", 0
    for span in SPAN.finditer(text):
        out += escaped(text[end : span.start()])
        marked = code(span[1]) if span[1] else f"**{escaped(span[2])}**"
        before = "\\ " if out and not out[-1].isspace() and out[-1] not in "([{'\"-/:" else ""
        after = text[span.end() : span.end() + 1]
        out += before + marked + ("\\ " if after and (after.isalnum() or after in "_`*(…") else "")
        end = span.end()
    return out + escaped(text[end:])


def escaped(text: str) -> str:
    """A backslash before every sign that means something to Sphinx."""
    return re.sub(r"[\\*`|]|_(?!\w)", r"\\\g<0>", text)


def code(text: str) -> str:
    """A link to the one thing of fewstep's that has this name, else code."""
    name = text.removesuffix("()")
    plain = name.islower() and "_" not in name and name == text and "." not in name  # a parameter, most likely
    target = "" if plain else homes().get(name.removeprefix("fewstep."), "")
    return f":py:obj:`{text} <{target}>`" if target else f"``{text.strip()}``"


@cache
def homes() -> dict[str, str]:
    """Short name → full name: of what is public, and of every name that one module alone defines."""
    from fewstep import PUBLIC

    everywhere: dict[str, list[str]] = {}
    for module in modules():
        for name in defined(module):
            everywhere.setdefault(name, []).append(f"{module}.{name}")
    full = {name.removeprefix("fewstep."): name for names in everywhere.values() for name in names}
    alone = {name: names[0] for name, names in everywhere.items() if len(names) == 1}
    return {**full, **alone, **{name: home_of(name, home) for name, home in PUBLIC.items()}}
