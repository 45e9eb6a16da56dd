"""`fewstep data check`: a look at pictures before training on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from fewstep.cli import Misuse, chosen
from fewstep.cli.parsing import parse


@dataclass(frozen=True)
class Check:
    """Read every picture of a data set: counts, sizes, classes, captions, damaged files by name.

    Exit code 1 where more than 1% are damaged, or nothing is found."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """A folder (subfolders are classes), .zip, .npz, .parquet, .tar, Hub data set (owner/name) or "digits"."""
    sheet: Annotated[str | None, arg(metavar="PNG")] = None
    """Also write a contact sheet of 64 pictures, evenly spread."""
    size: Annotated[int | None, arg(metavar="INT")] = None
    """Side of a picture on the sheet."""
    caption: Annotated[str | None, arg(metavar="NAME")] = None
    """The column, key or array that holds the captions. Default: text, caption or prompt."""
    pipe: bool = False
    """Allow a PATH `pipe:COMMAND`: runs the shell command and reads the tar that it prints."""


HELP = """usage: fewstep data check PATH [--sheet PNG] [--size INT] [--caption NAME]

Look at pictures before training on them; fewstep data check --help says more.
"""


def main(args: Sequence[str]) -> int:
    if not args:
        raise Misuse("say what to do with the data: fewstep data check PATH")
    if args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    chosen("verb of data", args[0], ["check"])
    return run(parse(Check, args[1:], "fewstep data check"))


def run(options: Check) -> int:
    from fewstep.images import Data, check, contact_sheet, save_picture

    data = Data(options.path, caption=options.caption, pipe=options.pipe)
    report = check(data)
    print(report)
    if len(report.sizes) > 1:
        smallest = min(min(map(int, size.split("×"))) for size in report.sizes)
        print(f"The sizes differ: train with --data.size, such as --data.size {smallest}.")
    if report.captions and report.captions.missing:
        print("Not every picture has a caption: write the missing ones, or train with --data.uncaptioned empty.")
    if options.sheet and len(report.damaged) < report.count:
        save_picture(contact_sheet(data, size=options.size), options.sheet)
        print(f"contact sheet: {options.sheet}")
    if not report.sound:
        print("More than 1% are damaged: training refuses this data until they are mended or removed.")
    return 0 if report.sound else 1
