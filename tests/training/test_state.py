"""What a run carries: averages against their closed forms, and the way through named tensors."""

import pytest
import torch
from torch import nn
from training_helpers import assert_same

from fewstep.training.optimizers import RAdam
from fewstep.training.state import State


def line():
    """A network of one weight."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    return network


def test_averages_and_target_against_closed_forms():
    state = State(line(), RAdam(), (0.9, 0.3, 0.0), target=True)
    path, mu = [1.0, -2.0, 5.0, 0.5, 3.0], 0.7
    for value in path:
        nn.init.constant_(state.network.weight, value)
        state.follow(mu)
    target = sum((1 - mu) * mu ** (len(path) - 1 - i) * value for i, value in enumerate(path))  # it began at 0
    assert state.target.weight.item() == pytest.approx(target, rel=1e-6)
    for rate in (0.9, 0.3):
        average = 0.0
        for k, value in enumerate(path):
            kept = min(rate, (1 + k) / (10 + k))
            average = kept * average + (1 - kept) * value
        assert state.averaged(rate)["weight"].item() == pytest.approx(average, rel=1e-6)
    assert state.averaged(0.0)["weight"].item() == 3.0
    assert state.averaged()["weight"].item() == state.averaged(0.9)["weight"].item()  # the first is the one


def test_a_long_average_has_the_decay_of_its_rate():
    state = State(line(), RAdam(), (0.5,))
    state.updates = 1000
    nn.init.ones_(state.network.weight)
    for _ in range(3):
        state.follow(None)
    assert state.averaged()["weight"].item() == pytest.approx(1 - 0.5**3)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)).to(
        memory_format=torch.channels_last
    )


def trained(state, steps):
    for k in range(steps):
        torch.manual_seed(k)
        state.optimizer.zero_grad()
        state.network(torch.randn(2, 1, 8, 8)).square().mean().backward()
        state.optimizer.step()
        state.follow(0.5)
    return state


def make(seed=0):
    torch.manual_seed(seed)
    return State(network(), RAdam(1e-2), (0.9, 0.99), target=True, teacher=network())


def test_a_state_comes_back_bit_for_bit_in_its_memory_layout():
    ours, again = trained(make(), 8), make()
    named = {name: t.clone(memory_format=torch.contiguous_format) for name, t in ours.tensors().items()}
    again.load(named)
    again.updates = ours.updates
    assert_same(again.tensors(), ours.tensors())
    weight = again.network[0].weight
    moments = again.optimizer.state[weight]
    assert weight.stride() == moments["exp_avg"].stride() == again.ema[0.9]["0.weight"].stride()
    assert_same(trained(again, 3).tensors(), trained(ours, 3).tensors())


def test_names():
    names = set(trained(make(), 1).tensors())
    assert {"student/0.weight", "ema/0.9/0.weight", "ema/0.99/2.bias", "target/1.running_mean"} <= names
    assert {"teacher/0.weight", "optimizer/0/step", "optimizer/0/exp_avg", "optimizer/5/exp_avg_sq"} <= names


def test_a_promoted_student_is_the_teacher_and_begins_anew():
    state = trained(make(), 3)
    state.promote(2)
    assert_same(dict(state.teacher.state_dict()), dict(state.network.state_dict()))
    assert (state.stage, state.updates, len(state.optimizer.state)) == (2, 0, 0)
    assert torch.equal(state.averaged(0.9)["0.weight"], state.network[0].weight)
