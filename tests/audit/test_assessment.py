"""From a predictions table to the numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from pipeline.audit.assessment import ALL, Settings, assess, choose_reference, choose_split
from pipeline.tracking.predictions import PredictionsError, labels_of, probabilities_of

QUICK = Settings(group_by=("vendor",), replicates=300, reference="teacher")


def test_values_are_those_of_fairlearn_and_scikit_learn(frame: pd.DataFrame) -> None:
    """Per vendor and model, from the table itself."""
    fairlearn = pytest.importorskip("fairlearn.metrics")
    audit = assess(frame, QUICK)
    for model, rows in frame.groupby("model"):
        labels, scores = labels_of(rows), probabilities_of(rows)
        oracle = fairlearn.MetricFrame(
            metrics=accuracy_score, y_true=labels, y_pred=scores.argmax(axis=1), sensitive_features=rows["vendor"]
        ).by_group
        for vendor, expected in oracle.items():
            assert audit.find(str(model), "vendor", str(vendor), "accuracy").value == pytest.approx(expected)
        ge = (rows["vendor"] == "GE").to_numpy()
        assert audit.find(str(model), "vendor", "GE", "auc").value == pytest.approx(
            roc_auc_score(labels[ge], scores[ge], multi_class="ovr")
        )


def test_every_group_has_a_row_for_every_model_and_metric(frame: pd.DataFrame) -> None:
    """Too few patients, one class only, no patient at all: each stays, and says why it has no interval."""
    audit = assess(frame, QUICK, {"vendor": ["Hitachi", "GE"]})
    assert audit.groups("vendor") == ["Canon", "GE", "Hitachi", "Philips", "Siemens", "UIH"]
    assert len(audit.rows) == (6 + 1) * 3 * 2
    assert audit.find("teacher", "vendor", "Hitachi", "accuracy").reason == "no patients"
    assert audit.find("teacher", "vendor", "UIH", "accuracy").reason == "too few patients"
    assert audit.find("teacher", "vendor", "Canon", "auc").reason == "a class is absent"
    assert audit.find("teacher", "vendor", "Canon", "accuracy").estimable


def test_a_group_of_another_split_is_listed_without_patients(frame: pd.DataFrame) -> None:
    """Trained on, never tested: that is worth seeing."""
    other = frame.assign(split="training", vendor="Fujifilm", case_id="t" + frame["case_id"])
    audit = assess(pd.concat([frame, other], ignore_index=True), QUICK)
    assert audit.find("teacher", "vendor", "Fujifilm", "accuracy").n_patients == 0
    assert audit.n_patients == 73


def test_the_worst_group_is_named_with_what_was_left_out(frame: pd.DataFrame) -> None:
    """The KD student was made worst on GE; UIH has too few patients to be compared."""
    audit = assess(frame, QUICK)
    (row,) = [r for r in audit.worst if (r.model, r.metric) == ("student-kd", "accuracy")]
    assert row.worst is not None
    assert row.worst.group == "GE"
    assert row.worst.frequency > 0.5
    assert row.left_out == ("UIH",)


def test_the_order_of_rows_does_not_matter(frame: pd.DataFrame) -> None:
    """To the last bit."""
    assert repr(assess(frame.sample(frac=1, random_state=3), QUICK)) == repr(assess(frame, QUICK))


def test_other_columns_do_not_change_a_groups_draws(frame: pd.DataFrame) -> None:
    """A group's random numbers follow from its name and the seed alone."""
    both = assess(frame, Settings(("scanner", "vendor"), 300, reference="teacher"))
    assert both.find("teacher", "vendor", "GE", "auc") == assess(frame, QUICK).find("teacher", "vendor", "GE", "auc")


def test_another_seed_moves_the_interval_and_not_the_value(frame: pd.DataFrame) -> None:
    """Else the seed would do nothing."""
    one, two = (assess(frame, Settings(("vendor",), 300, seed)).find("teacher", ALL, ALL, "auc") for seed in (0, 1))
    assert one.value == two.value
    assert (one.low, one.high) != (two.low, two.high)


def test_rows_of_a_patient_count_as_one_patient(frame: pd.DataFrame) -> None:
    """The same studies a second time add rows and no certainty."""
    again = pd.concat([frame, frame.assign(case_id="again-" + frame["case_id"])], ignore_index=True)
    single, double = (assess(table, QUICK).find("teacher", ALL, ALL, "accuracy") for table in (frame, again))
    assert (double.n_patients, double.n_rows) == (73, 146)
    assert (double.value, double.low, double.high) == pytest.approx((single.value, single.low, single.high))


def test_differences_are_on_common_studies_only(frame: pd.DataFrame) -> None:
    """The KD student lacks ten of Siemens' studies: the difference is over the other fourteen."""
    gone = (frame["model"] == "student-kd") & frame["case_id"].isin([f"Siemens-{i}" for i in range(10)])
    audit = assess(frame[~gone], QUICK)
    (found,) = [d for d in audit.differences if (d.model, d.group) == ("student-kd", "Siemens")]
    rows = frame[~gone & (frame["vendor"] == "Siemens")].assign(
        right=lambda t: probabilities_of(t).argmax(axis=1) == labels_of(t)
    )
    right = rows.set_index(["case_id", "model"])["right"].unstack()
    expected = np.mean([kd - teacher for kd, teacher in right[["student-kd", "teacher"]].dropna().astype(float).values])
    assert found.estimate.n_patients == 14
    assert found.estimate.value == pytest.approx(expected)
    assert {d.model for d in audit.differences} == {"student-kd", "student-groupdistil"}


def test_the_reference_is_the_teacher_and_comes_first(frame: pd.DataFrame) -> None:
    """Without a teacher there is nothing to subtract."""
    assert assess(frame, QUICK).models == ("teacher", "student-groupdistil", "student-kd")
    assert choose_reference(["student", "Robust-Teacher"]) == "Robust-Teacher"
    assert choose_reference(["a", "b"]) is None
    assert assess(frame, Settings(("vendor",), 300)).differences == []


def test_test_is_audited_among_several_splits(frame: pd.DataFrame) -> None:
    """Training cases beside test cases would flatter."""
    assert choose_split(frame.assign(split="holdout")) == "holdout"
    assert choose_split(frame.assign(split=["test", "training", "validation"] * 73)) == "test"
    with pytest.raises(PredictionsError, match="has a, b; name the one"):
        choose_split(frame.assign(split=["a", "b", "b"] * 73))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(("vendr",), 300), "no column 'vendr'.*vendor"),
        (Settings(("vendor",), 300, split="holdout"), "'holdout' is not; it has test"),
        (Settings(("vendor",), 300, reference="Teacher"), "'Teacher' is not; choose among"),
    ],
)
def test_what_is_not_in_the_table_is_refused_by_name(frame: pd.DataFrame, settings: Settings, message: str) -> None:
    """With what is."""
    with pytest.raises(PredictionsError, match=message):
        assess(frame, settings)


@pytest.mark.parametrize("wrong", [{"replicates": 10}, {"min_patients": 1}, {"seed": -1}, {"group_by": ()}])
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    """Ten replicates give no 2.5th percentile."""
    with pytest.raises(ValueError, match="at least"):
        Settings(**{"group_by": ("vendor",), **wrong})  # type: ignore[arg-type]
