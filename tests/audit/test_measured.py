"""Means and areas under one face."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audit.findings import Measure
from pipeline.audit.measured import MeasuredAuc, MeasuredMean, affordable, take
from pipeline.audit.statistics import Sample

ACCURACY, DICE = Measure("accuracy", "Accuracy"), Measure("dice", "Dice", scale="plain")
ALL_ROWS = np.ones(60, dtype=bool)


@pytest.fixture
def sample() -> Sample:
    """Twenty patients of three rows, of both classes."""
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(20) % 2, 3)
    positive = 1 / (1 + np.exp(-rng.normal(2.0 * labels - 1, 1.5)))
    return Sample(labels, np.c_[1 - positive, positive], np.repeat(np.arange(20), 3))


def test_a_draw_of_patients_is_the_mean_of_their_rows(sample: Sample) -> None:
    """Patients of one and of five rows: the mean is over rows, as the estimate is; a slow loop says the same."""
    patients = np.repeat([0, 2, 5], [1, 2, 5])  # codes with gaps
    values = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, np.nan, 1.0])
    found = MeasuredMean(ACCURACY, values, patients)
    draws = found.draws(np.ones(8, dtype=bool), 50, np.random.default_rng(4))
    drawn = np.random.default_rng(4).integers(3, size=(50, 3))
    rows = [[1.0], [0.0, 1.0], [0.0, 0.0, 1.0, 1.0]]
    assert draws == pytest.approx([np.mean(np.concatenate([rows[k] for k in one])) for one in drawn])
    assert found.estimate(np.ones(8, dtype=bool), min_patients=2).value == pytest.approx(4 / 7)


def test_the_same_state_draws_the_same_patients_for_every_measure(sample: Sample) -> None:
    """An accuracy of 1 where the score says so: both see one set of draws, so their worst groups can be compared."""
    right = (sample.probabilities.argmax(axis=1) == sample.labels).astype(float)
    one = MeasuredMean(ACCURACY, right, sample.patients).draws(ALL_ROWS, 20, np.random.default_rng(0))
    two = MeasuredMean(DICE, right, sample.patients).draws(ALL_ROWS, 20, np.random.default_rng(0))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("kind", ["mean", "auc"])
def test_halves_are_disjoint_and_come_in_blocks_alike(
    sample: Sample, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of two halves of as many rows is the mean of all; small blocks give a half per split, too."""
    right = (sample.probabilities.argmax(axis=1) == sample.labels).astype(float)
    found = MeasuredMean(ACCURACY, right, sample.patients) if kind == "mean" else MeasuredAuc(ACCURACY, sample)
    first, second = found.halves(ALL_ROWS, 30, np.random.default_rng(0))
    assert first.shape == second.shape == (30,)
    if kind == "mean":
        assert (first + second) / 2 == pytest.approx(np.full(30, right.mean()))
    monkeypatch.setattr("pipeline.audit.measured.BLOCK_SIZE", 100)
    assert found.halves(ALL_ROWS, 30, np.random.default_rng(0))[0].shape == (30,)


@pytest.mark.parametrize("kind", ["mean", "auc"])
def test_an_empty_group_has_draws_without_a_value(sample: Sample, kind: str) -> None:
    """Not an error."""
    nobody = np.zeros(60, dtype=bool)
    found = MeasuredMean(DICE, np.ones(60), sample.patients) if kind == "mean" else MeasuredAuc(ACCURACY, sample)
    assert np.isnan(found.draws(nobody, 10, np.random.default_rng(0))).all()
    assert np.isnan(found.halves(nobody, 10, np.random.default_rng(0))[0]).all()
    assert found.estimate(nobody, min_patients=2).reason == "no patients"


def test_codes_without_gaps_are_made_of_the_rows_inside(sample: Sample) -> None:
    """Patients 15 to 19 become 0 to 4."""
    part = take(sample, sample.patients >= 15)
    assert (part.n_patients, part.patients.tolist()) == (5, np.repeat(np.arange(5), 3).tolist())


def test_a_large_table_is_permuted_less_and_its_contrasts_read_from_intervals(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty rows in two groups, 200 permutations: 24,000 rows for the test, twice that for the contrasts."""
    groups, found = np.where(sample.patients < 10, "Canon", "GE"), MeasuredAuc(ACCURACY, sample)
    monkeypatch.setattr("pipeline.audit.measured.affordable", lambda count, rows: affordable(count, rows, 15_000))
    rng = np.random.default_rng(0)
    assert found.effect(groups, None, permutations=200, rng=rng).permutations == 125
    assert found.p_values(groups, None, permutations=200, rng=rng) is None
    monkeypatch.undo()
    assert set(found.p_values(groups, None, permutations=200, rng=rng) or {}) == {"Canon", "GE"}


def test_no_test_makes_fewer_draws_than_a_p_value_needs() -> None:
    """A billion rows: 99 all the same."""
    assert affordable(2000, 10**9) == 99
    assert affordable(50, 10**9) == 50
