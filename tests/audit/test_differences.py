"""Differences: against statsmodels and worked examples, and by how often they are wrong at the margin."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from pipeline.audit.arms import Arm, auc_arm, mean_arm, mean_influence, proportion_arm
from pipeline.audit.differences import (
    Difference,
    difference_of_arms,
    effective_size,
    paired_mean,
    paired_proportion,
    tango_score,
)

Array = np.ndarray


def counts(gains: int, losses: int, ties: int) -> tuple[Array, Array]:
    """Differences of as many patients with one case each."""
    return np.repeat([1.0, -1.0, 0.0], [gains, losses, ties]), np.arange(gains + losses + ties)


def unpaired(first: Arm, second: Arm) -> Difference:
    return difference_of_arms(first, second, n_patients=0, n_rows=0)


def ends(found: Difference) -> tuple[float, float]:
    return found.estimate.low, found.estimate.high


@pytest.mark.parametrize(("gains", "losses", "ties"), [(1, 7, 13), (30, 10, 160), (4, 4, 2)])
def test_the_score_at_no_difference_is_mcnemars(gains: int, losses: int, ties: int) -> None:
    """Its square is the statistic without continuity correction, and both sides together its p value."""
    oracle = mcnemar([[ties, gains], [losses, 0]], exact=False, correction=False)
    assert tango_score(gains, losses, gains + losses + ties, 0.0) ** 2 == pytest.approx(oracle.statistic)
    found = paired_proportion(*counts(gains, losses, ties), min_patients=2)
    sides = found.p_above(0.0), 1 - found.p_above(0.0)
    assert 2 * min(sides) == pytest.approx(oracle.pvalue)


def test_models_that_never_differ_do_not_differ_by_exactly_nothing() -> None:
    """z2 = 3.84, n = 20: +- z2 / (n + z2) = 0.161; where one alone is right in all, from (n - z2) / (n + z2)."""
    assert ends(paired_proportion(*counts(0, 0, 20), min_patients=10)) == pytest.approx((-0.161, 0.161), abs=5e-4)
    assert ends(paired_proportion(*counts(20, 0, 0), min_patients=10)) == pytest.approx((0.678, 1.0), abs=5e-4)
    assert ends(paired_proportion(*counts(0, 20, 0), min_patients=10)) == pytest.approx((-1.0, -0.678), abs=5e-4)


def test_one_case_per_patient_is_one_observation_each() -> None:
    """To the last digit, whatever varies."""
    for values in (np.array([1.0, 0, 0, -1, 0]), np.zeros(5), np.ones(5)):
        assert effective_size(values, np.arange(5)) == pytest.approx(5)


def test_copies_of_a_patients_case_add_no_certainty() -> None:
    """40 patients, each case ten times: 40 observations, less what 39 degrees of freedom say of the design effect."""
    difference, patients = counts(3, 6, 31)
    copied = effective_size(np.tile(difference, 10), np.tile(patients, 10))
    assert copied == pytest.approx(40 * (1.9659 / 2.0227) ** 2, rel=1e-3)
    assert effective_size(np.zeros(400), np.tile(patients, 10)) == pytest.approx(copied)
    one = ends(paired_proportion(difference, patients, min_patients=10))
    ten = ends(paired_proportion(np.tile(difference, 10), np.tile(patients, 10), min_patients=10))
    assert ten[0] < one[0] < one[1] < ten[1]
    assert ten == pytest.approx(one, abs=0.01)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([-1.0, 0.0, 1.0])), min_size=2, max_size=40))
def test_an_interval_of_shares_has_width_and_holds_the_value(rows: list[tuple[int, float]]) -> None:
    """Whatever came: also one row per class, patients of unlike sizes, nothing but ties."""
    patients = np.unique([patient for patient, _ in rows], return_inverse=True)[1]
    found = paired_proportion(np.array([value for _, value in rows]), patients, min_patients=2)
    if len(np.unique(patients)) < 2:
        assert found.estimate.reason == "too few patients"
        return
    low, high = ends(found)
    assert -1 <= low <= found.estimate.value <= high <= 1
    assert high - low > 0.01
    if low > -0.99:
        assert found.p_above(low) == pytest.approx(0.025, abs=1e-4)
    if high < 0.99:
        assert found.p_above(high) == pytest.approx(0.975, abs=1e-4)
    assert np.all(np.diff([found.p_above(delta) for delta in np.linspace(-0.9, 0.9, 19)]) >= -1e-9)


def test_exchanging_the_two_mirrors_the_interval() -> None:
    difference, patients = counts(2, 9, 40)
    low, high = ends(paired_proportion(difference, patients, min_patients=10))
    assert ends(paired_proportion(-difference, patients, min_patients=10)) == pytest.approx((-high, -low))


def mirrored(half: Array, centre: float) -> Array:
    """Values without skewness."""
    return centre + np.concatenate([half, -half])


def test_a_paired_mean_is_students_t_with_one_case_per_patient() -> None:
    """Where the differences have no skewness, which moves the interval."""
    difference = mirrored(np.random.default_rng(1).normal(size=12), 0.4)
    found = paired_mean(difference, np.arange(24), min_patients=10)
    assert ends(found) == pytest.approx(tuple(ttest_1samp(difference, 0).confidence_interval()))
    for null in (0.1, 0.4, 1.3):
        assert found.p_above(null) == pytest.approx(ttest_1samp(difference, null, alternative="greater").pvalue)


def test_a_paired_mean_over_several_cases_is_the_clustered_regression_of_statsmodels() -> None:
    """An intercept alone, four cases per patient, t with 19 degrees of freedom."""
    draw = np.random.default_rng(2)
    difference = mirrored((draw.normal(size=(10, 1)) + draw.normal(size=(10, 4))).ravel(), 0.2)
    patients = np.repeat(np.arange(20), 4)
    oracle = sm.OLS(difference, np.ones(80)).fit(cov_type="cluster", cov_kwds={"groups": patients})
    half = float(oracle.bse[0]) * 2.0930240544
    found = paired_mean(difference, patients, min_patients=10)
    assert ends(found) == pytest.approx((0.2 - half, 0.2 + half))


def test_two_samples_of_shares_have_newcombes_interval() -> None:
    """Other patients before and after, one case each."""
    first, second = (np.repeat([1.0, 0.0], pair) for pair in ((40, 10), (52, 8)))
    found = unpaired(
        proportion_arm(first, np.arange(50), min_patients=10),
        proportion_arm(second, np.arange(50, 110), min_patients=10),
    )
    assert ends(found) == pytest.approx(confint_proportions_2indep(40, 50, 52, 60, method="newcomb"), abs=1e-6)
    assert found.p_above(found.estimate.low) == pytest.approx(0.025)
    assert found.p_above(found.estimate.high) == pytest.approx(0.975)


def test_a_sample_of_shares_alone_has_wilsons_interval() -> None:
    arm = proportion_arm(np.repeat([1.0, 0.0], (17, 3)), np.arange(20), min_patients=10)
    assert (arm.estimate.low, arm.estimate.high) == pytest.approx(proportion_confint(17, 20, method="wilson"))


def test_two_samples_of_means_add_their_intervals_in_squares() -> None:
    draw = np.random.default_rng(3)
    arms = (
        mean_arm(draw.normal(5, 2, 30), np.arange(30), min_patients=10),
        mean_arm(draw.normal(4, 1, 20), np.arange(30, 50), min_patients=10),
    )
    one, other = (arm.estimate for arm in arms)
    found = unpaired(*arms).estimate
    assert found.high - found.value == pytest.approx(math.hypot(one.high - one.value, other.value - other.low))
    assert found.value - found.low == pytest.approx(math.hypot(one.value - one.low, other.high - other.value))


def test_patients_in_both_samples_make_a_difference_surer() -> None:
    """The same patients before and after, alike to 0.9: the interval is nearly that of the paired differences."""
    draw, patients = np.random.default_rng(4), np.arange(60)
    before = draw.normal(size=60)
    after = 0.9 * before + math.sqrt(1 - 0.81) * draw.normal(size=60)
    apart = unpaired(mean_arm(after, patients, min_patients=10), mean_arm(before, patients + 60, min_patients=10))
    joint = unpaired(mean_arm(after, patients, min_patients=10), mean_arm(before, patients, min_patients=10))
    paired = paired_mean(after - before, patients, min_patients=10)
    assert ends(joint) == pytest.approx(ends(paired), abs=0.02)
    assert ends(apart)[0] < ends(joint)[0] < ends(joint)[1] < ends(apart)[1]


def reader(draw: np.random.Generator, labels: Array, strength: float, shared: Array) -> Array:
    """Probabilities ``(n, 2)`` of a model whose errors are partly those of others."""
    positive = 1 / (1 + np.exp(-(strength * (labels - 0.5) + shared + draw.normal(size=len(labels)))))
    return np.c_[1 - positive, positive]


def paired_auc(labels: Array, first: Array, second: Array, patients: Array) -> Difference:
    arms = [auc_arm(labels, scores, patients, min_patients=10) for scores in (first, second)]
    return difference_of_arms(*arms, n_patients=int(patients.max()) + 1, n_rows=len(labels))


def test_paired_areas_differ_by_the_difference_of_scikit_learns_and_mirror() -> None:
    draw, labels, patients = np.random.default_rng(5), np.tile([0, 1], 60), np.repeat(np.arange(40), 3)
    shared = draw.normal(size=120)
    one, other = reader(draw, labels, 2, shared), reader(draw, labels, 1, shared)
    found = paired_auc(labels, one, other, patients)
    assert found.estimate.value == pytest.approx(roc_auc_score(labels, one[:, 1]) - roc_auc_score(labels, other[:, 1]))
    assert ends(paired_auc(labels, other, one, patients)) == pytest.approx((-ends(found)[1], -ends(found)[0]))
    far = difference_of_arms(
        auc_arm(labels, one, patients, min_patients=10),
        auc_arm(labels, other, patients + 40, min_patients=10),
        n_patients=80,
        n_rows=240,
    )
    assert ends(far)[0] < ends(found)[0]


def test_two_models_that_separate_the_classes_are_not_surely_equal() -> None:
    """12 and 12 patients: Newcombe's interval of each reaches down to 0.86, and so does that of the difference."""
    labels, patients = np.repeat([0, 1], 12), np.arange(24)
    one, other = (np.c_[1 - labels * share, labels * share] for share in (0.9, 0.6))
    low, high = ends(paired_auc(labels, one, other, patients))
    assert (low, high) == pytest.approx((-0.14, 0.14), abs=0.03)


def test_three_classes_are_compared_by_the_mean_over_classes() -> None:
    draw, labels = np.random.default_rng(6), np.tile([0, 1, 2], 20)
    scores = [draw.dirichlet(np.ones(3), 60) + gain * np.eye(3)[labels] for gain in (0.6, 0.3)]
    one, other = (values / values.sum(axis=1, keepdims=True) for values in scores)
    expected = roc_auc_score(labels, one, multi_class="ovr") - roc_auc_score(labels, other, multi_class="ovr")
    assert paired_auc(labels, one, other, np.arange(60)).estimate.value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (paired_proportion(np.zeros(0), np.zeros(0, dtype=int), min_patients=10), "no patients"),
        (paired_proportion(np.ones(30), np.zeros(30, dtype=int), min_patients=2), "too few patients"),
        (paired_mean(np.full(20, 0.1), np.arange(20), min_patients=10), "all patients have the same value"),
        (paired_mean(np.ones(1), np.zeros(1, dtype=int), min_patients=2), "too few patients"),
    ],
)
def test_no_interval_without_what_it_needs(found: Difference, reason: str) -> None:
    """The reason is said, and no test passes."""
    assert (found.estimate.estimable, found.estimate.reason) == (False, reason)
    assert math.isnan(found.p_above(-0.05))


def test_areas_without_a_class_or_without_any_difference_are_not_estimable() -> None:
    labels = np.repeat([0, 1], 12)
    scores = reader(np.random.default_rng(7), labels, 1, np.zeros(24))
    assert paired_auc(labels, scores, scores, np.arange(24)).estimate.reason == "the two never differ"
    alone = np.zeros(24, dtype=np.int64)
    assert paired_auc(alone, scores, scores, np.arange(24)).estimate.reason == "a class is absent"
    alone[0] = 1
    assert paired_auc(alone, scores, scores, np.arange(24)).estimate.reason == "too few patients of a class"
    nobody = auc_arm(labels[:0], scores[:0], labels[:0], min_patients=10)
    assert nobody.estimate.reason == "no patients"


def test_influences_of_a_mean_sum_to_its_clustered_variance() -> None:
    """P / (P - 1) x sum of squared totals / n2, by a loop."""
    values, patients = np.array([1.0, 2, 4, 8, 16]), np.array([0, 0, 3, 3, 1])
    totals = [sum(value - 6.2 for value, p in zip(values, patients, strict=True) if p == code) for code in (0, 1, 3)]
    influence = mean_influence(values, patients)
    assert influence[2] == 0
    assert (influence**2).sum() == pytest.approx(1.5 * sum(total**2 for total in totals) / 25)


def clustered_rights(draw: np.random.Generator, shape: tuple[int, int], accuracies: tuple[float, float]) -> list[Array]:
    """Right or wrong of two models, ``(patients, rows)`` each; half of the spread is shared, half the patients'."""
    from scipy.stats import norm

    def spread() -> Array:
        return math.sqrt(0.5) * (draw.normal(size=(shape[0], 1)) + draw.normal(size=shape))

    shared = spread()
    return [math.sqrt(0.5) * (shared + spread()) < norm.ppf(accuracy) for accuracy in accuracies]


def test_a_student_at_the_margin_passes_in_one_of_forty_runs_and_by_rows_in_far_more() -> None:
    """40 patients x 10 rows, 0.85 against 0.90, margin 0.05: 2.5 % is right; ignoring patients gives some 13 %."""
    draw, repeats, patients = np.random.default_rng(8), 600, np.repeat(np.arange(40), 10)
    passed = {"patients": 0, "rows": 0}
    for _ in range(repeats):
        first, second = (right.ravel() for right in clustered_rights(draw, (40, 10), (0.85, 0.90)))
        difference = first.astype(float) - second
        passed["patients"] += paired_proportion(difference, patients, min_patients=10).p_above(-0.05) < 0.025
        passed["rows"] += paired_proportion(difference, np.arange(400), min_patients=10).p_above(-0.05) < 0.025
    error = math.sqrt(0.025 * 0.975 / repeats)
    assert passed["patients"] / repeats == pytest.approx(0.025, abs=3 * error)
    assert passed["rows"] / repeats > 0.08


def test_a_student_as_good_as_its_teacher_passes_as_often_as_its_spread_allows() -> None:
    """0.90 each, 5 rows per patient, margin 0.05: Phi(0.05 / sd - 1.96), the spread taken from the runs."""
    from scipy.stats import norm

    draw, share = np.random.default_rng(9), {}
    for patients in (40, 160):
        codes = np.repeat(np.arange(patients), 5)
        pairs = [clustered_rights(draw, (patients, 5), (0.9, 0.9)) for _ in range(200)]
        found = [paired_proportion(one.ravel() * 1.0 - two.ravel(), codes, min_patients=10) for one, two in pairs]
        share[patients] = np.mean([difference.p_above(-0.05) < 0.025 for difference in found])
        spread = float(np.std([difference.estimate.value for difference in found]))
        assert share[patients] == pytest.approx(norm.cdf(0.05 / spread - 1.96), abs=0.11)
    assert share[160] > share[40] + 0.25


def test_areas_at_the_margin_pass_in_one_of_forty_runs_where_delongs_test_passes_too_many() -> None:
    """60 patients, AUC 0.92 against 0.97, margin 0.05; the normal approximation passes more than twice the 2.5 %."""
    from scipy.stats import norm

    draw, repeats, labels, patients = np.random.default_rng(10), 500, np.tile([0, 1], 30), np.arange(60)
    gains, passed = [math.sqrt(2) * norm.ppf(area) for area in (0.92, 0.97)], {"ours": 0, "normal": 0}
    for _ in range(repeats):
        shared = draw.normal(size=60)
        arms = []
        for gain in gains:
            score = gain * labels + math.sqrt(0.5) * (shared + draw.normal(size=60))
            arms.append(auc_arm(labels, np.c_[-score, score], patients, min_patients=10))
        passed["ours"] += difference_of_arms(*arms, n_patients=60, n_rows=60).p_above(-0.05) < 0.025
        error = math.sqrt(np.sum((arms[0].influence - arms[1].influence) ** 2))
        value = arms[0].estimate.value - arms[1].estimate.value
        passed["normal"] += value - 1.96 * error > -0.05
    assert passed["ours"] / repeats < 0.025 + 3 * math.sqrt(0.025 * 0.975 / repeats)
    assert passed["normal"] > 2 * passed["ours"]
    assert passed["normal"] / repeats > 0.05
