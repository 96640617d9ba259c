"""Differences put together from two intervals: against published values, statsmodels, and their own p values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import confint_proportions_2indep

from pipeline.audit.arms import Arm, mean_arm, proportion_arm, shared_error
from pipeline.audit.differences import Difference
from pipeline.audit.statistics import Estimate, wilson_interval
from tests.audit.made import unpaired


def share(right: int, n: int) -> Estimate:
    return Estimate(n, n, right / n, *wilson_interval(right / n, n), "Wilson")


def from_ends(value: float, low: float, high: float) -> Difference:
    """Of two arms, the second of which is surely nothing."""
    return unpaired(Estimate(20, 20, value, low, high, "z"), Estimate(20, 20, 0.0, 0.0, 0.0, "z"))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [((56, 70, 48, 80), (0.0524, 0.3339)), ((9, 10, 3, 10), (0.1705, 0.8090)), ((10, 10, 0, 10), (0.6075, 1.0))],
)
def test_the_interval_of_a_difference_is_newcombes(
    counts: tuple[int, int, int, int], expected: tuple[float, float]
) -> None:
    """Three pairs of his table II, method 10."""
    found = unpaired(share(*counts[:2]), share(*counts[2:])).estimate
    assert (found.low, found.high) == pytest.approx(expected, abs=5e-5)
    assert found.interval == "MOVER"


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_the_interval_is_that_of_statsmodels_and_mirrors(m: int, n: int, first: float, second: float) -> None:
    """Whatever the counts; swapping the sides swaps the ends."""
    one, other = share(round(first * m), m), share(round(second * n), n)
    found, mirrored = unpaired(one, other).estimate, unpaired(other, one).estimate
    oracle = confint_proportions_2indep(round(first * m), m, round(second * n), n, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(oracle, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low))


def test_without_an_interval_on_one_side_there_is_none_and_the_side_is_said() -> None:
    """The value stays."""
    few = Estimate(3, 3, 0.5, reason="too few patients")
    assert unpaired(few, share(8, 10)).estimate.reason == "too few patients"
    found = unpaired(share(8, 10), few).estimate
    assert (found.reason, found.estimable) == ("other side: too few patients", False)
    assert found.value == pytest.approx(0.3)


@given(st.floats(-1, 1), st.floats(0.01, 0.5), st.floats(0.01, 0.5))
def test_a_two_sided_p_value_agrees_with_its_interval(value: float, below: float, above: float) -> None:
    """Below 0.05 if, and only if, 0 lies outside."""
    p = from_ends(value, value - below, value + above).p_two_sided
    outside = value - below > 0 or value + above < 0
    if min(abs(value - below), abs(value + above)) > 1e-6:
        assert (p < 0.05) == outside


def test_a_p_value_from_a_normal_interval_is_that_of_z() -> None:
    """2 standard errors: 0.0455; without an interval there is none."""
    assert from_ends(2.0, 2 - 1.959964, 2 + 1.959964).p_two_sided == pytest.approx(0.0455, abs=1e-4)
    assert math.isnan(unpaired(Estimate(2, 2, 0.5, reason="too few patients"), share(8, 10)).p_two_sided)


def test_groups_of_the_same_patients_share_their_errors() -> None:
    """Copies of a group share all, other patients nothing: one of three pairs of equal errors is a third."""
    draw = np.random.default_rng(0)
    one = mean_arm(draw.normal(size=30), np.arange(30), min_patients=2)
    other = mean_arm(draw.normal(size=30), np.arange(30, 60), min_patients=2)
    assert shared_error([one, one]) == pytest.approx(1)
    assert shared_error([one, other]) == 0
    third = Arm(other.estimate, other.influence * math.sqrt(np.sum(one.influence**2) / np.sum(other.influence**2)))
    assert shared_error([one, one, third]) == pytest.approx(1 / 3)
    assert shared_error([proportion_arm(np.ones(9), np.arange(9), min_patients=2)] * 2) == 0
    assert shared_error([]) == 0
