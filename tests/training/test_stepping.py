"""One step: accumulation, clipping, precision, dropout, what is not finite, and too little memory."""

import itertools
import math
import warnings
from dataclasses import dataclass, replace

import pytest
import torch
from training_helpers import OBJECTIVES, assert_same, losses, small, state, train

from fewstep.objectives import Diffusion, Draw
from fewstep.targets import Ema
from fewstep.tensors import noise
from fewstep.training.checkpoint import checkpoints
from fewstep.training.fit import Stopped, fit
from fewstep.training.optimizers import AdamW
from fewstep.training.stepping import Ahead, Stepper

close = lambda a, b, tolerance=1e-5: torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)  # noqa: E731


def gradients(recipe, folder):
    """The gradients of the first step, which clipping leaves alone."""
    run = fit(replace(recipe, clip=None), folder)
    step = next(iter(run))
    return step, {name: p.grad.clone() for name, p in run.state.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("objective", ["edm", "ct", "ect"])
def test_micro_batches_change_nothing(objective, tmp_path):
    recipe = small(objective, batch=12, steps=5)
    whole, all_at_once = gradients(recipe, tmp_path / "a")
    parts, in_parts = gradients(replace(recipe, micro_batch=5), tmp_path / "b")
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert parts.gradient == pytest.approx(whole.gradient, rel=1e-5)
    close(in_parts, all_at_once)
    close(losses(replace(recipe, micro_batch=5), tmp_path / "d"), losses(recipe, tmp_path / "c"), 1e-4)
    close(state(tmp_path / "d"), state(tmp_path / "c"), 1e-4)


def test_gradients_are_means_over_the_batch_and_clipping_bounds_them(tmp_path):
    recipe = small(clip=1e-3, batch=12)
    run = fit(recipe, tmp_path / "a")
    step = next(iter(run))
    norm = torch.stack([p.grad.norm() for p in run.state.network.parameters() if p.grad is not None]).norm()
    assert step.gradient > 0.01  # before
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)  # and after clipping
    free, kept = gradients(recipe, tmp_path / "b")
    assert free.gradient == pytest.approx(step.gradient, rel=1e-5)
    assert float(torch.stack([g.norm() for g in kept.values()]).norm()) == pytest.approx(free.gradient, rel=1e-4)


def test_the_learning_rate_follows_its_schedule(tmp_path):
    recipe = small(optimizer=AdamW(1e-2, warmup=4, decay="cosine"), steps=6)
    run = fit(recipe, tmp_path)
    for step in run:
        assert step.lr == recipe.optimizer.rate(step.k - 1, 6)
        assert [group["lr"] for group in run.state.optimizer.param_groups] == [step.lr]


def test_target_and_averages_follow_the_student_step_by_step(tmp_path):
    recipe = small(replace(OBJECTIVES["ct"], target=Ema(0.7)), ema=(0.9, 0.2), steps=5)
    run = fit(recipe, tmp_path)
    start = {name: p.detach().double().clone() for name, p in run.state.network.named_parameters()}
    target, averages = dict(start), {0.9: dict(start), 0.2: dict(start)}
    for k, _ in enumerate(run):
        now = {name: p.detach().double() for name, p in run.state.network.named_parameters()}
        target = {name: 0.7 * target[name] + 0.3 * now[name] for name in now}
        for rate, old in averages.items():
            kept = min(rate, (1 + k) / (10 + k))
            averages[rate] = {name: kept * old[name] + (1 - kept) * now[name] for name in now}
    close({n: p.detach().double() for n, p in run.state.target.named_parameters()}, target, 1e-6)
    for rate, wanted in averages.items():
        close({name: run.state.averaged(rate)[name].double() for name in wanted}, wanted, 1e-6)
    assert not torch.allclose(run.state.averaged(0.9)["head.weight"], run.state.network.head.weight, atol=1e-5)


def test_memory_layout_changes_nothing(tmp_path):
    recipe = small("ct", steps=5)
    close(losses(replace(recipe, channels_last=False), tmp_path / "a"), losses(recipe, tmp_path / "b"), 1e-4)


def test_both_passes_have_one_dropout_mask(tmp_path):
    """With s = t and one network, the two sides agree exactly; with different masks they would not."""
    recipe = small("ct", architecture=replace(small().architecture, dropout=0.5))
    s = fit(recipe, tmp_path).stepper
    for p in s.student.parameters():  # the last layers begin at zero, and hide what dropout does
        torch.nn.init.normal_(p, std=0.3)
    s.target.load_state_dict(s.student.state_dict())
    x, t, labels = torch.randn(4, 1, 8, 8), torch.full((4,), 3.0), torch.arange(4)
    draw = Draw(recipe.schedule, x, torch.zeros_like(x), t, t, {"labels": labels})
    assert recipe.objective.loss(s.student, s.target, draw).abs().max() < 1e-6
    assert (s.student(x, t, labels=labels) - s.student(x, t, labels=labels)).abs().max() > 1e-2


def test_bfloat16_is_for_the_network_only(tmp_path, monkeypatch):
    recipe = small("ct", precision="bf16", steps=4, batch=16)
    run = fit(recipe, tmp_path / "low")
    seen = {}

    def remember(module, inputs, output):
        seen.setdefault(type(module).__name__, []).append((inputs[0].dtype, inputs[1].dtype, output.dtype))

    network = run.state.network
    network.register_forward_hook(remember)
    network.stem.register_forward_hook(lambda m, i, o: seen.setdefault("conv", []).append(o.dtype))
    healthy = Stepper._draw
    monkeypatch.setattr(Stepper, "_draw", lambda *a: seen.setdefault("draw", healthy(*a)))
    low = [step.loss for step in run]
    x, c_noise, _ = seen["Compact"][0]
    assert (x, c_noise) == (torch.float32, torch.float32)
    assert set(seen["conv"]) == {torch.bfloat16}
    assert (seen["draw"].t.dtype, seen["draw"].s.dtype, seen["draw"].x_0.dtype) == (torch.float32,) * 3
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    high = losses(replace(recipe, precision="fp32"), tmp_path / "high")
    assert low != high
    close(low, high, 0.05)


def test_float16_scales_its_loss_and_resumes(tmp_path):
    recipe = small("ct", precision="fp16", steps=6, batch=16, checkpoint_every=2)
    run = fit(recipe, tmp_path / "low")
    low = [step.loss for step in run]
    assert run.stepper.scaler.get_scale() == 2.0**16
    assert run.state.skipped == 0
    close(low, losses(replace(recipe, precision="fp32"), tmp_path / "high"), 0.05)
    for _ in itertools.islice(fit(recipe, tmp_path / "parts"), 5):
        pass
    train(recipe, tmp_path / "parts")
    assert_same(state(tmp_path / "parts"), state(tmp_path / "low"))


def test_noise_drawn_ahead_is_the_same_noise():
    ahead, shape = Ahead(3, range(2, 6)), torch.Size((1, 4, 4))
    for k in (0, 1, 2, 2, 7, 8):  # once more after a lack of memory, and from the middle
        assert torch.equal(ahead(k, shape), noise(3, range(2, 6), shape, purpose=2, a=k))


# -- what is not finite ---------------------------------------------------------------------------------------------


def spoil(monkeypatch, bad):
    """Steps for which `bad(k)` see pictures that are not numbers."""
    healthy = Stepper._draw

    def draw(self, k, *rest):
        draw = healthy(self, k, *rest)
        return draw._replace(x_0=draw.x_0 * float("nan")) if bad(k) else draw

    monkeypatch.setattr(Stepper, "_draw", draw)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, monkeypatch):
    spoil(monkeypatch, lambda k: k in (3, 4, 8))
    run = fit(small(checkpoint_every=1, keep=20), tmp_path)
    before = {}
    for step in run:
        now = {name: t.clone() for name, t in run.state.tensors().items()}
        if step.k in (4, 5, 9):
            assert math.isnan(step.loss)
            assert_same(now, before)
        before = now
    assert (step.k, step.skipped, run.state.updates) == (12, 3, 9)
    assert [c.step for c in checkpoints(tmp_path)] == [1, 2, 3, 6, 7, 8, 10, 11, 12]  # none of a state that failed


def test_skipped_steps_are_remembered_by_a_resumed_run(tmp_path, monkeypatch):
    spoil(monkeypatch, lambda k: k in (3, 4, 8))
    train(small(), tmp_path / "whole")
    for _ in itertools.islice(fit(small(checkpoint_every=1), tmp_path / "parts"), 7):
        pass
    run = train(small(checkpoint_every=1), tmp_path / "parts")
    assert (run.state.skipped, run.state.updates) == (3, 9)
    assert_same(state(tmp_path / "parts"), state(tmp_path / "whole"))


def test_ten_in_a_row_end_the_run_with_the_last_good_state_kept(tmp_path, monkeypatch):
    spoil(monkeypatch, lambda k: k >= 5)
    run = fit(small(steps=40, checkpoint_every=1), tmp_path)
    words = r"10 steps in a row, up to step 15, had a loss or gradient .* The last good state is .*step-00000005\."
    with pytest.raises(Stopped, match=words):
        list(run)
    assert [c.step for c in checkpoints(tmp_path)] == [4, 5]
    assert all(t.isfinite().all() for t in state(tmp_path).values())
    monkeypatch.undo()
    assert train(small(steps=40, checkpoint_every=1), tmp_path).state.skipped == 0


def test_without_a_checkpoint_it_says_so(tmp_path, monkeypatch):
    spoil(monkeypatch, lambda k: True)
    with pytest.raises(Stopped, match="There is no checkpoint yet"):
        list(fit(small(steps=40), tmp_path))


def test_weights_that_are_not_finite_never_become_a_checkpoint(tmp_path):
    run = fit(small(checkpoint_every=2), tmp_path)
    with pytest.raises(Stopped, match=r"After step 6 the tensor student/stem\.weight is not finite.*step-00000004"):  # noqa: PT012
        for step in run:
            if step.k == 6:
                torch.nn.init.constant_(run.state.network.stem.weight, float("inf"))
    assert [c.step for c in checkpoints(tmp_path)] == [2, 4]


def test_a_gradient_scaler_may_look_for_its_scale(tmp_path, monkeypatch):
    """fp16 on any device: overflows at large scales cost steps, but only those at the smallest scale end the run."""
    run = fit(small(steps=100, checkpoint_every=50), tmp_path)
    stepper = run.stepper
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4, growth_interval=10_000)
    spoil(monkeypatch, lambda k: k < 3 or k >= 6)
    scales = []
    with pytest.raises(Stopped):  # noqa: PT012
        for _ in run:
            scales.append(stepper.scaler.get_scale())
    assert scales[:8] == [8.0, 4.0, 2.0, 2.0, 2.0, 2.0, 1.0, 0.5]
    assert run.state.skipped == 3 + 1 + 10  # one more on the way from 2 to 1, then ten
    assert run.state.updates == 3


def test_a_gradient_scaler_is_part_of_the_checkpoint(tmp_path):
    """With scales that are powers of two, scaled training is plain training; and its scale comes back."""

    def scaled(folder, steps):
        run = fit(small("ct", checkpoint_every=3), folder)
        kept = run.stepper.scaler
        run.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2)
        run._resume()
        assert kept is not run.stepper.scaler
        for _ in itertools.islice(run, steps):
            pass
        return run.stepper.scaler

    assert scaled(tmp_path / "parts", 8).get_scale() == 1024.0
    assert scaled(tmp_path / "parts", 100).get_scale() == 4096.0
    train(small("ct"), tmp_path / "plain")
    close(state(tmp_path / "parts"), state(tmp_path / "plain"), 1e-6)


# -- memory ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Greedy(Diffusion):
    """Has room for so many pictures at a time."""

    room: int = 3
    message: str = ""

    def loss(self, student, target, draw, *, teacher=None):
        if len(draw.x_0) > self.room:
            raise RuntimeError(self.message) if self.message else torch.OutOfMemoryError("CUDA out of memory.")
        return super().loss(student, target, draw, teacher=teacher)


@pytest.mark.parametrize("message", ["", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(tmp_path, message):
    with pytest.warns(  # noqa: PT031
        UserWarning, match=r"Out of memory: going on with --micro-batch (5|2); the batch stays 10\."
    ) as seen:
        run = fit(small(Greedy(room=3, message=message), steps=5), tmp_path / "short")
        short = [step.loss for step in run]
    assert [str(w.message).split(";")[0][-1] for w in seen] == ["5", "2"]
    assert run.stepper.micro_batch == 2
    close(short, losses(small(steps=5), tmp_path / "whole"), 1e-5)
    ours, theirs = state(tmp_path / "short"), state(tmp_path / "whole")
    close(ours, theirs, 1e-5)


def test_out_of_memory_with_one_picture_ends_the_run(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fit(small(Greedy(room=0)), tmp_path)
        with pytest.raises(Stopped, match="Out of memory with one picture at a time: choose a smaller network"):
            list(run)
    assert run.state.step == 0


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path):
    with pytest.raises(RuntimeError, match="broken"):
        list(fit(small(Greedy(room=3, message="broken")), tmp_path))


def test_a_stop_is_kept_after_a_skipped_step_too(tmp_path, monkeypatch):
    """That is when people press Ctrl-C; the weights are those of the last good step."""
    spoil(monkeypatch, lambda k: k >= 2)
    run = fit(small(steps=40, checkpoint_every=500), tmp_path)
    for step in run:
        run.stop = step.k == 5
    kept = checkpoints(tmp_path)
    assert [c.step for c in kept] == [6]
    monkeypatch.undo()
    assert train(small(steps=40, checkpoint_every=500), tmp_path).state.skipped == 4


def test_the_advice_of_a_run_that_ended_can_be_followed(tmp_path, monkeypatch):
    spoil(monkeypatch, lambda k: k >= 5)
    with pytest.raises(Stopped, match=r"--start (\S+step-00000005) --out ANOTHER") as stopped:
        list(fit(small(steps=40, checkpoint_every=1), tmp_path / "one"))
    monkeypatch.undo()
    start = str(stopped.value).split("--start ")[1].split()[0]
    assert train(small(start=start, steps=2), tmp_path / "another").state.step == 2


def test_a_folder_in_which_nothing_was_trained_may_be_claimed_anew(tmp_path):
    fit(small(steps=3), tmp_path)  # claimed, nothing done
    assert train(small(steps=4), tmp_path).state.step == 4
    with pytest.raises(ValueError, match="another recipe"):
        fit(small(steps=5), tmp_path)
