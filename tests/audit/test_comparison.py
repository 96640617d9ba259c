"""Student against teacher and after against before: pairing, margins, verdicts, families."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from pipeline.audit.comparison import Comparison, Outcome, compare_models, compare_periods
from pipeline.audit.differences import paired_proportion
from pipeline.tracking.predictions import PredictionsError, labels_of, predictions_frame, probabilities_of

ACCURACY = Outcome("accuracy", margin=0.05)


def table(model: str, right: dict[str, tuple[int, int]], **columns: Any) -> pd.DataFrame:
    """Right and wrong cases of each vendor, one patient each; a patient's case has the same name for every model."""
    answers = [(vendor, i < good) for vendor, (good, bad) in right.items() for i in range(good + bad)]
    records = [
        {"case_id": f"{vendor}-{i}", "patient_id": f"p{vendor}-{i}", "label": "NOR", "vendor": vendor}
        for i, (vendor, _) in enumerate(answers)
    ]
    scores = [(0.9, 0.1) if good else (0.1, 0.9) for _, good in answers]
    return predictions_frame(records, scores, ("NOR", "HCM"), split="test", model=model).assign(**columns)


def two(student: dict[str, tuple[int, int]], teacher: dict[str, tuple[int, int]]) -> pd.DataFrame:
    return pd.concat([table("student", student), table("teacher", teacher)], ignore_index=True)


def by(frame: pd.DataFrame, column: str = "vendor") -> dict[str, np.ndarray]:
    return {name: (frame[column] == name).to_numpy() for name in sorted(set(frame[column]))}


def everyone(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {"all": np.ones(len(frame), dtype=bool)}


def compare(frame: pd.DataFrame, outcome: Outcome = ACCURACY, **options: Any) -> dict[str, Comparison]:
    found = compare_models(frame, outcome, model="student", reference="teacher", **({"groups": by(frame)} | options))
    return {row.group: row for row in found}


def test_each_verdict_comes_from_what_the_patients_show() -> None:
    """As good on 400 patients; ten points lost of 400; as good, on 30 patients; and four patients."""
    frame = two(
        {"GE": (360, 40), "Philips": (320, 80), "Siemens": (27, 3), "Canon": (4, 0)},
        {"GE": (360, 40), "Philips": (360, 40), "Siemens": (27, 3), "Canon": (4, 0)},
    )
    found = compare(frame)
    assert {group: row.verdict for group, row in found.items()} == {
        "GE": "non-inferior",
        "Philips": "worse",
        "Siemens": "not shown",
        "Canon": "not estimable",
    }
    assert found["Canon"].estimate.reason == "too few patients"
    assert found["Philips"].estimate.value == pytest.approx(-0.1)
    assert {row.family for row in found.values()} == {3}


def test_a_loss_that_is_certain_and_within_the_margin_is_non_inferior() -> None:
    """3 of 100 points lost by 1000 patients, margin 5."""
    frame = two({"GE": (870, 130)}, {"GE": (900, 100)})
    row = compare(frame)["GE"]
    assert row.estimate.high < 0
    assert row.p_worse < 0.025
    assert row.verdict == "non-inferior"


def test_differences_are_over_the_cases_that_both_have_read() -> None:
    """The student lacks ten of Siemens' cases, in another order; the value is that of the pairs, by hand."""
    student, teacher = table("student", {"Siemens": (20, 10)}), table("teacher", {"Siemens": (25, 5)})
    frame = pd.concat([student.iloc[10:].sample(frac=1, random_state=0), teacher], ignore_index=True)
    row = compare(frame)["Siemens"]
    assert (row.estimate.n_patients, row.estimate.n_rows) == (20, 20)
    assert row.estimate.value == pytest.approx((10 - 15) / 20)
    expected = paired_proportion(np.repeat([-1.0, 0.0], [5, 15]), np.arange(20), min_patients=10)
    assert (row.estimate.low, row.estimate.high) == (expected.estimate.low, expected.estimate.high)
    assert row.p_noninferior == expected.p_above(-0.05)


def test_groups_are_one_family_adjusted_after_holm(frame: pd.DataFrame) -> None:
    """UIH, with four patients, is no part of it; all patients together are a family of their own."""
    found = compare_models(frame, ACCURACY, model="student-kd", reference="teacher", groups=by(frame))
    family = [row for row in found if row.estimate.estimable]
    assert [row.group for row in found if not row.estimate.estimable] == ["UIH"]
    for raw, adjusted in (("p_noninferior", "p_noninferior_adjusted"), ("p_worse", "p_worse_adjusted")):
        oracle = multipletests([getattr(row, raw) for row in family], method="holm")[1]
        assert [getattr(row, adjusted) for row in family] == pytest.approx(oracle)
    (overall,) = compare_models(frame, ACCURACY, model="student-kd", reference="teacher", groups=everyone(frame))
    assert (overall.family, overall.p_worse_adjusted) == (1, overall.p_worse)
    assert overall.estimate.n_patients == 73


def test_areas_are_compared_pair_by_pair(frame: pd.DataFrame) -> None:
    """On GE the value is scikit-learn's; Canon has one class only and says so."""
    found = compare_models(frame, Outcome("auc", 0.05), model="student-kd", reference="teacher", groups=by(frame))
    rows = {row.group: row for row in found}
    area = {
        str(model): roc_auc_score(labels_of(part), probabilities_of(part), multi_class="ovr")
        for model, part in frame[frame["vendor"] == "GE"].groupby("model")
    }
    assert rows["GE"].estimate.value == pytest.approx(area["student-kd"] - area["teacher"])
    assert rows["GE"].estimate.low < rows["GE"].estimate.value < rows["GE"].estimate.high
    assert rows["GE"].estimate.n_rows == 15
    assert (rows["Canon"].verdict, rows["Canon"].estimate.reason) == ("not estimable", "a class is absent")


def test_lower_is_better_mirrors_higher_is_better() -> None:
    """A distance [mm] and its negative give the same p values and verdict, empty cells left out in pairs."""
    draw = np.random.default_rng(0)
    frame = two({"GE": (40, 20)}, {"GE": (40, 20)})
    distance = draw.gamma(4, 1, 120) + np.repeat([0.4, 0.0], 60)
    distance[[3, 70]] = math.nan
    frame = frame.assign(hd95_mm=distance, closeness=-distance)
    lower = compare(frame, Outcome("hd95_mm", 2.0, "lower"))["GE"]
    higher = compare(frame, Outcome("closeness", 2.0))["GE"]
    assert lower.estimate.n_patients == 58
    assert lower.estimate.value == pytest.approx(-higher.estimate.value)
    assert (lower.estimate.low, lower.estimate.high) == pytest.approx((-higher.estimate.high, -higher.estimate.low))
    assert (lower.p_noninferior, lower.p_worse) == pytest.approx((higher.p_noninferior, higher.p_worse))
    assert lower.verdict == higher.verdict == "non-inferior"


def test_without_a_margin_nothing_is_non_inferior() -> None:
    frame = two({"GE": (360, 40), "Philips": (320, 80)}, {"GE": (360, 40), "Philips": (360, 40)})
    found = compare(frame, Outcome("accuracy"))
    assert [row.verdict for row in found.values()] == ["not shown", "worse"]
    assert all(math.isnan(row.p_noninferior) for row in found.values())


def test_two_periods_of_other_patients_have_newcombes_interval() -> None:
    """Before 52 of 60, after 40 of 50 right."""
    before, after = table("mine", {"GE": (52, 8)}, period="before"), table("mine", {"GE": (40, 10)}, period="after")
    after = after.assign(case_id="a" + after["case_id"], patient_id="a" + after["patient_id"])
    frame = pd.concat([before, after], ignore_index=True)
    options = {"column": "period", "after": "after", "before": "before"}
    (row,) = compare_periods(frame, ACCURACY, groups=everyone(frame), **options)  # type: ignore[arg-type]
    oracle = confint_proportions_2indep(40, 50, 52, 60, method="newcomb")
    assert (row.estimate.low, row.estimate.high) == pytest.approx(oracle, abs=1e-6)
    assert (row.estimate.n_patients, row.estimate.n_rows, row.first, row.second) == (110, 110, "after", "before")
    again = pd.concat([before, after.assign(patient_id=before["patient_id"].iloc[10:].to_numpy())], ignore_index=True)
    (same,) = compare_periods(again, ACCURACY, groups=everyone(again), **options)  # type: ignore[arg-type]
    assert same.estimate.n_patients == 60
    assert same.estimate.high - same.estimate.low < row.estimate.high - row.estimate.low


def test_areas_and_means_of_two_periods_are_compared(frame: pd.DataFrame) -> None:
    """Field strengths as the two sets; every patient is in one of them."""
    rows = frame[frame["model"] == "teacher"].assign(dice=np.linspace(0.7, 0.95, 73))
    options = {"column": "field_strength_t", "after": "3 T", "before": "1.5 T"}
    for name in ("auc", "dice"):
        (row,) = compare_periods(rows, Outcome(name, 0.05), groups=everyone(rows), **options)  # type: ignore[arg-type]
        assert row.estimate.estimable
        assert row.estimate.low < row.estimate.value < row.estimate.high


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ({"name": "accuracy", "margin": 5.0}, "above 0 and below 1 .* got 5.0"),
        ({"name": "hd95_mm", "margin": 0.0}, "above 0; got 0.0"),
        ({"name": "auc", "margin": 0.05, "better": "lower"}, "better the higher"),
    ],
)
def test_margins_without_sense_are_refused(outcome: dict[str, Any], message: str) -> None:
    """Five points are 0.05; a margin of 5 would let everything pass."""
    with pytest.raises(ValueError, match=message):
        Outcome(**outcome)


def test_what_the_table_lacks_is_named(frame: pd.DataFrame) -> None:
    groups = by(frame)
    with pytest.raises(PredictionsError, match="'nobody' is not among them; choose among student-groupdistil"):
        compare_models(frame, ACCURACY, model="nobody", reference="teacher", groups=groups)
    with pytest.raises(PredictionsError, match="'dice' is none of them"):
        compare_models(frame, Outcome("dice"), model="student-kd", reference="teacher", groups=groups)
    wordy = frame.assign(dice="good")
    with pytest.raises(PredictionsError, match="row 1 has good"):
        compare_models(wordy, Outcome("dice"), model="student-kd", reference="teacher", groups=groups)
    bare = frame.drop(columns=[column for column in frame.columns if column.startswith("prob_")])
    with pytest.raises(PredictionsError, match="columns prob_<class>"):
        compare_models(bare, ACCURACY, model="student-kd", reference="teacher", groups=groups)
    with pytest.raises(PredictionsError, match="for one model; got student-groupdistil, student-kd, teacher"):
        compare_periods(frame, ACCURACY, column="vendor", after="GE", before="Canon", groups=groups)


def test_the_order_of_rows_and_the_names_of_patients_do_not_matter(frame: pd.DataFrame) -> None:
    """And no patient's name is in what comes out."""
    mixed = frame.sample(frac=1, random_state=1).reset_index(drop=True)
    results = [
        repr(compare_models(rows, ACCURACY, model="student-kd", reference="teacher", groups=by(rows)))
        for rows in (frame, mixed, mixed.assign(patient_id="Doe^Jane " + mixed["patient_id"]))
    ]
    assert results[0] == results[1] == results[2]
    assert "Jane" not in results[2]


def test_of_four_groups_at_the_margin_one_of_forty_runs_calls_any_non_inferior() -> None:
    """Holm's promise: 100 patients each, 0.85 against 0.90 and errors apart, margin 0.05."""
    draw, repeats, claims = np.random.default_rng(3), 250, 0
    vendors = ("Canon", "GE", "Philips", "Siemens")
    frame = two(dict.fromkeys(vendors, (100, 0)), dict.fromkeys(vendors, (100, 0)))
    accuracy, groups = np.repeat([0.85, 0.90], 400), by(frame)
    for _ in range(repeats):
        right = draw.uniform(size=800) < accuracy
        scored = frame.assign(prob_NOR=np.where(right, 0.9, 0.1), prob_HCM=np.where(right, 0.1, 0.9))
        claims += any(row.verdict == "non-inferior" for row in compare(scored, groups=groups).values())
    assert claims / repeats < 0.025 + 3 * math.sqrt(0.025 * 0.975 / repeats)
