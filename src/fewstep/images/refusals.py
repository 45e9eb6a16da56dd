"""What is said where pictures do not go together: what, where, how to mend it."""

from collections.abc import Sequence

from .data import Data


def mixed(data: Data, counts: dict[tuple[int, int, int], int], example: str) -> str:
    """Pictures that are not all of one shape (C, H, W); `counts` says how many of each."""
    if len({shape[1:] for shape in counts}) == 1:
        return (
            f"{data.path} mixes grey and colour pictures ({example} differs from the first):"
            " choose one with channels=1 or channels=3 (--channels)"
        )
    sizes: dict[tuple[int, int], int] = {}
    for (_, height, width), n in counts.items():
        sizes[width, height] = sizes.get((width, height), 0) + n
    common = sorted(sizes.items(), key=lambda item: -item[1])
    said = ", ".join(f"{width}×{height}: {n}" for (width, height), n in common[:4])
    side = min(common[0][0])
    return (
        f"{data.path} holds pictures of different sizes ({said}{', …' * (len(common) > 4)}; {example} is"
        f" one that differs): choose one to resize and crop them to, such as size={side} (--size {side})"
    )


def too_many(data: Data, reasons: dict[str, str], count: int) -> str:
    """More damaged files than is accepted."""
    first = ", ".join(f"{name} ({reason})" for name, reason in list(reasons.items())[:3])
    more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return (
        f"{len(reasons)} of the {count} files in {data.path} are damaged: {first}{more}."
        f" See them all with: fewstep data check {data.path}"
    )


def uncaptioned(data: Data, names: Sequence[str], count: int) -> str:
    """Pictures without a caption among others that have one."""
    first = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return (
        f"{len(names)} of the {count} pictures in {data.path} have no caption ({first}): write one for each"
        " (an empty one is an empty prompt), or let them be empty prompts with uncaptioned='empty'"
        " (--data.uncaptioned empty)"
    )
