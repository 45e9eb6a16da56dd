"""Pictures as a column of a table: a parquet file or a data set of the Hub, by the `datasets` library."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .captions import Captions, caption, column
from .sources import Compressed, missing

_PICTURES = ("image", "img", "images", "picture", "png", "jpg", "pixel_values")
_LABELS = ("label", "labels", "class", "fine_label", "coarse_label", "cls")


class _Names(Sequence):
    """Names like row 17, without a million strings in memory."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i):
        return f"row {i}"


class Table(Compressed):
    """Rows of encoded pictures; the columns of pictures, labels and captions are found by their names."""

    def __init__(self, table: Any, where: str, asked: str | None, files: Sequence[Path]) -> None:
        picture, label = _first(table, _PICTURES), _first(table, _LABELS)
        if picture is None:
            raise ValueError(f"{where} has the columns {', '.join(table.column_names)}, none called image or img")
        self._rows, self._column = _undecoded(table, picture), picture
        self.names = _Names(len(table))
        self.labels, self.class_names = (None, ()) if label is None else _column_labels(table, label, where)
        text = column(table.column_names, asked, where)
        self._texts = None if text is None else table.select_columns([text])
        self._where, self._files = f"the column {text} of {where}", files

    @cached_property
    def captions(self) -> Captions | None:
        if self._texts is None:
            return None
        texts = self._texts[self._texts.column_names[0]][:]
        found = [caption(text, self._where) for text in texts]
        return None if all(text is None for text in found) else found

    def stamp(self) -> Iterable[str]:
        yield f"{len(self)} {self._column}"
        for path in self._files:
            yield f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"

    def stream(self, i: int) -> BufferedIOBase:
        cell = self._rows[i][self._column]
        if isinstance(cell, dict):
            if cell.get("bytes") is None:
                return open(cell["path"], "rb")
            cell = cell["bytes"]
        return BytesIO(cell)


def parquet(path: Path, asked: str | None = None) -> Table:
    """A local parquet file; nothing is asked of the network."""
    datasets = _datasets(f"{path} is a parquet file")
    try:
        table = datasets.Dataset.from_parquet(str(path))
    except Exception as error:
        raise ValueError(f"{path} cannot be read as parquet ({_short(error)})") from error
    return Table(table, str(path), asked, [path])


def hub(name: str, split: str, asked: str | None = None) -> Table:
    """A data set of the Hub, downloaded into the Hub's own cache."""
    datasets = _datasets(f"{missing(Path(name))}; as a data set of the Hub it")
    try:
        table = datasets.load_dataset(name, split=split)
    except (FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            raise ConnectionError(_unreachable(name, error)) from error
        raise FileNotFoundError(f"{name} is neither a path here nor a data set on the Hub ({_short(error)})") from None
    except OSError as error:
        raise ConnectionError(_unreachable(name, error)) from error
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{name} has no split {split!r} that can be read ({_short(error)})") from error
    return Table(table, f"{name} ({split})", asked, [Path(file["filename"]) for file in table.cache_files])


def _unreachable(name: str, error: Exception) -> str:
    return (
        f"{name} is no path here, and the Hub cannot be reached to look for it ({_short(error)}):"
        " check the connection and HF_HUB_OFFLINE, or give a local folder"
    )


def _datasets(why: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        message = f"{why} needs the datasets library: pip install 'fewstep[data]'"
        raise ModuleNotFoundError(message, name="datasets") from error
    return datasets


def _first(table: Any, wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if name in table.column_names), None)


def _undecoded(table: Any, column: str) -> Any:
    import datasets

    table = table.select_columns([column])
    if isinstance(table.features[column], datasets.Image):
        return table.cast_column(column, datasets.Image(decode=False))
    return table


def _column_labels(table: Any, column: str, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    values = np.asarray(table[column][:])
    if values.dtype.kind in "US":
        class_names, labels = np.unique(values, return_inverse=True)
        return labels.astype(np.int64), tuple(map(str, class_names))
    if values.dtype.kind not in "iu":
        raise ValueError(f"the column {column} of {where} is {values.dtype}: labels are whole numbers or names")
    names = getattr(table.features[column], "names", None) or map(str, range(int(values.max(initial=-1)) + 1))
    return values.astype(np.int64), tuple(names)


def _short(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__
