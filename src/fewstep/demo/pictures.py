"""What the bundled model shows: digits in one and two calls, and edits that it was never trained for.

Ten pictures a row, one of each digit where nothing else is said. Everything is a function of the seed.
"""

import numpy as np
import torch
from torch import Tensor

from fewstep.demo.sheet import HIDDEN, Row, Tile
from fewstep.demo.strokes import drawn
from fewstep.editing import Inpaint, SuperResolve
from fewstep.images import to_uint8
from fewstep.model import Model
from fewstep.tensors import noise

TEN = list(range(10))
FACTOR = 4
STROKE_TIMES = (4.0, 1.2)
"""How far a drawing is noised: a little less than the paper's, which keep the colours of a photograph only."""
FINE_TIMES = tuple(5.0 * 0.03 ** (i / 11) for i in range(12))
"""Noise levels of a super-resolution, 5 to 0.15: many low ones leave no seams between the patches."""


def rows(model: Model, seed: int) -> list[Row]:
    """All rows of the model's section; it makes grey square digits with ten classes."""
    return [*drawing(model, seed), inpainting(model, seed), superresolution(model, seed), strokes(model, seed),
            interpolation(model, seed)]  # fmt: skip


def drawing(model: Model, seed: int) -> list[Row]:
    """The noise, and what one and two network calls make of it."""
    z = noise(seed, TEN, model.shape)
    one, two = (model.sample(10, steps=steps, seed=seed, labels=TEN) for steps in (1, 2))
    digits = [str(digit) for digit in TEN]
    return [
        Row("Noise", "Where every picture begins. Asked for: the digits 0 to 9.", tiles(z / 3, digits)),
        Row("One step", "One network call: the model jumps from the noise to a picture.", tiles(one)),
        Row("Two steps", "The same noise, then a little new noise and a second call.", tiles(two)),
    ]


def inpainting(model: Model, seed: int) -> Row:
    """Two pictures, each with its lower part hidden, filled in three ways."""
    pictures, hole = model.sample(2, steps=2, seed=seed + 1, labels=[3, 9]), lower_part(model.shape[-1])
    shown = []
    for i, label in enumerate((3, 9)):
        filled = model.edit(pictures[i : i + 1].expand(3, -1, -1, -1), Inpaint(hole), seed=seed + i, labels=label)
        covered = Tile(cover(pictures[i], hole), "hidden", joined=True)
        shown += [*tiles(pictures[i : i + 1], ["picture"]), covered, *tiles(filled, ["filled", "or", "or"], joined=1)]
    return Row("Inpainting", "What is hidden is invented anew; what is not is kept exactly.", shown)


def superresolution(model: Model, seed: int) -> Row:
    """Two pictures seen at a quarter of their size, enlarged in three ways."""
    pictures, size = model.sample(2, steps=2, seed=seed + 2, labels=[5, 8]), model.shape[-1]
    shown, low = [], size // FACTOR
    for i, label in enumerate((5, 8)):
        small = torch.nn.functional.avg_pool2d(pictures[i : i + 1], FACTOR)
        large = model.edit(
            small.expand(3, -1, -1, -1), SuperResolve(FACTOR), times=FINE_TIMES, seed=seed + i, labels=label
        )
        given = tiles(small, [f"{low} x {low}"], joined=1)
        kinds = [f"{size} x {size}", "or", "or"]
        shown += [*tiles(pictures[i : i + 1], ["picture"]), *given, *tiles(large, kinds, joined=1)]
    return Row("Super-resolution", f"A picture of {low} x {low} pixels made {FACTOR} times larger.", shown)


def strokes(model: Model, seed: int) -> Row:
    """Drawings, each beside the digit that the model makes of it."""
    paintings, digits = drawn(model.shape[-1])
    redrawn = model.redraw(paintings, times=STROKE_TIMES, seed=seed, labels=digits)
    before = tiles(paintings, ["drawn"] * len(digits))
    after = tiles(redrawn, ["redrawn"] * len(digits), joined=len(digits))
    shown = [tile for pair in zip(before, after, strict=True) for tile in pair]
    return Row("Strokes", "Drawn with a few straight lines, then turned into handwriting.", shown)


def interpolation(model: Model, seed: int) -> Row:
    """One noise turned into another in ten parts."""
    path = model.interpolate(seed + 3, seed + 4, 10, steps=2, labels=2)
    ends = ["noise A", *[""] * 8, "noise B"]
    return Row("Interpolation", "From one noise to another: the twos in between are twos.", tiles(path, ends))


def tiles(x: Tensor, captions: list[str] | None = None, joined: int = 0) -> list[Tile]:
    """Tiles of pictures (n, C, H, W) in [-1, 1]; arrows lead to the first (or, for more, to each) of them."""
    captions = captions or [""] * len(x)
    arrows = [joined > 0] + [joined > 1] * (len(x) - 1)
    return [Tile(*parts) for parts in zip(to_uint8(x), captions, arrows, strict=True)]


def lower_part(size: int) -> Tensor:
    """A mask (size, size): 1, to be filled, a little above the middle and below."""
    return (torch.arange(size)[:, None] >= round(0.45 * size)).float().expand(size, size)


def cover(picture: Tensor, hole: Tensor) -> np.ndarray:
    """uint8 (H, W, 3): the picture (1, H, W) with the hole in colour."""
    pixels = np.repeat(to_uint8(picture[None])[0], 3, axis=2)
    pixels[hole.bool().numpy()] = HIDDEN
    return pixels
