"""Groups compared within patients: against other libraries, by enumeration, and by how often it cries wolf."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.anova import AnovaRM

from pipeline.audit.cells import cells_of, permuted_cells
from pipeline.audit.contrast_tests import auc_p_values, mean_p_values
from pipeline.audit.delong import areas
from pipeline.audit.design import BETWEEN, WITHIN, choose_design
from pipeline.audit.scanner_effect import (
    NO_VARIATION_WITHIN,
    NOTHING_TO_COMPARE,
    scanner_effect,
    scanner_effect_auc,
)
from pipeline.audit.statistics import BLOCK_SIZE, Sample
from pipeline.audit.within_patients import OwnOthersAuc, against_own_others, auc_cells, between_own_groups

Array = np.ndarray


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def crossed(patients: int, groups: int) -> tuple[Array, Array]:
    """Patient and group of each row, where everybody was seen everywhere."""
    return np.repeat(np.arange(patients), groups), np.tile([f"scanner {g}" for g in range(groups)], patients)


def two_class(labels: Array, scores: Array, patients: Array) -> Sample:
    return Sample(labels, np.c_[-scores, scores], patients)


def test_the_statistic_is_the_analysis_of_variance_of_statsmodels_with_greenhouse_and_geissers_epsilon() -> None:
    """F from AnovaRM; epsilon from the doubly centred covariance matrix, as they wrote it."""
    values = rng(1).normal(size=(12, 4)) * [1, 1, 2, 3] + rng(2).normal(size=(12, 1)) + [0, 0.5, 0, 1]
    patients, groups = crossed(12, 4)
    rows = pd.DataFrame({"y": values.ravel(), "patient": patients, "scanner": groups})
    table = AnovaRM(rows, "y", "patient", within=["scanner"]).fit().anova_table
    centre = np.eye(4) - 1 / 4
    own = centre @ np.cov(values.T) @ centre
    epsilon = np.trace(own) ** 2 / (3 * np.trace(own @ own))
    expected = stats.f.sf(table["F Value"].iloc[0], 3 * epsilon, 33 * epsilon)
    present = np.ones((12, 4), dtype=bool)
    found = between_own_groups(*against_own_others(values[None], present), present)
    assert found[0] == pytest.approx(-math.log(expected))


def test_four_patients_who_are_all_better_on_one_of_two_scanners_are_two_of_sixteen() -> None:
    """Exchanging the two in any of them: all better or all worse are as extreme."""
    patients, groups = crossed(4, 2)
    found = scanner_effect(np.tile([1.0, 0.0], 4), patients, groups, rng=rng())
    assert found.p == pytest.approx(2 / 16, abs=0.015)
    assert (found.design, found.n_patients, found.groups) == (WITHIN, 4, ("scanner 0", "scanner 1"))


def test_a_contrast_is_the_paired_t_among_all_exchanges() -> None:
    """Seven patients, two scanners: all 128 by hand, twice the smaller tail, the observed one counting half."""
    difference = np.array([0.9, 0.4, -0.3, 1.2, 0.8, 0.1, 0.7])
    patients, groups = crossed(7, 2)
    values = np.c_[difference, np.zeros(7)] + np.arange(7)[:, None]

    def t(signs: tuple[int, ...]) -> float:
        return float(stats.ttest_1samp(np.array(signs) * difference, 0).statistic)

    drawn = np.array([t(signs) for signs in itertools.product((1, -1), repeat=7)])
    seen = t((1,) * 7)
    upper = np.mean(drawn > seen + 1e-9) + np.mean(np.abs(drawn - seen) < 1e-9) / 2
    found = mean_p_values(values.ravel(), patients, groups, rng=rng(), design=WITHIN)
    assert found["scanner 0"] == pytest.approx(2 * upper, abs=0.01)
    assert found["scanner 0"] == pytest.approx(found["scanner 1"], abs=1e-9)


def test_each_patient_is_their_own_control() -> None:
    """Patients differ by 10, one scanner by 0.5: hopeless between patients, plain within them."""
    values = 10 * rng(3).normal(size=(20, 1)) + 0.3 * rng(4).normal(size=(20, 3)) + [0, 0, 0.5]
    patients, groups = crossed(20, 3)
    within = scanner_effect(values.ravel(), patients, groups, rng=rng(), permutations=999)
    between = scanner_effect(values.ravel(), range(60), groups, rng=rng(), permutations=999)
    assert within.p < 0.01
    assert (between.design, between.p > 0.5) == (BETWEEN, True)
    p = mean_p_values(values.ravel(), patients, groups, rng=rng(), permutations=999, design=WITHIN)
    assert p["scanner 2"] < 0.01
    one = mean_p_values(
        values.ravel(), patients, groups, rng=rng(), permutations=999, design=WITHIN, reference="scanner 0"
    )
    assert list(one) == ["scanner 1", "scanner 2"]
    assert one["scanner 2"] < 0.01 < one["scanner 1"]


def test_cells_move_among_their_patients_own_groups_only_and_in_blocks() -> None:
    """Patient 1 has no second group; whatever the block."""
    present = np.array([[True, True, True], [True, False, True]])
    table = np.array([[1, 2, 3], [4, 0, 5]])
    blocks = list(permuted_cells(table, present, 5, rng(), width=BLOCK_SIZE // 2))
    assert [len(block) for block in blocks] == [2, 2, 1]
    drawn = np.concatenate(blocks)
    assert (np.sort(drawn[:, 0]) == [1, 2, 3]).all()
    assert (np.sort(drawn[:, 1][:, [0, 2]]) == [4, 5]).all()
    assert (drawn[:, 1, 1] == 0).all()
    assert len(np.unique(drawn.reshape(5, -1), axis=0)) > 1


def test_rows_of_a_patient_in_one_group_count_together() -> None:
    """Every row three times, shuffled: the same p value."""
    values = rng(5).normal(size=48) + np.tile([0, 0, 0, 0.8], 12)
    patients, groups = crossed(12, 4)
    rows = rng(6).permutation(np.tile(np.arange(48), 3))
    once = scanner_effect(values, patients, groups, rng=rng(), permutations=200)
    often = scanner_effect(values[rows], patients[rows], groups[rows], rng=rng(), permutations=200)
    assert once.p == often.p


def test_a_patient_whose_class_changed_between_scanners_is_compared_within_each_class() -> None:
    """Well on a and b, ill on c and d: two exchanges of two, not one of four."""
    found = cells_of(range(4), [7] * 4, list("abcd"), [0, 0, 1, 1])
    assert (found.patients.tolist(), found.n_patients) == ([], 0)  # one patient a group is too few
    twice = cells_of(range(8), np.repeat([7, 9], 4), list("abcd") * 2, [0, 0, 1, 1] * 2)
    assert (twice.patients.tolist(), twice.n_patients) == ([7, 7, 9, 9], 2)
    assert sorted(twice.present[:2].astype(int).tolist()) == [[0, 0, 1, 1], [1, 1, 0, 0]]
    alone = cells_of(range(8), np.repeat([7, 9], 4), list("abcd") * 2, [0, 0, 0, 1] * 2)
    assert alone.groups == ("a", "b", "c")


def test_the_design_with_more_patients_is_taken_and_the_others_are_counted() -> None:
    """Three of 23 seen twice: between. Twenty seen twice and three once: within, also where the others are in one."""
    singles, names = np.arange(20), np.tile(["a", "b"], 10)
    few, both = np.repeat([20, 21, 22], 2), np.tile(["a", "b"], 3)
    mostly = np.r_[singles, few], np.r_[names, both]
    assert choose_design(*mostly) == BETWEEN
    found = scanner_effect(rng().normal(size=26), *mostly, rng=rng(), permutations=99)
    assert (found.design, found.n_patients, found.in_several, found.in_one) == (BETWEEN, 20, 3, 0)
    patients, groups = crossed(20, 2)
    turned = np.r_[patients, 20, 21, 22], np.r_[groups, ["scanner 0", "scanner 1", "scanner 1"]]
    found = scanner_effect(rng().normal(size=43), *turned, rng=rng(), permutations=99)
    assert (found.design, found.n_patients, found.in_several, found.in_one) == (WITHIN, 20, 0, 3)
    one_sided = np.r_[singles, few], np.r_[np.repeat("a", 20), both]
    assert choose_design(*one_sided) == WITHIN


@pytest.mark.parametrize(
    ("values", "groups", "reason"),
    [
        ([1, 1, 0, 0], ["a", "b", "a", "b"], NO_VARIATION_WITHIN),
        ([1, 0, 1, 0], ["a", "b", "c", "d"], NOTHING_TO_COMPARE),
    ],
)
def test_what_cannot_be_tested_within_patients_says_why(values: list[int], groups: list[str], reason: str) -> None:
    """Nobody differs between scanners; no scanner has two patients."""
    found = scanner_effect(values, [0, 0, 1, 1], groups, rng=rng(), design=WITHIN)
    assert (found.reason, found.estimable) == (reason, False)
    assert all(math.isnan(p) for p in mean_p_values(values, [0, 0, 1, 1], groups, rng=rng(), design=WITHIN).values())


def test_an_area_is_held_against_that_of_the_same_patients_elsewhere() -> None:
    """Values of scikit-learn, three classes, errors by DeLong; a fourth scanner has one class, and no part."""
    draw, labels = rng(7), np.tile([0, 1, 2], 10)
    patients, groups = crossed(30, 3)
    scores = (draw.dirichlet([1, 1, 1], 90) + 0.3 * np.eye(3)[np.repeat(labels, 3)]) / 1.3
    sample = Sample(np.r_[np.repeat(labels, 3), [0] * 3], np.r_[scores, scores[:3]], np.r_[patients, 0, 3, 6])
    cells = auc_cells(sample, np.r_[groups, ["scanner 3"] * 3])
    assert cells.groups == ("scanner 0", "scanner 1", "scanner 2")
    means, added = OwnOthersAuc(sample, cells)(cells.codes[None])
    at = [np.r_[groups == f"scanner {g}", [False] * 3] for g in range(3)]
    oracle = [roc_auc_score(sample.labels[rows], sample.probabilities[rows], multi_class="ovr") for rows in at]
    assert means[0, 1] == pytest.approx(oracle[1] - (oracle[0] + oracle[2]) / 2)
    part = areas(sample.labels[at[0]], [sample.probabilities[rows] for rows in at], np.arange(30))
    weights = np.array([-0.5, 1, -0.5])
    assert np.sum(added[0, :, 1] ** 2) == pytest.approx(weights @ part.covariance @ weights)


def test_area_contrasts_within_patients_find_the_scanner_that_reads_at_random() -> None:
    """Thirty patients on three scanners; a scanner that shifts all scores is no worse for it."""
    draw, labels = rng(9), np.repeat(np.tile([0, 1], 15), 3)
    patients, groups = crossed(30, 3)
    signal = np.where(groups == "scanner 1", 0.0, 2.5) * labels + np.where(groups == "scanner 2", 1.0, 0.0)
    scores = signal + np.repeat(draw.normal(0, 0.7, 30), 3) + draw.normal(0, 0.7, 90)
    sample = two_class(labels, scores, patients)
    effect = scanner_effect_auc(sample, groups, rng=rng(), permutations=999)
    assert (effect.design, effect.p < 0.01) == (WITHIN, True)
    rest = auc_p_values(sample, groups, rng=rng(), permutations=999, design=WITHIN)
    assert rest["scanner 1"] < 0.01
    one = auc_p_values(sample, groups, rng=rng(), permutations=999, design=WITHIN, reference="scanner 0")
    assert one["scanner 1"] < 0.01 < one["scanner 2"]
    nobody_ill = two_class(0 * labels, scores, patients)
    assert all(math.isnan(p) for p in auc_p_values(nobody_ill, groups, rng=rng(), design=WITHIN).values())
    assert scanner_effect_auc(nobody_ill, groups, rng=rng(), design=WITHIN).reason == NOTHING_TO_COMPARE


def rejected(p_values: list[float]) -> float:
    return float(np.mean(np.array(p_values) <= 0.05))


SLACK = 3 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("noise", [1.0, 3.0])
def test_scanners_that_do_not_differ_are_called_different_in_five_per_cent(noise: float) -> None:
    """Twenty patients on four scanners, right or wrong; values with one scanner three times as noisy."""
    draw, found = rng(9), []
    patients, groups = crossed(20, 4)
    for _ in range(300):
        values = draw.normal(size=(20, 1)) + draw.normal(size=(20, 4)) * [1, 1, 1, noise]
        seen = values < 0.5 if noise == 1 else values
        found.append(scanner_effect(seen.ravel(), patients, groups, rng=draw, permutations=99).p)
    assert rejected(found) == pytest.approx(0.05, abs=SLACK + (0.02 if noise > 1 else 0))


def test_patients_on_two_of_four_scanners_keep_the_size() -> None:
    """Thirty patients, each on another pair."""
    draw, found = rng(10), []
    for _ in range(300):
        groups = np.concatenate([draw.permutation(4)[:2] for _ in range(30)])
        values = np.repeat(draw.normal(size=30), 2) + draw.normal(size=60)
        found.append(scanner_effect(values, np.repeat(np.arange(30), 2), groups, rng=draw, permutations=99).p)
    assert rejected(found) == pytest.approx(0.05, abs=SLACK)


def test_contrasts_and_areas_within_patients_keep_the_size() -> None:
    """Holm over four contrasts of right or wrong; the effect on an AUC, one scanner stretching the scores threefold."""
    draw, any_contrast, effect = rng(11), [], []
    patients, groups = crossed(24, 4)
    labels = np.repeat(np.tile([0, 1], 12), 4)
    for _ in range(150):
        scores = 1.5 * labels + np.repeat(draw.normal(size=24), 4) + draw.normal(size=96)
        p = mean_p_values(scores > 0.7, patients, groups, rng=draw, permutations=199, design=WITHIN)
        any_contrast.append(4 * min(p.values()))
        scores = np.where(groups == "scanner 1", 3 * scores + 1, scores)
        effect.append(scanner_effect_auc(two_class(labels, scores, patients), groups, rng=draw, permutations=49).p)
    slack = 3 * math.sqrt(0.05 * 0.95 / 150)
    assert 0 < rejected(any_contrast) < 0.05 + slack
    assert rejected(effect) < 0.05 + slack
