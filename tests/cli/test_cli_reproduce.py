"""`fewstep reproduce`: what it lists, and what it refuses."""

import sys

from fewstep.reproduce.studies import STUDIES


def test_the_list_names_every_study(cli):
    said = cli("reproduce", "--list")
    assert said.code == 0
    assert all(f"  {name} " in said.out for name in STUDIES)


def test_the_list_of_a_study_says_what_it_would_train(cli, tmp_path):
    said = cli("reproduce", "n", "--list", "--seeds", "1", "--quick", "--out", str(tmp_path))
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()] == ["teacher", "heun-9", "heun-18", "heun-36", "heun-72"]
    assert all("steps" in line for line in said.out.splitlines())


def test_what_cannot_be_done_is_said_in_one_sentence(cli, tmp_path):
    assert cli("reproduce").code == 2
    unknown = cli("reproduce", "huen-vs-euler", "--out", str(tmp_path))
    assert unknown.code == 1
    assert "no study 'huen-vs-euler'" in unknown.err
    assert "heun-vs-euler" in unknown.err
    assert cli("reproduce", "n", "--workers", "0").code == 2
    missing = cli("reproduce", "n", "--data", str(tmp_path / "none.zip"), "--out", str(tmp_path))
    assert missing.code == 1
    assert "none.zip" in missing.err


def test_without_matplotlib_nothing_is_trained(cli, tmp_path, monkeypatch):
    for name in ("fewstep.plots.style", *(f"fewstep.reproduce.{part}" for part in ("report", "figures", "pictures"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = cli("reproduce", "n", "--quick", "--seeds", "1", "--out", str(tmp_path / "study"))
    assert said.code == 1
    assert "pip install 'fewstep[plot]'" in said.err
    assert not (tmp_path / "study").exists()
