"""Frozen dataclasses ↔ tagged JSON.

    Karras(t_max=40.0)  ↔  {"type": "Karras", "t_min": 0.002, "t_max": 40.0, "rho": 7.0}

Only the classes of an explicit list are ever built, so a file can name no other code.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Plain = None | bool | int | float | str | list | dict


def encode(value: Any) -> Plain:
    """The value as plain JSON data. Takes dataclasses, tuples, lists, mappings with string keys, numbers, strings."""
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__name__, **parts}
    if isinstance(value, Mapping):
        if "type" in value:
            raise ValueError("A mapping with the key 'type' cannot be written: that key names a class.")
        return {str(name): encode(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [encode(part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be written as JSON.")


def decode(plain: Plain, classes: Iterable[type]) -> Any:
    """The inverse of `encode`; lists come back as tuples.

    Raises ValueError, with the nearest known name, for a class outside `classes` or a field that it does not have.
    """
    return _decode(plain, {cls.__name__: cls for cls in classes})


def _decode(plain: Plain, known: Mapping[str, type]) -> Any:
    if isinstance(plain, list):
        return tuple(_decode(part, known) for part in plain)
    if not isinstance(plain, dict):
        return plain
    parts = {name: _decode(part, known) for name, part in plain.items() if name != "type"}
    if "type" not in plain:
        return parts
    name = str(plain["type"])
    if name not in known:
        raise ValueError(f"Unknown part '{name}'{nearest(name, known)}")
    return build(known[name], parts)


def build(cls: type, parts: Mapping[str, Any]) -> Any:
    """cls(**parts), refusing an unknown field with the nearest name, and what is of another kind than the field; fields
    left out take their defaults."""
    names, hints = [field.name for field in fields(cls)], get_type_hints(cls)
    for name in parts:
        if name not in names:
            raise ValueError(f"{cls.__name__} has no field '{name}'{nearest(name, names)}")
    for field in fields(cls):
        if field.name not in parts and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{cls.__name__} needs the field '{field.name}', and it is not there.")
    for name, value in parts.items():
        if not fits(value, hints[name]):
            raise ValueError(f"{cls.__name__}.{name} cannot be {value!r:.80}.")
    return cls(**parts)


def fits(value: Any, hint: Any) -> bool:
    """Whether a decoded value is of an annotated kind; whole numbers are numbers too, with or without a point."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if hint in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and (hint is float or value == value // 1)
    if origin is tuple and isinstance(value, tuple):
        kinds = [args[0]] * len(value) if args[1:] == (...,) else args
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(part, args[1]) for part in value.values())
    return isinstance(value, origin or hint)


def differences(ours: Plain, theirs: Plain, path: str = "") -> list[str]:
    """The leaves in which two encoded values differ, as lines `path: ours, not theirs`."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = [*ours, *(name for name in theirs if name not in ours)]
        return [
            line
            for name in names
            for line in differences(ours.get(name), theirs.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if ours == theirs else [f"{path}: {ours!r}, not {theirs!r}"]


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for a close match among names, else the names themselves (nothing where there are none)."""
    names = list(names)
    close = difflib.get_close_matches(str(name), names, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; there are: {', '.join(names)}" if names else ""
