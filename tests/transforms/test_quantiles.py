"""Quantiles by a partial sort, against numpy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from transforms.quantiles import median, quantiles

SHAPES = array_shapes(min_dims=1, max_dims=3, max_side=9)
VALUES = arrays(np.float64, SHAPES, elements=st.floats(-1e12, 1e12, allow_subnormal=False))


@given(VALUES, st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_quantiles_are_those_of_numpy_to_the_last_bit(values: np.ndarray, shares: list[float]) -> None:
    np.testing.assert_array_equal(quantiles(values, shares), np.quantile(values, shares, axis=-1))


@given(VALUES)
def test_the_median_is_numpys(values: np.ndarray) -> None:
    """Numpy adds the two in the middle before it halves, which rounds otherwise."""
    np.testing.assert_allclose(median(values), np.median(values, axis=-1), rtol=1e-12, atol=1e-3)


def test_the_percentiles_of_a_whole_study_are_those_of_numpy_to_the_last_bit() -> None:
    study = np.random.default_rng(3).gamma(2.0, 100.0, (2, 12, 96, 96))
    assert quantiles(study.ravel(), [0.005, 0.995]) == np.percentile(study, [0.5, 99.5]).tolist()


def test_values_are_left_in_their_order() -> None:
    values = np.array([3.0, 1.0, 2.0])
    quantiles(values, [0.5])
    assert values.tolist() == [3.0, 1.0, 2.0]
