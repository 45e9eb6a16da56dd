"""Learning rates and the first steps of the optimizers, against closed forms."""

import math

import pytest
import torch

from fewstep.training.optimizers import AdamW, RAdam


def test_warm_up_and_decay():
    constant = AdamW(0.1, warmup=4)
    assert [constant.rate(k, 100) for k in range(6)] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    cosine = AdamW(0.1, decay="cosine", floor=0.2)
    assert cosine.rate(0, 100) == pytest.approx(0.1)
    assert cosine.rate(50, 100) == pytest.approx(0.06)
    assert cosine.rate(100, 100) == pytest.approx(0.02)
    assert cosine.rate(25, 100) == pytest.approx(0.02 + 0.08 * (1 + math.cos(math.pi / 4)) / 2)
    linear = RAdam(0.1, decay="linear", floor=0.0, warmup=10)
    assert linear.rate(4, 100) == pytest.approx(0.1 * 0.5 * 0.96)
    assert linear.rate(75, 100) == pytest.approx(0.025)


def step(optimizer, p, gradient, lr=0.1):
    p.grad = torch.full_like(p, gradient)
    optimizer.step()
    return p.item()


def test_adamw_takes_a_step_of_lr_and_decays_the_weight():
    p = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = AdamW(0.1, weight_decay=0.5).build([p])
    assert step(optimizer, p, 3.0) == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1)


def test_radam_begins_as_momentum_and_its_decay_is_decoupled():
    p = torch.nn.Parameter(torch.tensor(2.0))
    optimizer = RAdam(0.1).build([p])
    assert step(optimizer, p, 3.0) == pytest.approx(2.0 - 0.1 * 3.0)  # no division by the second moment yet
    q = torch.nn.Parameter(torch.tensor(2.0))
    decaying = RAdam(0.1, weight_decay=0.5).build([q])
    assert step(decaying, q, 0.0) == pytest.approx(2.0 * (1 - 0.1 * 0.5))
