"""What a study leaves for a reader: NAME.md and NAME.png for each, samples.png and trajectories.png for all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fewstep.files import whole_file
from fewstep.reproduce import figures, pictures, tables
from fewstep.reproduce.recipes import OBJECTIVES, jobs
from fewstep.reproduce.setting import Pictures, Setting
from fewstep.reproduce.studies import Study
from fewstep.reproduce.tables import Results
from fewstep.reproduce.working import finished


def write(studies: Sequence[Study], found: dict[tuple[str, int], dict], setting: Setting, shown: Pictures,
          folder: Path, command: str, judge: str) -> list[Path]:  # fmt: skip
    """Writes the report of these studies from their results; the paths of its files. `judge`: what its eyes read.

    The figures of pictures show every run of the first seed that is finished in the folder, whichever study made it.
    """
    results, written = Results(found), []
    for study in studies:
        path = folder / f"{study.name}.md"
        with whole_file(path) as aside:
            aside.write_text("\n".join(page(study, results, setting, command, judge)) + "\n", encoding="utf-8")
        written += [path, figures.plot(study, results, folder / f"{study.name}.png")]
    every = jobs(list(OBJECTIVES), replace(setting, seeds=1), shown, folder)
    first = {job.name: job for job in every if finished(job)}
    drawn = (pictures.samples(first, folder / "samples.png"), pictures.trajectories(first, folder / "trajectories.png"))
    return [*written, *(path for path in drawn if path)]


def page(study: Study, results: Results, setting: Setting, command: str, judge: str) -> list[str]:
    """The lines of NAME.md."""
    closed = tables.closed(study)
    return [
        f"# {study.title}",
        "",
        study.claim,
        "",
        f"![{study.title}]({study.name}.png)",
        "",
        *tables.table(study, results),
        "",
        *tables.claims(study, results),
        "",
        *([f"In closed form, Gaussian data: {study.closed}.", "", *closed, ""] if closed else []),
        *_about(study, results, setting, judge),
        "",
        f"    {command}",
    ]


def _about(study: Study, results: Results, setting: Setting, reads: str) -> list[str]:
    judge = next(iter(results.found.values()))["judge"]
    seeds = len(results.seeds)
    runs = [run for run in {run for run, _ in results.found} if run in (*study.runs, "teacher")]
    seconds = sum(max(results.seconds(run, seed).values()) for run in runs for seed in results.seeds)
    teacher = tables.Interval.of(results.final("teacher", "fd", 35)).words("{:.2f}")
    asked = results.final("teacher", "agreement", 35)
    read = f", read as asked in {tables.Interval.of(asked).words('{:.1f}')}%" if asked else ""
    where = "the digits of the package" if setting.data == "digits" else Path(setting.data).name
    return [
        f"{where}, {setting.side}×{setting.side} pixels; {seeds} seed{'s' * (seeds > 1)}, ± half of the 95% interval "
        f"over them. Scores are of {setting.samples:,} pictures against {judge['reference']:,} of the data, the "
        f"Fréchet distance in the features {judge['features']} {judge['digest'][:8]}, which no run was trained "
        f"with{reads}; the teacher itself, walked in 35 calls, has {teacher}{read}. The difference from the teacher is "
        "the root of the mean square between pictures from the same noise. These runs, with their teachers, took "
        f"{seconds / 60:.0f} minutes of one core.",
    ]
