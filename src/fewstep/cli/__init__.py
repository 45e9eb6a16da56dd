"""The command line: `fewstep VERB …`, one file a verb. The verb is known before anything heavy is imported.

Exit codes: 0 well, 1 could not be done (one sentence on stderr), 2 not understood, 130 interrupted.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fewstep import __version__
from fewstep.codec import nearest

VERBS = {
    "demo": "a tour: the bundled model's pictures, edits, and a model trained on the spot",
    "doctor": "versions, device, memory, disk; what is missing and how to get it",
    "train": "train a model by a recipe",
    "sample": "draw pictures",
    "edit": "inpaint, img2img, colorize, superres, stroke, denoise, interpolate",
    "plot": "pictures of training runs, and a report to send",
    "data": "look at pictures before training on them: data check PATH",
    "evaluate": "score pictures or a model against a reference: Fréchet distance, KID, precision, …",
    "convert": "write a model in another form: fewstep's, OpenAI's, diffusers'",
    "times": "search for good sampling times",
    "reproduce": "the paper's claims in miniature: tables and plots",
    "models": "the models that come with the package",
}
"""Every verb has a module of its name here, with `main(args) -> int | None`."""

HELP = f"""usage: fewstep VERB ...

Train, sample and edit consistency models.

{chr(10).join(f"  {verb:9} {about}" for verb, about in VERBS.items())}

fewstep VERB --help says more. Every verb takes --debug (or FEWSTEP_DEBUG=1), which shows where an error comes from.
"""


class Misuse(Exception):
    """The command line is not understood."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args or os.environ.get("FEWSTEP_DEBUG", "") not in ("", "0")
    try:
        return dispatch([a for a in args if a != "--debug"])
    except SystemExit as end:  # how tyro ends after its help (0) or a refusal (2)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt as stop:
        return complain(str(stop) or "interrupted.", 130)
    except Misuse as error:
        return complain(str(error), 2)
    except BrokenPipeError:  # the reader of a pipe left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug or not expected(error):
            raise
        return complain(sentence(error), 1)


def dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(f"fewstep {__version__}")
        return 0
    verb = chosen("verb", args[0], VERBS)
    return import_module(f"fewstep.cli.{verb}").main(args[1:]) or 0


def chosen(kind: str, name: str, names) -> str:
    """The name, if it is one of the names; else Misuse with the nearest."""
    if name not in names:
        raise Misuse(f"there is no {kind} '{name}'{nearest(name, names)}")
    return name


def expected(error: Exception) -> bool:
    """Whether an error is the user's to mend, so that one sentence says it all."""
    kinds = (ValueError, OSError, ImportError, MemoryError)
    return isinstance(error, kinds) or type(error).__name__ in ("Stopped", "OutOfMemoryError")


def sentence(error: Exception) -> str:
    if type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: try a smaller --batch or another --device ({str(error).splitlines()[0]})"
    return str(error) or type(error).__name__


def complain(text: str, code: int) -> int:
    rank = os.environ.get("RANK", "0")
    print(f"fewstep{f' (process {rank})' if rank != '0' else ''}: {text}", file=sys.stderr)
    return code
