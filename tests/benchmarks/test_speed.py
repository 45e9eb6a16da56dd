"""benchmarks/speed.py runs, and with it what it checks first: samples and losses are those of diffusers."""

import sys
from pathlib import Path

import pytest
import torch

from fewstep.schedules import Karras

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import speed

OPTIONS = speed.Options(torch.device("cpu"), quick=True, fused=False, channels_last=False)


def test_both_sides_agree_and_have_a_ratio(capsys):
    speed.main(["--quick", "--rounds", "1"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 7
    assert all(float(row[-2]) > 0 for row in rows)


def test_results_that_differ_are_not_timed(monkeypatch):
    monkeypatch.setattr(speed, "Karras", lambda: Karras(rho=6.0))  # the second time is another
    with pytest.raises(SystemExit, match=r"2 step\(s\): fewstep and diffusers differ by"):
        speed.sampling(OPTIONS)
