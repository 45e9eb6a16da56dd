"""A page a module: written into docs/api (which git ignores) before every build, from the files alone.

fewstep's own page lists the public names, a package's page its modules. Models and the classes in diffusers'
language show what they inherit as well, since a user calls that too.
"""

import ast
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[1]
SOURCE = DOCS.parent / "src" / "fewstep"
INHERITING = ("fewstep.dropin", "fewstep.model")


def setup(app) -> dict:
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "api"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def modules() -> dict[str, Path]:
    """Dotted name → file, of every module; `__main__` only runs."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = ("fewstep", *file.relative_to(SOURCE).with_suffix("").parts)
        if parts[-1] != "__main__":
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def write_pages(folder: Path) -> None:
    """Every page; those that have not changed are left alone, those of modules that are gone removed."""
    folder.mkdir(exist_ok=True)
    pages = {f"{name}.rst": page(name, file) for name, file in modules().items()}
    for old in folder.glob("*.rst"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")


def page(name: str, file: Path) -> str:
    parent = name.rpartition(".")[0]
    lines = [name, "=" * len(name), ""]
    if parent not in ("", "fewstep"):  # only the first floor is in the sidebar, which every page has to carry
        lines = [":orphan:", "", *lines, f"A module of :doc:`{parent}`.", ""]
    lines += [f".. automodule:: {name}"]
    lines += ["   :inherited-members: object, dict, OrderedDict, BaseOutput"] if name.startswith(INHERITING) else []
    lines += ["   :no-members:"] if name == "fewstep" else []
    lines += ["   :ignore-module-all:"] if file.name == "__init__.py" else []  # what it passes on has its own page
    lines += ["", *(public() if name == "fewstep" else passed_on(name))]
    children = [child for child in modules() if child.rpartition(".")[0] == name] if name != "fewstep" else []
    if children:
        lines += [".. rubric:: Modules", "", *(f"* :doc:`{child}`: {headline(child)}" for child in children), ""]
    return "\n".join(lines)


@cache
def defined(module: str) -> tuple[str, ...]:
    """The classes and functions of a module, from its file."""
    body = ast.parse(modules()[module].read_text(encoding="utf-8")).body
    return tuple(node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_")


def home_of(name: str, package: str) -> str:
    """The full name of what a package or module offers as `name`: where it is written."""
    inside = [module for module in modules() if f"{module}.".startswith(f"{package}.") and name in defined(module)]
    return f"{inside[0]}.{name}" if inside else f"{package}.{name}"


def passed_on(package: str) -> list[str]:
    """Links to the names that a package offers from its modules."""
    for node in ast.parse(modules()[package].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            homes = {name: home_of(name, package) for name in ast.literal_eval(node.value)}
            links = [f":py:obj:`{name} <{home}>`" for name, home in homes.items() if home != f"{package}.{name}"]
            return [f"From its modules: {', '.join(links)}.", ""] if links else []
    return []


def headline(name: str) -> str:
    """The first sentence of a module's docstring."""
    from api_docstrings import inline

    said = ast.get_docstring(ast.parse(modules()[name].read_text(encoding="utf-8"))) or ""
    first = " ".join(said.split("\n\n")[0].split())
    return inline(first.partition(". ")[0].rstrip("."))


def public() -> list[str]:
    """The table of fewstep's public names."""
    from fewstep import PUBLIC

    homes = {name: home_of(name, home) for name, home in PUBLIC.items()}
    rows = [(f":py:obj:`fewstep.{name} <{home}>`", f":doc:`{home.rpartition('.')[0]}`") for name, home in homes.items()]
    return [".. list-table:: Public names", "   :header-rows: 1", "", "   * - name", "     - written in",
            *(line for row in rows for line in (f"   * - {row[0]}", f"     - {row[1]}")), ""]  # fmt: skip
