"""The predictions table says what is wrong with it, or comes back as it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.tracking.predictions import (
    PredictionsError,
    classes_of,
    concatenate,
    group_names,
    labels_of,
    predictions_frame,
    probabilities_of,
    read_predictions,
    validate,
    write_predictions,
)

CLASSES = ("NOR", "HCM", "DCM")


def table(model: str = "teacher", n: int = 4, **changes: Any) -> pd.DataFrame:
    """A valid table of ``n`` studies; keyword arguments replace columns."""
    records = [
        {
            "case_id": f"case-{i}",
            "patient_id": f"00{i}",
            "label": CLASSES[i % 3],
            "vendor": "GE",
            "site": None,
            "scanner": "GE 1.5 T",
            "field_strength_t": None if i == 1 else 1.5,
        }
        for i in range(n)
    ]
    scores = np.tile([0.2, 0.3, 0.5], (n, 1))
    return predictions_frame(records, scores, CLASSES, split="test", model=model).assign(**changes)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_comes_back_as_it_went(tmp_path: Path, suffix: str) -> None:
    """Leading zeros of ids, a third's digits, a missing field strength and an extra column included."""
    third = 1 / 3
    frame = table(prob_NOR=third, prob_HCM=third, prob_DCM=1 - 2 * third, ef_percent=[55.0, 41.5, 60.0, 38.0])
    write_predictions(frame, tmp_path / f"predictions{suffix}")
    back = read_predictions(tmp_path / f"predictions{suffix}")
    pd.testing.assert_frame_equal(back, validate(frame), check_dtype=False, check_exact=True)
    assert back["patient_id"][0] == "000"
    assert [path.name for path in tmp_path.iterdir()] == [f"predictions{suffix}"]


def test_the_class_order_is_that_of_the_columns() -> None:
    """Labels and probabilities follow it."""
    frame = table()
    assert classes_of(frame) == CLASSES
    assert labels_of(frame).tolist() == [0, 1, 2, 0]
    assert probabilities_of(frame)[0].tolist() == [0.2, 0.3, 0.5]


def test_missing_groups_are_named_unknown() -> None:
    """Never left out: an unknown scanner is a group too."""
    frame = table(vendor=["GE", "", None, "Canon"])
    assert group_names(validate(frame), "vendor") == ["GE", "unknown", "unknown", "Canon"]
    assert group_names(frame, "field_strength_t") == ["1.5 T", "unknown", "1.5 T", "1.5 T"]
    assert group_names(frame, "field_strength_t x label")[1] == "unknown x HCM"


def test_a_text_that_looks_like_a_missing_value_stays_a_text(tmp_path: Path) -> None:
    """Pandas reads NA and None as missing by default; here they may be a site's code."""
    write_predictions(table(site=["NA", "None", "nan", "007"]), tmp_path / "p.csv")
    assert read_predictions(tmp_path / "p.csv")["site"].tolist() == ["NA", "None", "nan", "007"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prob_HCM": [0.3, 1.3, 0.3, 0.3]}, r"'prob_HCM'.*row 2 has 1\.3"),
        ({"prob_HCM": [0.3, 0.3, np.nan, 0.3]}, r"'prob_HCM'.*row 3 has nan"),
        ({"prob_HCM": ["0.3", "0,3", "0.3", "0.3"]}, r"'prob_HCM'.*row 2 has 0,3"),
        ({"prob_HCM": [0.3, 0.3, 0.3, 0.32]}, r"a sum of 1 \(within 0\.015.*row 4 has 1\.02"),
        ({"label": ["NOR", "ARV", "HCM", "DCM"]}, r"'label'.*row 2 has ARV.*NOR, HCM, DCM"),
        ({"patient_id": ["1", "", "3", "4"]}, r"'patient_id'.*row 2"),
        ({"field_strength_t": ["1.5", "1.5T", "3", ""]}, r"'field_strength_t'.*row 2 has 1\.5T"),
        ({"field_strength_t": [1.5, -3.0, 3.0, 3.0]}, r"'field_strength_t'.*row 2 has -3"),
        ({"case_id": ["a", "b", "a", "c"]}, r"each study once.*row 3 repeats row 1"),
    ],
)
def test_a_wrong_value_is_named_with_column_row_and_remedy(changes: dict[str, Any], message: str) -> None:
    """Row 1 is the first row of data."""
    with pytest.raises(PredictionsError, match=message):
        validate(table(**changes))


def test_a_rounded_sum_is_accepted() -> None:
    """Three decimals, as exported tables often have: 0.333 x 3 = 0.999."""
    assert len(validate(table(prob_NOR=0.333, prob_HCM=0.333, prob_DCM=0.3335))) == 4


@pytest.mark.parametrize("column", ["patient_id", "label"])
def test_one_study_with_two_patients_or_labels_is_refused(column: str) -> None:
    """Two models of one study would be paired on different truths."""
    other = table(model="student").assign(**{column: ["HCM"] * 4})
    with pytest.raises(PredictionsError, match=f"one {column} per study; b.csv row 1 has another than a.csv row 1"):
        concatenate({"a.csv": table(), "b.csv": other})


def test_a_study_in_two_tables_is_pointed_at_and_not_shown() -> None:
    """Where a study has no id of its own, it is made of the patient's."""
    again = table().assign(case_id=["a", "b", "case-3", "case-2"])
    with pytest.raises(PredictionsError, match=r"b\.csv row 3 repeats a\.csv row 4 \(2 such rows\)") as refused:
        concatenate({"a.csv": table(), "b.csv": again})
    assert "case-3" not in str(refused.value)


def test_a_table_of_other_values_needs_no_classes() -> None:
    """A Dice per study, say; a label is kept as any other column."""
    frame = table(dice=0.9).drop(columns=["prob_NOR", "prob_HCM", "prob_DCM"])
    with pytest.raises(PredictionsError, match="at least two columns prob_<class> are needed"):
        validate(frame)
    assert validate(frame, classified=False)["label"].tolist() == ["NOR", "HCM", "DCM", "NOR"]
    assert "label" not in validate(frame.drop(columns="label"), classified=False)


def test_missing_columns_are_all_named() -> None:
    """In one go, not one per attempt."""
    with pytest.raises(PredictionsError, match="patient_id, split missing"):
        validate(table().drop(columns=["patient_id", "split"]))


def test_an_empty_table_is_refused() -> None:
    """Nothing can be said of no patients."""
    with pytest.raises(PredictionsError, match="at least one row"):
        validate(table().iloc[:0])


def test_tables_of_different_classes_are_refused_by_name(tmp_path: Path) -> None:
    """Both files and both lists are in the message."""
    other = table(model="student", label="NOR").rename(columns={"prob_DCM": "prob_ARV"})
    write_predictions(table(), tmp_path / "a.csv")
    write_predictions(other, tmp_path / "b.csv")
    with pytest.raises(PredictionsError, match=r"a\.csv has NOR, HCM, DCM and .*b\.csv has NOR, HCM, ARV"):
        read_predictions([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_columns_in_another_order_are_joined_by_name() -> None:
    """The class order is the first table's, so that the positive class does not change on the way."""
    other = table(model="student")[table().columns[::-1]]
    joined = concatenate({"a": table(), "b": other})
    assert classes_of(joined) == CLASSES
    assert np.array_equal(probabilities_of(joined)[:4], probabilities_of(joined)[4:])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "", "must be a table"),
        ("p.txt", "a,b", r"\.csv or \.parquet"),
        ("p.parquet", "a,b", "must be a table"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    """The path stands in the message."""
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(PredictionsError, match=message) as refused:
        read_predictions(tmp_path / name)
    assert name in str(refused.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """As a missing file, not as a wrong table."""
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        read_predictions(tmp_path / "nowhere.csv")


def test_labels_may_be_empty_where_the_writer_says_so_and_are_refused_on_reading(tmp_path: Path) -> None:
    """Predictions of new studies are written without labels; an audit of them would have nothing to compare with."""
    frame, path = table(label=["NOR", "", None, " "]), tmp_path / "predictions.csv"
    with pytest.raises(PredictionsError, match="'label' must hold a text in every row; row 2"):
        write_predictions(frame, path)
    write_predictions(frame, path, unlabelled=True)
    assert pd.read_csv(path, keep_default_na=False)["label"].tolist() == ["NOR", "", "", ""]
    with pytest.raises(PredictionsError, match="3 such rows"):
        read_predictions(path)
    with pytest.raises(PredictionsError, match="row 1 has MINF"):
        write_predictions(table(label=["MINF", "", "", ""]), path, unlabelled=True)


def test_a_refused_table_leaves_the_old_file(tmp_path: Path) -> None:
    """Complete or absent, never half."""
    path = tmp_path / "p.csv"
    write_predictions(table(), path)
    before = path.read_bytes()
    with pytest.raises(PredictionsError):
        write_predictions(table(prob_HCM=2.0), path)
    assert path.read_bytes() == before


def test_counts_that_disagree_are_refused() -> None:
    """Two studies, three rows of probabilities."""
    with pytest.raises(PredictionsError, match=r"\(2, 3\); got \(3, 3\)"):
        predictions_frame([{}, {}], np.ones((3, 3)) / 3, CLASSES, split="test", model="m")
