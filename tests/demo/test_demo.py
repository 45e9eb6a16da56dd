"""The demo: what it shows is what it says, and it ends with a page."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.conditions import Labels
from fewstep.demo import main, pictures, training
from fewstep.demo.sheet import COLUMNS, GAP, HEADING, HIDDEN, INK, LEFT, MARGIN, SIDE, TOP, Row, Section, Tile, sheet
from fewstep.demo.strokes import drawn
from fewstep.design import Design
from fewstep.model import Model, build
from fewstep.networks import CompactShape
from fewstep.parameterizations import Boundary
from fewstep.schedules import Karras


@pytest.fixture(scope="module")
def model() -> Model:
    """An untrained consistency model of MNIST's shape."""
    torch.manual_seed(0)
    shape = CompactShape(image_size=28, num_classes=10, widths=(8, 8), blocks=1, embedding=16)
    design = Design(shape, Boundary(), Karras(), Labels(10), times={"2": (80.0, 1.0)})
    network = shape.build()
    torch.nn.init.normal_(network.head.weight, std=0.1)  # it starts at zero
    return build(design, network.state_dict(), "cpu")


@pytest.fixture(scope="module")
def rows(model) -> dict[str, list[np.ndarray]]:
    return {row.title: [tile.pixels for tile in row.tiles] for row in pictures.rows(model, seed=0)}


def test_every_row_fills_the_page(rows):
    assert {len(tiles) for tiles in rows.values()} == {COLUMNS}
    assert set(rows) == {"Noise", "One step", "Two steps", "Inpainting", "Super-resolution", "Strokes", "Interpolation"}


def test_rows_are_a_function_of_the_seed(model, rows):
    again = {row.title: [tile.pixels for tile in row.tiles] for row in pictures.rows(model, seed=0)}
    other = {row.title: [tile.pixels for tile in row.tiles] for row in pictures.rows(model, seed=1)}
    for title, tiles in rows.items():
        assert all(np.array_equal(a, b) for a, b in zip(tiles, again[title], strict=True))
        assert not all(np.array_equal(a, b) for a, b in zip(tiles, other[title], strict=True))


def test_inpainting_keeps_what_is_shown(rows):
    hole = pictures.lower_part(28).bool().numpy()
    for start in (0, 5):
        picture, covered, *filled = rows["Inpainting"][start : start + 5]
        assert (covered[hole] == HIDDEN).all()
        assert (covered[~hole] == picture[~hole]).all()
        for result in filled:
            assert np.array_equal(result[~hole], picture[~hole])
            assert not np.array_equal(result[hole], picture[hole])


def test_superresolution_shows_its_small_input(rows):
    for start in (0, 5):
        picture, small, *_ = rows["Super-resolution"][start : start + 5]
        assert small.shape == (7, 7, 1)
        means = picture.astype(float).reshape(7, 4, 7, 4).mean((1, 3))
        assert np.abs(means - small[:, :, 0]).max() <= 1


def test_strokes_are_white_lines_on_black():
    paintings, digits = drawn(28)
    assert digits == [2, 3, 5, 6, 8]
    assert paintings.shape == (5, 1, 28, 28)
    assert paintings.amin((1, 2, 3)).tolist() == [-1.0] * 5
    assert paintings.amax((1, 2, 3)).tolist() == [1.0] * 5
    ink = ((paintings + 1) / 2).mean((1, 2, 3))
    assert ((ink > 0.08) & (ink < 0.25)).all()


def test_the_sheet_enlarges_every_pixel_to_a_square():
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    row = Row("title", "words " * 20, [Tile(pixels, "caption"), Tile(pixels), Tile(pixels, joined=True)])
    page = np.asarray(sheet("fewstep", "subtitle", [Section("section", [row])], "footer"))
    x, y = MARGIN + LEFT, TOP + HEADING
    square = np.kron(pixels, np.ones((SIDE // 2, SIDE // 2), np.uint8))
    assert (page[y : y + SIDE, x : x + SIDE] == square[:, :, None]).all()
    arrow = page[y + SIDE // 2, x + 2 * (SIDE + GAP) - GAP // 2]
    assert (arrow == INK).all()


def test_one_page_the_commands_and_a_run_that_is_taken_again(model, tmp_path, capsys, monkeypatch):
    model.save(str(tmp_path / "model"))
    out = tmp_path / "out"
    assert main(out, model=str(tmp_path / "model"), quick=True) == 0
    said = capsys.readouterr().out
    assert str(out / "contact-sheet.png") in said.replace("\n", "")
    assert [said.count(f"  fewstep {verb} ") for verb in ("sample", "edit inpaint", "train")] == [1, 1, 1]
    with Image.open(out / "contact-sheet.png") as page:
        assert page.mode == "RGB"
        first = page.tobytes()
    assert Image.open(out / "picture.png").size == Image.open(out / "mask.png").size == (28, 28)
    lines = (out / "run" / "metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in lines.splitlines()] == [1, 2, 3]

    assert main(out, model=str(tmp_path / "model"), quick=True) == 0
    assert (out / "run" / "metrics.jsonl").read_text() == lines
    assert Image.open(out / "contact-sheet.png").tobytes() == first

    other = replace(training.settled(0, quick=True), batch=4)
    monkeypatch.setattr(training, "settled", lambda seed, quick: other)
    assert main(out, model=str(tmp_path / "model"), quick=True) == 1
    assert "another recipe" in capsys.readouterr().out


def test_the_data_row_shows_a_digit_a_class():
    from fewstep.images import open_images

    images = open_images(training.settled(0, quick=True).data)
    shown = training.examples(images)
    assert shown.shape == (10, 1, 8, 8)
    first_three = images.picture(int(np.flatnonzero(images.labels == 3)[0]))
    assert np.allclose(shown[3, 0].numpy(), first_three[:, :, 0] / 127.5 - 1, atol=1e-6)
