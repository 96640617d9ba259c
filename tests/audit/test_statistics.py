"""Intervals: against statsmodels, against their own equations, and by how often they cover the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from pipeline.audit.statistics import (
    Sample,
    bootstrap,
    estimate,
    newcombe_auc_interval,
    paired_difference,
    patient_weights,
    wilson_interval,
    worst_group,
)


def sample(labels: list[int], positive: list[float], patients: list[int] | None = None) -> Sample:
    """Two-class sample; one row per patient unless told."""
    scores = np.array(positive)
    own = np.arange(len(labels)) if patients is None else np.array(patients)
    return Sample(np.array(labels), np.c_[1 - scores, scores], own)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("right", "n"), [(0, 10), (7, 10), (36, 36), (131, 144)])
def test_wilson_is_that_of_statsmodels(right: int, n: int) -> None:
    """At both ends of the scale and between."""
    assert wilson_interval(right / n, n) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize(("auc", "m", "n"), [(0.8, 12, 24), (0.5, 20, 20), (0.97, 10, 5)])
def test_both_ends_of_the_auc_score_interval_solve_its_equation(auc: float, m: int, n: int) -> None:
    """|estimate - end| = z x standard error at the end, written out anew."""
    for end in newcombe_auc_interval(auc, m, n):
        more = ((m + n) / 2 - 1) * ((1 - end) / (2 - end) + end / (1 + end))
        assert abs(auc - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) * (1 + more) / (m * n)), rel=1e-5)


def test_the_auc_score_interval_has_width_at_one_and_mirrors() -> None:
    """Swapping the classes turns an AUC of 1 into 0; more patients narrow both."""
    low, high = newcombe_auc_interval(1.0, 8, 16)
    assert high == 1.0
    assert 0.5 < low < 0.95
    assert newcombe_auc_interval(0.0, 8, 16) == pytest.approx((0.0, 1 - low))
    assert newcombe_auc_interval(1.0, 80, 160)[0] > low


def test_a_patient_is_never_split() -> None:
    """All rows of a patient have the same count in every draw, and the counts of the patients sum to their number."""
    patients = np.array([0, 2, 1, 2, 0, 2])
    for weights in patient_weights(patients, 200, rng()):
        assert (weights[:, 0] == weights[:, 4]).all()
        assert (weights[:, [1, 3]] == weights[:, [5]]).all()
        assert (weights[:, [0, 2, 1]].sum(axis=1) == 3).all()
        assert len(np.unique(weights, axis=0)) > 5


def test_draws_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large table is drawn in blocks that fit into memory; the numbers must not notice."""
    patients = np.arange(12)
    whole = np.concatenate(list(patient_weights(patients, 50, rng())))
    monkeypatch.setattr("pipeline.audit.statistics.BLOCK_SIZE", 12 * 7)
    assert np.array_equal(np.concatenate(list(patient_weights(patients, 50, rng()))), whole)


def test_bootstrap_values_are_the_metrics_of_the_drawn_rows() -> None:
    """Drawn rows are laid out and given to scikit-learn."""
    draw = rng(3)
    rows = sample(draw.integers(2, size=30).tolist(), draw.uniform(size=30).tolist(), np.repeat(range(10), 3).tolist())
    values = bootstrap(rows, 40, rng(5))
    (weights,) = patient_weights(rows.patients, 40, rng(5))
    for row, accuracy, auc in zip(weights.astype(int), values["accuracy"], values["auc"], strict=True):
        again = np.repeat(np.arange(30), row)
        right = rows.probabilities[again].argmax(axis=1) == rows.labels[again]
        assert accuracy == pytest.approx(right.mean())
        assert auc == pytest.approx(roc_auc_score(rows.labels[again], rows.probabilities[again, 1]))


def test_all_right_gets_wilson_instead_of_certainty() -> None:
    """20 of 20: [0.839, 1], not [1, 1]; and the AUC of 1 a score interval as well."""
    rows = sample([0, 1] * 10, [0.1, 0.9] * 10)
    draws = bootstrap(rows, 500, rng())
    accuracy = estimate(rows, "accuracy", draws["accuracy"], min_patients=10)
    assert (accuracy.value, accuracy.interval) == (1.0, "Wilson")
    assert (round(accuracy.low, 3), accuracy.high) == (0.839, 1.0)
    auc = estimate(rows, "auc", draws["auc"], min_patients=10)
    assert (auc.value, auc.interval) == (1.0, "Newcombe")
    assert (auc.low, auc.high) == pytest.approx(newcombe_auc_interval(1.0, 10, 10))


def test_wilson_counts_patients_not_rows() -> None:
    """Twelve patients with five studies each, all right, are twelve observations."""
    rows = sample([1] * 60, [0.9] * 60, np.repeat(range(12), 5).tolist())
    found = estimate(rows, "accuracy", bootstrap(rows, 200, rng())["accuracy"], min_patients=10)
    assert (found.n_patients, found.n_rows) == (12, 60)
    assert (found.low, found.high) == pytest.approx(proportion_confint(12, 12, method="wilson"))


@pytest.mark.parametrize(
    ("labels", "metric", "reason", "value"),
    [
        ([0, 1] * 4, "accuracy", "too few patients", 1.0),
        ([1] * 12, "auc", "a class is absent", math.nan),
        ([1] * 11 + [0], "auc", "too few patients of a class", 1.0),
        ([], "accuracy", "no patients", math.nan),
    ],
)
def test_no_interval_without_the_patients_for_it(labels: list[int], metric: str, reason: str, value: float) -> None:
    """The value is printed where there is one, and the reason always."""
    rows = sample(labels, [0.2 + 0.6 * label for label in labels])
    found = estimate(rows, metric, bootstrap(rows, 100, rng())[metric], min_patients=10)
    assert (found.estimable, found.reason, found.interval) == (False, reason, None)
    assert found.value == pytest.approx(value, nan_ok=True)
    assert math.isnan(found.low)


def test_patient_intervals_cover_clustered_rows_and_row_intervals_do_not() -> None:
    """40 patients x 10 rows, patients' own accuracies beta(2, 0.667) around 0.75: a row bootstrap misses about every
    third time, the patient bootstrap keeps near 95 %.
    """
    draw, covered = rng(11), {"patients": 0, "rows": 0}
    truth, repeats = 2 / (2 + 2 / 3), 200
    for _ in range(repeats):
        right = draw.uniform(size=(40, 10)) < draw.beta(2, 2 / 3, size=(40, 1))
        positive = np.where(right.ravel(), 0.9, 0.1)  # every label is 1
        for unit, patients in (("patients", np.repeat(np.arange(40), 10)), ("rows", np.arange(400))):
            rows = Sample(np.ones(400, dtype=np.int64), np.c_[1 - positive, positive], patients)
            found = estimate(rows, "accuracy", bootstrap(rows, 200, draw)["accuracy"], min_patients=10)
            covered[unit] += found.low <= truth <= found.high
    assert covered["patients"] / repeats > 0.88
    assert covered["rows"] / repeats < 0.75


def test_the_worst_group_of_two_alike_is_a_toss_up() -> None:
    """Two groups with the same rows: each is lowest in half of the draws, ties shared."""
    labels, positive = [0, 1] * 20, [0.3, 0.7] * 15 + [0.7, 0.3] * 5
    draws = {
        name: bootstrap(sample(labels, positive), 4000, rng(seed))["accuracy"]
        for seed, name in enumerate(("GE", "Canon"))
    }
    found = worst_group({"GE": 0.75, "Canon": 0.75}, draws)
    assert found is not None
    assert found.frequency == pytest.approx(0.5, abs=0.03)
    assert sum(found.frequencies.values()) == pytest.approx(1.0)


def test_a_clearly_worst_group_is_the_worst_in_nearly_every_draw() -> None:
    """0.95 against 0.5, forty patients each."""
    good = sample([1] * 40, [0.9] * 38 + [0.1] * 2)
    bad = sample([1] * 40, [0.9] * 20 + [0.1] * 20)
    draws = {"GE": bootstrap(bad, 1000, rng(1))["accuracy"], "Canon": bootstrap(good, 1000, rng(2))["accuracy"]}
    found = worst_group({"GE": 0.5, "Canon": 0.95}, draws)
    assert found is not None
    assert (found.group, found.value) == ("GE", 0.5)
    assert found.frequency > 0.99


def test_one_group_is_not_the_worst_of_anything() -> None:
    """There is nothing to compare it with."""
    assert worst_group({"GE": 0.5}, {"GE": np.array([0.5])}) is None


def test_a_draw_without_auc_does_not_make_a_group_the_worst() -> None:
    """NaN in GE's second draw: Canon is lowest there; the third, NaN in both, does not count."""
    draws = {"GE": np.array([0.6, math.nan, math.nan]), "Canon": np.array([0.7, 0.7, math.nan])}
    found = worst_group({"GE": 0.6, "Canon": 0.7}, draws)
    assert found is not None
    assert found.frequencies == {"Canon": 0.5, "GE": 0.5}


def test_a_paired_difference_has_the_interval_of_its_standard_error() -> None:
    """200 patients, 30 lost and 10 won: -0.1 +- 1.96 x sqrt(var / n), var = (40 - 20^2 / 200) / 200."""
    difference = np.array([-1.0] * 30 + [1.0] * 10 + [0.0] * 160)
    found = paired_difference(difference, np.arange(200), 4000, rng(), min_patients=10)
    half = 1.96 * math.sqrt((40 - 20**2 / 200) / 200 / 200)
    assert found.value == pytest.approx(-0.1)
    assert (found.low, found.high) == pytest.approx((-0.1 - half, -0.1 + half), abs=0.01)


@pytest.mark.parametrize(("value", "method"), [(0.0, "Tango"), (1.0, "Wilson"), (-1.0, "Wilson")])
def test_models_that_never_differ_do_not_differ_by_exactly_nothing(value: float, method: str) -> None:
    """z2 = 3.84, n = 20: +-0.161 around 0; at 1 the lower end is (n - z2) / (n + z2) = 0.678."""
    found = paired_difference(np.full(20, value), np.arange(20), 200, rng(), min_patients=10)
    expected = {0.0: (-0.161, 0.161), 1.0: (0.678, 1.0), -1.0: (-1.0, -0.678)}[value]
    assert found.interval == method
    assert (found.low, found.high) == pytest.approx(expected, abs=5e-4)
