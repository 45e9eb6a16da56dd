"""A study so small that a run takes a second."""

import pytest

from fewstep.reproduce import setting, working
from fewstep.reproduce.setting import Lengths, Setting


@pytest.fixture
def tiny(monkeypatch) -> Setting:
    monkeypatch.setattr(setting, "QUICK", Lengths(teacher=8, distilled=14, nothing=7))
    monkeypatch.setattr(setting, "REFERENCE", 100)
    monkeypatch.setattr(working, "SCAN", 2)
    monkeypatch.setattr(working, "TOLERANCE", 0.5)
    return Setting(seeds=1, quick=True, samples=20, features="simple")
