"""From the names of studies to their report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from fewstep.codec import nearest
from fewstep.files import hold
from fewstep.reproduce import recipes
from fewstep.reproduce.conducting import Stopped, conduct
from fewstep.reproduce.perceiving import learn_filters
from fewstep.reproduce.reading import own_reader, reads
from fewstep.reproduce.recipes import Job
from fewstep.reproduce.scoring import Judge
from fewstep.reproduce.setting import Pictures, Setting
from fewstep.reproduce.studies import STUDIES, Study

__all__ = ["Stopped", "chosen", "planned", "reproduce"]


def chosen(names: Sequence[str]) -> list[Study]:
    """The studies of these names; `all` is all. Raises ValueError for an unknown name, with the nearest."""
    for name in names:
        if name not in (*STUDIES, "all"):
            raise ValueError(f"There is no study '{name}'{nearest(name, STUDIES)}")
    return [study for name, study in STUDIES.items() if name in names or "all" in names]


def planned(setting: Setting, folder: Path, studies: Sequence[Study]) -> list[Job]:
    """All runs that these studies need, shared ones once."""
    return _jobs(setting, folder, studies, setting.opened(folder))


def _jobs(setting: Setting, folder: Path, studies: Sequence[Study], pictures: Pictures) -> list[Job]:
    return recipes.jobs([run for study in studies for run in study.runs], setting, pictures, folder)


def reproduce(
    setting: Setting,
    folder: str | Path,
    names: Sequence[str],
    *,
    workers: int = 1,
    console: Console | None = None,
    command: str = "",
) -> list[Path]:
    """Does the studies of these names in a folder and writes their report; the paths of its files.

    Runs that are finished there are taken as they are, others go on. Raises ValueError for an unknown study or data
    that do not fit, FileNotFoundError for missing data, ImportError where matplotlib is missing, RuntimeError where
    another process works in the folder, Stopped where Ctrl-C ended it.
    """
    from fewstep.reproduce import report  # needs matplotlib: told before anything is trained

    studies, folder, console = chosen(names), Path(folder), console or Console(quiet=True)
    folder.mkdir(parents=True, exist_ok=True)
    hold(folder)
    pictures = setting.opened(folder)
    jobs = _jobs(setting, folder, studies, pictures)
    if any(job.name == "learned-filters" for job in jobs):
        learn_filters(pictures, folder)
    eyes, known = setting.features, ""
    if eyes is None:
        eyes = own_reader(pictures, folder)
        known = f" and which reads {reads(eyes, pictures):.1f}% of pictures it has not seen"
    judge = partial(Judge.of, pictures.reference, eyes)
    found = conduct(jobs, judge, workers=workers, console=console)
    return report.write(studies, found, setting, pictures, folder, command, known)
