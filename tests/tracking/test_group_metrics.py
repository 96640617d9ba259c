"""Metrics per group, against fairlearn and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score

from pipeline.tracking.group_metrics import (
    GroupRow,
    flat_metrics,
    group_rows,
    overall_metrics,
    slug,
    weighted_accuracy,
    weighted_auc,
)


def softmax_scores(rng: np.random.Generator, n: int, classes: int) -> np.ndarray:
    """Probabilities rounded to one digit before they are normalised, so that many tie."""
    rough = np.round(rng.uniform(size=(n, classes)), 1) + 0.1
    return rough / rough.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_two_class_auc_with_ties_is_scikit_learns(seed: int) -> None:
    """The second class is the positive one."""
    rng = np.random.default_rng(seed)
    labels, scores = np.append(rng.integers(2, size=58), [0, 1]), softmax_scores(rng, 60, 2)
    assert len(np.unique(scores[:, 1])) < 60, "without ties this shows less"
    assert overall_metrics(labels, scores)["auc"] == pytest.approx(roc_auc_score(labels, scores[:, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_multi_class_auc_is_scikit_learns_macro_one_versus_rest(seed: int) -> None:
    """Every class counts the same, however rare."""
    rng = np.random.default_rng(seed)
    labels = np.append(rng.choice(4, p=[0.7, 0.1, 0.1, 0.1], size=80), [0, 1, 2, 3])
    scores = softmax_scores(rng, 84, 4)
    expected = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert overall_metrics(labels, scores)["auc"] == pytest.approx(expected)


def test_weights_count_like_repeated_rows() -> None:
    """A bootstrap's weights say how often a row was drawn: drawing it three times is listing it three times."""
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(3, size=30), softmax_scores(rng, 30, 3)
    weights = rng.integers(0, 4, size=(6, 30))
    for row, auc, accuracy in zip(
        weights, weighted_auc(labels, scores, weights), weighted_accuracy(labels, scores, weights), strict=True
    ):
        again = np.repeat(np.arange(30), row)
        assert auc == pytest.approx(roc_auc_score(labels[again], scores[again], multi_class="ovr"))
        assert accuracy == pytest.approx(accuracy_score(labels[again], scores[again].argmax(axis=1)))


def test_auc_worked_out_by_hand() -> None:
    """Positives 0.8 and 0.4, negatives 0.4 and 0.2: three wins and one tie of four pairs, 3.5 / 4."""
    positive = np.array([0.8, 0.4, 0.4, 0.2])
    assert overall_metrics([1, 1, 0, 0], np.c_[1 - positive, positive])["auc"] == 0.875


def test_accuracy_per_group_is_fairlearns() -> None:
    """MetricFrame takes another way: pandas groupby over a callable."""
    fairlearn = pytest.importorskip("fairlearn.metrics")
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(3, size=90), softmax_scores(rng, 90, 3)
    vendors = rng.choice(["Siemens", "GE", "Canon"], size=90).tolist()
    oracle = fairlearn.MetricFrame(
        metrics=accuracy_score, y_true=labels, y_pred=scores.argmax(axis=1), sensitive_features=vendors
    ).by_group
    ours = {row.group: row.accuracy for row in group_rows(labels, scores, {"vendor": vendors})}
    assert ours == pytest.approx(oracle.to_dict())


def test_no_group_is_dropped() -> None:
    """One class only: no AUC, but accuracy; no case: neither, and still a row."""
    rows = group_rows(
        [0, 1, 1],
        [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]],
        {"vendor": ["GE", "GE", "UIH"]},
        {"vendor": ["Canon", "GE"]},
    )
    assert [(row.group, row.n, row.estimable) for row in rows] == [
        ("Canon", 0, False),
        ("GE", 2, True),
        ("UIH", 1, False),
    ]
    canon, ge, uih = rows
    assert math.isnan(canon.accuracy)
    assert math.isnan(canon.auc)
    assert (ge.accuracy, ge.auc) == (1.0, 1.0)
    assert uih.accuracy == 0.0
    assert math.isnan(uih.auc)


def test_the_worst_group_is_the_lowest_that_can_be_estimated() -> None:
    """A group without AUC still counts for accuracy: leaving it out would hide it."""
    rows = [
        GroupRow("vendor", "GE", 9, 0.8, 0.9, True),
        GroupRow("vendor", "UIH", 2, 0.5, math.nan, False),
        GroupRow("vendor", "Canon", 0, math.nan, math.nan, False),
    ]
    named = flat_metrics("test", rows, average={"accuracy": 0.7, "auc": math.nan})
    assert named == {
        "test/n/vendor/ge": 9.0,
        "test/n/vendor/uih": 2.0,
        "test/n/vendor/canon": 0.0,
        "test/accuracy/vendor/ge": 0.8,
        "test/auc/vendor/ge": 0.9,
        "test/accuracy/vendor/uih": 0.5,
        "test/accuracy/worst/vendor": 0.5,
        "test/auc/worst/vendor": 0.9,
        "test/accuracy/average": 0.7,
    }


def test_groups_that_would_share_a_name_are_refused() -> None:
    """Otherwise one group's numbers overwrite the other's, and nobody sees it."""
    rows = [GroupRow("scanner", name, 5, 0.5, 0.5, True) for name in ("Skyra (3 T)", "Skyra 3 T")]
    with pytest.raises(ValueError, match=r"'Skyra \(3 T\)'.*'Skyra 3 T'.*skyra-3-t"):
        flat_metrics("test", rows)


@given(st.text(max_size=40))
def test_a_slug_is_never_empty_and_always_a_valid_name(name: str) -> None:
    """Any text, in any script; never a dot path, which a tracking server refuses."""
    found = slug(name)
    assert found
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert found not in {".", ".."}
    assert slug(found) == found


def test_names_in_other_scripts_stay_apart() -> None:
    """Their slugs are digests of the name."""
    assert slug("北京") != slug("東京")


def test_a_label_without_a_probability_column_is_refused() -> None:
    """A code of -1 would silently count from the end."""
    with pytest.raises(ValueError, match=r"0 … 1.*got \[-1, 2\]"):
        overall_metrics([-1, 2, 0], [[0.5, 0.5]] * 3)


def test_a_group_list_of_another_length_is_refused() -> None:
    """Named with both lengths."""
    with pytest.raises(ValueError, match="'vendor' has 1 names for 2 rows"):
        group_rows([0, 1], [[0.5, 0.5]] * 2, {"vendor": ["GE"]})
