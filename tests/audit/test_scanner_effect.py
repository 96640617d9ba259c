"""Is there any scanner effect: against other libraries, by hand, and by how often it cries wolf."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.oneway import anova_oneway

from pipeline.audit.group_auc import GroupAuc
from pipeline.audit.permutation import between_groups, by_patient, centred_members, coded, group_moments, permuted
from pipeline.audit.scanner_effect import NO_VARIATION, NOTHING_TO_COMPARE, scanner_effect, scanner_effect_auc
from pipeline.audit.statistics import BLOCK_SIZE, Sample


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def three_groups() -> tuple[np.ndarray, np.ndarray]:
    """Unlike in number and in spread."""
    groups = np.repeat(["Canon", "GE", "Philips"], [5, 12, 9])
    return rng(3).normal(0, np.where(groups == "GE", 3.0, 1.0)), groups


def table_moments(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    centred, members = centred_members(by_patient(values, np.arange(len(values)), groups, None))
    return *group_moments(centred, members), members.sum(axis=0)


def two_class(labels: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> Sample:
    return Sample(labels, np.c_[-scores, scores], patients)


def test_two_against_two_is_a_third_of_the_six_arrangements() -> None:
    """1, 1 v 0, 0: of the six ways to deal them, two are as extreme."""
    found = scanner_effect([1, 1, 0, 0], range(4), ["a", "a", "b", "b"], rng=rng())
    assert found.p == pytest.approx(1 / 3, abs=0.015)
    assert (found.groups, found.n_patients, found.permutations) == (("a", "b"), 4, 9999)


def test_the_statistic_is_the_tail_of_brown_and_forsythe_as_statsmodels_has_it() -> None:
    """With Mehrotra's degrees of freedom; three groups, unlike in number and spread."""
    values, groups = three_groups()
    parts = [values[groups == name] for name in ("Canon", "GE", "Philips")]
    expected = anova_oneway(parts, use_var="bf").pvalue
    assert float(between_groups(*table_moments(values, groups))) == pytest.approx(-math.log(expected))


def test_with_two_groups_the_statistic_is_that_of_welch() -> None:
    """Its F is the square of his t, with his degrees of freedom."""
    values, groups = three_groups()
    kept = groups != "Philips"
    expected = stats.ttest_ind(values[groups == "Canon"], values[groups == "GE"], equal_var=False).pvalue
    assert float(between_groups(*table_moments(values[kept], groups[kept]))) == pytest.approx(-math.log(expected))


def test_the_p_value_is_that_of_scipys_permutation_test() -> None:
    """Scipy permutes with a statistic written anew: minus statsmodels' p value."""
    values, groups = three_groups()
    values = values + np.where(groups == "Philips", 1.2, 0.0)
    parts = [values[groups == name] for name in ("Canon", "GE", "Philips")]

    def tail(*samples: np.ndarray) -> float:
        return -float(anova_oneway(samples, use_var="bf").pvalue)

    oracle = stats.permutation_test(parts, tail, n_resamples=800, alternative="greater", rng=rng(1)).pvalue
    found = scanner_effect(values, np.arange(26), groups, rng=rng(2))
    error = 3 * math.sqrt(found.p * (1 - found.p) / 800)
    assert 0.005 < found.p < 0.5
    assert found.p == pytest.approx(oracle, abs=error)


def test_rows_and_their_order_do_not_count_patients_do() -> None:
    """Every row three times, shuffled: the same p value."""
    values, groups = three_groups()
    rows = rng(4).permutation(np.tile(np.arange(26), 3))
    once = scanner_effect(values, np.arange(26), groups, rng=rng(5), permutations=200)
    often = scanner_effect(values[rows], rows, groups[rows], rng=rng(5), permutations=200)
    assert once.p == often.p


def test_a_scanner_with_the_difficult_disease_is_not_blamed_for_it() -> None:
    """Half of the easy and one in eight of the difficult are wrong everywhere; GE sees the difficult ones."""
    difficult = np.repeat([0, 1, 0, 1], [40, 8, 8, 40])
    groups = np.repeat(["Canon", "GE"], 48)
    right = np.where(difficult == 1, np.arange(96) % 8 < 4, np.arange(96) % 8 < 7)
    assert scanner_effect(right, range(96), groups, rng=rng(), permutations=999).p < 0.02
    assert scanner_effect(right, range(96), groups, rng=rng(), strata=difficult, permutations=999).p > 0.5


def test_permutations_stay_within_strata_and_come_in_blocks() -> None:
    """Whatever the block, each stratum keeps its entries."""
    strata = np.array([0, 1, 0, 1, 1, 0])
    blocks = list(permuted(np.arange(6), strata, 5, rng(), width=BLOCK_SIZE // 2))
    assert [len(block) for block in blocks] == [2, 2, 1]
    for row in np.concatenate(blocks):
        assert sorted(row[strata == 0]) == [0, 2, 5]
        assert sorted(row[strata == 1]) == [1, 3, 4]


def test_a_patient_of_two_scanners_is_left_out_and_counted() -> None:
    """Patient 0 was seen on both; rows without a value do not count."""
    values = [1, 1, math.nan, 0, 1, 0, 1]
    found = scanner_effect(values, [0, 0, 1, 1, 2, 3, 4], ["a", "b", "b", "a", "a", "b", "b"], rng=rng())
    assert (found.in_several, found.n_patients) == (1, 4)
    assert found.estimable


@pytest.mark.parametrize(
    ("values", "groups", "strata", "reason"),
    [
        ([], [], None, NOTHING_TO_COMPARE),
        ([math.nan, math.nan], ["a", "b"], None, NOTHING_TO_COMPARE),
        ([1, 0, 1], ["a", "a", "b"], None, NOTHING_TO_COMPARE),
        ([1, 0, 1, 0], ["a", "a", "b", "b"], ["x", "x", "y", "y"], NOTHING_TO_COMPARE),
        ([0.7, 0.7, 0.7, 0.7], ["a", "a", "b", "b"], None, NO_VARIATION),
        ([1, 0, 1, 0], ["a", "a", "b", "b"], ["x", "y", "x", "y"], NO_VARIATION),
    ],
)
def test_what_cannot_be_tested_says_why(
    values: list[float], groups: list[str], strata: list[str] | None, reason: str
) -> None:
    """No p value, never an error: nobody, nobody known, one patient, nothing shared, no variation."""
    found = scanner_effect(values, range(len(values)), groups, rng=rng(), strata=strata)
    assert (found.reason, found.estimable) == (reason, False)
    assert math.isnan(found.p)


def test_a_group_of_one_patient_is_named_and_left_out() -> None:
    """The other two are compared."""
    found = scanner_effect([1, 0, 1, 0, 1], range(5), ["a", "a", "b", "b", "c"], rng=rng(), permutations=99)
    assert (found.groups, found.left_out) == (("a", "b"), ("c",))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry per row; got 2, 2, 1 and 2"):
        scanner_effect([1, 0], [0, 1], ["a"], rng=rng())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, math.nan]), st.integers(0, 8), st.integers(0, 3), st.integers(0, 1)),
        max_size=40,
    )
)
def test_any_table_gives_a_p_value_or_a_reason(rows: list[tuple[float, int, int, int]]) -> None:
    """Patients in several groups and strata, NaN, empty: p in (0, 1], or none and why; no group is forgotten."""
    values, patients, groups, strata = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    found = scanner_effect(values, patients, groups, rng=rng(), strata=strata, permutations=19)
    assert found.estimable == (0 < found.p <= 1)
    assert len(found.groups) + len(found.left_out) == len({g for v, _, g, _ in rows if not math.isnan(v)})


def size(p_values: list[float]) -> tuple[float, float]:
    """Share below 0.05, and three Monte-Carlo standard errors around 0.05."""
    return float(np.mean(np.array(p_values) <= 0.05)), 3 * math.sqrt(0.05 * 0.95 / len(p_values))


def test_identical_scanners_are_called_different_in_five_per_cent_and_by_slices_in_most() -> None:
    """6 scanners x 30 patients x 10 slices, patients' own accuracies beta with ICC 0.3."""
    draw, groups, ours, slices = rng(7), np.repeat(np.arange(6), 30), [], []
    for _ in range(300):
        right = draw.binomial(10, draw.beta(0.85 * 7 / 3, 0.15 * 7 / 3, 180))
        ours.append(scanner_effect(right / 10, range(180), groups, rng=draw, permutations=99).p)
        counts = np.bincount(groups, right)
        slices.append(float(stats.chi2_contingency([counts, 300 - counts]).pvalue))
    found, error = size(ours)
    assert found == pytest.approx(0.05, abs=error)
    assert size(slices)[0] > 0.5


@pytest.mark.parametrize("spread", [(1, 1, 1.5, 2, 3), (3, 2, 1.5, 1, 1)])
def test_the_size_holds_where_small_or_large_groups_vary_more(spread: tuple[float, ...]) -> None:
    """Plain analysis of variance rejects 47 % and 0.2 % here; allowed: 5 % + 2 + three standard errors."""
    sizes, draw = (80, 40, 25, 15, 8), rng(8)
    groups, wide = np.repeat(np.arange(5), sizes), np.repeat(spread, sizes)
    drawn = [
        scanner_effect(draw.normal(0, wide), range(len(groups)), groups, rng=draw, permutations=99).p
        for _ in range(300)
    ]
    found, error = size(drawn)
    assert 0.01 < found < 0.07 + error


def test_numbers_are_coded_in_the_order_of_their_text() -> None:
    """As the same names are that were read as text; missing ones are a name."""
    for kinds in (
        np.array([10, 9, 10, 2]),
        np.array(["10", "9", "10", "2"]),
        np.array([10, "9", 10, "2"], dtype=object),
    ):
        names, codes = coded(kinds)
        assert (names.tolist(), codes.tolist()) == (["10", "2", "9"], [0, 2, 0, 1])
    assert coded(np.array([None, "GE", None], dtype=object))[0].tolist() == ["GE", "None"]


def test_auc_of_every_group_is_that_of_scikit_learn_and_its_error_that_of_delong() -> None:
    """One row per patient, ties among the scores; placements by a double loop over pairs."""
    draw = rng(9)
    labels, scores, groups = draw.integers(0, 2, 60), draw.integers(0, 12, 60).astype(float), np.arange(60) % 3
    scores += 3 * labels
    table = by_patient(np.zeros(60), np.arange(60), groups, labels)
    values, errors = GroupAuc(two_class(labels, scores, np.arange(60)), table)(table.groups[None])
    for g in range(3):
        upper, lower = scores[(groups == g) & (labels == 1)], scores[(groups == g) & (labels == 0)]
        wins = np.array([[1.0 if x > y else 0.5 if x == y else 0.0 for y in lower] for x in upper])
        variance = wins.mean(axis=1).var(ddof=1) / len(upper) + wins.mean(axis=0).var(ddof=1) / len(lower)
        assert values[0, g] == pytest.approx(roc_auc_score(labels[groups == g], scores[groups == g]))
        assert errors[0, g] == pytest.approx(variance, abs=1e-10)


def test_auc_of_three_classes_is_the_mean_of_each_against_the_rest() -> None:
    """As scikit-learn's macro average."""
    draw = rng(10)
    labels, scores = np.tile([0, 1, 2], 20), draw.dirichlet([1, 1, 1], 60)
    table = by_patient(np.zeros(60), np.arange(60), np.zeros(60), labels)
    values, _ = GroupAuc(Sample(labels, scores, np.arange(60)), table)(table.groups[None])
    assert values[0, 0] == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr", average="macro"))


def test_repeating_every_row_leaves_auc_and_error_as_they_are() -> None:
    """The error counts patients."""
    draw = rng(11)
    labels, groups = np.tile([0, 1], 20), np.repeat([0, 1], 20)
    scores = draw.normal(labels, 1.0)
    table = by_patient(np.zeros(40), np.arange(40), groups, labels)
    once = GroupAuc(two_class(labels, scores, np.arange(40)), table)(table.groups[None])
    rows = np.tile(np.arange(40), 4)
    often = GroupAuc(two_class(labels[rows], scores[rows], rows), table)(table.groups[None])
    assert np.allclose(once, often)


def test_a_scanner_without_one_class_takes_no_part_in_the_auc_test() -> None:
    """GE has only sick patients; it is named."""
    labels, groups = (
        np.r_[np.tile([0, 1], 20), np.ones(5, dtype=int)],
        np.repeat(["Canon", "Philips", "GE"], [20, 20, 5]),
    )
    found = scanner_effect_auc(
        two_class(labels, rng().normal(labels), np.arange(45)), groups, rng=rng(), permutations=99
    )
    assert (found.groups, found.left_out, found.n_patients) == (("Canon", "Philips"), ("GE",), 40)
    assert 0 < found.p <= 1
    none = scanner_effect_auc(two_class(labels[:0], labels[:0] / 1.0, labels[:0]), [], rng=rng())
    assert none.reason == NOTHING_TO_COMPARE


def test_scanners_that_shift_the_scores_keep_the_size_and_a_lower_auc_is_found() -> None:
    """Three scanners x 30 patients x 2 slices; one shifts by 1. The other AUC falls from 0.86 to about 0.5."""
    draw, groups, labels = rng(12), np.repeat(np.repeat([0, 1, 2], 30), 2), np.repeat(np.tile([0, 1], 45), 2)
    patients, shifted, lower = np.repeat(np.arange(90), 2), [], []
    for _ in range(60):
        noise = np.repeat(draw.normal(0, 0.7, 90), 2) + draw.normal(0, 0.7, 180)
        for kept, signal in ((shifted, 1.5), (lower, np.where(groups == 2, 0.0, 1.5))):
            scores = signal * labels + noise + (groups == 1)
            kept.append(scanner_effect_auc(two_class(labels, scores, patients), groups, rng=draw, permutations=39).p)
    found, error = size(shifted)
    assert found < 0.05 + error
    assert size(lower)[0] > 0.75
