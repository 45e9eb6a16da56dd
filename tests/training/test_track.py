"""What is shown and kept beside a run: metrics, previews, the live line, TensorBoard."""

import io
import itertools
import json
import math
import platform
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from training_helpers import small, state, train

from fewstep.training.fit import Step, fit
from fewstep.training.scoring import Scoring
from fewstep.training.track import Smooth, as_metrics, forget_after, preview, read_metrics, watch, write_line

LEVELS = ("<0.03", "0.03-0.1", "0.1-0.3", "0.3-1", "1-3", "3-10", "10-30", ">30")


def run_all(recipe, folder, **options):
    return list(watch(fit(recipe, folder), quiet=True, **options))


def test_a_line_a_step(tmp_path):
    steps = run_all(small("ct", steps=6), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in lines] == [step.loss for step in steps]
    objective = small("ct").objective
    for line in lines:
        progress = (line["step"] - 1) / 6
        assert line["n"] == objective.discretization.count(progress)
        assert line["mu"] == objective.target_rate(progress)
        assert line["images_per_second"] > 0
        assert set(line["levels"]) <= set(LEVELS)
    assert [line["n"] for line in lines] == sorted({line["n"] for line in lines})  # N(k) grows


def test_losses_by_level_are_means(tmp_path):
    run = fit(small(batch=64, steps=1), tmp_path)
    step = next(iter(run))
    assert len(step.levels) >= 6
    t, _ = run.recipe.objective.times(torch_uniforms(run, 0), run.recipe.schedule, 0.0)
    edges = torch.tensor([0.03, 0.1, 0.3, 1, 3, 10, 30])
    counts = torch.bincount(torch.bucketize(t.float(), edges), minlength=8).tolist()
    total = sum(step.levels.get(name, 0.0) * count for name, count in zip(LEVELS, counts, strict=True))
    assert total / 64 == pytest.approx(step.loss, rel=1e-4)


def torch_uniforms(run, k):
    from fewstep.tensors import TIMES, uniforms

    return uniforms(run.recipe.seed, TIMES, k, range(run.recipe.batch))


def test_a_resumed_run_repeats_no_line(tmp_path):
    for _ in itertools.islice(watch(fit(small(), tmp_path / "a"), quiet=True), 7):
        pass
    with open(tmp_path / "a" / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')  # a kill in the middle of a line
    assert len(read_metrics(tmp_path / "a" / "metrics.jsonl")) == 7
    run_all(small(), tmp_path / "a")
    run_all(small(), tmp_path / "b")
    lines = [[(x["step"], x["loss"]) for x in read_metrics(tmp_path / f / "metrics.jsonl")] for f in "ab"]
    assert lines[0] == lines[1]


def test_forgetting_keeps_what_was_done(tmp_path):
    path = tmp_path / "m.jsonl"
    forget_after(path, 3)
    for k in range(1, 6):
        write_line(path, {"step": k})
    forget_after(path, 3)
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    with pytest.raises(OSError, match=r"could not be written to .*the checkpoints are as they were"):
        write_line(tmp_path, {})


def test_what_is_not_finite_is_null(tmp_path):
    run = fit(small(), tmp_path)
    step = Step(1, 12, math.nan, {"1-10": math.inf}, math.nan, 1e-3, 0.1, 100.0, 1, False)
    text = json.dumps(as_metrics(run, step), allow_nan=False)
    assert json.loads(text)["loss"] is None
    assert json.loads(text)["levels"] == {"1-10": None}


def test_previews_have_the_same_noise_each_time(tmp_path):
    run = train(small("ct", steps=3), tmp_path)
    first = preview(run).read_bytes()
    assert preview(run).read_bytes() == first
    run.state.step = 7  # another file, the same picture
    path = preview(run)
    assert path.name == "step-00000007.png"
    assert path.read_bytes() == first
    torch.nn.init.normal_(run.state.ema[0.9]["head.weight"])
    assert preview(run).read_bytes() != first


@pytest.mark.parametrize(("objective", "rows"), [("edm", 2), ("ct", 3), ("pd", 2)])
def test_previews_show_the_first_and_the_last_picture_of_the_data(objective, rows, teacher, tmp_path):
    recipe = small(objective, steps=6, preview_every=4, teacher=str(teacher) if objective == "pd" else None)
    run = fit(recipe, tmp_path)
    for _ in watch(run, quiet=True):
        pass
    assert sorted(p.name for p in (tmp_path / "previews").iterdir()) == ["step-00000004.png", "step-00000006.png"]
    with Image.open(tmp_path / "previews" / "step-00000006.png") as picture:
        pixels = np.asarray(picture)
    side, scale = 64 + 2, 8
    assert pixels.shape[:2] == (rows * side + 2, 8 * side + 2)
    tile = lambda column: pixels[2 : 2 + 64 : scale, 2 + column * side : 2 + column * side + 64 : scale]  # noqa: E731
    assert np.array_equal(tile(0), run.images.picture(0)[:, :, 0])
    assert np.array_equal(tile(7), run.images.picture(len(run.images) - 1)[:, :, 0])


def test_watching_changes_nothing(tmp_path):
    run_all(small(architecture=replace(small().architecture, dropout=0.3), preview_every=2), tmp_path / "watched")
    train(small(architecture=replace(small().architecture, dropout=0.3)), tmp_path / "alone")
    ours, theirs = state(tmp_path / "watched"), state(tmp_path / "alone")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_all(small("ct", steps=4, preview_every=2, score=Scoring(n=20)), tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4]
    assert {"lr", "n", "mu"} <= set(events.Tags()["scalars"])
    assert any(name.startswith("levels/") for name in events.Tags()["scalars"])
    assert [e.step for e in events.Images("preview")] == [2, 4]
    scored = [
        line for line in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()) if "score" in line
    ]
    (name,) = {line["score_name"] for line in scored}
    values = events.Scalars(f"score/{name}")  # which score it is can be read there
    assert [e.step for e in values] == [2, 4]
    assert [e.value for e in values] == pytest.approx([line["score"] for line in scored])


def test_what_a_run_was_made_with(tmp_path):
    for _ in itertools.islice(watch(fit(small(), tmp_path), quiet=True), 6):
        pass
    for _ in range(2):  # goes on, and then is finished already
        run_all(small(), tmp_path)
    made = json.loads((tmp_path / "made.json").read_text())
    assert [part["from_step"] for part in made] == [0, 4]
    assert made[0]["pictures"] == 1797
    assert made[0]["shape"] == [1, 8, 8]
    assert made[0]["versions"]["torch"] == torch.__version__
    assert "1 thread" in made[0]["hardware"]
    assert str(tmp_path) not in json.dumps(made)
    assert platform.node() not in made[0]["hardware"]


def test_the_live_line():
    smooth = Smooth()
    step = Step(1, 12, 2.0, {}, 1.0, 1e-3, 0.5, 20.0, 0, False)
    assert smooth(step) == "loss 2.0000, 20 img/s"
    assert smooth(replace(step, loss=4.0)) == "loss 2.1000, 20 img/s"
    assert smooth(replace(step, loss=math.nan, skipped=1)) == "loss 2.1000, 20 img/s, 1 skipped"
    assert smooth(replace(step, seconds=1.5, images_per_second=20 / 3)) == "loss 2.0950, 18 img/s"


def test_a_stopped_run_says_how_to_go_on(tmp_path):
    written = io.StringIO()
    run = fit(small(), tmp_path)
    for step in watch(run, console=Console(file=written, width=200)):
        run.stop = step.k == 2
    assert "Stopped after step 3: the same command goes on" in written.getvalue()


def test_a_preview_that_cannot_be_written_costs_no_checkpoint(tmp_path):
    tmp_path.joinpath("previews").write_text("in the way")
    run = fit(small(steps=4, checkpoint_every=2, preview_every=2), tmp_path)
    with pytest.warns(UserWarning, match="No preview after step 2"):
        steps = list(watch(run, quiet=True))
    assert [step.k for step in steps] == [1, 2, 3, 4]
    assert (tmp_path / "model").is_dir()


def test_a_stop_waits_for_no_preview(tmp_path):
    run = fit(small(steps=9, preview_every=4), tmp_path)
    for step in watch(run, quiet=True):
        run.stop = step.k == 5
    assert run.state.step == 6
    assert [path.name for path in (tmp_path / "previews").iterdir()] == ["step-00000004.png"]
