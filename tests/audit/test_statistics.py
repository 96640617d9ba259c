"""Score intervals against statsmodels and their own equations; draws of patients; the worst group."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.statistics import (
    FloatArray,
    bootstrap,
    newcombe_auc_interval,
    patient_weights,
    wilson_interval,
    worst_group,
)
from pipeline.tracking.group_metrics import weighted_auc_of


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (36, 36), (131, 144)])
def test_wilson_is_that_of_statsmodels(right: int, n: int) -> None:
    """At both ends of the scale and between."""
    assert wilson_interval(right / n, n) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(("auc", "m", "n"), [(0.8, 12, 24), (0.5, 20, 20), (0.97, 10, 5)])
def test_both_ends_of_the_auc_score_interval_solve_its_equation(auc: float, m: int, n: int) -> None:
    """|estimate - end| = z x standard error at the end, written out anew."""
    for end in newcombe_auc_interval(auc, m, n):
        more = ((m + n) / 2 - 1) * ((1 - end) / (2 - end) + end / (1 + end))
        assert abs(auc - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) * (1 + more) / (m * n)), rel=1e-5)


def test_the_auc_score_interval_has_width_at_one_and_mirrors() -> None:
    """Swapping the classes turns an AUC of 1 into 0; more patients narrow both."""
    low, high = newcombe_auc_interval(1.0, 8, 16)
    assert high == 1.0
    assert 0.5 < low < 0.95
    assert newcombe_auc_interval(0.0, 8, 16) == pytest.approx((0.0, 1 - low))
    assert newcombe_auc_interval(1.0, 80, 160)[0] > low


def test_a_patient_is_never_split() -> None:
    """All rows of a patient have the same count in every draw, and the counts of the patients sum to their number."""
    patients = np.array([0, 2, 1, 2, 0, 2])
    for weights in patient_weights(patients, 200, rng()):
        assert (weights[:, 0] == weights[:, 4]).all()
        assert (weights[:, [1, 3]] == weights[:, [5]]).all()
        assert (weights[:, [0, 2, 1]].sum(axis=1) == 3).all()
        assert len(np.unique(weights, axis=0)) > 5


def test_draws_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table is drawn in blocks that fit into memory; the numbers must not notice."""
    patients = np.arange(12)
    whole = np.concatenate(list(patient_weights(patients, 50, rng())))
    monkeypatch.setattr("pipeline.audit.statistics.BLOCK_SIZE", 12 * 7)
    assert np.array_equal(np.concatenate(list(patient_weights(patients, 50, rng()))), whole)


def shares(values: FloatArray, seed: int, replicates: int = 4000) -> FloatArray:
    """Draws of a mean, one row per patient."""
    return bootstrap(lambda w: w @ values / w.sum(axis=1), np.arange(len(values)), replicates, rng(seed))


def test_bootstrap_values_are_the_metrics_of_the_drawn_rows() -> None:
    """Drawn rows are laid out and given to scikit-learn; scores tie."""
    draw, patients = rng(3), np.repeat(range(10), 3)
    labels, positive = draw.integers(2, size=30), draw.uniform(size=30).round(1)
    values = bootstrap(weighted_auc_of(labels, np.c_[1 - positive, positive]), patients, 40, rng(5))
    (weights,) = patient_weights(patients, 40, rng(5))
    for row, auc in zip(weights.astype(int), values, strict=True):
        again = np.repeat(np.arange(30), row)
        assert auc == pytest.approx(roc_auc_score(labels[again], positive[again]))


def test_nobody_can_be_drawn_from_an_empty_group() -> None:
    """It has draws without a value, not an error."""
    assert np.isnan(bootstrap(lambda weights: weights.sum(axis=1), np.zeros(0, dtype=np.int64), 5, rng())).all()


def test_the_worst_group_of_two_alike_is_a_toss_up() -> None:
    """Two groups with the same rows: each is the lowest in half of the draws, ties shared."""
    values = np.array([1.0] * 30 + [0.0] * 10)
    found = worst_group({"GE": 0.75, "Canon": 0.75}, {"GE": shares(values, 0), "Canon": shares(values, 1)})
    assert found is not None
    assert found.frequency == pytest.approx(0.5, abs=0.03)
    assert sum(found.frequencies.values()) == pytest.approx(1.0)


def test_a_clearly_worst_group_is_the_worst_in_nearly_every_draw() -> None:
    """0.95 against 0.5, forty patients each."""
    draws = {"GE": shares(np.repeat([1.0, 0.0], 20), 1), "Canon": shares(np.repeat([1.0, 0.0], [38, 2]), 2)}
    found = worst_group({"GE": 0.5, "Canon": 0.95}, draws)
    assert found is not None
    assert (found.group, found.value) == ("GE", 0.5)
    assert found.frequency > 0.99


def test_of_a_distance_the_highest_is_the_worst() -> None:
    """9 mm against 5 mm; where lower is better the same draws name the other group."""
    draws = {"GE": np.array([9.0, 8.0, 4.0]), "Canon": np.array([5.0, 5.0, 5.0])}
    found = worst_group({"GE": 9.0, "Canon": 5.0}, draws, higher_is_better=False)
    assert found is not None
    assert (found.group, found.value) == ("GE", 9.0)
    assert found.frequencies == pytest.approx({"Canon": 1 / 3, "GE": 2 / 3})


def test_one_group_is_not_the_worst_of_anything() -> None:
    """There is nothing to compare it with."""
    assert worst_group({"GE": 0.5}, {"GE": np.array([0.5])}) is None


def test_a_draw_without_auc_does_not_make_a_group_the_worst() -> None:
    """NaN in GE's second draw: Canon is lowest there; the third, NaN in both, does not count."""
    draws = {"GE": np.array([0.6, math.nan, math.nan]), "Canon": np.array([0.7, 0.7, math.nan])}
    found = worst_group({"GE": 0.6, "Canon": 0.7}, draws)
    assert found is not None
    assert found.frequencies == {"Canon": 0.5, "GE": 0.5}
