"""Streams of random numbers, shapes of times, and one dropout mask for two passes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from steady import steady
from torch import nn

from fewstep.tensors import (
    DROPOUT,
    LABEL,
    SAMPLE,
    TRAIN,
    as_times,
    at_least_float32,
    expand_as,
    mean_flat,
    noise,
    rng,
    same_randomness,
    sum_flat,
    uniforms,
)


@steady
@given(
    seed=st.integers(-(2**63), 2**64 - 1),
    a=st.integers(0, 2**40),
    indices=st.lists(st.integers(0, 2**40), min_size=1, max_size=6),
)
def test_a_row_depends_on_its_own_index_alone(seed, a, indices):
    together = noise(seed, indices, (2, 3), purpose=TRAIN, a=a)
    for row, index in zip(together, indices, strict=True):
        assert torch.equal(row, noise(seed, [index], (2, 3), purpose=TRAIN, a=a)[0])


def test_noise_is_the_same_on_every_machine():
    """Philox is specified to the bit: these numbers may never change, or seeds would mean other pictures."""
    wanted = torch.tensor([[0.059911035, 0.0155596342, -1.16443849, -0.132647127]])
    torch.testing.assert_close(noise(0, [0], (4,)), wanted, rtol=0, atol=0)


def test_streams_differ_by_each_argument():
    streams = [(0, TRAIN, 0, 0), (1, TRAIN, 0, 0), (0, SAMPLE, 0, 0), (0, TRAIN, 1, 0), (0, TRAIN, 0, 1)]
    draws = torch.stack([torch.from_numpy(rng(*s).standard_normal(2000)) for s in streams])
    correlation = torch.corrcoef(draws) - torch.eye(5)
    assert correlation.abs().max() < 0.1


def test_long_draws_do_not_run_into_the_next_stream():
    """The counter's low words are the draws' own: a large picture ends before its neighbour begins."""
    first = noise(0, [0], (1_000_000,))[0]
    for neighbour in (noise(0, [1], (4,)), noise(0, [0], (4,), a=1)):
        assert not (first.unfold(0, 4, 1) == neighbour[0]).all(1).any()


def test_noise_is_gaussian():
    z = noise(3, range(50), (3, 16, 16), purpose=LABEL).double()
    assert z.mean().abs() < 0.02
    assert z.std() == pytest.approx(1, abs=0.01)
    assert (z**4).mean() == pytest.approx(3, abs=0.15)
    assert noise(3, range(2), (1,)).dtype == torch.float32


def test_uniforms_are_uniform_and_even():
    u = uniforms(5, TRAIN, 7, range(256))
    assert u.dtype == torch.float64
    assert 0 <= u.min() <= u.max() < 1
    gaps = torch.cat([u.sort().values, u.min().reshape(1) + 1]).diff()
    assert gaps.max() < 3 / 256  # independent draws leave gaps near ln(256)/256 = 5.5/256
    first = torch.stack([uniforms(5, TRAIN, k, [3]) for k in range(4000)]).flatten()
    counts = torch.histc(first, 10, 0, 1)
    assert (counts - 400).abs().max() < 80  # 4 standard deviations: each one is uniform over the steps


def test_uniforms_depend_on_their_index_alone():
    whole = uniforms(1, TRAIN, 2, range(100))
    assert torch.equal(uniforms(1, TRAIN, 2, range(40, 60)), whole[40:60])
    assert torch.equal(uniforms(1, TRAIN, 2, [99]), whole[99:])
    assert not torch.equal(uniforms(1, DROPOUT, 2, range(100)), whole)
    assert not torch.equal(uniforms(1, TRAIN, 3, range(100)), whole)
    far = uniforms(1, TRAIN, 2, [10_000_000])
    assert 0 <= far < 1


def test_same_randomness_gives_two_passes_one_mask():
    drop, x, cpu = nn.Dropout(0.5), torch.ones(1000), torch.device("cpu")
    with same_randomness(cpu):
        first = drop(x)
    second, third = drop(x), drop(x)
    assert torch.equal(first, second)
    assert not torch.equal(second, third)


def test_same_randomness_restores_after_an_error():
    before = torch.get_rng_state()

    def fail():
        with same_randomness(torch.device("cpu")):
            torch.randn(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_same_randomness_on_a_gpu():
    device = torch.device("cuda")
    drop, x = nn.Dropout(0.5), torch.ones(1000, device=device)
    with same_randomness(device):
        first = drop(x)
    assert torch.equal(first, drop(x))


def test_shapes_and_dtypes_of_times():
    x = torch.zeros(3, 1, 2, 2)
    assert expand_as(torch.ones(3), x).shape == (3, 1, 1, 1)
    assert expand_as(torch.tensor(2.0), x).shape == ()
    assert as_times(2.0, x).tolist() == [2.0] * 3
    assert as_times(2.0, x).dtype == torch.float32
    assert as_times(2.0, x.double()).dtype == torch.float64
    assert as_times(2.0, x.bfloat16()).dtype == torch.float32
    assert at_least_float32(torch.ones(1).half()).dtype == torch.float32
    assert at_least_float32(torch.ones(1).double()).dtype == torch.float64


def test_flat_reductions():
    x = torch.arange(12.0).reshape(2, 3, 2)
    assert mean_flat(x).tolist() == [2.5, 8.5]
    assert sum_flat(x).tolist() == [15.0, 51.0]
