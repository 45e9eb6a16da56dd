"""Runs of a study: what they are named after, that they can be stopped, that processes change nothing."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from fewstep.distances import LearnedFilters
from fewstep.files import read_json
from fewstep.reproduce import reading, setting, working
from fewstep.reproduce.conducting import conduct
from fewstep.reproduce.perceiving import Reader, learn_filters
from fewstep.reproduce.recipes import OBJECTIVES, jobs
from fewstep.reproduce.reproducing import chosen, planned, reproduce
from fewstep.reproduce.scoring import Judge
from fewstep.reproduce.setting import Lengths, Setting
from fewstep.reproduce.studies import STUDIES
from fewstep.reproduce.working import Drawing, drawings, drawn, points, search, work
from fewstep.training.fit import fit
from fewstep.training.stepping import Stepper

QUIET = Console(quiet=True)


def made(setting, folder, names):
    pictures = setting.opened(folder)
    return jobs(names, setting, pictures, folder), partial(Judge.of, pictures.reference, setting.features or "simple")


def never() -> bool:
    return False


def ignored(job, step) -> None:
    pass


def test_studies_share_runs_and_each_seeds_teacher_comes_first(tmp_path):
    every = planned(Setting(seeds=2), tmp_path, chosen(["all"]))
    places = [job.folder for job in every]
    assert len(set(places)) == len(places) == 2 * len(OBJECTIVES)
    assert {run for study in STUDIES.values() for run in study.runs} <= set(OBJECTIVES)
    for seed in (0, 1):
        assert next(job for job in every if job.seed == seed).name == "teacher"
    one, other = (planned(Setting(seeds=1), tmp_path, chosen([name])) for name in ("n", "distance"))
    shared = {job.folder for job in one} & {job.folder for job in other}
    assert {place.name.split("-0-")[0] for place in shared} == {"teacher", "heun-18"}
    assert shared <= set(places)


def test_a_folder_is_named_after_what_decides_its_content(tmp_path):
    setting = Setting(seeds=1)
    pictures = setting.opened(tmp_path)
    name = lambda setting, run="heun-18": jobs([run], setting, pictures, tmp_path)[-1].folder.name  # noqa: E731
    first = name(setting)
    assert name(replace(setting, features="simple")) == first  # pictures are kept: other features train nothing
    assert name(replace(setting, samples=40)) != first
    assert name(replace(setting, quick=True)) != first
    longer = replace(setting, longer=2.5)
    assert name(longer) != first
    assert name(longer, "teacher") == name(setting, "teacher")
    assert len({name(setting, run) for run in OBJECTIVES}) == len(OBJECTIVES)


def test_longer_runs_are_those_of_all_but_teachers(tiny, tmp_path):
    pictures = tiny.opened(tmp_path)
    steps = [
        {job.name: job.recipe.steps for job in jobs(["heun-18", "ect"], setting, pictures, tmp_path)}
        for setting in (tiny, replace(tiny, longer=2.5))
    ]
    assert steps == [{"teacher": 8, "heun-18": 14, "ect": 7}, {"teacher": 8, "heun-18": 35, "ect": 18}]
    for wrong in (0.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="longer is a number above 0"):
            replace(tiny, longer=wrong)
    for wrong in (0, -8, 6):
        with pytest.raises(ValueError, match=f"multiple of 4, such as 8 or 12, not {wrong}"):
            replace(tiny, size=wrong)


def test_claims_are_about_what_is_shown():
    for study in STUDIES.values():
        shown = {(s.run, s.calls) for s in study.shown}
        assert all({claim.better, claim.worse} <= shown for claim in study.claims), study.name


def test_pictures_are_drawn_on_the_way_and_by_each_stage(tiny, tmp_path):
    teacher, heun, pd = made(tiny, tmp_path, ["heun-18", "pd"])[0]
    assert points(teacher) == {8: 35}
    assert points(heun) == dict.fromkeys(range(2, 15, 2), 1)
    assert drawings(heun) == [*points(heun).items(), (14, 2), (14, 4)]
    assert points(pd) == {6: 4, 10: 2, 14: 1}  # stages of 16, 8, 4, 2, 1 steps last 2, 2, 2, 4, 4


def test_a_stopped_run_goes_on_to_the_same_pictures_and_scores(tiny, tmp_path):
    (teacher, whole), judge = made(tiny, tmp_path / "one", ["ect"])
    (again, broken), _ = made(tiny, tmp_path / "two", ["ect"])
    asked = judge()
    for job in (teacher, whole):
        assert work(job, asked, ignored, never)
    copytree(teacher.folder, again.folder)
    told = iter([False] * 3 + [True] * 9)
    assert work(broken, asked, ignored, lambda: next(told)) is None
    assert not (broken.folder / "result.json").exists()
    result = work(broken, asked, ignored, never)
    first = read_json(whole.folder / "result.json")
    assert result is not None
    assert result["scores"] == first["scores"]
    assert {entry["step"] for entry in first["scores"]} == set(points(whole)) == {int(k) for k in first["costs"]}
    assert {entry["calls"] for entry in first["scores"]} == {1, 2, 4}
    np.testing.assert_array_equal(drawn(whole.folder, 7, 2), drawn(broken.folder, 7, 2))
    np.testing.assert_array_equal(*(np.load(job.folder / "drawn" / "7-4.npz")["images"] for job in (whole, broken)))
    assert work(broken, asked, ignored, lambda: pytest.fail("trained again")) == result


@pytest.mark.parametrize("name", ["teacher", "heun-9"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_run_that_was_stopped_costs_what_a_whole_one_does(name, killed, tiny, tmp_path, monkeypatch):
    """By a clock to which a step of training is a second, and drawing, which is not counted, a hundred."""
    clock = [0.0]

    def takes(seconds, done):
        def taken(*args, **options):
            clock[0] += seconds
            return done(*args, **options)

        return taken

    def stop(step=iter(range(1, 99))):  # asked after every step: it ends in the step to come, or at once
        if (k := next(step)) == 6 and killed:
            raise InterruptedError
        return k == 4 and not killed

    monkeypatch.setattr(setting, "QUICK", Lengths(teacher=14, distilled=14, nothing=14))  # a checkpoint every second
    monkeypatch.setattr(working, "time", SimpleNamespace(process_time=lambda: clock[0]))
    monkeypatch.setattr(Stepper, "__call__", takes(1, Stepper.__call__))
    monkeypatch.setattr(working, "pictures", takes(100, working.pictures))
    (teacher, student), judge = made(tiny, tmp_path, ["heun-9"])
    if name != "teacher":
        assert work(teacher, judge(), ignored, never)
    job = teacher if name == "teacher" else student
    with pytest.raises(InterruptedError) if killed else nullcontext():
        assert work(job, judge(), ignored, stop) is None
    assert fit(job.recipe, job.folder, device="cpu").state.step == (4 if killed else 5)
    result = work(job, judge(), ignored, never)
    assert result is not None
    assert result["costs"] == {str(k): float(k) for k in points(job)}


def test_the_times_of_more_calls_are_the_best_that_the_judge_has_seen(tiny, tmp_path):
    (teacher, student), judge = made(tiny, tmp_path, ["heun-18"])
    asked = judge()
    for job in (teacher, student):
        assert work(job, asked, ignored, never)
    kept = read_json(student.folder / "times.json")
    tried = {tuple(times): score for times, score in kept["tried"]}
    for calls, found in search(student, asked).items():
        assert len(found) == calls
        assert tried[found] == min(score for times, score in tried.items() if len(times) == calls)
    assert set(search(student, asked)[2]) <= set(search(student, asked)[4])  # one is added after another
    other = replace(asked, about={"features": "another", "digest": "0"})
    assert search(student, other)
    assert read_json(student.folder / "times.json")["judge"] == other.about


def test_learned_filters_are_the_studys_and_their_place_names_no_run(tiny, tmp_path):
    (_, job), _ = made(tiny, tmp_path / "one", ["learned-filters"])
    (_, moved), _ = made(tiny, tmp_path / "two", ["learned-filters"])
    assert job.folder.name == moved.folder.name
    path = learn_filters(tiny.opened(tmp_path / "one"), tmp_path / "one")
    assert Path(job.recipe.objective.distance.weights) == path
    before = path.read_bytes()
    assert learn_filters(tiny.opened(tmp_path / "one"), tmp_path / "one").read_bytes() == before
    x = torch.rand(2, 1, 8, 8) * 2 - 1
    assert (LearnedFilters(str(path))(x, -x) > 0).all()
    fresh = Reader(1, 8, 10)
    assert sorted(t.shape for t in load_file(path).values()) == sorted(
        t.shape for t in fresh.filters.state_dict().values()
    )


def test_other_features_score_again_without_training(tiny, tmp_path, monkeypatch):
    (teacher,), judge = made(tiny, tmp_path, [])
    before = work(teacher, judge(), ignored, never)
    monkeypatch.setattr(working, "train", lambda *_: pytest.fail("trained again"))
    after = work(teacher, replace(judge(), about={"features": "another", "digest": "0"}), ignored, never)
    assert before is not None
    assert after is not None
    assert after["judge"]["features"] == "another"
    assert after["scores"] == before["scores"]


def test_the_gap_is_to_the_teachers_pictures_of_the_same_noise(tiny, tmp_path):
    (teacher, student), judge = made(tiny, tmp_path, ["heun-9"])
    for job in (teacher, student):
        assert work(job, judge(), ignored, never)
    ours, theirs = (drawn(job.folder, *where) / 127.5 for job, where in ((student, (14, 1)), (teacher, (8, 35))))
    entry = next(e for e in read_json(student.folder / "result.json")["scores"] if (e["step"], e["calls"]) == (14, 1))
    assert entry["gap"] == pytest.approx(np.sqrt(np.mean((ours - theirs) ** 2)), abs=1e-5)
    assert Drawing(14, 1).path(student.folder).is_file()


@pytest.mark.slow
def test_processes_side_by_side_give_the_same_numbers(tiny, tmp_path):
    found = []
    for place, workers in (("alone", 1), ("together", 2)):
        every, judge = made(tiny, tmp_path / place, ["euler-9", "ict"])
        found.append(conduct(every, judge, workers=workers, console=QUIET))
    alone, together = ({key: result["scores"] for key, result in results.items()} for results in found)
    assert alone == together
    assert set(alone) == {("teacher", 0), ("euler-9", 0), ("ict", 0)}


def test_what_is_wrong_with_the_judge_is_told_by_the_process_that_was_called(tiny, tmp_path):
    every, _ = made(tiny, tmp_path, [])

    def judge():
        raise ValueError("no such features")

    for workers in (1, 2):
        with pytest.raises(ValueError, match="no such features"):
            conduct(every, judge, workers=workers, console=QUIET)


def test_other_pictures_at_the_same_place_are_other_data(tmp_path):
    path, rows = tmp_path / "mine.npz", np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8)
    classes = np.arange(20) % 4
    mine = Setting(data=str(path))
    seen = []
    for images, labels in ((rows, classes), (rows, classes), (255 - rows, classes), (255 - rows, 3 - classes)):
        np.savez(path, images=images, labels=labels)
        pictures = mine.opened(tmp_path)
        np.testing.assert_array_equal(pictures.some(range(20))[:, 0], images)
        np.testing.assert_array_equal(pictures.images.labels, labels)
        seen.append(pictures.data.path)
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("classes", [0, 3, 12])
def test_data_have_as_many_classes_as_they_have(classes, tiny, tmp_path, monkeypatch):
    """What is asked of a model is what the judge is told; none of it where pictures have no labels."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(reading, "STEPS", 5)
    random, told = np.random.default_rng(0), []
    pixels = random.integers(0, 256, (120, 8, 8), dtype=np.uint8)
    labels = {"labels": np.arange(120) % classes} if classes else {}
    np.savez(tmp_path / "mine.npz", images=pixels, **labels)
    score = Judge.__call__
    monkeypatch.setattr(Judge, "__call__", lambda judge, x, asked: (told.append(asked), score(judge, x, asked))[1])
    mine = replace(tiny, data=str(tmp_path / "mine.npz"), features=None if classes else "simple")
    written = reproduce(mine, tmp_path / "study", ["progressive"])
    assert len(written) == 4
    page = (tmp_path / "study" / "progressive.md").read_text()
    assert ("read as asked" in page) == bool(classes)
    for asked in told:
        assert asked is None if not classes else asked.tolist() == [k % classes for k in range(20)]


def test_a_study_leaves_its_page_and_pictures(tiny, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from fewstep.reproduce import pictures, report

    written = reproduce(tiny, tmp_path, ["progressive"], command="fewstep reproduce progressive")
    assert {path.name for path in written} == {"progressive.md", "progressive.png", "samples.png", "trajectories.png"}
    page = (tmp_path / "progressive.md").read_text()
    assert "CD, 1 step" in page
    assert "fewstep reproduce progressive" in page
    for path in written:
        assert path.stat().st_size > 0
    shown = []  # by a later study of none of these runs
    monkeypatch.setattr(pictures, "_sheet", lambda rows, heads, path: shown.append([title for title, _ in rows]))
    report.write([], {}, tiny, tiny.opened(tmp_path), tmp_path, "", "")
    assert shown == [
        ["teacher, 35 calls", "CD, 1 call", "CD, 2 calls", "PD, 1 call", "PD, 2 calls"],
        ["x_t, scaled", "teacher's D(x_t, t)", "CD: f(x_t, t)"],
    ]


def test_an_unknown_study_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"no study 'huen-vs-euler'.*heun-vs-euler"):
        chosen(["huen-vs-euler"])
    assert [study.name for study in chosen(["all"])] == list(STUDIES)
