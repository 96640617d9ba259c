"""Calibration, operating points and worst-read cases of a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.audit.decisions import calibration_row, positive_class, thresholds, worst_read
from pipeline.audit.findings import ALL, Measure, Place
from pipeline.audit.model_rows import Column, Grouped, rows_by_model
from pipeline.audit.plan import Plan, Threshold
from pipeline.audit.recalibration import calibration_intercept, calibration_slope
from pipeline.tracking.predictions import PredictionsError, predictions_frame

PLAN = Plan(("vendor",), positive="DCM", threshold=Threshold("youden", None, "validation"), replicates=100)
ACCURACY = Measure("accuracy", "Accuracy")
HD95 = Measure("hd95_mm", "HD95", "mm", "lower", "plain")


@pytest.fixture
def frame() -> pd.DataFrame:
    """Eight test patients and four of development, on two scanners."""
    positive = np.array([0.1, 0.2, 0.8, 0.9, 0.4, 0.6, 0.3, 0.55])
    records = [
        {"case_id": f"c{i}", "patient_id": f"p{i}", "label": ("NOR", "DCM")[i % 2], "vendor": ("GE", "UIH")[i // 4]}
        for i in range(8)
    ]
    scores = np.c_[1 - positive, positive]
    test = predictions_frame(records, scores, ("NOR", "DCM"), split="test", model="m")
    early = [{**r, "case_id": "v" + r["case_id"], "patient_id": "v" + r["patient_id"]} for r in records[:4]]
    fixed = np.array([0.2, 0.7, 0.3, 0.9])
    other = predictions_frame(early, np.c_[1 - fixed, fixed], ("NOR", "DCM"), split="validation", model="m")
    return pd.concat([test, other], ignore_index=True).assign(
        hd95_mm=[3.0, 9.0, 4.0, 5.0, np.nan, 1.0, 2.0, 6.0] + [0.0] * 4
    )


def grouped(frame: pd.DataFrame) -> Grouped:
    return Grouped(rows_by_model(frame, "test", None)["m"], Column("vendor", ("GE", "UIH")))


def test_a_threshold_comes_from_the_development_split(frame: pd.DataFrame) -> None:
    """0.2 and 0.3 against 0.7 and 0.9: Youden's is 0.7, whatever the test split holds."""
    assert thresholds(frame, PLAN, ["m"], ["NOR", "DCM"]) == {"m": 0.7}
    given = replace(PLAN, threshold=Threshold("value", 0.4))
    assert thresholds(frame, given, ["m"], ["NOR", "DCM"]) == {"m": 0.4}
    assert thresholds(frame, replace(PLAN, threshold=None), ["m"], ["NOR", "DCM"]) == {}


def test_a_model_without_development_rows_is_named(frame: pd.DataFrame) -> None:
    """Else its threshold would be another model's."""
    with pytest.raises(PredictionsError, match="'validation', which must have rows of every model; late has none"):
        thresholds(frame, PLAN, ["m", "late"], ["NOR", "DCM"])


def test_the_positive_class_is_the_named_one_or_the_second_of_two() -> None:
    """Of three, none unless named."""
    assert positive_class(PLAN, ("NOR", "DCM", "HCM")) == 1
    plain = Plan(("vendor",))
    assert positive_class(plain, ("NOR", "HCM")) == 1
    assert positive_class(plain, ("NOR", "HCM", "DCM")) is None


def test_worst_read_cases_are_those_with_the_least_of_the_true_class(frame: pd.DataFrame) -> None:
    """GE's second: DCM at 0.2; then its third, NOR at 1 - 0.8."""
    found = list(worst_read(grouped(frame), ACCURACY, 2, pictures={"c1": "pictures/c1.png"}, numbered=False))
    assert [(case.place.group, case.case_id, round(case.badness, 3)) for case in found] == [
        ("GE", "c1", 0.8),
        ("GE", "c2", 0.8),
        ("UIH", "c7", 0.45),
        ("UIH", "c4", 0.4),
    ]
    assert (found[0].truth, found[0].answer, found[0].picture) == ("DCM", "NOR (0.80)", "pictures/c1.png")
    assert found[1].picture is None


def test_of_a_distance_the_longest_are_the_worst(frame: pd.DataFrame) -> None:
    """Beyond the median of seven, 4 mm; the case without a value is not among them."""
    found = list(worst_read(grouped(frame), HD95, 4, pictures={}, numbered=False))
    assert [(case.case_id, case.badness) for case in found if case.place.group == "GE"] == [
        ("c1", 5.0),
        ("c3", 1.0),
        ("c2", 0.0),
        ("c0", -1.0),
    ]
    assert "c4" not in {case.case_id for case in found}
    assert (found[0].answer, found[0].truth) == ("9 mm", "")


def test_of_a_closeness_the_least_are_the_worst(frame: pd.DataFrame) -> None:
    near = replace(HD95, name="closeness", better="higher")
    found = worst_read(grouped(frame.assign(closeness=-frame["hd95_mm"])), near, 1, pictures={}, numbered=False)
    assert [case.case_id for case in found if case.place.group == "GE"] == ["c1"]


def test_made_up_cases_are_called_by_their_row(frame: pd.DataFrame) -> None:
    """Their names hold the patient's; no picture goes by them either."""
    found = list(worst_read(grouped(frame), ACCURACY, 1, pictures={"c1": "c1.png"}, numbered=True))
    assert [(case.case_id, case.picture) for case in found] == [("row 2", None), ("row 8", None)]


def test_the_brier_score_and_the_curve_are_of_the_rows(frame: pd.DataFrame) -> None:
    """Brier by hand; a curve for all patients only; no slope without a positive class."""
    sample = rows_by_model(frame, "test", None)["m"].sample
    rng = np.random.default_rng(0)
    row = calibration_row(Place("m", ALL, ALL), sample, replace(PLAN, min_patients=2), 1, rng)
    wrong = sample.probabilities[:, 1] - (sample.labels == 1)
    assert row.brier.value == pytest.approx(float(np.mean(wrong**2)))
    assert row.brier.estimable
    assert row.slope == calibration_slope(sample, 1, min_patients=2)
    assert row.intercept == calibration_intercept(sample, 1, min_patients=2)
    assert row.slope != row.intercept
    assert row.curve
    inside = calibration_row(Place("m", "vendor", "GE"), sample, PLAN, None, rng)
    assert (inside.curve, inside.slope, inside.intercept) == ((), None, None)
