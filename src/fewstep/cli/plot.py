"""`fewstep plot`: pictures of training runs, and a report of them in one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from fewstep.cli.parsing import parse


@dataclass(frozen=True)
class Plot:
    """Draw how a run trained: its losses, by noise level too, curricula, scores, previews.

    Writes RUN/plots/*.png and RUN/report.html, one file that can be sent to anyone: it opens without network and
    names no host and no private place. A run that is still training, or was stopped, can be plotted as well.
    Several runs are laid over one another:

      fewstep plot runs/mnist-cd
      fewstep plot runs/cd runs/ct runs/ect --out compared"""

    runs: Annotated[Positional[tuple[str, ...]], arg(metavar="RUN")]
    """Folders of runs, as `fewstep train` makes them."""
    out: Annotated[str | None, arg(metavar="FOLDER")] = None
    """Where plots/ and report.html are written. Default: the run's folder; of several runs, compared/."""
    only: Annotated[tuple[str, ...], arg(metavar="NAME")] = ()
    """Draw only these: loss, levels, levels-end, score, score-time, gradient, n, mu, lr, pace, previews, skipped."""
    paths: bool = False
    """Tell whole paths in the report, in the place of their last parts."""


def main(args: Sequence[str]) -> int:
    options = parse(Plot, args, "fewstep plot")
    if not options.runs:
        raise ValueError("Which run? Give the folder that `fewstep train` made, such as runs/digits-ect.")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("fewstep plot needs the matplotlib package: pip install 'fewstep[plot]'.") from None
    from fewstep.plots.record import read
    from fewstep.plots.report import write

    records = [read(run) for run in options.runs]
    out = Path(options.out or ("compared" if len(records) > 1 else options.runs[0])).expanduser()
    page = write(records, out, only=options.only, paths=options.paths)
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB; the same pictures in {page.parent / 'plots'})")
    return 0
