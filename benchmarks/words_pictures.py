"""The picture of the words models: the same prompts and noise, drawn by the teacher and by the models made from it.

    python benchmarks/words_pictures.py --teacher runs/words-teacher --lcm runs/words-lcd --lcf runs/words-lcf \\
        --out docs/images/words.png

Each is anything that `fewstep.load` takes; what is not given is left out. Seed 0.
"""

import argparse

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import fewstep
from fewstep.demo.sheet import SIDE, Row, Section, Tile, sheet
from fewstep.images import save_picture, to_uint8

PROMPTS = (
    "a large zero, thick and slanted", "a small thin one", "a thick upright two", "the digit three",
    "a large thin four", "a small five, slanted", "a thin upright six", "a large thick seven", "a small thick eight",
    "a slanted nine",
)  # fmt: skip
SCALES = (1.0, 2.0, 4.0, 8.0)


def tiles(x: Tensor, captions: list[str] | None = None) -> list[Tile]:
    """Pictures (n, 1, 32, 32) in [−1, 1], smoothly enlarged."""
    large = [Image.fromarray(p[:, :, 0]).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for p in to_uint8(x)]
    return [Tile(np.asarray(p), word) for p, word in zip(large, captions or [""] * len(large), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("teacher", "lcm", "lcf"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    asked, sections = {"prompts": list(PROMPTS), "seed": 0}, []
    captions = [f"{i}" for i in range(10)]
    if options.teacher:
        x = fewstep.load(options.teacher).sample(steps=50, guidance=4.0, **asked)
        sections.append(Section("The teacher", [Row("50 steps", "DDIM, guidance 4: 100 network calls.", tiles(x))]))
    if options.lcm:
        lcm, shown = fewstep.load(options.lcm), []
        for steps in (1, 2, 4, 8):
            x = lcm.sample(steps=steps, guidance=4.0, **asked)
            shown.append(Row(f"{steps} step{'s' * (steps > 1)}", "Told the guidance scale 4.", tiles(x)))
        sections.append(Section("The latent consistency model", shown))
        rows = [lcm.sample(steps=4, guidance=scale, **asked) for scale in SCALES]
        shown = [Row(f"Guidance {s:g}", "4 steps.", tiles(x)) for s, x in zip(SCALES, rows, strict=True)]
        sections.append(Section("The guidance scale, as it is told", shown))
        other = asked | {"prompts": [PROMPTS[(i + 3) % 10] for i in range(10)]}
        shown = [Row("Given", "Pictures of row '4 steps'.", tiles(rows[2], captions))]
        for strength in (0.5, 0.9):
            x = lcm.img2img(rows[2], strength, steps=4, guidance=4.0, **other)
            shown.append(Row(f"Strength {strength}", "Asked for the digit three further on.", tiles(x)))
        sections.append(Section("Image to image", shown))
    if options.lcf:
        x = fewstep.load(options.lcf).sample(steps=4, guidance=2.0, **asked)
        row = Row("4 steps", "Black ink on white paper: no teacher has seen it.", tiles(x))
        sections.append(Section("The consistency model, fine-tuned on white paper", [row]))
    words = "; ".join(PROMPTS[:5])
    page = sheet("Text to image on two CPU cores", f"The same prompts and noise in every row: {words}; …", sections)
    print(save_picture(page, options.out))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
