"""What recipe, data, teacher and start decide together, and what is refused because it does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_helpers import random_model
from training_helpers import SHAPE, assert_same, small, train

from fewstep.conditions import Labels, Nothing
from fewstep.denoiser import Guided
from fewstep.discretizations import Doubling, Grid, Growing, Shrinking
from fewstep.distances import Huber, PseudoHuber
from fewstep.formats import load
from fewstep.images import Data
from fewstep.objectives import Diffusion
from fewstep.parameterizations import EDM, Boundary, Epsilon
from fewstep.schedules import Discrete, Karras
from fewstep.targets import AdaptiveEma, Ema
from fewstep.training.checkpoint import checkpoints
from fewstep.training.checkpoint import load as read
from fewstep.training.fit import fit
from fewstep.training.material import digest
from fewstep.training.optimizers import RAdam
from fewstep.training.recipe import Recipe

UNLABELLED = Data("digits", labels=False)


def values(network):
    return {name: w.detach().clone() for name, w in network.state_dict().items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of other shapes: colour of 8×8 with 10 classes, and of 8×12."""
    folder, some = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    np.savez(folder / "colour.npz", images=some.integers(0, 255, (40, 8, 8, 3), np.uint8), labels=np.arange(40) % 10)
    np.savez(folder / "wide.npz", images=some.integers(0, 255, (40, 8, 12, 1), np.uint8))
    np.savez(folder / "twelve.npz", images=some.integers(0, 255, (40, 12, 12, 1), np.uint8), labels=np.arange(40) % 10)
    np.savez(folder / "four.npz", images=some.integers(0, 255, (40, 8, 8, 1), np.uint8), labels=np.arange(40) % 4)
    return folder


def test_the_data_decide_channels_size_and_classes(data, tmp_path):
    run = fit(small(data=Data(str(data / "colour.npz")), architecture=replace(SHAPE, num_classes=3)), tmp_path)
    a = run.design.architecture
    assert (a.image_channels, a.image_size, a.num_classes) == (3, 8, 10)
    assert run.design.condition == Labels(10)
    assert run.recipe.architecture == a
    assert (run.design.parameterization, run.design.schedule) == (EDM(), run.recipe.schedule)
    again = fit(small("ct", data=UNLABELLED, times=((80.0,), (80.0, 1.0))), tmp_path / "free")
    assert (again.design.condition, again.design.class_names) == (Nothing(), ())
    assert again.design.parameterization == Boundary()
    assert again.design.times == {"1": (80.0,), "2": (80.0, 1.0)}


def test_pictures_that_are_not_square_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match=r"The pictures are 8×12: make them square with --data\.size"):
        fit(small(data=Data(str(data / "wide.npz"))), tmp_path)


def test_distillation_starts_from_its_teacher(teacher, tmp_path):
    run = fit(small("cd", teacher=str(teacher)), tmp_path)
    wanted = values(load(teacher).denoiser.network)
    assert_same(values(run.state.network), wanted)
    assert_same(values(run.state.target), wanted)
    assert_same(values(run.stepper.teacher.network), wanted)
    assert not run.stepper.teacher.training
    assert run.state.network.training
    assert run.state.target.training  # dropout acts in both passes
    assert not any(p.requires_grad for p in [*run.stepper.teacher.parameters(), *run.state.target.parameters()])
    assert run.state.teacher is None  # it does not change, so no checkpoint holds it
    assert run.stepper.teacher.parameterization == EDM()
    assert run.stepper.student.parameterization == Boundary()


def test_it_starts_at_random_where_asked(teacher, tmp_path):
    r = small("cd", teacher=str(teacher), start="random", architecture=replace(SHAPE, widths=(8, 8)))
    run = fit(r, tmp_path)
    assert run.design.architecture.widths == (8, 8)
    for _ in run:
        pass
    assert run.state.step == 12


def test_consistency_training_can_be_tuned_from_a_diffusion_model(teacher, tmp_path):
    run = fit(small("ect", teacher=str(teacher), architecture=replace(SHAPE, dropout=0.3, blocks=2)), tmp_path)
    assert_same(values(run.state.network), values(load(teacher).denoiser.network))
    assert run.stepper.teacher is None
    assert run.design.architecture == replace(SHAPE, dropout=0.3)  # the network is the model's, dropout the recipe's
    started = fit(small("ect", start=str(teacher)), tmp_path / "start")
    assert_same(values(started.state.network), values(run.state.network))


def test_preconditioning_is_that_of_the_model_it_starts_from(tmp_path):
    model = random_model(consistent=False)
    model.design = replace(model.design, parameterization=EDM(0.7, 250.0))
    model.save(tmp_path / "m")
    run = fit(small("ect", teacher=str(tmp_path / "m")), tmp_path / "run")
    assert run.design.parameterization == Boundary(0.7, 250.0)


def test_guidance_is_the_teachers(teacher, tmp_path):
    run = fit(small("cd", teacher=str(teacher), guidance=3.0), tmp_path / "run")
    assert isinstance(run.stepper.teacher, Guided)
    assert run.stepper.teacher.w == 2.0
    x, t, labels = torch.randn(2, 1, 8, 8), torch.full((2,), 5.0), torch.tensor([1, 2])
    plain = load(teacher).denoiser
    free = plain(x, t, labels=torch.tensor([-1, -1]))
    wanted = free + 3 * (plain(x, t, labels=labels) - free)
    torch.testing.assert_close(run.stepper.teacher(x, t, labels=labels), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="guidance is that of a teacher, and this objective has none"):
        fit(small("ect", teacher=str(teacher), guidance=2.0), tmp_path / "a")


def test_only_a_teacher_that_saw_hidden_labels_is_guided(teacher, unconditional_teacher, tmp_path):
    train(small(steps=1), tmp_path / "never")
    with pytest.raises(ValueError, match="never saw a hidden label"):
        fit(small("cd", teacher=str(tmp_path / "never"), guidance=2.0), tmp_path / "a")
    with pytest.raises(ValueError, match="is unconditional, so it cannot be guided"):
        fit(small("cd", teacher=str(unconditional_teacher), guidance=2.0), tmp_path / "b")


def test_classes_of_teacher_student_and_data_must_agree(teacher, unconditional_teacher, data, tmp_path):
    run = fit(small("cd", teacher=str(unconditional_teacher)), tmp_path / "a")  # the labels of the data are left out
    assert (run.design.condition, run.design.architecture.num_classes) == (Nothing(), 0)
    next(iter(run))
    with pytest.raises(ValueError, match="knows 10 classes, the data have no labels"):
        fit(small("cd", teacher=str(teacher), data=UNLABELLED), tmp_path / "b")
    with pytest.raises(ValueError, match="knows 10 classes, the data have 4 classes"):
        fit(small("cd", teacher=str(teacher), data=Data(str(data / "four.npz"))), tmp_path / "c")
    with pytest.raises(ValueError, match=r"knows 0 classes, the student 10: both must know the same"):
        fit(small("cd", teacher=str(unconditional_teacher), start="random"), tmp_path / "d")
    with pytest.raises(ValueError, match=r"knows 10 classes, the student 0: both must know the same"):
        fit(small("cd", teacher=str(teacher), start=str(unconditional_teacher)), tmp_path / "e")


def test_pictures_of_teacher_and_data_must_agree(teacher, data, tmp_path):
    with pytest.raises(ValueError, match=r"pictures of 1 channel\(s\), the data have 3: give --data\.channels 1"):
        fit(small("cd", teacher=str(teacher), data=Data(str(data / "colour.npz"))), tmp_path)
    with pytest.raises(ValueError, match=r"pictures 8 pixels wide, the data are 12: give --data\.size 8"):
        fit(small("cd", teacher=str(teacher), start="random", data=Data(str(data / "twelve.npz"))), tmp_path)


def test_teachers_that_are_none(teacher, tmp_path):
    with pytest.raises(ValueError, match="ConsistencyDistillation needs a teacher: give one with --teacher"):
        fit(small("cd"), tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no model 'nowhere'"):
        fit(small("cd", teacher="nowhere"), tmp_path)
    random_model().save(tmp_path / "consistent")
    with pytest.raises(ValueError, match="is a consistency model; a teacher is a diffusion model"):
        fit(small("cd", teacher=str(tmp_path / "consistent")), tmp_path)
    model = random_model(consistent=False)
    model.design = replace(model.design, schedule=Discrete(), parameterization=Epsilon())
    model.save(tmp_path / "discrete")
    with pytest.raises(
        ValueError, match="is seen through Epsilon; training starts from models seen through EDM or Boundary"
    ):
        fit(small("ect", start=str(tmp_path / "discrete")), tmp_path)
    with pytest.raises(ValueError, match="works on the schedule Discrete, the recipe on Karras"):
        fit(small("cd", teacher=str(tmp_path / "discrete"), start="random"), tmp_path)
    with pytest.raises(ValueError, match="it must be the same network as"):
        fit(small("pd", teacher=str(teacher), start="random", architecture=replace(SHAPE, widths=(8, 8))), tmp_path)


def test_the_teacher_of_progressive_distillation_is_in_the_checkpoint(teacher, tmp_path):
    run = fit(small("pd", teacher=str(teacher), steps=10, checkpoint_every=3, keep=9), tmp_path)
    original = values(load(teacher).denoiser.network)
    students, stages = {}, []
    for step in run:  # stages of 2, 4 and 4 steps
        students[step.k] = values(run.state.network)
        stages.append(run.state.stage)
        frozen = values(run.stepper.teacher.network)
        assert_same(frozen, {0: original, 1: students.get(2), 2: students.get(6)}[run.state.stage])
        assert_same(frozen, values(run.state.teacher))
    assert stages == [0] * 2 + [1] * 4 + [2] * 4
    kept = {
        c.step: {n[8:]: t for n, t in read(c)[0].items() if n.startswith("teacher/")} for c in checkpoints(tmp_path)
    }
    assert_same(kept[3], students[2])
    assert_same(kept[6], students[2])
    assert_same(kept[9], students[6])
    assert run.stepper.teacher.parameterization == EDM()


def test_a_teacher_that_changed_is_noticed(tmp_path):
    random_model(consistent=False).save(tmp_path / "t")
    recipe = small("cd", teacher=str(tmp_path / "t"))
    next(loop := iter(run := fit(recipe, tmp_path / "run")))
    run.save()
    loop.close()
    fit(recipe, tmp_path / "run")
    other = random_model(consistent=False)
    torch.nn.init.zeros_(other.denoiser.network.stem.bias)
    assert digest(other.denoiser.network) != digest(load(tmp_path / "t").denoiser.network)
    other.save(tmp_path / "t")
    with pytest.raises(ValueError, match=r"The teacher changed since .*step-00000001 was written"):
        fit(recipe, tmp_path / "run")


def test_data_that_changed_are_noticed(tmp_path):
    pictures = np.zeros((40, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "d.npz", images=pictures)
    recipe = small(data=Data(str(tmp_path / "d.npz")), steps=2)
    train(recipe, tmp_path / "run")
    np.savez(tmp_path / "d.npz", images=pictures[:39])
    with pytest.raises(ValueError, match=r"The pictures changed since .* \(39 now, 40 then\)"):
        fit(recipe, tmp_path / "run")


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"micro_batch": 0},
        {"checkpoint_every": 0},
        {"preview_every": 0},
        {"keep": 0},
        {"label_drop": 1.0},
        {"ema": ()},
        {"ema": (1.0,)},
        {"seed": -1},
        {"workers": -1},
        {"clip": 0.0},
        {"sigma_data": 0.0},
    ],
    ids=str,
)
def test_recipes_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        small(**wrong)


def test_a_recipe_says_which_file_cannot_be_read():
    from fewstep.training.recipe import from_json, to_json

    plain = to_json(small())
    assert from_json(plain) == small()
    with pytest.raises(ValueError, match=r"runs/a cannot be read: Recipe has no field 'stepz'; did you mean 'steps'"):
        from_json(plain | {"stepz": 1}, "runs/a")
    with pytest.raises(ValueError, match="runs/a holds no recipe"):
        from_json({"a": 1}, "runs/a")
    assert isinstance(from_json({"type": "Recipe", "objective": {"type": "Diffusion"}}), Recipe)


def test_a_student_that_became_the_teacher_is_not_guided_again(teacher, tmp_path):
    run = fit(small("pd", teacher=str(teacher), guidance=3.0), tmp_path / "run")
    asked = run.stepper._asked
    assert isinstance(asked, Guided)
    for _ in run:
        if run.state.stage:
            break
    assert run.stepper._asked is asked.denoiser


def test_noise_levels_of_teacher_and_student_must_agree(tmp_path):
    train(small(schedule=Karras(t_max=40.0)), tmp_path / "teacher")
    teacher = str(tmp_path / "teacher")
    with pytest.raises(ValueError, match=r"trained up to t = 40, .* give --schedule.t-max 40"):
        fit(small("cd", teacher=teacher), tmp_path / "high")
    student = train(small("cd", teacher=teacher, schedule=Karras(t_max=40.0)), tmp_path / "student")
    start = str(student.folder)
    with pytest.raises(ValueError, match=r"--schedule.t-min 0.002"):
        fit(small("ect", start=start, schedule=Karras(t_min=0.01, t_max=40.0)), tmp_path / "low")
    with pytest.raises(ValueError, match="asks no teacher"):
        fit(small("ect", teacher=teacher, start="random"), tmp_path / "idle")


def test_times_that_are_kept_are_times_of_the_model(tmp_path):
    times = ((80.0,), (80.0, 0.8), (80.0, 50.0))
    assert small("ect", times=times).sampling_times == times
    narrow = small("ect", times=times, schedule=Karras(t_max=40.0))
    assert narrow.sampling_times == ((40.0,), (40.0, 0.8))
    assert train(narrow, tmp_path).model().sample(2, steps=2, labels=1).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RAdam(warmup=-1),
        lambda: RAdam(betas=(0.9, 1.0)),
        lambda: Ema(1.5),
        lambda: AdaptiveEma(0.0),
        lambda: Grid(1),
        lambda: Growing(0, -5),
        lambda: Doubling(10, 5),
        lambda: Doubling(p_std=-1.0),
        lambda: Shrinking(q=0.5),
        lambda: Shrinking(stages=0),
        lambda: Huber(-1.0),
        lambda: PseudoHuber(-1.0),
        lambda: Diffusion(p_std=0.0),
    ],
)
def test_numbers_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=r"\w"):
        wrong()
