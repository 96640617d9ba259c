"""Plans: what is accepted, what it becomes, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.benchmark.plan import dial_points, find_plans, plan_of, read_plan, seeds_of, shipped_plans


def raw(**changes: Any) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "name": "small",
        "question": "What is it worth?",
        "cohort": {"kind": "phantom"},
        "seeds": "0-2",
        "teachers": {"big": {"each": [{"overrides": {"subset_index": 0}}, {"seed_offset": 7}]}},
        "models": {"kd": {"teachers": ["big"]}},
    }
    return plan | changes


def test_a_plan_becomes_plain_records() -> None:
    plan = plan_of(raw(budget={"student": {"num_epochs": 3}}, dials={"confounding": [0, 1], "strength": [1, 2]}))
    assert plan.seeds == (0, 1, 2)
    assert plan.dials[1] == {"confounding": 0, "strength": 2}
    assert len(plan.dials) == 4
    assert plan.budget == {"teacher": {}, "student": {"num_epochs": 3}}
    assert plan.teachers["big"].members == ("big-0", "big-1")
    assert plan.teachers["big"].seed_offsets == (0, 7)
    assert plan.models["kd"].teachers == ("big",)
    assert list(plan.variants) == [""]


def test_a_teacher_of_one_member_goes_by_its_own_name() -> None:
    assert plan_of(raw(teachers={"big": None})).teachers["big"].members == ("big",)


def test_a_model_with_seeds_of_its_own_is_asked_for_no_other_of_the_plans() -> None:
    """Seeds that somebody gives in place of the plan's are everybody's."""
    plan = plan_of(raw(models={"kd": {"seeds": "0,2"}, "erm": {}}))
    assert [plan.asks("kd@tiny", seed) for seed in (0, 1, 2, 7)] == [True, False, True, True]
    assert all(plan.asks(name, 1) for name in ("erm", "big-0"))


def test_points_may_be_listed_one_by_one() -> None:
    """A grid would hold combinations that nobody asked for."""
    points = [{"confounding": 1, "minority_share": 1}, {"confounding": 0}]
    assert dial_points(points) == tuple(points)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sedes": "0"}, r"key 'sedes' is not known; did you mean 'seeds'\?"),
        ({"cohort": {}}, "kind is missing"),
        ({"name": "a b"}, "letters, digits"),
        ({"seeds": "0-"}, "whole numbers"),
        ({"seeds": "1,1"}, "each once"),
        ({"dials": {"confounding": []}}, "lists with values"),
        ({"dials": {"confounding": 1}}, "lists with values"),
        ({"folds": 0}, "at least 1; got 0"),
        ({"folds": True}, "must be a number; got True"),
        ({"budget": {"pupil": {}}}, "key 'pupil' is not known"),
        ({"models": {}}, "has no models"),
        ({"models": {"kd": {"teachers": ["bug"]}}}, r"no teacher is called 'bug'; did you mean 'big'\?"),
        ({"models": {"kd": {"teachers": "big"}}}, "teachers must be a list; got 'big'"),
        ({"models": {"kd": {"biased": "small"}}}, "no teacher is called 'small'"),
        ({"models": {"kd": {"seeds": "1-3"}}}, r"models: kd: seeds must be among the plan's; \[3\] are not"),
        ({"models": {"big-0": {}}}, "different names"),
        ({"teachers": {"big": {"each": []}}}, "must have a member"),
        ({"evaluate": {"prob": True}}, r"'prob' is not known; did you mean 'probe'\?"),
        ({"contrasts": [["kd", "big-0"]]}, "two models and what the step is"),
        ({"contrasts": [["kd", "bug-0", "size"]]}, r"no model is called 'bug-0'; did you mean 'big-0'\?"),
        ({"variants": {"noise=0.1": {"both": {}}}}, "key 'both' is not known"),
    ],
)
def test_what_breaks_a_rule_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan_of(raw(**changes))


def test_the_message_begins_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: [")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_plan(path)


def test_plans_are_found_by_name_or_path_and_named_once(tmp_path: Path) -> None:
    copy = tmp_path / "other.yaml"
    copy.write_text(shipped_plans()["quick"].read_text())
    assert [plan.name for plan in find_plans(["quick"])] == ["quick"]
    with pytest.raises(ValueError, match="quick came twice"):
        find_plans(["quick", str(copy)])
    with pytest.raises(ValueError, match=r"got 'qiuck'; did you mean 'quick'\?"):
        find_plans(["qiuck"])


@pytest.mark.parametrize("name", shipped_plans())
def test_a_shipped_plan_is_called_as_its_file(name: str) -> None:
    """It is asked for by the file's name and its rows are found by the plan's."""
    assert [plan.name for plan in find_plans([name])] == [name]


@pytest.mark.parametrize("text", ["", "a", "1.5", "3-1", "-1"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        seeds_of(text)


@pytest.mark.parametrize(
    "teachers",
    [
        {"of_group": {"start": "teacher"}},
        {"several": {"each": [{}, {}]}, "of_group": {"start": "several"}},
        {"teacher": None, "first": {"start": "teacher"}, "of_group": {"start": "first"}},
    ],
)
def test_a_teacher_starts_from_a_single_one_that_starts_from_none(teachers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="teachers: of_group: start must be a teacher without members"):
        plan_of(raw(teachers=teachers, models={"kd": {"teachers": ["of_group"]}}))
