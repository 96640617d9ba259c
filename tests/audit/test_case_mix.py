"""Case mix: counts by hand, standardised values against a slow sum, and how often the truth is covered."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.case_mix import MixRow, case_mix, common_mix, standardised_mean
from pipeline.tracking.predictions import PredictionsError


def test_patients_are_counted_not_rows_or_models() -> None:
    """Patient b has two rows; GE has no woman, and that is said."""
    frame = pd.DataFrame(
        {
            "patient_id": ["a", "b", "b", "c", "a"],
            "vendor": ["GE", "GE", "GE", "Canon", "GE"],
            "label": ["NOR", "DCM", "DCM", "NOR", "NOR"],
            "sex": ["M", "M", "M", None, "M"],
            "model": ["x", "x", "x", "x", "y"],
        }
    )
    rows = case_mix(frame, "vendor", known_groups=["UIH"])
    assert [row for row in rows if (row.group, row.column) == ("GE", "label")] == [
        MixRow("GE", "label", "DCM", 1, 0.5),
        MixRow("GE", "label", "NOR", 1, 0.5),
    ]
    assert [(row.category, row.n_patients) for row in rows if (row.group, row.column) == ("GE", "sex")] == [
        ("M", 2),
        ("unknown", 0),
    ]
    absent = [row for row in rows if row.group == "UIH"]
    assert [row.n_patients for row in absent] == [0] * 4
    assert all(math.isnan(row.share) for row in absent)
    assert {row.column for row in rows} == {"label", "sex"}  # the table has no age_band


def test_groups_need_a_column() -> None:
    with pytest.raises(PredictionsError, match="no column 'scanner'"):
        case_mix(pd.DataFrame({"patient_id": ["a"], "label": ["NOR"]}), "scanner")


def test_the_common_mix_counts_each_patient_once_per_stratum() -> None:
    """Three rows of patient 0 are one; patient 2 is in both."""
    mix = common_mix(["A", "A", "A", "B", "A", "B"], np.array([0, 0, 0, 1, 2, 2]))
    assert mix == {"A": 0.5, "B": 0.5}


def test_a_standardised_mean_is_the_weighted_sum_of_the_strata() -> None:
    """0.75 x 3/4 + 0.25 x 1/2 = 0.6875; strata without weight do not count."""
    values = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=float)
    strata = ["A"] * 4 + ["B"] * 2 + ["C"] * 2
    found = standardised_mean(values, strata, np.arange(8), {"A": 3, "B": 1}, min_patients=4)
    assert found.estimate.value == pytest.approx(0.6875)
    assert (found.covered, found.absent) == (1.0, ())


def test_the_groups_own_mix_changes_nothing() -> None:
    """Wilson for 31 of 40: strata weighted as they are have one weight per row."""
    values = np.r_[np.ones(18), np.zeros(2), np.ones(13), np.zeros(7)]
    strata = ["A"] * 20 + ["B"] * 20
    found = standardised_mean(values, strata, np.arange(40), common_mix(strata, np.arange(40))).estimate
    assert found.value == pytest.approx(31 / 40)
    assert (found.low, found.high) == pytest.approx(proportion_confint(31, 40, method="wilson"), abs=1e-9)


def test_rows_that_repeat_a_patient_add_no_certainty() -> None:
    """Ten copies of each row: the interval of one row per patient."""
    rng = np.random.default_rng(0)
    values, strata = rng.integers(2, size=30).astype(float), ["A"] * 20 + ["B"] * 10
    once = standardised_mean(values, strata, np.arange(30), {"A": 1, "B": 1}).estimate
    tenfold = standardised_mean(
        np.repeat(values, 10), np.repeat(strata, 10).tolist(), np.repeat(np.arange(30), 10), {"A": 1, "B": 1}
    ).estimate
    assert (tenfold.low, tenfold.high) == pytest.approx((once.low, once.high))


def test_all_right_is_not_certainty() -> None:
    """2 patients carry half of the weight: 1 / (0.25 / 20 + 0.25 / 2) = 7.27 effective ones, so 7."""
    found = standardised_mean(np.ones(22), ["A"] * 20 + ["B"] * 2, np.arange(22), {"A": 1, "B": 1}).estimate
    assert (found.low, found.high) == pytest.approx(proportion_confint(7, 7, method="wilson"))


def test_a_missing_stratum_is_said_and_never_made_up() -> None:
    values, strata, patients = np.array([1.0, 0.0] * 6), ["A"] * 12, np.arange(12)
    found = standardised_mean(values, strata, patients, {"A": 0.75, "B": 0.25})
    assert (found.estimate.estimable, found.estimate.reason) == (False, "no patient of B")
    assert (found.covered, found.absent) == (0.75, ("B",))
    alone = standardised_mean(values, strata, patients, {"A": 0.75, "B": 0.25}, renormalise=True)
    assert alone.estimate.estimable
    assert (alone.estimate.value, alone.covered, alone.absent) == (0.5, 0.75, ("B",))
    nothing = standardised_mean(values, strata, patients, {"B": 1.0}, renormalise=True)
    assert (nothing.estimate.reason, nothing.covered) == ("no patient of B", 0)


@pytest.mark.parametrize(
    ("values", "strata", "reason"),
    [
        ([], [], "no patients"),
        ([1.0, 0.0], ["A", "B"], "too few patients"),
        ([1.0, 0.0] * 6, ["A"] * 11 + ["B"], "one patient only of B"),
        ([0.5] * 12, ["A"] * 6 + ["B"] * 6, "no variation"),
    ],
)
def test_no_interval_without_grounds_for_it(values: list[float], strata: list[str], reason: str) -> None:
    found = standardised_mean(np.array(values), strata, np.arange(len(values)), {"A": 1, "B": 1}).estimate
    assert (found.estimable, found.reason) == (False, reason)


@pytest.mark.parametrize("mix", [{}, {"A": 0.0}, {"A": 1.0, "B": -0.5}])
def test_a_mix_without_weight_is_refused(mix: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights of at least 0, not all 0; got"):
        standardised_mean(np.ones(12), ["A"] * 12, np.arange(12), mix)


def test_the_mean_of_two_strata_has_welchs_interval() -> None:
    """Half of A plus half of B is half of A minus (-B): scipy's unequal variances, mirrored."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.9, 0.02, size=12), rng.normal(0.7, 0.1, size=4)
    found = standardised_mean(np.r_[a, b], ["A"] * 12 + ["B"] * 4, np.arange(16), {"A": 1, "B": 1}).estimate
    expected = ttest_ind(a, -b, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low / 2, expected.high / 2))


def test_the_effective_number_of_patients_worked_out_slowly() -> None:
    """One stratum, 12 patients x 3 rows: Wilson on rows over the design effect, larger by the square of t / z."""
    values = np.random.default_rng(1).binomial(1, np.repeat(np.linspace(0.3, 1, 12), 3)).astype(float)
    found = standardised_mean(values, ["A"] * 36, np.repeat(np.arange(12), 3), {"A": 1}).estimate
    share = values.mean()
    between = 12 / 11 * sum((values[3 * i : 3 * i + 3] - share).sum() ** 2 for i in range(12))
    effect = between / sum((values - share) ** 2) * (2.200985 / 1.959964) ** 2
    assert 1 < effect < 3
    assert (found.low, found.high) == pytest.approx(
        proportion_confint(share * (n := math.floor(36 / effect)), n, method="wilson")
    )


@pytest.mark.parametrize("proportion", [True, False])
def test_standardised_means_are_covered(proportion: bool) -> None:
    """40 patients x 10 rows, strata of 30, 6 and 4, rows correlated. Percentiles of a bootstrap cover 88 %."""
    rng, repeats, sizes = np.random.default_rng(8), 300, [30, 6, 4]
    own, mix = np.repeat([0.95, 0.9, 0.7], sizes), {"A": 0.5, "B": 0.3, "C": 0.2}
    truth = 0.5 * 0.95 + 0.3 * 0.9 + 0.2 * 0.7
    strata, patients = np.repeat(list("ABC"), [10 * n for n in sizes]).tolist(), np.repeat(np.arange(40), 10)
    covered = 0
    for _ in range(repeats):
        if proportion:
            chance = rng.beta(own * 7 / 3, (1 - own) * 7 / 3)  # ICC 0.3
            values = (rng.uniform(size=(40, 10)) < chance[:, None]).astype(float)
        else:
            values = own[:, None] + 0.05 * rng.normal(size=(40, 1)) + 0.08 * rng.normal(size=(40, 10))
        found = standardised_mean(values.ravel(), strata, patients, mix).estimate
        covered += found.low <= truth <= found.high
    assert abs(covered / repeats - 0.95) < 0.02 + 3 * math.sqrt(0.95 * 0.05 / repeats)
