"""Samples to be compared: a value with its interval, and what each patient adds to its error.

Sums of squares of what patients add are variances, sums of products covariances: two samples that share patients are
compared by the same sum as two that do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audit.delong import Areas, areas
from pipeline.audit.intervals import auc_estimate, mean_interval, proportion_interval
from pipeline.audit.statistics import Estimate, FloatArray, IntArray

LEAST = 1e-12  # below it a variance is rounding


@dataclass(frozen=True)
class Arm:
    """One of two samples.

    Args:
        estimate: value and 95 % interval of the sample alone.
        influence: ``(P,)``, what each patient, by its code, adds to the error of the value; 0 for those not in the
            sample. Sums of squares are variances, sums of products covariances.
    """

    estimate: Estimate
    influence: FloatArray


def proportion_arm(right: FloatArray, patients: IntArray, *, min_patients: int) -> Arm:
    """Share of right answers (1; wrong 0) in one sample, both ``(n,)``; codes of other samples' patients leave gaps."""
    found = proportion_interval(right, without_gaps(patients), min_patients=min_patients)
    return Arm(found, mean_influence(right, patients))


def mean_arm(values: FloatArray, patients: IntArray, *, min_patients: int) -> Arm:
    """Mean of one sample; arguments as in :func:`proportion_arm`."""
    found = mean_interval(values, without_gaps(patients), min_patients=min_patients)
    return Arm(found, mean_influence(values, patients))


def auc_arm(labels: IntArray, probabilities: FloatArray, patients: IntArray, *, min_patients: int) -> Arm:
    """Area under the ROC curve of one sample, of labels ``(n,)`` and probabilities ``(n, C)``."""
    codes, owners = np.unique(patients, return_inverse=True)
    found = areas(labels, [probabilities], owners.astype(np.int64))
    return arm_of_areas([found], codes.astype(np.int64), len(labels), min_patients=min_patients)


def arm_of_areas(found: Sequence[Areas], codes: IntArray, n_rows: int, *, min_patients: int) -> Arm:
    """Mean of areas of one model over the same patients, e.g. one of each scanner.

    Args:
        found: areas over the same ``P`` patients; of those who are not in one, it has no influence.
        codes: ``(P,)``, of the patients.
        n_rows: rows behind all of them.
        min_patients: below it there is a value and no interval.
    """
    mean = Areas(
        np.mean([one.values for one in found], axis=0),
        np.mean([one.influence for one in found], axis=0),
        np.min([one.patients_per_class for one in found], axis=0),
    )
    influence = np.zeros(int(codes.max(initial=-1)) + 1)
    influence[codes] = mean.influence[:, 0]
    return Arm(auc_estimate(mean, n_rows, min_patients=min_patients), influence)


def shared_error(arms: Sequence[Arm]) -> float:
    """Mean correlation of the errors of several arms, in [0, 1]; 0 where no two have a patient in common.

    Args:
        arms: whose patients are coded alike.
    """
    length = max((len(arm.influence) for arm in arms), default=0)
    table = np.array([np.pad(arm.influence, (0, length - len(arm.influence))) for arm in arms]).reshape(
        len(arms), length
    )
    sizes = np.sqrt(np.sum(table**2, axis=1))
    products = float(np.sum(sizes) ** 2 - np.sum(sizes**2))
    together = float(np.sum(table.sum(axis=0) ** 2) - np.sum(sizes**2))
    return min(max(together / products, 0.0), 1.0) if products > LEAST else 0.0


def without_gaps(patients: IntArray) -> IntArray:
    """Codes ``0 … P - 1`` in place of some of the codes of more patients."""
    return np.unique(patients, return_inverse=True)[1].astype(np.int64)


def mean_influence(values: FloatArray, patients: IntArray) -> FloatArray:
    r"""What each patient adds to the error of a mean over rows; the sum of squares is the variance of the mean.

    .. math:: u_k = \sqrt{\tfrac{P}{P-1}} \, \frac1n \sum_{i \in k} (x_i - \bar x)

    Args:
        values: ``(n,)``.
        patients: ``(n,)``, codes, of P patients; gaps are allowed.

    Returns:
        One value per code; 0 for codes without a row, and for a patient alone.
    """
    total = len(rows_per_patient(patients))
    if total < 2:
        return np.zeros(int(patients.max(initial=-1)) + 1)
    error = (values - np.mean(values)) / len(values)
    return np.asarray(np.bincount(patients, error) * math.sqrt(total / (total - 1)))


def rows_per_patient(patients: IntArray) -> FloatArray:
    """Number of rows of each patient who has any."""
    counts = np.bincount(patients) if len(patients) else np.zeros(0, dtype=np.int64)
    return counts[counts > 0].astype(np.float64)
