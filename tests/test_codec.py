"""Dataclasses to JSON and back: every part of every recipe, and clear words for what cannot be read."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import pytest

from fewstep import recipes
from fewstep.codec import build, decode, differences, encode, fits, nearest
from fewstep.images import Data
from fewstep.schedules import Karras, Schedule
from fewstep.training import recipe as recipe_module
from fewstep.training.recipe import PARTS, from_json, to_json


@dataclass(frozen=True)
class Shape:
    sides: int
    colour: str = "red"
    inner: object = None


def through_json(value, classes):
    return decode(json.loads(json.dumps(encode(value))), classes)


def test_a_value_says_its_class():
    assert encode(Karras(t_max=40.0)) == {"type": "Karras", "t_min": 0.002, "t_max": 40.0, "rho": 7.0}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_part_of_a_recipe_comes_back(part):
    needed = [f.name for f in fields(part) if f.default is MISSING and f.default_factory is MISSING]
    values = {"factor": 2, "num_classes": 3, "path": "digits", "objective": None, "architecture": None}
    if part.__name__ == "Recipe":
        values["objective"] = recipe_module.objectives.Diffusion()
    try:
        value = part(**{name: values.get(name) for name in needed})
    except TypeError:
        pytest.skip("abstract")
    assert through_json(value, PARTS) == value


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_comes_back(name):
    recipe = recipes.recipe(name)
    assert from_json(json.loads(json.dumps(to_json(recipe)))) == recipe


def test_lists_become_tuples_and_mappings_stay():
    assert through_json({"a": [1, (2.5, None)], "b": True}, ()) == {"a": (1, (2.5, None)), "b": True}


def test_an_unknown_class_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown part 'Karas'; did you mean 'Karras'\?"):
        decode({"type": "Karas"}, [Karras, Data])
    with pytest.raises(ValueError, match="Unknown part 'xyz'; there are: Karras"):
        decode({"type": "xyz"}, [Karras])
    with pytest.raises(ValueError, match="Unknown part"):
        decode({"type": ["os", "system"]}, [Karras])


def test_an_unknown_field_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"Karras has no field 'tmin'; did you mean 't_min'\?"):
        decode({"type": "Karras", "tmin": 1.0}, [Karras])


def test_a_missing_field_is_named_and_defaults_are_filled():
    with pytest.raises(ValueError, match="Shape needs the field 'sides'"):
        build(Shape, {"colour": "blue"})
    assert build(Shape, {"sides": 3}) == Shape(3, "red")


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (None, int | None, True), (None, int, False), (3, float, True), (3.0, int, True), (2.5, int, False),
        (True, int, False), (True, bool, True), (float("inf"), int, False), ("x", float, False),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False),
        ((1, 2), tuple[int, ...], True), ((1, "x"), tuple[int, ...], False), (3, tuple[int, ...], False),
        ((1.0, 2), tuple[float, float], True), ((1.0,), tuple[float, float], False),
        ({"2": (80.0, 1.0)}, Mapping[str, tuple[float, ...]], True),
        ({"2": "x"}, Mapping[str, tuple[float, ...]], False),
        (Karras(), Schedule, True), ({}, Schedule, False), (object(), Any, True),
    ],
)  # fmt: skip
def test_kinds(value, hint, right):
    assert fits(value, hint) is right


def test_a_value_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"Karras\.t_max cannot be 'high'"):
        decode({"type": "Karras", "t_max": "high"}, [Karras])


def test_what_json_cannot_say_is_refused():
    with pytest.raises(TypeError, match="set cannot be written"):
        encode({1, 2})
    with pytest.raises(ValueError, match="'type'"):
        encode({"type": "Karras"})


def test_differences_name_the_leaves():
    ours, theirs = encode(Shape(3, inner=Karras())), encode(Shape(4, inner=Karras(rho=5.0)))
    assert differences(ours, theirs) == ["sides: 3, not 4", "inner.rho: 7.0, not 5.0"]
    assert differences(ours, ours) == []
    assert differences({"a": 1}, {"b": 2}) == ["a: 1, not None", "b: None, not 2"]


def test_nearest():
    assert nearest("mnits", ["mnist", "digits"]) == "; did you mean 'mnist'?"
    assert nearest("zzz", ["mnist", "digits"]) == "; there are: mnist, digits"
    assert nearest("zzz", []) == ""
