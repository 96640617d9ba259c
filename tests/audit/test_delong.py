"""AUCs and their covariance: against the papers' equations in slow loops, and by how often a true null is rejected."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.audit.delong import areas, auc_difference, structural_components
from pipeline.tracking.group_metrics import weighted_auc

Scores = NDArray[np.float64]


def two_columns(score: Scores) -> Scores:
    return np.c_[-score, score]


def kernel(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def delong_by_loops(labels: list[int], models: list[Scores]) -> Scores:
    """Equations 4 to 6 of DeLong et al. 1988, pair by pair."""
    positive = [i for i, label in enumerate(labels) if label]
    negative = [i for i, label in enumerate(labels) if not label]
    v10 = [[np.mean([kernel(s[i], s[j]) for j in negative]) for i in positive] for s in models]
    v01 = [[np.mean([kernel(s[i], s[j]) for i in positive]) for j in negative] for s in models]
    return np.cov(v10) / len(positive) + np.cov(v01) / len(negative)


def obuchowski_by_loops(labels: list[int], score: Scores, patients: list[int]) -> float:
    """Equations of Obuchowski 1997, section 3: sums over the clusters, then S10, S01 and S11."""
    positive = [i for i, label in enumerate(labels) if label]
    negative = [i for i, label in enumerate(labels) if not label]
    m, n = len(positive), len(negative)
    area = np.mean([kernel(score[i], score[j]) for i in positive for j in negative])
    ten, one = [], []
    for patient in sorted(set(patients)):
        own = [np.mean([kernel(score[i], score[j]) for j in negative]) for i in positive if patients[i] == patient]
        other = [np.mean([kernel(score[i], score[j]) for i in positive]) for j in negative if patients[j] == patient]
        ten.append((sum(own) - len(own) * area, len(own)))
        one.append((sum(other) - len(other) * area, len(other)))
    i10, i01, i = sum(c > 0 for _, c in ten), sum(c > 0 for _, c in one), len(ten)
    s10 = i10 / ((i10 - 1) * m) * sum(v**2 for v, _ in ten)
    s01 = i01 / ((i01 - 1) * n) * sum(v**2 for v, _ in one)
    s11 = i / (i - 1) * sum(a * b for (a, _), (b, _) in zip(ten, one, strict=True))
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


def test_components_of_four_rows_by_hand() -> None:
    """Positive 0.35 and 0.8 against 0.1 and 0.4: 0.35 beats one of two, 0.4 is beaten by one of two."""
    v10, v01 = structural_components(np.array([0.35, 0.8]), np.array([0.1, 0.4]))
    assert v10.tolist() == [0.5, 1.0]
    assert v01.tolist() == [1.0, 0.5]


def test_a_standard_error_by_hand() -> None:
    """Both variances are 1/8, each over two rows: 1/8 in all."""
    found = areas(np.array([0, 0, 1, 1]), [two_columns(np.array([0.1, 0.4, 0.35, 0.8]))], np.arange(4))
    assert found.values.tolist() == [0.75]
    assert found.standard_errors == pytest.approx([math.sqrt(1 / 8)])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers(0, 5)), min_size=6, max_size=25))
def test_the_covariance_is_delongs_where_every_patient_has_one_row(rows: list[tuple[int, int, int]]) -> None:
    """Two models, many ties."""
    labels = [0, 0, 1, 1, *(label for label, _, _ in rows)]
    models = [np.array([1.0, 2.0, 2.0, 3.0, *(row[k] for row in rows)]) for k in (1, 2)]
    found = areas(np.array(labels), [two_columns(s) for s in models], np.arange(len(labels)))
    assert found.covariance == pytest.approx(delong_by_loops(labels, models), abs=1e-12)


@pytest.mark.parametrize("mixed", [False, True])
def test_the_variance_is_obuchowskis_where_her_clusters_are_pure_or_all_mixed(mixed: bool) -> None:
    """Twelve patients with four rows of one class, or two of each."""
    draw = np.random.default_rng(4)
    patients = np.repeat(np.arange(12), 4)
    labels = np.tile([0, 1], 24) if mixed else (patients % 3 == 0).astype(int)
    score = np.round(labels + draw.normal(size=12)[patients] + draw.normal(size=48), 1)
    found = areas(labels, [two_columns(score)], patients)
    expected = obuchowski_by_loops(labels.tolist(), score, patients.tolist())
    assert found.covariance[0, 0] == pytest.approx(expected)


def test_where_some_patients_are_mixed_the_variance_stays_within_two_percent_of_obuchowskis() -> None:
    """Forty patients: the term that joins the classes has another small-sample factor."""
    draw = np.random.default_rng(5)
    patients = np.repeat(np.arange(40), 5)
    labels = draw.integers(2, size=200)
    labels[patients < 15] = 1
    score = labels + draw.normal(size=40)[patients] + draw.normal(size=200)
    found = areas(labels, [two_columns(score)], patients)
    expected = obuchowski_by_loops(labels.tolist(), score, patients.tolist())
    assert found.covariance[0, 0] == pytest.approx(expected, rel=0.02)


def test_copies_of_a_row_tell_nothing_new() -> None:
    """Every row five times in the same patient: as one row each."""
    draw = np.random.default_rng(1)
    labels, scores, patients = draw.integers(3, size=30), draw.uniform(size=(30, 3)), np.arange(30)
    once = areas(labels, [scores], patients)
    often = areas(labels.repeat(5), [scores.repeat(5, axis=0)], patients.repeat(5))
    assert often.values == pytest.approx(once.values)
    assert often.standard_errors == pytest.approx(once.standard_errors)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_values_are_the_areas_that_tracking_logs(classes: int) -> None:
    """Two classes and the mean over more, with ties."""
    draw = np.random.default_rng(classes)
    labels, patients = draw.integers(classes, size=60), draw.integers(20, size=60)
    models = [np.round(draw.uniform(size=(60, classes)), 1) for _ in range(2)]
    expected = [weighted_auc(labels, scores, np.ones((1, 60)))[0] for scores in models]
    assert areas(labels, models, patients, 20).values == pytest.approx(expected)


def test_the_macro_standard_error_is_that_of_the_jackknife() -> None:
    """Three classes, 150 patients with three rows: left out one by one, an AUC varies as the contributions say."""
    draw = np.random.default_rng(9)
    patients = np.repeat(np.arange(150), 3)
    labels = (np.arange(150) % 3)[patients]
    scores = draw.normal(size=(150, 3))[patients] + draw.normal(size=(450, 3))
    scores[np.arange(450), labels] += 1.5
    left_out = weighted_auc(labels, scores, (patients[None] != np.arange(150)[:, None]).astype(float))
    jackknife = math.sqrt(149 / 150 * np.sum((left_out - left_out.mean()) ** 2))
    assert areas(labels, [scores], patients).standard_errors[0] == pytest.approx(jackknife, rel=0.02)


def sample(seed: int, patients: int = 30, rows: int = 3) -> tuple[NDArray[np.int64], Scores, NDArray[np.int64]]:
    draw = np.random.default_rng(seed)
    codes = np.repeat(np.arange(patients), rows)
    labels = (codes % 2).astype(np.int64)
    return labels, two_columns(labels + draw.normal(size=patients)[codes] + draw.normal(size=len(codes))), codes


def test_different_patients_add_their_variances() -> None:
    """Two scanners, coded one behind the other."""
    (labels, first, codes), (_, second, _) = sample(1), sample(2)
    one, other = areas(labels, [first], codes, 60), areas(labels, [second], codes + 30, 60)
    found = auc_difference(one, other)
    assert found.value == pytest.approx(one.values[0] - other.values[0])
    assert found.standard_error == pytest.approx(math.hypot(one.standard_errors[0], other.standard_errors[0]))


def test_a_paired_difference_is_that_of_the_covariance_matrix() -> None:
    """Variance of each, less twice what they share."""
    labels, first, codes = sample(1)
    found = areas(labels, [first, first + sample(2)[1]], codes)
    contrast = np.array([1.0, -1.0])
    error = auc_difference(found, found, first_model=0, second_model=1).standard_error
    assert error == pytest.approx(math.sqrt(contrast @ found.covariance @ contrast))


def test_patients_in_both_periods_are_seen_to_be_the_same() -> None:
    """Scores of half the patients again: the error is smaller than that of strangers."""
    labels, scores, codes = sample(1)
    again = codes < 15
    one, other = areas(labels, [scores], codes), areas(labels[again], [scores[again]], codes[again], 30)
    strangers = math.hypot(one.standard_errors[0], other.standard_errors[0])
    assert auc_difference(one, other).standard_error < 0.9 * strangers


def test_a_model_does_not_differ_from_itself_and_no_certainty_is_claimed() -> None:
    labels, scores, codes = sample(1)
    found = auc_difference(areas(labels, [scores], codes), areas(labels, [scores], codes))
    assert found.value == 0
    assert math.isnan(found.standard_error)
    assert found.reason == "no patient tells the two apart"


def test_perfect_separation_is_reported_as_such() -> None:
    found = areas(np.array([0, 0, 1, 1]), [two_columns(np.arange(4.0))], np.arange(4))
    assert found.values.tolist() == [1.0]
    assert found.separated.tolist() == [True]
    assert found.reason is None


@pytest.mark.parametrize(
    ("labels", "patients", "reason"),
    [([1, 1, 1], [0, 1, 2], "a class is absent"), ([0, 0, 1], [0, 1, 2], "too few patients of a class")],
)
def test_a_class_without_patients_or_with_one_has_no_error(labels: list[int], patients: list[int], reason: str) -> None:
    """And a difference says so rather than being certain."""
    found = areas(np.array(labels), [two_columns(np.arange(3.0))], np.array(patients))
    assert found.reason == reason
    assert np.isnan(found.standard_errors).all()
    assert auc_difference(found, found).reason == reason


def test_models_on_unlike_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"same 3 rows; got the shapes \[\(2, 2\), \(3, 2\)\]"):
        areas(np.array([0, 1, 1]), [np.zeros((3, 2)), np.zeros((2, 2))], np.arange(3))


def test_missing_probabilities_are_refused() -> None:
    """NaN would sort to the top and count as a win."""
    with pytest.raises(ValueError, match="1 of 6 are missing"):
        areas(np.array([0, 1, 1]), [np.array([[0, 1], [1, 0], [0, np.nan]])], np.arange(3))


def test_areas_over_unlike_patients_are_refused() -> None:
    labels, scores, codes = sample(1)
    with pytest.raises(ValueError, match="30 and 31 codes"):
        auc_difference(areas(labels, [scores], codes), areas(labels, [scores], codes, 31))


def test_two_equal_models_are_called_different_in_about_five_percent() -> None:
    """Forty patients with five rows, alike within patients; 800 repeats, three standard errors."""
    draw = np.random.default_rng(0)
    codes = np.repeat(np.arange(40), 5)
    labels = (codes % 2).astype(np.int64)
    rejected = 0
    for _ in range(800):
        shared = 1.2 * labels + draw.normal(size=40)[codes]
        noise = 0.7 * draw.normal(size=(2, 40))[:, codes] + 0.7 * draw.normal(size=(2, 200))
        found = areas(labels, [two_columns(shared + part) for part in noise], codes)
        difference = auc_difference(found, found, first_model=0, second_model=1)
        rejected += abs(difference.value) > 1.96 * difference.standard_error
    assert rejected / 800 == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 800) + 0.01)
