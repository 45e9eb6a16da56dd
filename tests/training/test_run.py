"""A run and its folder: what is written, what may change, how it is stopped and goes on."""

import itertools
import json
import os
import signal
import threading
import time
from dataclasses import replace

import pytest
from training_helpers import assert_same, ended, losses, small, start, state, train, weights

from fewstep.formats import load
from fewstep.training.checkpoint import checkpoints
from fewstep.training.fit import fit
from fewstep.training.optimizers import RAdam
from fewstep.training.track import read_metrics, watch


def test_what_a_run_leaves(tmp_path):
    run = train(small(steps=9, checkpoint_every=4, keep=2), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "checkpoints", "model", "recipe.json"]
    assert [c.step for c in checkpoints(tmp_path)] == [8, 9]
    assert_same(weights(tmp_path), {name: w.contiguous() for name, w in run.state.averaged(0.9).items()})
    assert json.loads((tmp_path / "recipe.json").read_text())["steps"] == 9
    about = load(tmp_path).design.about
    assert about == {"name": "custom", "steps": 9, "batch": 10, "objective": "Diffusion", "label_drop": 0.0}


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(tmp_path):
    one = losses(small(), tmp_path / "a")
    assert losses(small(), tmp_path / "b") == one
    assert losses(small(seed=1), tmp_path / "c") != one
    assert_same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_a_finished_run_is_finished(tmp_path):
    train(small(), tmp_path)
    before = weights(tmp_path)
    assert list(fit(small(), tmp_path)) == []
    assert_same(weights(tmp_path), before)
    for file in (tmp_path / "model").iterdir():
        file.unlink()
    (tmp_path / "model").rmdir()
    assert list(fit(small(), tmp_path)) == []
    assert_same(weights(tmp_path), before)


def test_a_finished_run_keeps_what_was_added_to_its_model(tmp_path):
    train(small(), tmp_path)
    model = load(tmp_path)
    model.design = replace(model.design, times={"2": (80.0, 1.5)})
    model.save(tmp_path / "model")
    train(small(), tmp_path)
    assert load(tmp_path).times(2) == [80.0, 1.5]


def test_a_model_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    run = fit(small(steps=2), tmp_path)
    (tmp_path / "model").touch()  # a file in the place of the folder
    with pytest.raises(OSError, match=r"The model could not be written to .*The last good state is .*step-00000002\."):
        list(run)


def test_a_changed_recipe_is_refused_with_the_difference(tmp_path):
    train(small(steps=3), tmp_path)
    changed = small(steps=4, optimizer=RAdam(1e-2))
    with pytest.raises(ValueError, match=r"holds a run of another recipe:\n  ") as caught:
        fit(changed, tmp_path)
    assert "  optimizer.lr: 0.01, not 0.002\n  steps: 4, not 3\n" in str(caught.value)
    assert "or another folder with --out" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 4
    with pytest.raises(ValueError, match="objective.type: 'ConsistencyTraining', not 'Diffusion'"):
        fit(small("ct", steps=3), tmp_path)
    (tmp_path / "recipe.json").write_text('{"type": "Recip"}')
    with pytest.raises(ValueError, match=r"recipe\.json cannot be read: Unknown part 'Recip'"):
        fit(small(steps=3), tmp_path)


def test_what_does_not_change_the_result_may_change(tmp_path):
    for _ in itertools.islice(fit(small(checkpoint_every=2), tmp_path / "a"), 7):
        pass
    free = small(checkpoint_every=5, keep=1, preview_every=3, workers=1, name="other", micro_batch=10)
    train(free, tmp_path / "a")
    assert [c.step for c in checkpoints(tmp_path / "a")] == [12]
    train(small(), tmp_path / "b")
    assert_same(state(tmp_path / "a"), state(tmp_path / "b"))


def test_a_damaged_checkpoint_is_named_and_can_be_left_behind(tmp_path):
    train(small(), tmp_path)
    before = state(tmp_path)
    last = checkpoints(tmp_path)[-1].folder
    os.truncate(last / "state.safetensors", 1000)
    with pytest.raises(ValueError, match=r"step-00000012/state\.safetensors is damaged .*: remove .* to go on"):
        fit(small(), tmp_path)
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    train(small(), tmp_path)
    assert_same(state(tmp_path), before)


def test_one_process_at_a_time(tmp_path):
    fit(small(), tmp_path)
    process = start(expect_to_be_refused, tmp_path)
    assert ended(process) == 0


def expect_to_be_refused(folder):
    with pytest.raises(RuntimeError, match="Another process is at work in"):
        fit(small(), folder)


def test_stop_ends_a_run_with_a_checkpoint(tmp_path):
    seen = []
    run = fit(small(), tmp_path)
    for step in run:
        seen.append((step.k, step.last))
        run.stop = step.k >= 5
    assert seen == [(1, False), (2, False), (3, False), (4, False), (5, False), (6, True)]
    assert [c.step for c in checkpoints(tmp_path)] == [4, 6]
    assert not (tmp_path / "model").exists()
    train(small(), tmp_path)
    train(small(), tmp_path.parent / "whole")
    assert_same(state(tmp_path), state(tmp_path.parent / "whole"))


def test_a_thread_of_its_own(tmp_path):
    """Signals reach the main thread only; a run in another one leaves them alone."""
    thread = threading.Thread(target=train, args=(small(), tmp_path))
    thread.start()
    thread.join()
    assert (tmp_path / "model" / "model.json").is_file()


def test_signals_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(small(steps=2), tmp_path)
    loop = iter(fit(small(steps=2), tmp_path / "b"))
    next(loop)
    assert signal.getsignal(signal.SIGINT) != before[0]
    loop.close()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def slowly(recipe, folder):
    for _ in watch(fit(recipe, folder), quiet=True):
        time.sleep(0.03)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_and_the_run_goes_on(tmp_path, number):
    recipe = small("ct", steps=60, checkpoint_every=50)
    process = start(slowly, recipe, tmp_path / "stopped")
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not metrics.is_file() or len(read_metrics(metrics)) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, number)
    assert ended(process) == 0
    done = checkpoints(tmp_path / "stopped")[-1].step
    assert 8 <= done < 50
    assert [line["step"] for line in read_metrics(metrics)] == list(range(1, done + 1))
    slowly(recipe, tmp_path / "stopped")
    train(recipe, tmp_path / "whole")
    assert_same(state(tmp_path / "stopped"), state(tmp_path / "whole"))
    assert [line["step"] for line in read_metrics(metrics)] == list(range(1, 61))


def test_a_second_ctrl_c_interrupts_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for step in fit(small(), tmp_path):
            if step.k == 2:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
    assert checkpoints(tmp_path) == []


def test_files_that_are_decoded_ahead_change_nothing(tmp_path):
    recipe = small(data=replace(small().data, memory=0, flip=True))
    assert losses(replace(recipe, workers=2), tmp_path / "a") == losses(replace(recipe, workers=0), tmp_path / "b")
