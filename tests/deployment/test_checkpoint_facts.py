"""What a checkpoint says of itself, in the manifest's words."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.deployment.checkpoint_facts import likely_name, model_facts
from transforms.recipe import StudentInput

STATE: dict[str, Any] = {"classes": ["NOR", "DCM"], "training_groups": {"GE": 3}, "group_by": "vendor"}


@pytest.mark.parametrize(
    ("group_by", "column"),
    [
        ("vendor", "vendor"),
        ("vendor-label", "vendor x label"),
        (["site", "field_strength_t"], "site x field_strength_t"),
    ],
)
def test_training_groups_have_their_columns_as_the_audit_spells_them(group_by: object, column: str) -> None:
    """A training's settings join them by a dash, its cohort keeps a list."""
    facts = model_facts({**STATE, "group_by": group_by}, StudentInput())
    assert facts["training_groups"] == {column: {"GE": 3}}


@pytest.mark.parametrize(
    ("teachers", "expected"),
    [(None, []), ("None", []), ("a1", ["a1"]), ("a1,None,b2", ["a1", "b2"]), ("a1,biased=c3", ["a1"])],
)
def test_teachers_are_their_runs(teachers: str | None, expected: list[str]) -> None:
    runs = model_facts({**STATE, "teacher_run_id": teachers, "mlflow_run_id": "s"}, StudentInput())["runs"]
    assert runs == {"student": "s", "teachers": expected}


def test_a_model_is_looked_for_under_the_name_that_its_bundle_writes_into_predictions() -> None:
    assert likely_name({"bundle": "cardiac_cine_student", "method": "kd"}) == "student (kd)"
    assert likely_name({"bundle": "cardiac_cine_teacher", "method": "erm"}) == "teacher (erm)"
    assert likely_name({}) is None
