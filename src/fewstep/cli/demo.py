"""`fewstep demo`: the guided tour, which lives in `fewstep.demo`."""

from collections.abc import Sequence


def main(args: Sequence[str]) -> int | None:
    from fewstep.demo import main as tour

    return tour(list(args))
