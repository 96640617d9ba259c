"""The interval of the patient bootstrap: against scipy's, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipeline.audit.bootstrap import bca_interval, bootstrap_interval, leave_one_out_weights

Rows = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_floor_on_patients_holds() -> None:
    """Nine patients under a floor of ten: a value and no interval."""
    values = np.tile([0.0, 1.0, 1.0], 3)
    found = bootstrap_interval(lambda w: w @ values / w.sum(axis=1), np.arange(9), 100, rng(), min_patients=10)
    assert (found.reason, found.value) == ("too few patients", pytest.approx(2 / 3))


def test_bca_ends_are_those_of_scipy_at_the_level_of_few_patients() -> None:
    """The same draws, at the confidence that a t with 19 degrees of freedom, stretched, stands for."""
    values = rng(2).gamma(1, size=20)
    found = stats.bootstrap((values,), np.mean, n_resamples=4000, method="BCa", rng=rng(3))
    level = 2 * stats.norm.cdf(stats.t.ppf(0.975, 19) * math.sqrt(20 / 19)) - 1
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=found, method="BCa", confidence_level=level
    ).confidence_interval
    left_out = (values.sum() - values) / 19
    ends = bca_interval(float(values.mean()), found.bootstrap_distribution, left_out)
    assert ends == pytest.approx((expected.low, expected.high), rel=1e-3)


def test_a_bootstrap_interval_leaves_out_draws_without_a_value_and_says_when_none_vary() -> None:
    """NaN draws are dropped; a constant has no interval."""
    values = rng(1).uniform(size=15)

    def undefined_without_the_first(weights: Rows) -> Rows:
        mean = np.asarray(weights @ values / weights.sum(axis=1))
        return np.where(weights[:, 0] > 0, mean, np.nan)

    found = bootstrap_interval(undefined_without_the_first, np.arange(15), 500, rng())
    assert found.low < found.value < found.high
    flat = bootstrap_interval(lambda weights: np.full(len(weights), 0.3), np.arange(15), 500, rng())
    assert (flat.value, flat.reason) == (0.3, "no draw of patients differs from another")


def test_each_patient_is_left_out_once_whatever_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    patients = np.array([2, 0, 1, 0])
    expected = [[1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 1, 1]]
    assert np.concatenate(list(leave_one_out_weights(patients))).tolist() == expected
    monkeypatch.setattr("pipeline.audit.bootstrap.BLOCK_SIZE", 4)
    assert np.concatenate(list(leave_one_out_weights(patients))).tolist() == expected
