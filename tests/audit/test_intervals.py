"""Intervals for patients with many rows: against other libraries, by hand, and by how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.delong import areas
from pipeline.audit.intervals import (
    auc_interval,
    design_effect,
    mean_interval,
    proportion_interval,
    skewed_ends,
)
from pipeline.audit.statistics import newcombe_auc_interval, wilson_interval

Rows = NDArray[np.float64]
Codes = NDArray[np.int64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def two_columns(score: Rows) -> Rows:
    return np.c_[-score, score]


def coded(sizes: list[int]) -> Codes:
    return np.repeat(np.arange(len(sizes)), sizes)


CLUSTERS = st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=2, max_size=12)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (36, 36), (131, 144)])
def test_one_row_per_patient_has_the_wilson_interval_of_statsmodels(right: int, n: int) -> None:
    found = proportion_interval(np.r_[np.ones(right), np.zeros(n - right)], np.arange(n))
    assert (found.low, found.high) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert found.interval == "Wilson"


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=30), st.integers(2, 10))
def test_copies_of_a_patients_row_tell_nothing_new_about_a_share(right: list[bool], copies: int) -> None:
    """Ten slices that are always right or wrong together are one answer."""
    values, patients = np.array(right, dtype=float), np.arange(len(right))
    found = proportion_interval(values.repeat(copies), patients.repeat(copies))
    assert (found.low, found.high) == pytest.approx(wilson_interval(values.mean(), len(right)))


@settings(deadline=None)
@given(CLUSTERS)
def test_a_design_effect_lies_between_independent_rows_and_copies(clusters: list[list[bool]]) -> None:
    """Rows are worth between as many patients as there are rows, and as many as copies would be."""
    sizes = np.array([len(own) for own in clusters])
    effect = design_effect(np.concatenate(clusters).astype(float), coded(sizes.tolist()))
    assert 1 <= effect <= float(np.sum(sizes**2) / sizes.sum()) + 1e-12


@settings(deadline=None)
@given(CLUSTERS)
def test_right_and_wrong_mirror(clusters: list[list[bool]]) -> None:
    values, patients = np.concatenate(clusters).astype(float), coded([len(own) for own in clusters])
    assume(values.mean() != 1 / 2)  # neither answer is the rarer one there
    one, other = proportion_interval(values, patients), proportion_interval(1 - values, patients)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))


def test_independent_rows_are_worth_nearly_as_many_patients() -> None:
    """200 patients with five coin flips each."""
    effect = design_effect(rng().integers(2, size=1000).astype(float), coded([5] * 200))
    assert effect < 1.2


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]; got 0.5 to 12.0"):
        proportion_interval(np.array([0.5, 12.0]), np.arange(2))


def test_a_symmetric_mean_has_students_interval() -> None:
    """Five values about 3: no skewness, four degrees of freedom."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    found = mean_interval(values, np.arange(5))
    expected = stats.t.interval(0.95, 4, loc=3, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


def test_copies_of_a_patients_rows_tell_nothing_new_about_a_mean() -> None:
    values = rng().gamma(1, size=12)
    once, often = mean_interval(values, np.arange(12)), mean_interval(values.repeat(4), np.arange(12).repeat(4))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_a_patient_of_many_rows_widens_an_interval_by_its_leverage() -> None:
    """By the equations, patient by patient: one of 40 rows beside eleven of 2 leaves 1.3 degrees of freedom."""
    sizes = [40, *[2] * 11]
    patients, n = coded(sizes), sum(sizes)
    values = rng(1).normal(size=12)[patients] + 0.1 * rng(2).normal(size=n)
    mean = values.mean()
    added = [sum(value - mean for value in values[patients == patient]) / n for patient in range(12)]
    error = math.sqrt(sum(u**2 / (1 - size / n) for u, size in zip(added, sizes, strict=True)))
    skewness = sum(u**3 for u in added) / sum(u**2 for u in added) ** 1.5
    freedom = n**2 / sum(size**2 for size in sizes) - 1
    expected = skewed_ends(mean, error, skewness, stats.t.ppf(0.975, max(freedom, 1)))
    found = mean_interval(values, patients)
    assert (found.low, found.high) == pytest.approx(expected)


def test_the_design_effect_of_patients_of_different_sizes_is_that_of_its_equation() -> None:
    """One row wrong in each of two patients; the imaginary tenth of a patient has them all wrong."""
    sizes = [40, 10, *[2] * 10]
    patients, n = coded(sizes), sum(sizes)
    values = np.ones(n)
    values[[0, 1, 2, 41, 55]] = 0
    mean_size = sum(size**2 for size in sizes) / n
    extra = 0.1 * mean_size
    pooled = values.sum() / (n + extra)
    between = extra * mean_size * pooled**2
    for patient, size in enumerate(sizes):
        between += (values[patients == patient].sum() - pooled * size) ** 2 / (1 - size / n)
    expected = between / ((n + extra) * pooled * (1 - pooled))
    assert 1 < expected < mean_size
    assert design_effect(values, patients) == pytest.approx(expected)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=6, max_size=20),
    st.floats(0.5, 20, width=32),
    st.floats(-9, 9, width=32),
)
def test_a_mean_in_other_units_has_its_interval_in_other_units(values: list[float], scale: float, shift: float) -> None:
    """Centimetres or millimetres, points or shares; a negative scale turns the long tail round."""
    rows, patients = np.array(values), np.arange(len(values)) // 2
    found = mean_interval(rows, patients)
    assume(found.estimable and found.high - found.low > 1e-3)
    turned = mean_interval(shift - scale * rows, patients)
    expected = (shift - scale * found.high, shift - scale * found.low)
    assert (turned.low, turned.high) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_mean_leans_towards_the_long_tail_and_stays_in_its_bounds() -> None:
    """HD95: the upper end is the further one. Dice: nothing above 1."""
    hd95 = np.array([3.0, 3.5, 4.0, 4.0, 4.5, 5.0, 30.0])
    found = mean_interval(hd95, np.arange(7))
    assert found.high - found.value > 1.5 * (found.value - found.low)
    dice = np.array([0.99, 0.98, 0.99, 0.97, 0.55])
    assert mean_interval(dice, np.arange(5), bounds=(0, 1)).high <= 1
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\); got 3.0 to 30.0"):
        mean_interval(hd95, np.arange(7), bounds=(0, 1))


@pytest.mark.parametrize("skewness", [-0.8, -1e-5, 0.3, 1.2])
def test_both_skewed_ends_solve_halls_cubic(skewness: float) -> None:
    """The pivot of either end is the quantile."""
    for end, quantile in zip(skewed_ends(5.0, 2.0, skewness, 2.1), (2.1, -2.1), strict=True):
        pivot = (5.0 - end) / 2.0
        cubic = pivot + skewness * pivot**2 / 3 + skewness**2 * pivot**3 / 27 + skewness / 6
        assert cubic == pytest.approx(quantile, rel=1e-4)


def test_one_row_per_patient_has_delongs_interval_on_the_logit_scale() -> None:
    """AUC 3/4 with standard error root 1/8: log 3 give or take 1.96 x 0.354 / (3/16)."""
    found = auc_interval(np.array([0, 0, 1, 1]), two_columns(np.array([0.1, 0.4, 0.35, 0.8])), np.arange(4))
    ends = [1 / (1 + math.exp(-math.log(3) + sign * 1.959964 * math.sqrt(1 / 8) * 16 / 3)) for sign in (1, -1)]
    assert (found.low, found.high) == pytest.approx(ends)


@pytest.mark.parametrize("classes", [2, 3])
def test_perfect_separation_has_newcombes_interval_on_patients(classes: int) -> None:
    """Ten rows of each of 12 patients: a quarter or a third of them in a class, however many rows."""
    patients = np.repeat(np.arange(12), 10)
    labels = (patients % classes).astype(np.int64)
    found = auc_interval(labels, np.eye(classes)[labels], patients)
    assert found.interval == "Newcombe"
    assert (found.low, found.high) == pytest.approx(newcombe_auc_interval(1.0, 12 // classes, 12 - 12 // classes))


def test_an_auc_interval_knows_ranks_only_and_mirrors() -> None:
    """A monotone score changes nothing; the negated one gives 1 minus the ends."""
    patients = np.repeat(np.arange(20), 4)
    labels, score = patients % 2, rng().normal(size=80) + patients % 2
    found = auc_interval(labels, two_columns(score), patients)
    same = auc_interval(labels, two_columns(np.exp(score)), patients)
    mirrored = auc_interval(labels, two_columns(-score), patients)
    assert (same.low, same.high) == (found.low, found.high)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_repeated_rows_widen_an_auc_beyond_the_normal_quantile() -> None:
    """The quantile of few patients is that of a t."""
    patients = np.repeat(np.arange(12), 6)
    labels, score = patients % 2, rng(1).normal(size=72) + 0.8 * (patients % 2)
    found, plain = auc_interval(labels, two_columns(score), patients), areas(labels, [two_columns(score)], patients)
    half = math.log(found.high / (1 - found.high)) - math.log(found.value / (1 - found.value))
    assert half > 2.05 * plain.standard_errors[0] / (found.value * (1 - found.value))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=30))
def test_an_auc_has_an_interval_with_width_around_it_or_a_reason(rows: list[tuple[int, int, int]]) -> None:
    """Any labels, ties and patients."""
    labels, score, names = np.array(rows).T
    _, patients = np.unique(names, return_inverse=True)
    found = auc_interval(labels, np.c_[score, -score, score % 2].astype(float), patients)
    if found.estimable:
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high - found.low > 0.01
    else:
        assert found.reason in {"too few patients", "too few patients of a class", "a class is absent"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6)), min_size=1, max_size=30))
def test_shares_and_means_have_an_interval_with_width_around_them_or_a_reason(rows: list[tuple[float, int]]) -> None:
    """Any values and patients."""
    values = np.array([value for value, _ in rows])
    _, patients = np.unique([name for _, name in rows], return_inverse=True)
    for found in (proportion_interval(values, patients), mean_interval(values, patients, bounds=(0, 1))):
        if found.estimable:
            assert 0 <= found.low <= found.value + 1e-12
            assert found.value - 1e-12 <= found.high <= 1
            assert found.high > found.low
        else:
            assert found.reason in {"too few patients", "all patients have the same value"}


NONE = np.empty(0, dtype=np.int64)


@pytest.mark.parametrize(
    ("values", "patients", "reason"),
    [
        (np.empty(0), NONE, "no patients"),
        (np.ones(5), np.zeros(5, dtype=np.int64), "too few patients"),
        (np.array([1.0, np.nan, 0.0]), np.arange(3), "a value is missing"),
    ],
)
def test_shares_and_means_say_why_they_have_no_interval(values: Rows, patients: Codes, reason: str) -> None:
    """Without a patient, with one, with a missing value."""
    for found in (proportion_interval(values, patients), mean_interval(values, patients)):
        assert (found.reason, found.interval, found.n_rows) == (reason, None, len(values))
        assert math.isnan(found.low)


def test_a_mean_without_variation_is_no_certainty() -> None:
    """Fifteen Dice values of 0.9 say nothing about how much others vary."""
    found = mean_interval(np.full(15, 0.9), np.arange(15))
    assert (found.reason, found.estimable) == ("all patients have the same value", False)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [([], "no patients"), ([1, 1, 1], "a class is absent"), ([0, 0, 1], "too few patients of a class")],
)
def test_an_auc_says_why_it_has_no_interval(labels: list[int], reason: str) -> None:
    found = auc_interval(
        np.array(labels, dtype=np.int64), np.arange(2.0 * len(labels)).reshape(-1, 2), np.arange(len(labels))
    )
    assert found.reason == reason
    assert not found.estimable


def test_a_floor_on_patients_holds_for_every_interval() -> None:
    """Nine patients under a floor of ten: a value and no interval."""
    values, patients = np.tile([0.0, 1.0, 1.0], 3), np.arange(9)
    scores = two_columns(rng().normal(size=9))
    for found in (
        proportion_interval(values, patients, min_patients=10),
        mean_interval(values, patients, min_patients=10),
        auc_interval(values.astype(np.int64), scores, patients, min_patients=10),
    ):
        assert found.reason == "too few patients"
        assert found.value == pytest.approx(found.value)


REPEATS = 400
SLACK = 3 * math.sqrt(0.05 * 0.95 / REPEATS)
PATIENTS = np.repeat(np.arange(40), 10)


def test_a_share_is_covered_where_rows_of_a_patient_are_alike() -> None:
    """40 patients x 10 rows at ICC 0.4: 93 to 97 %, where Wilson on rows covers some 65 %."""
    draw, covered, by_rows = rng(0), 0, 0
    for _ in range(REPEATS):
        chances = draw.beta(0.85 * 1.5, 0.15 * 1.5, 40)
        values = (draw.uniform(size=400) < chances[PATIENTS]).astype(float)
        found, naive = proportion_interval(values, PATIENTS), wilson_interval(values.mean(), 400)
        covered += found.low <= 0.85 <= found.high
        by_rows += naive[0] <= 0.85 <= naive[1]
    assert 0.93 - SLACK <= covered / REPEATS <= 0.97 + SLACK
    assert by_rows / REPEATS < 0.75


def test_a_skewed_mean_is_covered_where_rows_of_a_patient_are_alike() -> None:
    """Lognormal values like HD95, ICC 0.4 of the logarithm."""
    draw, covered, truth = rng(1), 0, math.exp(0.7**2 / 2)
    for _ in range(REPEATS):
        normal = math.sqrt(0.4) * draw.normal(size=40)[PATIENTS] + math.sqrt(0.6) * draw.normal(size=400)
        found = mean_interval(np.exp(0.7 * normal), PATIENTS)
        covered += found.low <= truth <= found.high
    assert 0.93 - SLACK <= covered / REPEATS <= 0.97 + SLACK


def test_an_auc_is_covered_where_rows_of_a_patient_are_alike() -> None:
    """Two normal classes of patients, AUC 0.9, ICC 0.4."""
    draw, covered = rng(2), 0
    labels = PATIENTS % 2
    apart = math.sqrt(2) * stats.norm.ppf(0.9)
    for _ in range(REPEATS):
        score = (
            apart * labels + math.sqrt(0.4) * draw.normal(size=40)[PATIENTS] + math.sqrt(0.6) * draw.normal(size=400)
        )
        found = auc_interval(labels, two_columns(score), PATIENTS)
        covered += found.low <= 0.9 <= found.high
    assert 0.93 - SLACK <= covered / REPEATS <= 0.97 + SLACK
