"""From words to frozen dataclasses: tyro, with unknown flags refused by their nearest name in one sentence."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro

from fewstep.cli import Misuse
from fewstep.codec import nearest

Options = TypeVar("Options")


def parse(options: type[Options], args: Sequence[str], prog: str, default: Options | None = None) -> Options:
    """The options in `args`, the others as in `default`; prints help and ends (exit 0), or refuses (exit 2)."""
    refuse_unknown(args, ["--help", *flags(options)], prog)
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    return tyro.cli(options, args=list(args), prog=prog, config=config, default=default)  # pyright: ignore[reportReturnType]


def flags(options: type) -> Iterator[str]:
    """The flags of a flat dataclass of options, aliases included."""
    for name, hint in get_type_hints(options, include_extras=True).items():
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        if tyro.conf.Positional not in extras:
            yield flag(name)
            yield from (alias for extra in extras for alias in getattr(extra, "aliases", None) or ())


def flag(*path: str) -> str:
    return "--" + ".".join(path).replace("_", "-")


def refuse_unknown(args: Sequence[str], known: Sequence[str], prog: str) -> None:
    """Raises Misuse, with the nearest name, for a flag that is not known. Negative numbers are no flags."""
    for arg in args:
        name = arg.split("=")[0]
        name = name.replace("_", "-") if name.startswith("--") else name
        if re.match(r"--?[A-Za-z]", name) and name not in known and name != "-h":
            close = nearest(name, known)
            hint = close if close.startswith("; did") else f"; see {prog} --help"
            raise Misuse(f"{prog} has no option {name}{hint}")


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf of nested dataclasses that a flag can say, with its path."""
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            yield from leaves(part, (*path, field.name))
        elif sayable(type(value), field.name, part):
            yield (*path, field.name), part


def sayable(cls: type, name: str, value: Any) -> bool:
    """Whether a flag can say this field: no mapping, and no part that is left out."""
    hint = get_type_hints(cls)[name]
    kinds = [kind for part in (hint, *get_args(hint)) for kind in (part, get_origin(part))]
    if any(isinstance(kind, type) and issubclass(kind, Mapping) for kind in kinds):
        return False
    return value is not None or not any(is_dataclass(kind) for kind in kinds)


@cache
def described(cls: type) -> dict[str, str]:
    """The docstring under each field of a class, those it inherits included."""
    found: dict[str, str] = {}
    for c in cls.__mro__:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(c)))
        except (OSError, TypeError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for before, after in pairwise(body):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
            ):
                text = getattr(after.value, "value", None)
                if isinstance(text, str):
                    found.setdefault(before.target.id, " ".join(text.split()))
    return found
