"""Numbers of one model on one test set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.audit.calibration import expected_calibration_error
from pipeline.benchmark.records import FloatArray, HeldOut
from pipeline.tracking.group_metrics import GroupRow, group_rows, overall_metrics

PROBE_FOLDS = 5


def group_accuracies(held_out: HeldOut, probabilities: ArrayLike) -> dict[str, float]:
    """Accuracy of each group that has a case, by name."""
    return {row.group: row.accuracy for row in _groups(held_out, probabilities)}


def held_out_scores(held_out: HeldOut, probabilities: ArrayLike) -> dict[str, Any]:
    """The columns of ``results.csv`` that follow from the predictions on the test set.

    Args:
        held_out: test set of ``n`` cases.
        probabilities: ``(n, C)``.

    Returns:
        ``accuracy``, ``worst_group`` (the first by name of equals), ``worst_group_accuracy``,
        ``worst_cell_accuracy`` (lowest of group x label, cells without a case left out), ``worst_group_auc`` (lowest
        over the groups in which every class occurs, NaN without one; each class against the rest, unweighted mean),
        ``gap`` (best minus worst group accuracy) and ``ece``.
    """
    names = [held_out.groups[index] for index in held_out.group_index]
    cells = [f"{name} x {label}" for name, label in zip(names, held_out.labels, strict=True)]
    groups = _groups(held_out, probabilities)
    worst = min(groups, key=lambda row: row.accuracy)
    return {
        "accuracy": overall_metrics(held_out.labels, probabilities)["accuracy"],
        "worst_group": worst.group,
        "worst_group_accuracy": worst.accuracy,
        "worst_cell_accuracy": min(row.accuracy for row in group_rows(held_out.labels, probabilities, {"cell": cells})),
        "worst_group_auc": min((row.auc for row in groups if not math.isnan(row.auc)), default=math.nan),
        "gap": max(row.accuracy for row in groups) - worst.accuracy,
        "ece": expected_calibration_error(held_out.labels, probabilities),
    }


def _groups(held_out: HeldOut, probabilities: ArrayLike) -> list[GroupRow]:
    names = [held_out.groups[index] for index in held_out.group_index]
    return group_rows(held_out.labels, probabilities, {"group": names})


def group_probe(features: FloatArray, groups: ArrayLike, patients: ArrayLike) -> float:
    """How well a linear classifier tells the group from a network's features.

    Logistic regression on standardised features, groups weighted equally; each patient's group is predicted by one of
    five fits that did not see the patient.

    Args:
        features: ``(n, F)``, what the network's last layer sees.
        groups: ``(n,)``, group of each case.
        patients: ``(n,)``, patient of each case.

    Returns:
        Balanced accuracy, in [0, 1]; chance is 1 over the number of groups. NaN with one group, or fewer than five
        patients in some group: five folds would not all hold it.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes, persons = np.asarray(groups), np.asarray(patients)
    sizes = [len(np.unique(persons[codes == code])) for code in np.unique(codes)]
    if len(sizes) < 2 or min(sizes) < PROBE_FOLDS:
        return math.nan
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    folds = StratifiedGroupKFold(PROBE_FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(probe, features, codes, groups=persons, cv=folds)
    return float(balanced_accuracy_score(codes, told))
