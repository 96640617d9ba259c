"""Means and areas under one face."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.audit.design import BETWEEN
from pipeline.audit.differences import NEVER_DIFFER
from pipeline.audit.findings import Measure
from pipeline.audit.measured import MeasuredMean, take
from pipeline.audit.measured_auc import MeasuredAuc
from pipeline.audit.statistics import Sample, affordable

ACCURACY, DICE = Measure("accuracy", "Accuracy"), Measure("dice", "Dice", scale="plain")


@pytest.fixture
def sample() -> Sample:
    """Twenty patients of three rows, of both classes."""
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(20) % 2, 3)
    positive = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.5)))
    return Sample(labels, np.c_[1 - positive, positive], np.repeat(np.arange(20), 3))


def test_a_draw_of_patients_is_the_mean_of_their_rows() -> None:
    """Patients of one and of five rows: the mean is over rows, as the estimate is; a slow loop says the same."""
    patients = np.repeat([0, 2, 5], [1, 2, 5])  # codes with gaps
    values = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, np.nan, 1.0])
    found, everyone = MeasuredMean(ACCURACY, values, patients), np.ones(8, dtype=bool)
    drawn = np.random.default_rng(4).integers(3, size=(50, 3))
    weights = np.zeros((50, 6))
    weights[:, [0, 2, 5]] = [np.bincount(one, minlength=3) for one in drawn]
    draws = found.over({"all": everyone}, [weights[:20], weights[20:]])["all"]
    rows = [[1.0], [0.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    assert draws == pytest.approx([np.mean(np.concatenate([rows[k] for k in one])) for one in drawn])
    assert found.arm(everyone, min_patients=2).estimate.value == pytest.approx(4 / 7)


def test_draws_of_an_area_are_those_of_repeated_rows(sample: Sample) -> None:
    """Patient 3 twice, patient 4 not at all: the area of the rows so often, by scikit-learn."""
    weights = np.ones((1, 20))
    weights[0, [3, 4]] = 2, 0
    half = sample.patients < 10
    found = MeasuredAuc(ACCURACY, sample).over({"half": half, "nobody": np.zeros(60, dtype=bool)}, [weights])
    often = np.repeat(np.flatnonzero(half), weights[0].astype(int)[sample.patients[half]])
    assert found["half"] == pytest.approx([roc_auc_score(sample.labels[often], sample.probabilities[often, 1])])
    assert np.isnan(found["nobody"]).all()


@pytest.mark.parametrize("kind", ["mean", "auc"])
def test_an_empty_group_has_draws_without_a_value(sample: Sample, kind: str) -> None:
    """Not an error."""
    nobody = np.zeros(60, dtype=bool)
    found = MeasuredMean(DICE, np.ones(60), sample.patients) if kind == "mean" else MeasuredAuc(ACCURACY, sample)
    assert np.isnan(found.over({"nobody": nobody}, [np.ones((10, 20))])["nobody"]).all()
    assert found.arm(nobody, min_patients=2).estimate.reason == "no patients"


def test_the_same_patients_on_both_sides_make_a_surer_difference(sample: Sample) -> None:
    """First and second row of each patient, nearly alike, beside two halves of the patients."""
    first, second = np.arange(60) % 3 == 0, np.arange(60) % 3 == 1
    values = np.repeat(np.random.default_rng(1).normal(size=20), 3) + 0.01 * np.arange(60) % 3
    found = MeasuredMean(DICE, values, sample.patients)
    same = found.difference(*(found.arm(side, min_patients=2) for side in (first, second))).estimate
    halves = sample.patients < 10, sample.patients >= 10
    apart = found.difference(*(found.arm(first & side, min_patients=2) for side in halves)).estimate
    assert (same.n_patients, same.n_rows, same.interval) == (20, 20, "MOVER, correlated")
    assert same.high - same.low < 0.2 * (apart.high - apart.low)


def test_shares_that_never_differ_in_the_same_patients_could_still_differ_in_others(sample: Sample) -> None:
    """All 20 alike on both sides: +- z2 / (20 + z2) = 0.161; a mean has no interval then."""
    right, sides = np.repeat(np.arange(20) % 4 > 0, 3).astype(float), [np.arange(60) % 3 == k for k in (0, 1)]
    share, plain = (MeasuredMean(measure, right, sample.patients) for measure in (ACCURACY, DICE))
    found = share.difference(*(share.arm(side, min_patients=2) for side in sides)).estimate
    assert (found.value, found.low, found.high) == pytest.approx((0, -0.161, 0.161), abs=5e-4)
    assert plain.difference(*(plain.arm(side, min_patients=2) for side in sides)).estimate.reason == NEVER_DIFFER


def test_codes_without_gaps_are_made_of_the_rows_inside(sample: Sample) -> None:
    """Patients 15 to 19 become 0 to 4."""
    part = take(sample, sample.patients >= 15)
    assert (part.n_patients, part.patients.tolist()) == (5, np.repeat(np.arange(5), 3).tolist())


def test_a_large_table_is_permuted_less_and_its_contrasts_read_from_intervals(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty rows in two groups, 200 permutations: 24,000 rows for the test, twice that for the contrasts."""
    groups, found = np.where(sample.patients < 10, "Canon", "GE"), MeasuredAuc(ACCURACY, sample)
    monkeypatch.setattr("pipeline.audit.measured_auc.MOST_WORK", 15_000)
    rng = np.random.default_rng(0)
    assert found.effect(groups, None, design=BETWEEN, permutations=200, rng=rng).permutations == 125
    assert found.p_values(groups, None, design=BETWEEN, permutations=200, rng=rng) is None
    monkeypatch.undo()
    assert set(found.p_values(groups, None, design=BETWEEN, permutations=200, rng=rng) or {}) == {"Canon", "GE"}


def test_no_test_makes_fewer_draws_than_a_p_value_needs() -> None:
    """A billion rows: 99 all the same."""
    assert affordable(2000, 10**9, 3 * 10**8) == 99
    assert affordable(50, 10**9, 3 * 10**8) == 50
