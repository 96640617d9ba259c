"""What a contrast could have shown."""

from __future__ import annotations

import math

import pytest
from statsmodels.stats.power import NormalIndPower

from pipeline.audit.detectable import gap_seen, gap_within, patients_for, patients_within
from pipeline.audit.findings import Measure
from pipeline.audit.power import mean_error, patients_needed, proportion_error, smallest_gap
from pipeline.audit.statistics import Estimate, wilson_interval

ACCURACY = Measure("accuracy", "Accuracy")
HD95 = Measure("hd95_mm", "HD95", "mm", "lower", "plain", 2.0)


def share(n: int, value: float, rows: int = 1) -> Estimate:
    """Of n independent patients."""
    return Estimate(n, n * rows, value, *wilson_interval(value, n), "Wilson")


def mean(n: int, value: float, sd: float) -> Estimate:
    """Of n patients, normal interval."""
    half = 1.959963984540054 * sd / math.sqrt(n)
    return Estimate(n, n, value, value - half, value + half, "cluster t")


def test_with_one_row_per_patient_it_is_the_gap_of_that_many_patients() -> None:
    """Wilson's interval is worth exactly its patients."""
    found = gap_seen(ACCURACY, share(40, 0.85), share(200, 0.9), 5)
    from pipeline.audit.power import Design

    assert found.gap == pytest.approx(smallest_gap(proportion_error, 0.9, 40, 200, Design(family=5)).gap, rel=1e-6)


def test_rows_that_tell_less_need_more_patients() -> None:
    """Forty patients whose interval is as wide as that of twenty: twice as many are needed."""
    low, high = wilson_interval(0.85, 20)
    clustered = Estimate(40, 400, 0.85, low, high, "Wilson on effective patients")
    plain, double = (patients_for(ACCURACY, group, share(800, 0.9), 1) for group in (share(40, 0.85), clustered))
    assert plain is not None
    assert double is not None
    assert plain.needed is not None
    assert double.needed == pytest.approx(2 * plain.needed, abs=1)
    assert double.missing == (double.needed or 0) - 40


def test_a_gap_of_means_is_that_of_statsmodels() -> None:
    """SD 5 mm on both sides, 50 against 150 patients, 80 % power."""
    found = gap_seen(HD95, mean(50, 12.0, 5.0), mean(150, 10.0, 5.0), 1)
    effect = NormalIndPower().solve_power(nobs1=50, ratio=3, alpha=0.05, power=0.8)
    assert found.gap == pytest.approx(5 * effect, rel=1e-3)
    needed = patients_for(HD95, mean(50, 12.0, 5.0), mean(150, 10.0, 5.0), 1)
    assert needed == patients_needed(mean_error(5.0), 0, 2.0, patients=50, other_patients=150)


def test_a_group_without_an_interval_goes_by_the_others_precision() -> None:
    """Four patients, and none."""
    few, none = Estimate(4, 4, 0.75, reason="too few patients"), Estimate(0, 0, reason="no patients")
    assert gap_seen(ACCURACY, few, share(200, 0.9), 1).gap > 0.4
    assert gap_seen(ACCURACY, none, share(200, 0.9), 1).reason == "fewer than two patients on a side"
    missing = patients_for(ACCURACY, none, share(800, 0.9), 1)
    assert missing is not None
    assert missing.missing == missing.needed


def test_within_patients_the_interval_of_the_difference_says_all() -> None:
    """Paired Dice with an SD of 0.03 over 20 patients: 0.01 takes 71 of them, 51 more."""
    dice = Measure("dice", "Dice", scale="plain", margin=0.01)
    found = patients_within(dice, mean(20, 0.002, 0.03), 1)
    assert found is not None
    assert (found.needed, found.missing) == (71, 51)
    assert gap_within(mean(20, 0.002, 0.03), 1).gap == pytest.approx(2.802 * 0.03 / math.sqrt(20), rel=1e-3)
    assert gap_within(mean(20, 0.002, 0.03), 5).gap > gap_within(mean(20, 0.002, 0.03), 1).gap
    never = Estimate(20, 20, 0.0, reason="the two never differ")
    assert gap_within(never, 1).reason == "the two never differ"
    assert patients_within(dice, never, 1).reason == "the two never differ"  # type: ignore[union-attr]
    assert patients_within(Measure("dice", "Dice", scale="plain"), never, 1) is None


def test_nothing_is_said_without_the_other_side_or_a_gap() -> None:
    """One group alone; an endpoint without a margin; a share so low that the gap leaves the scale."""
    alone = Estimate(0, 0, reason="no patients")
    assert gap_seen(ACCURACY, share(40, 0.9), Estimate(5, 5, 0.9, reason="too few patients"), 1).reason is not None
    assert patients_for(ACCURACY, share(40, 0.9), alone, 1).reason is not None  # type: ignore[union-attr]
    assert patients_for(Measure("dice", "Dice", scale="plain"), mean(9, 0.9, 0.1), mean(9, 0.9, 0.1), 1) is None
    assert "no further from 0" in str(patients_for(ACCURACY, share(40, 0.1), share(40, 0.02), 1))
