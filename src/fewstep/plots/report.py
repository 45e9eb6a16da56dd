"""A run, or several, as pictures in `plots/` and as one HTML file that can be sent: `report.html`.

Everything is in the file: no script, no address outside, pictures as PNG in base64, on white and on black. It names no
host, no user and no absolute place.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from fewstep import __version__
from fewstep.codec import nearest
from fewstep.files import whole_file
from fewstep.plots import facts
from fewstep.plots.curves import PLOTS
from fewstep.plots.record import Record
from fewstep.plots.style import MADE_BY, save, style

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #666; --line: #ddd; --paper: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --soft: #9aa0a8; --line: #333840; --paper: #16181c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 72rem; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; } h3 { font-size: 1rem; margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .9rem; } img { width: 100%; height: auto; }
table { border-collapse: collapse; } td, th { text-align: left; vertical-align: top; padding: .15rem 1rem .15rem 0;
  overflow-wrap: anywhere; } th { font-weight: 600; white-space: nowrap; }
.wide { overflow-x: auto; } pre { background: color-mix(in srgb, var(--ink) 7%, transparent); padding: .6rem .8rem;
  border-radius: .4rem; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def write(records: Sequence[Record], out: str | Path, *, only: Sequence[str] = (), paths: bool = False) -> Path:
    """Writes `out`/plots/*.png and `out`/report.html, and returns the latter.

    Raises ValueError for an unknown plot in `only`, FileExistsError where a file that it did not write is in its way.
    """
    out = Path(out)
    for name in only:
        if name not in PLOTS:
            raise ValueError(f"There is no plot '{name}'{nearest(name, PLOTS)}")
    chosen = [name for name in PLOTS if name in only or not only]
    files = {name: out / "plots" / f"{name}.png" for name in PLOTS}
    page = out / "report.html"
    for path in (page, *files.values()):
        if path.exists() and not ours(path):
            raise FileExistsError(f"{path} is there and was not written by fewstep: move it, or choose another --out.")
    sections = []
    for name in PLOTS:
        light = drawn(name, records) if name in chosen else None
        if light is None:
            files[name].unlink(missing_ok=True)  # of an earlier call
            continue
        save(light, files[name])
        sections.append(section(name, files[name].read_bytes(), png(drawn(name, records, dark=True))))
    with whole_file(page) as aside:
        aside.write_text(html(records, sections, paths=paths), encoding="utf-8")
    return page


def drawn(name: str, records: Sequence[Record], *, dark: bool = False) -> Figure | None:
    """A plot by its name; None where these runs have nothing for it."""
    with style(dark=dark):
        return PLOTS[name].draw(records, names(records), dark)


def names(records: Sequence[Record]) -> list[str]:
    """What the runs are called in a legend: by up to three settings that differ, and else by their folders."""
    found, called = facts.differing(records), [record.name for record in records]
    if len(records) > 1 and all(found):
        said = [", ".join(f"{path.rpartition('.')[2]} {facts.shown(value)}" for path, value in list(own.items())[:3])
                for own in found]  # fmt: skip
        called = [f"{name}: {text}" for name, text in zip(called, said, strict=True)]
    short = [text if len(text) < 60 else text[:58] + " …" for text in called]
    return ["\u200b" * text.startswith("_") + text for text in short]  # matplotlib hides a name that begins with _


def ours(path: Path) -> bool:
    """Whether this file was written here."""
    with open(path, "rb") as file:
        return MADE_BY.encode() in file.read(4096)


def png(fig: Figure | None) -> bytes:
    file = io.BytesIO()
    if fig is not None:
        with style():
            fig.savefig(file, format="png")
    return file.getvalue()


def section(name: str, light: bytes, dark: bytes) -> str:
    plot = PLOTS[name]
    title, text = escape(plot.title), escape(plot.text)
    return (
        f'<figure id="{name}"><h3>{title}</h3><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_inline(dark)}"><img src="{_inline(light)}" alt="{title}. {text}"></picture>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def html(records: Sequence[Record], sections: Sequence[str], *, paths: bool = False) -> str:
    """The whole page."""
    title = escape(" against ".join(record.name for record in records))
    body = [f"<h1>{title}</h1>"]
    if len(records) > 1:
        body += ["<h2>What differs</h2>", _compared(records, paths)]
    for record in records if len(records) == 1 else ():
        body += about(record, paths)
    body += ["<h2>The process</h2>", '<div class="plots">', *sections, "</div>"]
    if not any(record.scores for record in records):
        body.append("<p>No score was taken while these ran, so none is plotted.</p>")
    for record in records if len(records) > 1 else ():
        body += [f"<h2>{escape(record.name)}</h2>", *about(record, paths)]
    body += [_all_settings(record, paths) for record in records]
    return "\n".join([
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta name="generator" content="{MADE_BY} {__version__}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{CSS}</style></head><body>", *body, "</body></html>", "",
    ])  # fmt: skip


def about(record: Record, paths: bool) -> list[str]:
    """A run's settings that differ from its recipe, facts, and the command."""
    changed = facts.changed(record.recipe)
    if changed is None:
        own = f"<p>No recipe of fewstep's is called {escape(record.recipe.name)}; all settings stand below.</p>"
    elif changed:
        own = f"<p>Other than in the recipe {escape(record.recipe.name)}:</p>" + _table(_said(changed, paths))
    else:
        own = f"<p>Every setting is that of the recipe {escape(record.recipe.name)}.</p>"
    again = escape(facts.command(record.recipe, paths=paths))
    return [own, _table(facts.facts(record, paths=paths)), "<p>The same again:</p>", f"<pre>{again}</pre>"]


def _said(settings: dict[str, Any], paths: bool) -> dict[str, str]:
    return {path: facts.shown(value, paths=paths) for path, value in settings.items()}


def _table(rows: dict[str, str]) -> str:
    lines = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"<table>{''.join(lines)}</table>"


def _compared(records: Sequence[Record], paths: bool) -> str:
    found = facts.differing(records)
    told = list(dict.fromkeys(path for own in found for path in own))
    if not told:
        return "<p>No setting: they are the same recipe.</p>"
    head = "".join(f"<th>{escape(record.name)}</th>" for record in records)
    rows = "".join(
        f"<tr><th>{escape(path)}</th>"
        + "".join(f"<td>{escape(facts.shown(own[path], paths=paths)) if path in own else '–'}</td>" for own in found)
        + "</tr>"
        for path in told
    )
    return f'<div class="wide"><table><tr><th></th>{head}</tr>{rows}</table></div>'


def _all_settings(record: Record, paths: bool) -> str:
    table = _table(_said(facts.settings(record.recipe), paths))
    return f"<details><summary>All settings of {escape(record.name)}</summary>{table}</details>"


def _inline(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
