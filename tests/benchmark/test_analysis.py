from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.weightstats import DescrStatsW

from pipeline.benchmark.analysis import (
    AUC_REPLICATES,
    METRICS,
    REPLICATES,
    Estimate,
    Runs,
    difference,
    difference_draws,
    draws,
    estimate,
    group_accuracies,
    lowest_group,
    mean_difference,
    over_seeds,
    pooled,
    row_weights,
    seed_weights,
    without_classes,
)
from pipeline.benchmark.comparison import best_baseline, regimes, summarise
from pipeline.benchmark.records import FloatArray, HeldOut
from tests.benchmark.synthetic import crossed_test_set, measurement, phantom_test_set, probabilities

UNEVEN = {"Canon": 0.6, "GE": 0.65, "Philips": 0.85, "Siemens": 0.9}


def _runs(test: HeldOut, accuracy: dict[str, float], *, seeds: int = 3, start: int = 0) -> Runs:
    rng = np.random.default_rng(start)
    return pooled([measurement(test, probabilities(test, accuracy, rng), seed=seed) for seed in range(seeds)])


def _decided(held_out: HeldOut, right: list[int]) -> FloatArray:
    """Certain, and right where told."""
    decision = np.where(np.array(right) == 1, held_out.labels, 1 - held_out.labels)
    return np.eye(2)[decision]


def test_the_lowest_group_is_that_of_the_means_over_seeds() -> None:
    """Seed 0: a 1/2, b 1; seed 1: a 1, b 1/2: means 3/4 and 3/4. The mean of the seeds' own lowest would be 1/2."""
    test = HeldOut(("x", "y"), ("a", "b"), [0, 1, 0, 1], [0, 0, 1, 1], [1, 2, 3, 4])
    runs = pooled([
        measurement(test, _decided(test, [1, 0, 1, 1]), seed=0),
        measurement(test, _decided(test, [1, 1, 0, 1]), seed=1),
    ])  # fmt: skip
    assert estimate(runs, "worst_group_accuracy").value == 0.75
    assert estimate(runs, "accuracy").value == 0.75
    assert estimate(runs, "gap").value == 0.0
    assert estimate(runs, "worst_cell_accuracy").value == 0.5, "cells: 1, 1/2, 1/2, 1"
    assert estimate(runs, "ece").value == 0.25, "always certain, right in 3 of 4 in each seed"
    assert lowest_group(runs) == "a", "the first by name of equals"


def _naive(runs: Runs, metric: str, draw: int) -> float:
    """One draw, patient by patient: rows repeated, means taken, the lowest last."""
    shares = seed_weights(len(runs.seeds), 1 + draw)[draw]
    values: dict[str, list[float]] = {}
    for held_out, given in zip(runs.held_out, runs.probabilities, strict=True):
        replicates = AUC_REPLICATES if metric == "worst_group_auc" else REPLICATES
        rows = np.repeat(np.arange(len(held_out.labels)), row_weights(held_out, replicates)[draw].astype(int))
        y, p, g = held_out.labels[rows], given[rows], held_out.group_index[rows]
        right, confidence = p.argmax(axis=1) == y, p.max(axis=1)
        if metric == "accuracy":
            values.setdefault("all", []).append(right.mean())
        elif metric == "ece":
            bins = [(confidence >= k / 15) & ((confidence < (k + 1) / 15) | (k == 14)) for k in range(15)]
            parts = [b.mean() * abs(right[b].mean() - confidence[b].mean()) for b in bins if b.any()]
            values.setdefault("all", []).append(sum(parts))
        elif metric == "worst_cell_accuracy":
            for group in range(4):
                for label in range(3):
                    values.setdefault(f"{group} {label}", []).append(right[(g == group) & (y == label)].mean())
        else:
            for group in range(4):
                inside = g == group
                auc = metric == "worst_group_auc"
                value = roc_auc_score(np.eye(3)[y[inside]], p[inside]) if auc else right[inside].mean()
                values.setdefault(str(group), []).append(value)
    means = [float(shares @ np.array(v)) for v in values.values()]
    return max(means) - min(means) if metric == "gap" else min(means)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("make", [phantom_test_set, lambda: crossed_test_set([f"P{k}" for k in range(24)])])
def test_every_draw_has_the_value_that_a_loop_over_patients_finds(metric: str, make: Callable[[], HeldOut]) -> None:
    """The same draws, counted by hand; the AUC by scikit-learn."""
    runs = _runs(make(), UNEVEN)
    found = draws(runs, metric)
    some = (0, 1, 17, 400)
    assert [found[draw] for draw in some] == pytest.approx([_naive(runs, metric, draw) for draw in some], abs=1e-12)


def test_patients_are_drawn_whole_and_inside_their_group_and_class() -> None:
    test = crossed_test_set([f"P{k}" for k in range(12)])
    weights = row_weights(test, 50)
    for patient in np.unique(test.patients):
        of_patient = weights[:, test.patients == patient]
        np.testing.assert_array_equal(of_patient, of_patient[:, [0]] @ np.ones((1, 4)))
    for label in range(3):
        np.testing.assert_array_equal(weights[:, test.labels == label].sum(axis=1), np.full(51, 16.0))
    assert weights[1:].std() > 0.5


def test_each_group_and_class_keeps_its_number_of_patients_in_every_draw() -> None:
    test = phantom_test_set(5)
    weights = row_weights(test, 50)
    for group in range(4):
        for label in range(3):
            cell = (test.group_index == group) & (test.labels == label)
            np.testing.assert_array_equal(weights[:, cell].sum(axis=1), np.full(51, 5.0))


def test_seeds_and_patients_both_widen_the_interval() -> None:
    """One seed copied leaves patients only; models that are right everywhere or nowhere leave seeds only."""
    test = phantom_test_set()
    given = probabilities(test, UNEVEN, np.random.default_rng(1))
    copies = pooled([measurement(test, given, seed=seed) for seed in range(5)])
    alone = pooled([measurement(test, given)])
    assert estimate(copies, "accuracy").high - estimate(copies, "accuracy").low == pytest.approx(
        estimate(alone, "accuracy").high - estimate(alone, "accuracy").low, abs=0.01
    )
    turned = np.eye(3)[(test.labels + 1) % 3]
    extremes = pooled([measurement(test, np.eye(3)[test.labels], seed=0), measurement(test, turned, seed=1)])
    assert estimate(extremes, "accuracy") == Estimate(0.5, 0.0, 1.0)


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    """N = 400 patients of one stratum right with 0.7, one seed: 1.96 sqrt(0.7 * 0.3 / 400) = 0.045 to each side."""
    test = HeldOut(("x", "y"), ("a",), np.zeros(400), np.zeros(400), np.arange(400))
    found = estimate(pooled([measurement(test, _decided(test, [1] * 280 + [0] * 120))]), "accuracy")
    assert (found.value - found.low, found.high - found.value) == pytest.approx((0.045, 0.045), abs=0.004)


@pytest.mark.parametrize("metric", METRICS)
def test_a_model_differs_from_itself_by_nothing(metric: str) -> None:
    runs = _runs(phantom_test_set(), UNEVEN)
    assert difference(runs, runs, metric) == Estimate(0.0, 0.0, 0.0)


def test_a_difference_is_taken_on_shared_seeds_and_is_the_difference_of_the_values() -> None:
    test = phantom_test_set()
    one, other = _runs(test, UNEVEN, seeds=5), _runs(test, dict.fromkeys(UNEVEN, 0.95), seeds=3, start=9)
    found = difference(one, other, "worst_group_accuracy")
    values = [estimate(runs.only([0, 1, 2]), "worst_group_accuracy").value for runs in (one, other)]
    assert found.value == pytest.approx(values[0] - values[1])
    assert found.sign == -1


def test_models_tested_on_different_patients_are_not_compared() -> None:
    one, other = _runs(phantom_test_set(), UNEVEN), _runs(phantom_test_set(5), UNEVEN)
    with pytest.raises(ValueError, match="same seeds and patients; these share the seeds \\[0, 1, 2\\]"):
        difference(one, other, "accuracy")


def test_pairing_makes_a_difference_surer_than_two_intervals_do() -> None:
    """The better model makes the same errors but four: patients who are hard for one are hard for both."""
    test = phantom_test_set()
    right = (np.random.default_rng(3).random(144) < 0.7).astype(int)
    better = right.copy()
    better[np.flatnonzero(right == 0)[:8]] = 1
    turned = (test.labels + 1) % 3
    one, other = (
        pooled([measurement(test, np.eye(3)[np.where(r == 1, test.labels, turned)])]) for r in (better, right)
    )
    paired, alone = difference(one, other, "accuracy"), estimate(other, "accuracy")
    assert paired.sign == 1
    assert paired.high - paired.low < 0.6 * (alone.high - alone.low)


def test_pooled_folds_are_the_folds_put_together() -> None:
    names = [f"P{k}" for k in range(24)]
    whole = crossed_test_set(names)
    given = probabilities(whole, UNEVEN, np.random.default_rng(0))
    parts = []
    for fold in range(4):
        test = crossed_test_set(names[fold::4])
        rows = [int(np.flatnonzero((whole.patients == p) & (whole.group_index == g))[0])
                for p, g in zip(test.patients, test.group_index, strict=True)]  # fmt: skip
        parts.append(measurement(test, given[rows], fold=fold))
    together, alone = pooled(parts, folds=4), pooled([measurement(whole, given)])
    assert together.held_out[0].digest == alone.held_out[0].digest
    np.testing.assert_array_equal(together.probabilities[0], alone.probabilities[0])
    assert pooled(parts[:3], folds=4).seeds == (), "a seed without all its folds is not a seed"


def test_a_patient_in_two_folds_is_refused() -> None:
    test = crossed_test_set(["P0", "P1"])
    given = np.full((8, 3), 1 / 3)
    with pytest.raises(ValueError, match="share 2 patients"):
        pooled([measurement(test, given, fold=fold) for fold in range(2)], folds=2)


def test_a_mean_over_seeds_has_an_interval_over_seeds() -> None:
    """Oracle: Student's t of statsmodels; shares end at 0 and 1."""
    values = [0.5, 0.52, 0.56]
    found = over_seeds(values)
    assert (found.low, found.high) == pytest.approx(DescrStatsW(values).tconfint_mean(0.05))
    assert over_seeds([0.0, 1.0]) == Estimate(0.5, 0.0, 1.0)
    assert over_seeds([0.7]) == Estimate(0.7, 0.7, 0.7)


def test_the_baseline_is_chosen_by_validation_not_by_test() -> None:
    """`kd` wins on the test set, `erm` on validation; the proposed method and the teacher are no baselines."""
    test, rng = phantom_test_set(2), np.random.default_rng(0)
    told = {"kd": (0.9, 0.6), "erm": (0.5, 0.7), "groupdistil": (0.9, 0.9), "teacher": (0.9, 0.9)}
    summaries = [
        summarise([
            measurement(
                test, probabilities(test, dict.fromkeys(UNEVEN, accuracy), rng), model=model,
                validation_worst_accuracy=validation, role="teacher" if model == "teacher" else "student",
            )
        ], metrics=())
        for model, (accuracy, validation) in told.items()
    ]  # fmt: skip
    best = best_baseline(summaries)
    assert best is not None
    assert best.model == "erm"
    assert best_baseline(summaries[2:]) is None


def test_a_regime_is_the_difference_at_its_dials_and_says_if_the_minority_was_underfitted() -> None:
    """At confounding 1 the minority is learnt 5 points worse: underfitted, the limit included; at 0 it is not."""
    test, measurements = phantom_test_set(), []
    for confounding, minority in ((1, 0.85), (0, 0.86)):
        for model, weak in (("kd", 0.0), ("groupdistil", float(confounding))):
            right = np.where(test.group_index == 0, weak, 1.0)
            given = np.eye(3)[np.where(right == 1, test.labels, (test.labels + 1) % 3)]
            measurements += [
                measurement(test, given, dials={"confounding": confounding}, model=f"{model}@tiny", seed=seed,
                            train_accuracy=0.9, train_minority_accuracy=minority)
                for seed in range(2)
            ]  # fmt: skip
    found = regimes(measurements)
    assert [regime.settings for regime in found] == [{"confounding": c, "variant": "tiny"} for c in (0, 1)]
    assert [regime.worst.value for regime in found] == [0.0, 1.0]
    assert [float(regime.draws["average"][0]) for regime in found] == [0.0, 0.25]
    assert "together" not in found[0].draws
    assert [regime.reference.underfitted for regime in found] == [False, True]
    assert [regime.seeds for regime in found] == [2, 2]


def test_the_mean_of_differences_is_as_sure_as_their_common_seeds_allow() -> None:
    """Two settings on the same patients and seeds: twice the same difference is no surer than once, and two opposite
    ones are surely nothing.
    """
    test = phantom_test_set()
    one, other = (_runs(test, dict.fromkeys(UNEVEN, accuracy), seeds=3) for accuracy in (0.9, 0.7))
    draws = difference_draws(one, other, "worst_group_accuracy")
    once = difference(one, other, "worst_group_accuracy")
    assert mean_difference([draws, draws]) == once
    assert mean_difference([draws, -draws]) == Estimate(0.0, 0.0, 0.0)


def test_classes_of_a_group_are_taken_together_only_where_groups_are_of_both() -> None:
    runs = _runs(phantom_test_set(), UNEVEN)
    assert without_classes(runs) is None
    test = runs.held_out[0]
    names = tuple(f"{vendor} x {label}" for vendor in test.groups for label in test.classes)
    both = replace(test, groups=names, group_index=test.group_index * 3 + test.labels)
    together = without_classes(replace(runs, held_out=(both,) * len(runs.seeds)))
    assert together is not None
    assert group_accuracies(together) == group_accuracies(runs)


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.0004, 0.1, 0), (0.0006, 0.1, 1), (-0.1, -0.0004, 0), (-0.1, -0.0006, -1), (-1, 1, 0)]
)
def test_an_interval_that_is_printed_with_an_end_of_nothing_does_not_exclude_it(
    low: float, high: float, sign: int
) -> None:
    assert Estimate((low + high) / 2, low, high).sign == sign


def test_the_interval_of_a_lowest_group_holds_the_truth_where_all_groups_are_alike() -> None:
    """Four groups of 36, each right with 0.8: the lowest is 0.71 on average. Of 40 cohorts at least 36 intervals must
    hold 0.8 (the draws' own percentiles do so in 72 of 100: 29 of these 40).
    """
    grid = np.indices((4, 36)).reshape(2, -1)
    held = 0
    for cohort in range(40):
        test = HeldOut(("x", "y"), tuple("abcd"), np.zeros(144), grid[0], np.arange(144) + 144 * cohort)
        right = np.random.default_rng(cohort).random(144) < 0.8
        found = estimate(
            pooled([measurement(test, _decided(test, right.astype(int).tolist()))]), "worst_group_accuracy"
        )
        held += found.low <= 0.8 <= found.high
    assert held >= 36


def test_an_interval_holds_its_value_and_stays_among_shares() -> None:
    runs = _runs(phantom_test_set(), dict.fromkeys(UNEVEN, 0.97))
    for metric in METRICS:
        found = estimate(runs, metric)
        assert 0 <= found.low <= found.value <= found.high <= 1
