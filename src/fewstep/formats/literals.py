"""Python files of plain values, read without running anything.

    a = 40;  b = 'x' + 'y';  c = [a / 2] * 3;  d = dict(b=b, e={'f': float('inf')})

Such a file is a list of assignments to names. On the right stand numbers, strings, lists, tuples, dictionaries, names
assigned before, `dict(...)`, `list(...)`, `tuple(...)`, `float(...)`, `inf`, and arithmetic. Anything else (an import,
an attribute, a call) is refused with its line, and so is what would only grow large.
"""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
LONGEST = 10_000
"""Elements of a list, characters of a computed string."""
LARGEST = 2**64
"""Computed whole numbers are below it, exponents below its logarithm."""


@dataclass
class Values:
    """What a file assigns."""

    where: str
    """The file, for messages."""
    names: dict[str, Any] = field(default_factory=dict)
    """Name → value."""
    read: set[str] = field(default_factory=set)
    """The names that later lines used."""


def read_literals(path: str | Path) -> Values:
    """The values that a Python file assigns. FileNotFoundError where there is none, ValueError, with the line, for
    anything but plain values."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        lines = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path} is not Python: {error}.") from None
    values = Values(str(path))
    for line in lines:
        try:
            _assign(line, values)
        except RecursionError:
            raise ValueError(f"{path}, line {line.lineno} is nested too deeply.") from None
    return values


def _assign(line: ast.stmt, values: Values) -> None:
    match line:
        case ast.Assign(targets=targets) if all(isinstance(target, ast.Name) for target in targets):
            value = _value(line.value, values)
            values.names |= {target.id: value for target in targets if isinstance(target, ast.Name)}
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            pass  # a docstring
        case _:
            raise _refused(line, values)


def _value(node: ast.expr, values: Values) -> Any:
    try:
        return _evaluated(node, values)
    except (TypeError, ArithmeticError):
        raise _refused(node, values) from None


def _evaluated(node: ast.expr, values: Values) -> Any:
    """TypeError or ArithmeticError for what has no plain value."""

    def of(part: ast.expr) -> Any:
        return _value(part, values)

    match node:
        case ast.Constant(value=None | bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name) if name in values.names:
            values.read.add(name)
            return values.names[name]
        case ast.Name(id="inf"):
            return math.inf
        case ast.List(elts=parts):
            return [of(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(of(part) for part in parts)
        case ast.Dict(keys=keys, values=parts):
            pairs = zip(keys, parts, strict=True)
            return _merged([{of(key): of(part)} if key else of(part) for key, part in pairs])
        case ast.Call(func=ast.Name(id="dict"), args=given, keywords=pairs):
            return _merged([*map(of, given), *({p.arg: of(p.value)} if p.arg else of(p.value) for p in pairs)])
        case ast.Call(func=ast.Name(id="list" | "tuple" as kind), args=[] | [_], keywords=[]):
            parts = of(node.args[0]) if node.args else ()
            return _list(parts) if kind == "list" else tuple(_list(parts))
        case ast.Call(func=ast.Name(id="float"), args=[part], keywords=[]):
            return _float(of(part))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=part):
            return -_number(of(part)) if isinstance(node.op, ast.USub) else +_number(of(part))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in ARITHMETIC:
            return _computed(of(left), sign, of(right))
    raise TypeError


def _refused(node: ast.stmt | ast.expr, values: Values) -> ValueError:
    text = ast.unparse(node).splitlines()[0][:60]
    return ValueError(
        f"{values.where}, line {node.lineno}: '{text}' is no plain value. Only assignments of numbers, strings, lists "
        "and dict(...) are read; nothing is executed."
    )


def _computed(left: Any, sign: ast.operator, right: Any) -> Any:
    """Arithmetic on numbers; + of two strings, lists or tuples; a list or tuple times a number."""
    apply = ARITHMETIC[type(sign)]
    if isinstance(sign, ast.Add) and type(left) is type(right) and isinstance(left, str | list | tuple):
        size = len(left) + len(right)
    elif isinstance(sign, ast.Mult) and isinstance(left, list | tuple) and isinstance(right, int):
        size = len(left) * right
    else:
        power = isinstance(sign, ast.Pow)
        return _number(apply(_number(left), _number(right, LARGEST.bit_length() if power else LARGEST)))
    if size > LONGEST:
        raise OverflowError
    return apply(left, right)


def _number(value: Any, limit: int = LARGEST) -> Any:
    if not isinstance(value, int | float):
        raise TypeError
    if isinstance(value, int) and abs(value) >= limit:
        raise OverflowError
    return value


def _list(value: Any) -> list:
    if not isinstance(value, list | tuple):
        raise TypeError
    return list(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise TypeError from None


def _merged(parts: list[Any]) -> dict:
    merged: dict = {}
    for part in parts:
        if not isinstance(part, dict):
            raise TypeError
        merged |= part
    return merged
