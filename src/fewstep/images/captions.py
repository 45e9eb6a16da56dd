"""Captions: what is said of each picture, and where it is written.

    metadata.jsonl      a line a picture, {"file_name": "a.png", "text": "a red boat"}; names count from its own folder
    a.png and a.txt     a file beside each picture; it counts where metadata.jsonl is silent
    a column            `text`, `caption` or `prompt` of a table, a JSON file or an array, or the one that is named

A caption is stripped of the blanks around it. An empty one is an empty prompt; a missing one is None.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from fewstep.codec import nearest

COLUMNS = ("text", "caption", "prompt")
"""Where captions are looked for, in this order."""

LISTING = "metadata.jsonl"

Captions = Sequence[str | None]


def distinct(captions: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The different captions, sorted and without the empty one, and the number int64 (n,) of each picture's in them.

    −1 is the empty prompt: the number that a hidden label has too.
    """
    table = tuple(sorted(set(captions) - {""}))
    number = {caption: k for k, caption in enumerate(table)} | {"": -1}
    return table, np.array([number[caption] for caption in captions], np.int64)


def column(names: Iterable[str], asked: str | None, where: str) -> str | None:
    """The column of captions, None without one. ValueError where the one that is asked for is not there."""
    names = list(names)
    if asked is None:
        return next((name for name in COLUMNS if name in names), None)
    if asked not in names:
        raise ValueError(f"{where} has no captions called {asked!r}{nearest(asked, names)}")
    return asked


def caption(value: Any, where: str) -> str | None:
    """One caption; None for none. ValueError where it is no text, or bytes that are not UTF-8."""
    if value is None:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where} is not UTF-8 ({error})") from None
    if not isinstance(value, str):
        raise ValueError(f"{where} holds {value!r:.60}, a {type(value).__name__}: a picture has one caption, a text")
    return value.strip()


def beside(
    pictures: Sequence[str], others: Iterable[str], read: Callable[[str], bytes], asked: str | None, where: str
) -> Captions | None:
    """The captions of pictures that are files, out of the `others` beside them; None where there are none."""
    others = set(others)
    listings = sorted(name for name in others if PurePosixPath(name).name == LISTING)
    listed: dict[str, str | None] = {}
    for name in listings:
        listed |= _listed(read(name), PurePosixPath(name).parent, asked, f"{name} in {where}")
    if asked is not None and not listings:
        raise ValueError(f"{where} has no {LISTING} that could hold captions called {asked!r}")

    def of(name: str) -> str | None:
        text = PurePosixPath(name).with_suffix(".txt").as_posix()
        found = listed.get(name)
        return caption(read(text), f"{text} in {where}") if found is None and text in others else found

    found = [of(name) for name in pictures]
    if any(text is not None for text in found):
        return found
    if any(text is not None for text in listed.values()):
        raise ValueError(f"{listings[0]} in {where} names {next(iter(listed))}, and none of its files is there")
    return None


def without(captions: Captions, names: Sequence[str]) -> list[str]:
    """The names of the pictures without a caption."""
    return [names[i] for i, text in enumerate(captions) if text is None]


def _listed(content: bytes, folder: PurePosixPath, asked: str | None, where: str) -> dict[str, str | None]:
    """File → caption, from the lines of one metadata.jsonl."""
    lines = [(k, _line(line, f"line {k} of {where}")) for k, line in enumerate(content.splitlines(), 1) if line.strip()]
    name = column(dict.fromkeys(key for _, entry in lines for key in entry), asked, where)
    if name is None:
        return {}
    return {
        (folder / str(entry["file_name"]).replace("\\", "/")).as_posix(): caption(
            entry.get(name), f"{name} in line {k} of {where}"
        )
        for k, entry in lines
    }


def _line(line: bytes, where: str) -> dict:
    try:
        entry = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error})") from None
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        raise ValueError(f'{where} should be an object {{"file_name": …, "text": …}}')
    return entry
