"""What a command is given: a model, the hash of its weights, labels by number or name, a free name for the output."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewstep.files import sha256

if TYPE_CHECKING:
    from fewstep.model import Model

Asking = Callable[[range], dict[str, Any]]
"""Indices of pictures → what `Model.sample` is asked for them."""


def asking(
    model: "Model",
    labels: Sequence[str] = (),
    prompts: Sequence[str] = (),
    negative: str | None = None,
    guidance: Sequence[float] = (),
) -> Asking:
    """What the options mean: picture i shows number i mod m of the m given.

    Labels are numbers or names of classes, `all` is all classes. Raises ValueError for what the model cannot show.
    """
    check_words(model, bool(prompts))
    turns = {"labels": labels_of(labels, model), "prompts": list(prompts), "guidance": list(guidance)}
    same = {} if negative is None else {"negative": negative}
    return lambda indices: {n: [v[i % len(v)] for i in indices] for n, v in turns.items() if v} | same


def check_words(model: "Model", prompted: bool) -> None:
    """Nothing is drawn of no prompt by mistake: the empty one has to be said."""
    if model.design.condition.words and not prompted:
        raise ValueError('This model is told what to draw in words: say it with --prompt "..." (--prompt "" leaves it '
                         "to the model).")  # fmt: skip


def add_loras(model: "Model", said: Sequence[str], consistent: bool) -> None:
    """Fuses what --lora names, SOURCE or SOURCE:SCALE."""
    for word in said:
        source, scale = lora(word)
        model.add_lora(source, scale, consistent=consistent)


def lora(word: str) -> tuple[str, float]:
    """SOURCE or SOURCE:SCALE."""
    found = re.fullmatch(r"(.+):(-?[\d.]+)", word)
    return (found[1], float(found[2])) if found else (word, 1.0)


def loras_digest(said: Sequence[str]) -> str:
    """SHA-256 over the files of LoRAs that lie here; one of the Hub is known by its name."""
    places = [Path(lora(word)[0]).expanduser() for word in said]
    files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return sha256([path for path in files if path.is_file()])


def prompts_in(path: str) -> tuple[str, ...]:
    """The prompts in a file, one a line; empty lines are none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {path} with prompts.")
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8: prompts are written one a line.") from None
    if not any(lines):
        raise ValueError(f"{path} holds no prompts.")
    return tuple(line for line in lines if line)


def labels_of(words: Sequence[str], model: "Model") -> list[int]:
    if words and not model.num_classes:
        told = "is told what to draw in words" if model.design.condition.words else "is unconditional"
        raise ValueError(f"This model {told}: leave out --labels.")
    if list(words) == ["all"]:
        return list(range(model.num_classes))
    from fewstep.model.asking import label_of

    return [label_of(word, model.design) for word in words]


def labels_shown(model: "Model", asked: list[int] | None, seed: int, indices: range) -> list[int] | None:
    """The labels of these pictures; None for an unconditional model."""
    return model.design.condition.ask(asked, seed, indices).tolist() if model.num_classes else None


def origin(source: str) -> dict[str, Any]:
    """Where a model is and the SHA-256 of its weights: what a sidecar says about it."""
    from fewstep.formats.load import weights_files

    files = weights_files(source)
    return {"source": source, "weights": files[0].name, "sha256": sha256(files)}


def weights_file(source: str) -> Path:
    """The file that `fewstep.load(source)` reads."""
    from fewstep.formats import locate

    return locate(source)


def versions() -> dict[str, str]:
    import torch

    from fewstep import __version__

    return {"fewstep": __version__, "torch": torch.__version__}
