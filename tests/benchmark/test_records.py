from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from pipeline.benchmark.reading import latest, read_measurements
from pipeline.benchmark.records import (
    RESULTS,
    TEST_SETS,
    Cell,
    HeldOut,
    cell_of,
    cell_row,
    held_out_of,
    held_out_row,
    patient_codes,
    prediction_row,
    probabilities_of,
)
from tests.benchmark.synthetic import measurement, phantom_test_set, probabilities, write_results

ALIKE = dict.fromkeys(("Canon", "GE", "Philips", "Siemens"), 0.8)


def test_a_cell_is_read_back_as_it_was_written() -> None:
    """Text, numbers, nothing (NaN, no fold) and nested values each have their own way into a field."""
    cell = Cell(
        "headline", "phantom", {"confounding": 0.5}, 3, None, "kd@noise=0.2", "student", "abc", 7, 9,
        worst_group="GE, Paris", gap=0.25, extra={"fgsm": {"0.05": 0.81}},
    )  # fmt: skip
    back = cell_of(cell_row(cell))
    assert math.isnan(back.ece)
    assert repr(back) == repr(cell), "compared as text: NaN is not equal to NaN"


def test_equal_dials_are_spelt_alike() -> None:
    """Otherwise one cell would count as two."""
    rows = [cell_row(measurement(phantom_test_set(1), np.full((12, 3), 1 / 3), dials=d).cell)["dials"]
            for d in ({"a": 1, "b": 2}, {"b": 2, "a": 1})]  # fmt: skip
    assert rows[0] == rows[1] == '{"a":1,"b":2}'


def test_a_test_set_is_read_back_as_it_was_written_and_named_by_its_content() -> None:
    test = phantom_test_set(2)
    back = held_out_of(held_out_row(test))
    for name in ("labels", "group_index", "patients"):
        np.testing.assert_array_equal(getattr(back, name), getattr(test, name))
    assert back.digest == test.digest
    other = HeldOut(test.classes, test.groups, test.labels, test.group_index, test.patients + 1)
    assert other.digest != test.digest


@pytest.mark.parametrize("column", ["labels", "patients", "groups"])
def test_a_test_set_that_was_changed_is_refused(column: str) -> None:
    row, other = held_out_row(phantom_test_set(2)), held_out_row(phantom_test_set(1))
    changed = row["groups"].replace("GE", "XX") if column == "groups" else other[column] + other[column]
    with pytest.raises(ValueError, match="named by its digest"):
        held_out_of(row | {column: changed})


def test_probabilities_come_back_within_half_a_step_and_decide_as_before() -> None:
    """255 times 0.3345 and 0.3348 both round to 85; the decision must stay with the second."""
    test = HeldOut(("a", "b", "c"), ("g",), [0, 1, 0], [0, 0, 0], [1, 2, 3])
    given = np.array([[0.3345, 0.3348, 0.3307], [0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    back = probabilities_of(prediction_row("d", test, given), test)
    np.testing.assert_array_equal(back.argmax(axis=1), [1, 1, 0])
    assert back[0, 0] == round(255 * 0.3345) / 255
    np.testing.assert_allclose(back, given, atol=1.5 / 255)
    np.testing.assert_allclose(back[1:], given[1:], atol=0.5 / 255)


def test_logits_are_refused_as_probabilities() -> None:
    with pytest.raises(ValueError, match=r"from -1\.0 to 2\.0; pass softmax outputs"):
        prediction_row("d", HeldOut(("a", "b"), ("g",), [0], [0], [1]), [[2.0, -1.0]])


def test_a_patient_has_the_same_number_in_every_company() -> None:
    """Folds and seeds are linked by these numbers."""
    assert patient_codes(["A", "B", "A"])[0] == patient_codes(["C", "A"])[1]
    assert len(set(patient_codes([f"P{k}" for k in range(2000)]).tolist())) == 2000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": [0, 3]}, "labels must lie in 0 … 2"),
        ({"group_index": [0, 1]}, "group_index must lie in 0 … 0"),
        ({"patients": [1]}, "one label, group and patient per row"),
        ({"patients": [1, 2**32]}, "take them from patient_codes"),
    ],
)
def test_a_test_set_with_unnamed_or_missing_values_is_refused(changed: dict[str, list[int]], message: str) -> None:
    given = {"labels": [0, 1], "group_index": [0, 0], "patients": [1, 2]} | changed
    with pytest.raises(ValueError, match=message):
        HeldOut(("a", "b", "c"), ("g",), **given)


def test_results_are_read_back_with_their_predictions(tmp_path: Path) -> None:
    test, rng = phantom_test_set(), np.random.default_rng(0)
    written = [measurement(test, probabilities(test, ALIKE, rng), seed=seed) for seed in range(2)]
    write_results(tmp_path, written)
    back = read_measurements(tmp_path)
    assert [m.cell.seed for m in back] == [0, 1]
    for one, other in zip(written, back, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1.5 / 255)


def test_a_cell_that_was_run_again_counts_once_and_as_it_was_last(tmp_path: Path) -> None:
    test, rng = phantom_test_set(), np.random.default_rng(0)
    runs = [measurement(test, probabilities(test, ALIKE, rng), config_digest=name) for name in ("old", "new")]
    write_results(tmp_path, runs)
    rows = read_measurements(tmp_path)
    assert [m.cell.config_digest for m in rows] == ["old", "new"]
    assert [m.cell.config_digest for m in latest(rows, None)[0]] == ["new"]
    assert latest(rows, {"new", "other"}) == latest(rows, None) == (rows[1:], 0)


def test_a_setting_that_is_changed_back_finds_its_former_result(tmp_path: Path) -> None:
    """The last row of a cell is not always the one that its plan would make today."""
    test, rng = phantom_test_set(), np.random.default_rng(0)
    write_results(
        tmp_path, [measurement(test, probabilities(test, ALIKE, rng), config_digest=name) for name in ("a", "b")]
    )
    rows = read_measurements(tmp_path)
    assert latest(rows, {"a"}) == (rows[:1], 0)
    assert latest(rows, {"c"}) == ([], 1)


def test_an_accuracy_that_is_not_that_of_the_predictions_is_refused(tmp_path: Path) -> None:
    """A row pasted from elsewhere, or predictions of another model."""
    test = phantom_test_set()
    write_results(tmp_path, [measurement(test, np.eye(3)[test.labels], accuracy=0.9)])
    with pytest.raises(ValueError, match=r"has 0.9 and 1.0000; remove its row"):
        read_measurements(tmp_path)


def test_a_cell_without_predictions_or_test_set_is_refused_by_name(tmp_path: Path) -> None:
    test = phantom_test_set()
    write_results(tmp_path, [measurement(test, np.eye(3)[test.labels])])
    (tmp_path / TEST_SETS).write_text((tmp_path / TEST_SETS).read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=f"kd of headline, seed 0 .* has no test set {test.digest}"):
        read_measurements(tmp_path)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    test = phantom_test_set()
    write_results(tmp_path, [measurement(test, np.eye(3)[test.labels])])
    rows = list(csv.reader((tmp_path / RESULTS).open()))
    with (tmp_path / RESULTS).open("w", newline="") as file:
        csv.writer(file).writerows([row[1:] for row in rows])
    with pytest.raises(ValueError, match=r"results.csv must have the columns plan, cohort"):
        read_measurements(tmp_path)
