"""Operating points: against scikit-learn, slow loops, and how often the needed threshold is covered."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.intervals import proportion_interval
from pipeline.audit.operating_point import (
    needed_threshold,
    operating_point,
    sensitivity_threshold,
    youden_threshold,
)
from pipeline.audit.statistics import Estimate, FloatArray, IntArray, Sample


def sample(labels: list[int], positive: list[float], patients: list[int] | None = None) -> Sample:
    """Two-class sample; one row per patient unless told."""
    scores = np.array(positive, dtype=float)
    own = np.arange(len(labels)) if patients is None else np.array(patients)
    return Sample(np.array(labels, dtype=np.int64), np.c_[1 - scores, scores], own)


def random_sample(seed: int, n: int = 80) -> Sample:
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    scores = 1 / (1 + np.exp(-(2 * labels - 1 + rng.normal(size=n))))
    return sample(labels.tolist(), scores.round(2).tolist(), np.repeat(range(n // 4), 4).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_the_four_shares_are_those_of_the_confusion_matrix(seed: int) -> None:
    """scikit-learn counts, with ties at the threshold called positive."""
    rows = random_sample(seed)
    scores = rows.probabilities[:, 1]
    threshold = float(np.median(scores))
    (tn, fp), (fn, tp) = confusion_matrix(rows.labels, scores >= threshold)
    found = operating_point(rows, 1, threshold)
    values = [found.sensitivity.value, found.specificity.value, found.ppv.value, found.npv.value]
    assert values == pytest.approx([tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)])
    assert (found.sensitivity.n_rows, found.specificity.n_rows) == (tp + fn, tn + fp)


def test_intervals_count_patients_not_rows() -> None:
    """Twelve patients with five positive rows each, all found: Wilson for 12 of 12; the other shares say why not."""
    rows = sample([1] * 60, [0.9] * 60, np.repeat(range(12), 5).tolist())
    found = operating_point(rows, 1, 0.5)
    assert (found.sensitivity.low, found.sensitivity.high) == pytest.approx(proportion_confint(12, 12, method="wilson"))
    assert (found.n_positive, found.n_negative) == (12, 0)
    assert found.specificity.reason == "every patient has the class"
    assert found.npv.reason == "no row is called negative"
    assert math.isnan(found.specificity.value)


def test_a_class_is_looked_at_against_all_the_others() -> None:
    """Three classes: rows of classes 0 and 2 are the negatives of class 1."""
    rows = Sample(
        np.array([0, 1, 2, 1]),
        np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0, 0.6, 0.4], [0.6, 0.2, 0.2]]),
        np.arange(4),
    )
    found = operating_point(rows, 1, 0.5)
    assert (found.sensitivity.value, found.specificity.value, found.ppv.value) == (0.5, 0.5, 0.5)
    assert found.sensitivity.reason == "too few patients"


def test_an_empty_group_stays_in_the_table() -> None:
    empty = Sample(np.array([], dtype=np.int64), np.zeros((0, 2)), np.array([], dtype=np.int64))
    found = operating_point(empty, 1, 0.5)
    assert (found.n_patients, found.n_rows) == (0, 0)
    assert found.sensitivity.reason == "no patient has the class"
    assert needed_threshold(empty, 1, 0.9).reason == "no patient has the class"


def test_another_interval_can_be_plugged_in() -> None:
    """It gets the values of the rows in question and their patients, coded without gaps."""
    seen = []

    def mine(values: FloatArray, patients: IntArray) -> Estimate:
        seen.append((values.tolist(), patients.tolist()))
        return Estimate(2, 2, 0.5, 0.25, 0.75, "mine")

    rows = sample([0, 1, 1, 0], [0.2, 0.4, 0.8, 0.6], [0, 1, 3, 2])
    found = operating_point(rows, 1, 0.5, interval=mine, min_patients=1)
    assert seen[0] == ([0.0, 1.0], [0, 1])
    assert (found.sensitivity.low, found.sensitivity.high, found.sensitivity.interval) == (0.25, 0.75, "mine")


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=40))
@settings(max_examples=200, deadline=None)
def test_youden_is_the_best_point_of_the_roc_curve(rows: list[tuple[bool, int]]) -> None:
    """scikit-learn's curve, ties and all; of equal sums the most sensitive."""
    labels, scores = [int(label) for label, _ in rows], [score / 10 for _, score in rows]
    split = sample(labels, scores)
    if len(set(labels)) < 2:
        with pytest.raises(ValueError, match="fixed on rows with and without the class; got"):
            youden_threshold(split, 1)
        return
    threshold = youden_threshold(split, 1)
    fall_out, sensitivity, _ = roc_curve(labels, split.probabilities[:, 1], drop_intermediate=False)
    found = operating_point(split, 1, threshold, min_patients=2)
    index = sensitivity - fall_out
    assert found.sensitivity.value + found.specificity.value - 1 == pytest.approx(index.max(), abs=1e-9)
    assert found.sensitivity.value == pytest.approx(sensitivity[index >= index.max() - 1e-9].max())


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0.05, 1.0))
@settings(max_examples=200, deadline=None)
def test_the_target_is_reached_and_by_the_highest_threshold_that_does(scores: list[int], target: float) -> None:
    """Slow: try every score in turn."""
    split = sample([1] * len(scores) + [0], [score / 20 for score in scores] + [0.5])
    threshold = sensitivity_threshold(split, 1, target)
    reaching = [t for t in scores if sum(s >= t for s in scores) >= target * len(scores) - 1e-6]
    assert threshold == max(reaching) / 20


@pytest.mark.parametrize("target", [0.0, 1.1, math.nan])
def test_a_target_that_is_no_share_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match=r"sensitivity must lie in \(0, 1\]; got"):
        needed_threshold(random_sample(0), 1, target)


def test_a_class_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match="index in 0 … 1; got 2"):
        operating_point(random_sample(0), 2, 0.5)


def test_the_needed_threshold_holds_exactly_the_thresholds_that_are_compatible() -> None:
    """Slow: every threshold in turn is inside if the interval of its sensitivity holds the target."""
    rows = random_sample(4, 200)
    positive = rows.labels == 1
    scores, patients = rows.probabilities[positive, 1], np.unique(rows.patients[positive], return_inverse=True)[1]
    inside = [
        t
        for t in np.unique(scores)
        if (found := proportion_interval((scores >= t).astype(float), patients)).low <= 0.8 <= found.high
    ]
    found = needed_threshold(rows, 1, 0.8)
    assert found.value == sensitivity_threshold(rows, 1, 0.8)
    assert found.high == max(inside)
    assert found.low == max(t for t in np.unique(scores) if t < min(inside))
    assert found.low < found.value <= found.high


def test_few_or_equal_positives_never_give_a_needed_threshold_without_width() -> None:
    """Twelve positives of the same score, target 0.95: anything from 0 to that score."""
    found = needed_threshold(sample([1] * 12, [0.7] * 12), 1, 0.95)
    assert (found.value, found.low, found.high) == (0.7, 0.0, 0.7)
    assert needed_threshold(sample([1] * 4, [0.7] * 4), 1, 0.95).reason == "too few patients"
    coarse = needed_threshold(sample([1] * 10_000, [0.2] * 2000 + [0.8] * 8000), 1, 0.9)
    assert (coarse.value, coarse.reason) == (0.2, "too few different probabilities")


@pytest.mark.parametrize(("patients", "target"), [(20, 0.9), (60, 0.8)])
def test_the_needed_threshold_is_covered(patients: int, target: float) -> None:
    """Uniform scores of positives: the threshold is 1 - target. Percentiles of a bootstrap cover 77-94 %."""
    rng, repeats = np.random.default_rng(5), 300
    truth, covered = 1 - target, 0
    for _ in range(repeats):
        found = needed_threshold(sample([1] * patients, rng.uniform(size=patients).tolist()), 1, target)
        covered += found.low <= truth <= found.high
    assert covered / repeats > 0.93 - 3 * math.sqrt(0.95 * 0.05 / repeats)
