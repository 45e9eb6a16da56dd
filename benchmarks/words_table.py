"""The tables of the words models: what is asked for and what is drawn, by teacher, LCM, LoRA and LCF.

    python benchmarks/words_table.py --reference mnist-test.zip --teacher runs/words-teacher --lcm runs/words-lcd \\
        --lora runs/words-lora --lcf runs/words-lcf

Each of them is a pipeline's folder (of the LoRA that of its file); what is not given is left out. The prompts are the
captions of 2,000 test pictures, 200 a digit, so that they ask for what the reference has, as often as it has it; the
noise is that of seed 0. words_scores.py says what the columns mean; the last is milliseconds a picture. In the table
of image to image, 500 of these pictures are redrawn for the prompt of the next one, which is of another digit: `kept`
are read as the picture's digit, `asked` as the prompt's.
"""

import argparse
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from judge import Reader, load_reader
from torch import Tensor
from words_judge import JUDGE, Seen, see
from words_scores import HEADER, Reference, asked, reference, row, score

BATCH = 100
SCALES = (1.0, 2.0, 4.0, 8.0)
STEPS = (1, 2, 4, 8)
LORA_SCALES = (1.0, 1.5)
STRENGTHS = (0.3, 0.5, 0.7, 0.9)

Drawer = Callable[..., Any]


def pictures(pipe: Drawer, prompts: tuple[str, ...], images: Tensor | None = None, **how: Any) -> Tensor:
    """Pictures (n, 1, 32, 32) in [−1, 1], in batches, from noise of seed 0."""
    generator, made = torch.Generator().manual_seed(0), []
    for first in range(0, len(prompts), BATCH):
        more = {} if images is None else {"image": (images[first : first + BATCH] + 1) / 2}
        size = {} if images is not None else {"height": 32, "width": 32}
        part = list(prompts[first : first + BATCH])
        made.append(pipe(prompt=part, output_type="pt", generator=generator, **size, **more, **how).images)
    return torch.cat(made).float().mean(1, keepdim=True) * 2 - 1


def teacher(folder: Path) -> Drawer:
    """The diffusion model, drawn by DDIM, evenly spread from the last level."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing", clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def lcm(folder: Path, kind: str = "LatentConsistencyModelPipeline", lora: Path | None = None) -> Drawer:
    import fewstep

    pipe = getattr(fewstep, kind).from_pretrained(folder)
    if lora is not None:
        pipe.scheduler = fewstep.LCMScheduler.from_config(pipe.scheduler.config)
        pipe.load_lora_weights(lora)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rows(what: str, pipe: Drawer, steps: Iterable[int], scales: Iterable[float]) -> Iterable[tuple[str, Drawer]]:
    for n in steps:
        for scale in scales:
            yield f"{what}, {n} steps, scale {scale:g}", partial(pipe, num_inference_steps=n, guidance_scale=scale)


def table(drawers: Iterable[tuple[str, Drawer]], real: Reference, judge: Reader, beside: Seen, n: int) -> None:
    """A line for each way to draw: its scores against `beside`, all the reference's pictures as the judge sees them."""
    wanted = real.balanced(n)
    print(f"{HEADER}{'ms':>9}")
    for name, draw in drawers:
        began = time.perf_counter()
        made = pictures(draw, wanted.texts)
        pace = (time.perf_counter() - began) / n * 1e3
        print(f"{row(name, score(see(judge, made), wanted.texts, beside))}{pace:9.1f}", flush=True)


def redrawn(pipe: Drawer, real: Reference, judge: Reader) -> None:
    """Image to image: the input's digit against the prompt's, at several strengths."""
    wanted = real.balanced(500)
    others = wanted.texts[1:] + wanted.texts[:1]
    print(f"{'image to image, 4 steps':36}{'kept':>9}{'asked':>9}")
    for strength in STRENGTHS:
        made = pictures(pipe, others, wanted.pictures, strength=strength, num_inference_steps=4, guidance_scale=4.0)
        read = see(judge, made).digits
        kept, obeyed = (read == wanted.digits).mean(), (read == asked(others)[0]).mean()
        print(f"  strength {strength:<25}{100 * kept:9.1f}{100 * obeyed:9.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help="zip of MNIST's test pictures")
    for name in ("teacher", "lcm", "lora", "lcf"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--judge", default=JUDGE)
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--tables", nargs="+", default=["teacher", "lcm", "redrawn", "lora", "lcf"])
    options = parser.parse_args()
    asked_for = options.tables
    judge, real = load_reader(options.judge), reference(options.reference)
    black, white = see(judge, real.pictures), see(judge, -real.pictures)
    show = partial(table, real=real, judge=judge, n=options.n)
    if options.teacher and "teacher" in asked_for:
        show(rows("teacher", teacher(options.teacher), (50,), SCALES), beside=black)
    if options.lcm and "lcm" in asked_for:
        show(rows("LCM", lcm(options.lcm), STEPS, SCALES), beside=black)
    if options.lcm and "redrawn" in asked_for:
        redrawn(lcm(options.lcm, "LatentConsistencyModelImg2ImgPipeline"), real, judge)
    if options.teacher and options.lora and "lora" in asked_for:
        show(rows("LoRA", lcm(options.teacher, lora=options.lora), STEPS, LORA_SCALES), beside=black)
    if options.lcm and options.lcf and "lcf" in asked_for:
        print("Against the white test pictures:")
        for name, folder in (("LCM", options.lcm), ("LCF", options.lcf)):
            show(rows(name, lcm(folder), (4,), SCALES), beside=white)


if __name__ == "__main__":
    main()
