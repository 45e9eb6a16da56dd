"""benchmarks/peers: a study with a peer made up here, from the command to the page; real ones if PEERS names them."""

import copy
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from peers import __main__ as command
from peers import checkouts, method, page, registry, running, second

pytest.importorskip("matplotlib")
SOURCE = checkouts.Checkout("nobody/nothing", "0" * 40, "")


class Fake(method.Peer):
    """Learns the mean of the pictures: f(x, t) = x at 0, and the mean far away."""

    FILES = ("code.py",)

    @staticmethod
    def load(folder: Path) -> None:
        with checkouts.importing(folder, ("no_such_package",)):
            import nobodys_code  # noqa: F401

    def begin(self) -> None:
        self.mean = nn.Parameter(torch.zeros(method.SHAPE))
        self.shares: list[float] = []

    def step(self, x_0, share):
        self.shares.append(share)
        with torch.no_grad():
            self.mean.lerp_(x_0.mean(0), 0.5)
        return float((x_0 - self.mean).square().mean().detach())

    def ways(self):
        def function(x, t):
            return x + min(t, 1) * (self.mean - x)

        def sample(steps, n):
            return function(torch.randn(n, *method.SHAPE), 80.0 / steps)

        def noise(steps, n):
            return torch.randn(n, *method.SHAPE)

        return {"live": method.Way(copy.deepcopy(self.network), sample, function, 0.0),
                "noise": method.Way(self.network, noise, lambda x, t: x, 0.0)}  # fmt: skip


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The arguments of a small study: digits out of a few numbers, and two made-up implementations."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 40), ("test", 30)):
        shapes = rng.normal(size=(4, 28, 28)).cumsum(0).cumsum(1)
        pictures = 127 + 60 * np.tanh(shapes[rng.integers(4, size=n)] + rng.normal(size=(n, 28, 28)) / 3)
        np.savez(tmp_path / f"digits-{name}.npz", images=pictures[..., None].astype(np.uint8))
    (tmp_path / "nobody+nothing").mkdir()
    (tmp_path / "nobody+nothing" / "nobodys_code.py").write_text("import no_such_package\n")
    (tmp_path / "nobody+nothing" / "code.py").write_text("")
    monkeypatch.setattr(registry, "ENTRIES", {
        "own": registry.Entry("own", Fake, method.ours()),
        "fake-ours": registry.Entry("fake", Fake, method.ours(), SOURCE),
        "gone": registry.Entry("gone", Fake, method.ours(), SOURCE._replace(name="nobody/gone")),
        "fewstep-ct": registry.ENTRIES["fewstep-ct"],
        "own-half": registry.Entry("own, half the time", Fake, method.ours(), share=0.5),
    })  # fmt: skip
    monkeypatch.setattr(command, "QUICK", {"budget": 0.05, "marks": (0.2, 0.5, 1.0), "samples": 12})
    return [
        *("--peers", str(tmp_path), "--data", str(tmp_path / "digits-train.npz"), "--out", str(tmp_path / "out")),
        *("--page", str(tmp_path / "docs" / "peers.md"), "--workers", "0", "--quick", "--batch", "8"),
    ]


def test_a_study_from_the_command_to_the_page(study, tmp_path, capsys, monkeypatch):
    assert command.main(study) == 0
    said = capsys.readouterr().out
    assert "git clone https://github.com/nobody/gone" in said
    out = tmp_path / "out"
    runs = sorted(path.stem for path in out.glob("*.json"))
    assert runs == ["fake-ours-seed0", "fewstep-ct-seed0", "own-half-seed0", "own-seed0"]

    found = json.loads((out / "fake-ours-seed0.json").read_text())
    assert [mark["share"] for mark in found["marks"]] == [0.2, 0.5, 1.0]
    times = [mark["wall"] for mark in found["marks"]]
    assert all(now >= share * 0.05 for now, share in zip(times, (0.2, 0.5, 1.0), strict=True))
    assert times == sorted(times)
    assert {mark["way"] for mark in found["marks"]} == {"live"}  # the mean is nearer than noise
    assert set(found["marks"][-1]["scores"]["1"]) == {"fd", "precision", "recall", "energy"}
    assert found["boundary"] == {"live": 0, "noise": 0}
    assert found["finite"] is True
    other = json.loads((out / "own-seed0.json").read_text())
    assert found["first weights"] == other["first weights"]
    assert any(key.startswith("live/") for key in load_file(out / "fake-ours-seed0.safetensors"))

    second_step = found["second"]
    assert second_step["time"] == float(min(second_step["tried"], key=second_step["tried"].get))
    assert set(map(float, second_step["tried"])) == set(second.TIMES)
    assert second_step["fd"] > 0

    text = (tmp_path / "docs" / "peers.md").read_text()
    assert "**own**" in text
    assert "fewstep is" in text
    assert "nobody/gone" in text
    assert (tmp_path / "docs" / "images" / "peers.png").stat().st_size > 10_000

    monkeypatch.setattr(running, "run", None)  # the same command finds everything done
    assert command.main(study) == 0
    assert command.main([*study, "--report"]) == 0
    with pytest.raises(ValueError, match="other settings"):
        command.main([*study, "--batch", "4"])


def test_a_second_time_is_searched_from_the_weights_that_were_kept(study, tmp_path):
    """What a run found at its end is found again of its file, and nothing is trained for it."""
    assert command.main([*study, "--only", "fewstep-ct"]) == 0
    plan, folder = command.planned(command.parser().parse_args(study))
    path = running.place(folder, "fewstep-ct", 0)
    run = running.finished(folder, "fewstep-ct", 0, plan)
    assert running.complete(folder, "fewstep-ct", 0, plan)
    path.write_text(json.dumps({key: value for key, value in run.items() if key != "second"}))
    assert not running.complete(folder, "fewstep-ct", 0, plan)
    assert command.main([*study, "--only", "fewstep-ct"]) == 0
    assert running.finished(folder, "fewstep-ct", 0, plan) == run
    path.write_text(json.dumps({key: value for key, value in run.items() if key != "second"}))
    path.with_suffix(".safetensors").unlink()
    assert running.complete(folder, "fewstep-ct", 0, plan)  # nothing to search with


def test_names_that_are_not_there_are_said(study, capsys):
    assert command.main([*study, "--only", "nobody*"]) == 1
    assert "own, fake-ours" in capsys.readouterr().out


def test_the_same_seed_begins_with_the_same_weights_and_batches():
    one, same, other = (running.digest(registry.network(seed)) for seed in (0, 0, 1))
    assert one == same != other
    pictures = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1).repeat(28, 2).repeat(28, 3)
    a, b = (next(running.batches(pictures, 3, 8)) for _ in range(2))
    assert torch.equal(a, b)
    assert float(a.min()) >= -1


@pytest.mark.parametrize("name", ["fewstep-ct", "fewstep-ict", "fewstep-ect", "fewstep-ect-norm", "fewstep-ect-ot"])
def test_ours_goes_by_the_share_of_the_time(name):
    trained = registry.method(name, 0, None)
    first = running.digest(trained.network)
    losses = [trained.step(torch.zeros(4, *method.SHAPE), share) for share in (0.0, 0.5)]
    assert np.isfinite(losses).all()
    assert running.digest(trained.network) != first
    recipe = trained.recipe
    rate = trained.state.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(recipe.optimizer.rate(1, 2))  # half of the time: half of the cosine
    way = trained.ways()["averaged"]
    x = torch.randn(3, *method.SHAPE)
    assert torch.equal(way.function(x, way.t_min), x)
    assert way.sample(2, 2).shape == (2, *method.SHAPE)
    trained.ways()["live"].sample(1, 1)
    now = running.digest(trained.network)
    trained.step(torch.zeros(4, *method.SHAPE), 0.7)  # drawing has left it as it was
    assert running.digest(trained.network) != now


def test_the_network_is_told_as_each_peer_tells_it():
    class Network(nn.Module):
        def forward(self, x, c_noise):
            return torch.cat([x.flatten(1), c_noise[:, None]], 1)

    x, t = torch.ones(2, 1, 1, 1), torch.tensor([1.0, 4.0])
    assert torch.allclose(method.Told(Network(), scale=1e-3)(x, 250 * t.log())[:, 1], t.log() / 4)
    raw = method.Told(Network(), raw=True)(x, t[:, None])
    assert torch.allclose(raw, torch.stack([(t**2 + 0.25) ** -0.5, t.log() / 4], 1))


def test_values_say_their_spread():
    assert str(page.value([100.0, 110.0])) == "105 ± 7"
    assert str(page.value([1.5])) == "1.50"
    assert str(page.value([1.0, float("inf")])) == "inf"


def results(name, own, scores, budget=600.0):
    """Made-up runs, one a seed, whose distance falls like 1/t."""
    plan = {"clock": "wall"}
    marks = [
        [{"share": share, "wall": share * budget, "way": "live", "scores": {k: {"fd": fd / share} for k in "12"}}
         for share in (0.2, 0.5, 1.0)] for fd in scores
    ]  # fmt: skip
    runs = [{"name": name, "title": name, "own": own, "budget": budget, "plan": plan, "steps": 1200, "marks": m}
            for m in marks]  # fmt: skip
    return page.Results(runs)


def test_the_page_says_who_wins_and_what_half_the_time_is_worth():
    plan = running.Plan("", "")
    ours, theirs = results("ours", True, [10.0, 12.0]), results("theirs", False, [20.0, 24.0])
    assert str(ours.at(300, 1)) == "22.0 ± 2.8"
    assert ours.at(301, 1) is None
    assert ours.pace.mean == 2
    said = page.verdict([ours, theirs], plan)
    assert "ours 11.0 ± 1.4, the best of the others (theirs) 22.0 ± 2.8: fewstep is ahead by 50%, beyond the" in said
    behind = page.verdict([results("ours", True, [21.0, 25.0]), theirs], plan)
    assert "behind by 5%, within the spread" in behind
    assert "| theirs | 22.0 ± 2.8 | 22.0 ± 2.8 | 22.0 ± 2.8 | 22.0 ± 2.8 | yes, yes |" in page.half(
        [ours, theirs], plan
    )
    planned = results("ours-half", True, [30.0, 30.0], 300.0)
    assert "| 30.0 ± 0.0 | 30.0 ± 0.0 | no, no |" in page.half([ours, planned, theirs], plan)
    assert "Without" not in said + page.half([ours, planned, theirs], plan)
    better, sooner = results("ours-ot", True, [5.0, 5.0]), results("ours-ot-half", True, [9.0, 9.0], 300.0)
    assert "**1 step**: ours-ot 5.00 ± 0.00" in (said := page.verdict([ours, better, theirs], plan))
    assert "**Without the coupling** of noise and pictures, which none of the others has: in 1 step ours 11.0" in said
    said = page.half([ours, planned, better, sooner, theirs], plan)
    assert "| 9.00 ± 0.00 | 9.00 ± 0.00 | yes, yes |" in said
    assert "Without the coupling (ours-half: 30.0 ± 0.0, 30.0 ± 0.0) the end of 0 of the 1 is reached" in said
    assert "of 0 in two (not theirs)." in said


def test_a_missing_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"git clone https://github.com/nobody/nothing.*{'0' * 40}"):
        checkouts.place(tmp_path, SOURCE)
    with pytest.raises(FileNotFoundError, match="--peers DIR"):
        checkouts.place(None, SOURCE)


@pytest.mark.skipif("PEERS" not in os.environ, reason="PEERS names no folder of checkouts")
@pytest.mark.slow
def test_the_adapters_fit_the_checkouts(tmp_path):
    pictures = np.random.default_rng(0).integers(256, size=(64, 28, 28, 1), dtype=np.uint8)
    np.savez(tmp_path / "digits-train.npz", images=pictures)
    data = ["--data", str(tmp_path / "digits-train.npz"), "--out", str(tmp_path / "out")]
    assert command.main(["--peers", os.environ["PEERS"], *data, "--check"]) == 0


def test_the_page_says_what_was_learned_from_the_others_where_it_was_run():
    now, before = results("fewstep-ect", True, [100.0]), results("fewstep-ect-norm", True, [400.0])
    ct = results("fewstep-ct", True, [200.0])
    assert page.taught([now, ct]) == ""
    told = page.taught([now, ct, before])
    for name, found in (("ECT: Huber of each value, weight 1/(t − s)", now), ("CT: Huber of each value", ct),
                        (registry.ENTRIES["fewstep-ect-norm"].title, before)):  # fmt: skip
        assert f"| {name} | {found.final(1)} | {found.final(2)} |" in told


def test_trials_have_one_seed_and_take_no_part_in_the_comparison(study, tmp_path, monkeypatch):
    entry = registry.ENTRIES["own"]._replace(title="a trial", trial=True)
    monkeypatch.setitem(registry.ENTRIES, "fewstep-trial", entry)
    monkeypatch.setattr(command, "QUICK", {"budget": 0.01, "marks": (0.2, 0.5, 1.0), "samples": 12})
    monkeypatch.setattr(
        command, "Job", lambda name, seed, job=command.Job: jobs.append((name, seed)) or job(name, seed)
    )
    jobs = []
    options = [flag for flag in study if flag != "--quick"]
    monkeypatch.setattr(command, "conduct", lambda *_: [])
    assert command.main([*options, "--seeds", "2", "--without", "fake-ours", "gone", "own-half", "fewstep-ct"]) == 0
    assert jobs == [("own", 0), ("fewstep-trial", 0), ("own", 1)]
