"""Power: the table of the reference, statsmodels, and simulated comparisons."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.power import NormalIndPower, normal_sample_size_one_tail

from pipeline.audit.power import (
    Design,
    StandardError,
    auc_error,
    mean_error,
    patients_needed,
    proportion_error,
    smallest_gap,
    smallest_gap_from_errors,
)

ALONE, HOLM, PAIRS = Design(), Design(family=5), Design(family=15)


@pytest.mark.parametrize(
    ("error", "value", "gap", "expected"),
    [
        (proportion_error, 0.95, 0.05, (432, 643, 785)),
        (proportion_error, 0.90, 0.05, (683, 1017, 1242)),
        (proportion_error, 0.90, 0.10, (197, 292, 357)),
        (mean_error(0.05), 0.9, 0.05, (16, 24, 29)),
        (mean_error(0.10), 0.9, 0.05, (63, 94, 115)),
        (mean_error(0.15), 0.9, 0.05, (142, 211, 257)),
        (mean_error(0.05), 0.9, 0.02, (99, 146, 179)),
        (mean_error(0.10), 0.9, 0.02, (393, 584, 714)),
        (mean_error(5.0), 0.0, 2.0, (99, 146, 179)),
        (mean_error(7.0), 0.0, 2.0, (193, 287, 350)),
    ],
)
def test_the_table_of_the_reference(
    error: StandardError, value: float, gap: float, expected: tuple[int, int, int]
) -> None:
    """Patients per scanner: alpha .05, Holm over 5 contrasts, all 15 pairs of 6 scanners."""
    found = [patients_needed(error, value, gap, design=design).needed for design in (ALONE, HOLM, PAIRS)]
    assert found == pytest.approx(expected, rel=0.02)


def test_the_table_of_the_reference_for_auc() -> None:
    """0.90 v 0.85, per class: with as many of the class as without, twice as many patients in all."""
    found = [patients_needed(auc_error(0.5), 0.9, 0.05, design=design).needed for design in (ALONE, HOLM, PAIRS)]
    assert found == pytest.approx([2 * n for n in (396, 589, 720)], rel=0.02)


@pytest.mark.parametrize(("gap", "expected"), [(0.01, 71), (0.02, 18)])
def test_the_paired_question_is_the_cheap_one(gap: float, expected: int) -> None:
    """Differences of SD .03 against a fixed margin: the other side has no error of its own."""
    assert patients_needed(mean_error(0.03), 0.0, gap, other_patients=math.inf).needed == expected


@pytest.mark.parametrize("design", [ALONE, HOLM, Design(power=0.9, alpha=0.01)])
def test_means_are_those_of_statsmodels(design: Design) -> None:
    exact = NormalIndPower().solve_power(0.3, power=design.power, alpha=design.alpha / design.family)
    assert patients_needed(mean_error(1.0), 0.0, 0.3, design=design).needed == math.ceil(exact)
    gap = NormalIndPower().solve_power(None, nobs1=30, ratio=4, power=design.power, alpha=design.alpha / design.family)
    assert smallest_gap(mean_error(2.0), 5.0, 30, 120, design).gap == pytest.approx(2 * gap, rel=1e-4)


def test_proportions_are_those_of_statsmodels() -> None:
    """Its formula for one tail at half the error, standard deviations of the two shares."""
    spread = math.sqrt(0.95 * 0.05 + 0.9 * 0.1)
    exact = normal_sample_size_one_tail(0.05, 0.8, 0.025, spread, std_alternative=spread)
    assert patients_needed(proportion_error, 0.95, 0.05).needed == math.ceil(exact)


def test_the_auc_error_is_that_of_the_equation_worked_out() -> None:
    """AUC 0.8, 10 v 10: Q1 = 2/3, Q2 = 32/45; (0.16 + 9 x 0.02667 + 9 x 0.07111) / 100 = 0.0104."""
    assert auc_error(0.5)(0.8, 20) == pytest.approx(math.sqrt((0.16 + 9 * (2 / 3 - 0.64) + 9 * (32 / 45 - 0.64)) / 100))


def test_the_auc_error_tells_the_two_kinds_of_patients_apart() -> None:
    """5 with the class, 15 without: Q1 (two of the class above one without) counts 4 times, Q2 14 times."""
    expected = math.sqrt((0.16 + 4 * (2 / 3 - 0.64) + 14 * (32 / 45 - 0.64)) / 75)
    assert auc_error(0.25)(0.8, 20) == pytest.approx(expected)


@given(
    value=st.floats(0.05, 1.0),
    patients=st.integers(2, 5000),
    others=st.integers(2, 5000),
    family=st.integers(1, 30),
    auc=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_gap_and_patients_are_each_other_turned_round(
    value: float, patients: int, others: int, family: int, auc: bool
) -> None:
    """As many patients as there are suffice for the smallest gap, and 2 % fewer do not; a gap is never 0."""
    error, design = auc_error(0.3) if auc else proportion_error, Design(family=family)
    found = smallest_gap(error, value, patients, others, design)
    if found.reason:
        assert math.isnan(found.gap)
        return
    assert 0 < found.gap <= value
    again = patients_needed(error, value, found.gap, other_patients=others, design=design)
    assert again.needed is not None
    assert abs(again.needed - patients) <= max(1, 1e-4 * patients)


def test_a_comparison_with_as_many_patients_as_needed_finds_the_gap_four_times_in_five() -> None:
    """0.90 v 0.80 with 197 each: the z test rejects in 80 % of 4,000 simulated comparisons."""
    rng, n = np.random.default_rng(3), 197
    here, there = rng.binomial(n, 0.8, 4000) / n, rng.binomial(n, 0.9, 4000) / n
    z = (there - here) / np.sqrt((here * (1 - here) + there * (1 - there)) / n)
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / 4000) + 0.005)


def test_rows_of_a_patient_count_by_the_design_effect() -> None:
    """Ten slices, ICC 0.4: 4.6 times the slices, a tenth of the patients; ICC 1 makes nine of ten slices worthless."""
    design = Design(rows_per_patient=10, icc=0.4)
    assert patients_needed(proportion_error, 0.9, 0.1, design=design).needed == math.ceil(196.23 * 4.6 / 10)
    alike = Design(rows_per_patient=10, icc=1.0)
    assert patients_needed(proportion_error, 0.9, 0.1, design=alike).needed == 197
    assert smallest_gap(proportion_error, 0.9, 40, 200, design).gap < smallest_gap(proportion_error, 0.9, 40, 200).gap


def test_standard_errors_of_any_metric_will_do() -> None:
    """2.802 x sqrt(0.03^2 + 0.04^2); the same as a mean of that standard error."""
    expected = 2.8015852 * 0.05
    assert smallest_gap_from_errors(0.03, 0.04).gap == pytest.approx(expected)
    assert smallest_gap(mean_error(0.05 * math.sqrt(30)), 0.9, 30, math.inf).gap == pytest.approx(expected)


@pytest.mark.parametrize(
    ("error", "value", "patients", "others", "reason"),
    [
        (proportion_error, 0.9, 1, 100, "fewer than two patients on a side"),
        (proportion_error, 0.9, 0, 100, "fewer than two patients on a side"),
        (proportion_error, 0.3, 4, 4, "no gap on the scale is large enough"),
        (proportion_error, 0.0, 40, 40, "no gap on the scale is large enough"),
        (proportion_error, math.nan, 40, 40, "no value on the scale to go by"),
        (auc_error(0.5), math.nan, 40, 40, "no value on the scale to go by"),
        (mean_error(0.0), 0.9, 40, 40, "no variation"),
    ],
)
def test_no_gap_without_grounds_for_it(
    error: StandardError, value: float, patients: int, others: int, reason: str
) -> None:
    found = smallest_gap(error, value, patients, others)
    assert math.isnan(found.gap)
    assert found.reason == reason


def test_all_right_on_both_sides_still_has_a_smallest_gap() -> None:
    """Against 1.0 known for sure, n patients: g^2 = k^2 g (1 - g) / n, so g = k^2 / (n + k^2)."""
    k2 = Design().distance ** 2
    assert smallest_gap(proportion_error, 1.0, 20, 500).gap == pytest.approx(k2 / (20 + k2))


def test_more_patients_here_do_not_help_if_the_others_are_too_few() -> None:
    """Ten others at 0.9 have a standard error of 0.095: 0.05 is out of reach."""
    found = patients_needed(proportion_error, 0.9, 0.05, other_patients=10)
    assert (found.needed, found.missing) == (None, None)
    assert found.reason is not None
    assert "other side" in found.reason


def test_missing_patients_are_those_not_there_yet() -> None:
    assert patients_needed(mean_error(0.1), 0.9, 0.05, patients=60).missing == 3
    assert patients_needed(mean_error(0.1), 0.9, 0.05, patients=100).missing == 0


@pytest.mark.parametrize("gap", [0.0, -0.1, 0.95, math.nan])
def test_a_gap_off_the_scale_is_refused(gap: float) -> None:
    with pytest.raises(ValueError, match="gap must be positive and stay on the scale; got"):
        patients_needed(proportion_error, 0.9, gap)


@pytest.mark.parametrize(
    "settings_", [{"alpha": 0.0}, {"power": 1.0}, {"family": 0}, {"icc": 1.5}, {"rows_per_patient": 0}]
)
def test_a_design_out_of_range_is_refused(settings_: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Design(**settings_)  # type: ignore[arg-type]


def test_errors_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="standard deviation must be a number, not negative; got -1"):
        mean_error(-1.0)
    with pytest.raises(ValueError, match="positive_share must lie between 0 and 1; got 1"):
        auc_error(1.0)
    assert smallest_gap_from_errors(math.nan, 0.1).reason == "no standard error to go by"
