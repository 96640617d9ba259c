"""Calibration: against scikit-learn, statsmodels and the binomial distribution, and by how often chance is blamed."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import brier_score_loss
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.calibration import (
    brier_scores,
    calibration_error,
    expected_calibration_error,
    reliability_curve,
)
from pipeline.audit.recalibration import calibration_intercept, calibration_slope
from pipeline.audit.statistics import Sample


def sample(labels: list[int], positive: list[float], patients: list[int] | None = None) -> Sample:
    """Two-class sample; one row per patient unless told."""
    scores = np.array(positive, dtype=float)
    own = np.arange(len(labels)) if patients is None else np.array(patients)
    return Sample(np.array(labels, dtype=np.int64), np.c_[1 - scores, scores], own)


def calibrated(patients: int, rows: int, rng: np.random.Generator, *, sure: float = 1.0) -> Sample:
    """One label per patient, drawn from its rows' probabilities; logits are then multiplied by ``sure``."""
    logits = rng.normal(0, 1.5, size=(patients, 1)) + rng.normal(0, 0.5, size=(patients, rows))
    labels = logits > rng.logistic(size=(patients, 1))
    chance = 1 / (1 + np.exp(-sure * logits.ravel()))
    return Sample(labels.ravel().astype(np.int64), np.c_[1 - chance, chance], np.repeat(np.arange(patients), rows))


EMPTY = Sample(np.array([], dtype=np.int64), np.zeros((0, 2)), np.array([], dtype=np.int64))


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_brier_scores_average_to_that_of_scikit_learn(classes: int) -> None:
    """Half the sum of squares for two classes, the whole sum for more."""
    rng = np.random.default_rng(classes)
    labels, table = rng.integers(classes, size=50), rng.dirichlet(np.ones(classes), size=50)
    truth = labels if classes == 2 else np.eye(classes)[labels]
    expected = brier_score_loss(truth, table[:, 1] if classes == 2 else table)
    assert brier_scores(labels, table).mean() == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30), st.booleans())
@settings(max_examples=200, deadline=None)
def test_calibration_error_is_that_of_a_slow_loop(rows: list[tuple[int, float]], equal_mass: bool) -> None:
    """Bin by bin; edges of equal mass are the quantiles; the order of the rows does not matter."""
    labels, table = np.array([label for label, _ in rows]), np.array([[1 - p, p] for _, p in rows])
    sure, right = table.max(axis=1), table.argmax(axis=1) == labels
    edges = np.quantile(sure, np.arange(1, 15) / 15) if equal_mass else None
    total = 0.0
    bins = [sum(p >= e for e in edges) if edges is not None else min(int(p * 15), 14) for p in sure]
    for b in set(bins):
        inside = [i for i, other in enumerate(bins) if other == b]
        total += abs(sum(float(right[i]) - sure[i] for i in inside)) / len(rows)
    assert expected_calibration_error(labels, table, equal_mass=equal_mass) == pytest.approx(total)
    assert expected_calibration_error(labels[::-1], table[::-1], equal_mass=equal_mass) == pytest.approx(total)


def test_equal_mass_bins_hold_equal_numbers() -> None:
    """45 different confidences in 15 bins: three each, whatever their distribution."""
    positive = (0.99 + 0.01 * np.arange(45) / 45).tolist()
    curve = reliability_curve(sample([1] * 45, positive), equal_mass=True)
    assert [b.observed.n_rows for b in curve] == [3] * 15
    assert len(reliability_curve(sample([1] * 45, positive))) == 1


@pytest.mark.parametrize("n", [20, 100])
def test_the_null_of_equal_confidences_is_binomial(n: int) -> None:
    """All at 0.8: the error is |K / n - 0.8|, K binomial; its mean is summed over K."""
    counts = np.arange(n + 1)
    errors, chances = np.abs(counts / n - 0.8), binom.pmf(counts, n, 0.8)
    expected = float(errors @ chances)
    spread = math.sqrt(float(errors**2 @ chances) - expected**2)
    found = calibration_error(sample([1] * n, [0.8] * n), rng=np.random.default_rng(0), replicates=2000)
    assert found.null_mean == pytest.approx(expected, abs=4 * spread / math.sqrt(2000))
    assert found.value == pytest.approx(0.2)


def test_slices_of_a_patient_widen_the_null_band_to_that_of_patients() -> None:
    """Twenty patients, ten equal rows each: the band of twenty rows, three times that of two hundred."""
    rng = np.random.default_rng(1)
    few = calibration_error(sample([1] * 20, [0.8] * 20), rng=rng, replicates=2000)
    rows = sample([1] * 200, [0.8] * 200, np.repeat(range(20), 10).tolist())
    clustered = calibration_error(rows, rng=rng, replicates=2000)
    many = calibration_error(sample([1] * 200, [0.8] * 200), rng=rng, replicates=2000)
    assert clustered.null_mean == pytest.approx(few.null_mean, rel=0.1)
    assert clustered.null_mean > 2.5 * many.null_mean


def test_three_classes_are_redrawn_with_their_own_probabilities() -> None:
    """One bin, confidence 0.5: the mean error of 40 rows is that of a fair coin."""
    table = np.tile([0.3, 0.5, 0.2], (40, 1))
    counts = np.arange(41)
    expected = float(np.abs(counts / 40 - 0.5) @ binom.pmf(counts, 40, 0.5))
    rows = Sample(np.ones(40, dtype=np.int64), table, np.arange(40))
    found = calibration_error(rows, rng=np.random.default_rng(2), replicates=2000)
    assert found.null_mean == pytest.approx(expected, rel=0.06)


def test_null_draws_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = calibrated(12, 2, np.random.default_rng(3))
    whole = calibration_error(rows, rng=np.random.default_rng(0), replicates=50)
    monkeypatch.setattr("pipeline.audit.calibration.BLOCK_SIZE", 48 * 7)
    assert calibration_error(rows, rng=np.random.default_rng(0), replicates=50) == whole


def test_a_calibrated_model_is_seldom_called_miscalibrated_and_an_overconfident_one_often() -> None:
    """40 patients x 5 rows: 2.5 % against most."""
    rng, repeats = np.random.default_rng(4), 200
    beyond = {
        sure: sum(
            calibration_error(calibrated(40, 5, rng, sure=sure), rng=rng, replicates=200).beyond_chance
            for _ in range(repeats)
        )
        / repeats
        for sure in (1.0, 4.0)
    }
    assert beyond[1.0] < 0.025 + 3 * math.sqrt(0.025 * 0.975 / repeats)
    assert beyond[4.0] > 0.8


def test_no_null_band_where_nothing_can_vary() -> None:
    found = calibration_error(sample([0, 1] * 10, [0.0, 1.0] * 10), rng=np.random.default_rng(0))
    assert (found.value, found.reason, found.beyond_chance) == (0.0, "every probability is 0 or 1", False)
    assert calibration_error(EMPTY, rng=np.random.default_rng(0)).reason == "no patients"


def test_a_reliability_curve_has_its_rows_patients_and_wilsons_interval() -> None:
    """12 patients at 0.75, two rows each, 9 of them right: Wilson for 9 of 12; a lone patient gets none."""
    labels = [1] * 18 + [0] * 6 + [1]
    rows = sample(labels, [0.75] * 24 + [0.95], [*np.repeat(range(12), 2).tolist(), 12])
    first, last = reliability_curve(rows)
    assert (first.lower, first.upper) == pytest.approx((11 / 15, 12 / 15))
    assert (first.mean_probability, first.observed.value) == pytest.approx((0.75, 0.75))
    assert (first.observed.n_rows, first.observed.n_patients) == (24, 12)
    assert (first.observed.low, first.observed.high) == pytest.approx(proportion_confint(9, 12, method="wilson"))
    assert (last.observed.n_patients, last.observed.reason) == (1, "too few patients")


def test_a_reliability_curve_of_one_class_starts_at_low_probabilities() -> None:
    rows = sample([0] * 10 + [1] * 10, [0.1] * 10 + [0.9] * 10)
    curve = reliability_curve(rows, positive=1)
    assert [b.mean_probability for b in curve] == pytest.approx([0.1, 0.9])
    assert [b.observed.value for b in curve] == [0.0, 1.0]
    assert reliability_curve(EMPTY) == []


@pytest.mark.parametrize(("patients", "rows", "sure"), [(60, 1, 1.0), (40, 5, 2.0)])
def test_slope_and_intercept_are_those_of_statsmodels(patients: int, rows: int, sure: float) -> None:
    """Points to six figures; the patient jackknife is a little wider than the cluster sandwich."""
    group = calibrated(patients, rows, np.random.default_rng(6), sure=sure)
    chance = group.probabilities[:, 1]
    logits = np.log(chance / (1 - chance))
    robust = {"cov_type": "cluster", "cov_kwds": {"groups": group.patients}}
    slope = GLM(group.labels, np.c_[np.ones_like(logits), logits], family=Binomial()).fit(**robust)
    large = GLM(group.labels, np.ones((len(logits), 1)), family=Binomial(), offset=logits).fit(**robust)
    for found, theirs in ((calibration_slope(group, 1), slope), (calibration_intercept(group, 1), large)):
        assert found.value == pytest.approx(theirs.params[-1], abs=1e-5)
        assert 0.95 < (found.high - found.low) / (2 * 1.96 * theirs.bse[-1]) < 1.35


def test_the_jackknife_is_leaving_one_patient_out() -> None:
    """One step is nearly the whole way: refit without each patient in turn with statsmodels."""
    group = calibrated(40, 3, np.random.default_rng(9))
    logits = np.log(group.probabilities[:, 1] / group.probabilities[:, 0])
    refits = []
    for patient in range(40):
        kept = group.patients != patient
        design = np.c_[np.ones(kept.sum()), logits[kept]]
        refits.append(GLM(group.labels[kept], design, family=Binomial()).fit().params[1])
    found = calibration_slope(group, 1)
    error = math.sqrt(39 / 40 * np.sum((np.array(refits) - found.value) ** 2))
    assert (found.high - found.low) / 2 == pytest.approx(2.0227 * error, rel=0.1)


def test_the_intercept_of_equal_probabilities_worked_out_by_hand() -> None:
    """15 of 20 at 0.5: ln 3; leaving one out moves it by (y - m) / (19 m q), so the variance is 1 / (19 m q)."""
    found = calibration_intercept(sample([1] * 15 + [0] * 5, [0.5] * 20), 1)
    assert found.value == pytest.approx(math.log(3), abs=1e-6)
    assert found.high - found.value == pytest.approx(2.093024 / math.sqrt(19 * 0.75 * 0.25), rel=1e-5)


def test_too_sure_by_two_has_a_slope_of_a_half() -> None:
    """Many patients: 1 / 2 and, announced as often as it comes, 0."""
    group = calibrated(4000, 1, np.random.default_rng(7), sure=2.0)
    assert calibration_slope(group, 1).value == pytest.approx(0.5, abs=0.05)
    assert calibration_intercept(group, 1).value == pytest.approx(0.0, abs=0.2)
    assert calibration_slope(group, 0).value == pytest.approx(calibration_slope(group, 1).value, abs=1e-6)


def test_slope_and_intercept_cover_the_truth() -> None:
    """30 patients x 4 rows of a calibrated model: slope 1, intercept 0."""
    rng, repeats = np.random.default_rng(8), 300
    covered = np.zeros(2)
    for _ in range(repeats):
        group = calibrated(30, 4, rng)
        slope, large = calibration_slope(group, 1), calibration_intercept(group, 1)
        covered += [slope.low <= 1 <= slope.high, large.low <= 0 <= large.high]
    assert np.all(np.abs(covered / repeats - 0.95) < 0.02 + 3 * math.sqrt(0.95 * 0.05 / repeats))


@pytest.mark.parametrize(
    ("labels", "positive", "slope", "intercept"),
    [
        ([], [], "no patients", "no patients"),
        ([1] * 12, [0.7] * 12, "a class is absent", "a class is absent"),
        ([0, 1] * 8, [0.2, 0.8] * 8, "the probabilities separate the classes", None),
        ([0, 1] * 8, [0.8, 0.2] * 8, "the probabilities separate the classes", None),
        ([0, 1] * 8, [0.6] * 16, "all probabilities are equal", None),
        ([0, 1] * 4, [0.1, 0.2, 0.5, 0.3, 0.4, 0.6, 0.7, 0.9], "too few patients", "too few patients"),
        ([0] * 11 + [1], [0.1, 0.6] * 5 + [0.7, 0.5], "too few patients of a class", "too few patients of a class"),
    ],
)
def test_no_interval_without_grounds_for_it(
    labels: list[int], positive: list[float], slope: str, intercept: str | None
) -> None:
    """Separation makes the slope infinite, not 30 +- 1; the intercept survives it."""
    group = sample(labels, positive)
    assert (calibration_slope(group, 1).reason, calibration_intercept(group, 1).reason) == (slope, intercept)


def test_one_patient_that_decides_the_slope_is_said() -> None:
    """All rows but one patient's have the same probability."""
    group = sample([0, 1] * 8 + [0, 1], [0.5] * 16 + [0.9, 0.9], [*range(16), 16, 16])
    assert calibration_slope(group, 1).reason == "one patient decides the fit"


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 1e-9, 0.3, 0.5, 0.9999999, 1.0])), max_size=40))
@settings(max_examples=150, deadline=None)
def test_wild_probabilities_give_a_value_or_a_reason(rows: list[tuple[int, float]]) -> None:
    """Zeros and ones have no logit; nothing warns, nothing is infinite, no interval lacks width."""
    group = sample([label for label, _ in rows], [p for _, p in rows], [i // 2 for i in range(len(rows))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for found in (calibration_slope(group, 1), calibration_intercept(group, 1)):
            assert found.estimable != bool(found.reason)
            assert not found.estimable or (math.isfinite(found.value) and found.low < found.value < found.high)
        band = calibration_error(group, rng=np.random.default_rng(0), replicates=100)
        assert bool(band.reason) == math.isnan(band.null_low)


def test_a_class_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match="index in 0 … 1; got -1"):
        calibration_slope(sample([0, 1], [0.2, 0.8]), -1)
    with pytest.raises(ValueError, match=r"labels must lie in 0 … 1, the probability columns; got 0 … 2"):
        brier_scores([0, 2], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match=r"labels must be \(n,\) and probabilities"):
        expected_calibration_error([0, 1], [0.5, 0.5])


def test_calibration_error_worked_out_by_hand() -> None:
    """Two decisions at 0.65, in one bin, one right: |0.5 - 0.65|. One at 0.69, in the next, and one at 1.0: right.

    2/4 * 0.15 + 1/4 * 0.31 + 1/4 * 0 = 0.1525. Decisions of one bin offset each other, those of two do not.
    """
    probabilities = [[0.65, 0.35], [0.35, 0.65], [1.0, 0.0], [0.69, 0.31]]
    assert expected_calibration_error([0, 0, 0, 0], probabilities) == pytest.approx(0.1525)
