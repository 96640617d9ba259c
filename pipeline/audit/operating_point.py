"""One threshold for all groups: what each gains and loses by it, and which threshold it would have needed.

A threshold chosen inside each group would hide that the groups differ. It is fixed once, on a development split, and
applied unchanged.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.calibration import one_against_rest
from pipeline.audit.intervals import proportion_interval
from pipeline.audit.statistics import TOO_FEW, Estimate, FloatArray, IntArray, Sample

Interval = Callable[[FloatArray, IntArray], Estimate]  # of a share: 0/1 of rows, their patients coded without gaps

INVERTED = "interval of the sensitivity, inverted"
ROUNDING = 1e-9  # 0.9 of 10 rows is 9 rows, whatever the floating point says


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does in one group; patients of both kinds count in both.

    Args:
        n_patients: patients of the group.
        n_rows: rows of the group.
        n_positive: patients with a row of the class.
        n_negative: patients with a row of another class.
        sensitivity: share called positive of the rows of the class.
        specificity: share called negative of the other rows.
        ppv: share of the class among the rows called positive.
        npv: share of other classes among the rows called negative.
    """

    n_patients: int
    n_rows: int
    n_positive: int
    n_negative: int
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate


def youden_threshold(sample: Sample, positive: int) -> float:
    """Threshold with the greatest sum of sensitivity and specificity; of equals the lowest, which misses fewest.

    Args:
        sample: rows of the development split. A row is called positive if its probability is at least the threshold.
        positive: class looked at, against all others.

    Returns:
        One of the probabilities in the sample.

    Raises:
        ValueError: if there is no such class, or the split lacks positives or negatives.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> split = Sample(np.array([0, 0, 1, 1]), np.c_[1 - scores, scores], np.arange(4))
        >>> youden_threshold(split, 1)
        0.6

    Source: Youden 1950, Cancer 3:32.
    """
    scores, outcomes = _development(sample, positive)
    candidates = np.unique(scores)
    sensitivity, fall_out = _shares(scores[outcomes], candidates), _shares(scores[~outcomes], candidates)
    index = sensitivity - fall_out
    return float(candidates[np.flatnonzero(index >= index.max() - ROUNDING)[0]])


def sensitivity_threshold(sample: Sample, positive: int, target: float) -> float:
    """Highest threshold that still finds the target share of the positives.

    Args:
        sample: rows of the development split. A row is called positive if its probability is at least the threshold.
        positive: class looked at, against all others.
        target: sensitivity to reach, in (0, 1].

    Returns:
        One of the probabilities in the sample.

    Raises:
        ValueError: if there is no such class, the target is not a share, or the split lacks positives or negatives.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> split = Sample(np.array([0, 1, 1, 1]), np.c_[1 - scores, scores], np.arange(4))
        >>> sensitivity_threshold(split, 1, 0.6)
        0.6
    """
    scores, outcomes = _development(sample, positive)
    return _highest(scores[outcomes], _target(target))


def _development(sample: Sample, positive: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    scores, outcomes = one_against_rest(sample, positive)
    if len(np.unique(outcomes)) < 2:
        raise ValueError(
            f"a threshold is fixed on rows with and without the class; got {int(outcomes.sum())} with and "
            f"{int((~outcomes).sum())} without; choose another development split, or give the threshold"
        )
    return scores, outcomes


def _target(target: float) -> float:
    if not 0 < target <= 1:
        raise ValueError(f"the target sensitivity must lie in (0, 1]; got {target}; e.g. 0.9")
    return target


def _shares(scores: FloatArray, thresholds: FloatArray) -> FloatArray:
    """Share of the scores at or above each threshold."""
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)


def _highest(scores: FloatArray, target: float) -> float:
    candidates = np.unique(scores)
    return float(candidates[np.flatnonzero(_shares(scores, candidates) >= target - ROUNDING)[-1]])


def operating_point(
    sample: Sample,
    positive: int,
    threshold: float,
    *,
    interval: Interval = proportion_interval,
    min_patients: int = 10,
) -> OperatingPoint:
    """Apply a threshold to one group.

    Args:
        sample: rows of one model in one group.
        positive: class looked at, against all others.
        threshold: a row is called positive if its probability is at least this.
        interval: 95 % interval of a share from 0/1 values ``(n,)`` and patients ``(n,)``, coded without gaps.
        min_patients: below it, among the patients that the share is made of, there is a value and no interval.

    Returns:
        The four shares with their patients; a group without positives or negatives stays, as not estimable.

    Raises:
        ValueError: if there is no such class.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> group = Sample(np.array([0, 1, 1, 1]), np.c_[1 - scores, scores], np.arange(4))
        >>> operating_point(group, 1, 0.9).sensitivity.value
        0.3333333333333333
    """
    scores, outcomes = one_against_rest(sample, positive)
    called = scores >= threshold

    def share(true: NDArray[np.bool_], among: NDArray[np.bool_], absent: str) -> Estimate:
        _, patients = np.unique(sample.patients[among], return_inverse=True)
        return _estimate(true[among].astype(np.float64), patients, absent, interval, min_patients)

    return OperatingPoint(
        sample.n_patients,
        len(outcomes),
        len(np.unique(sample.patients[outcomes])),
        len(np.unique(sample.patients[~outcomes])),
        sensitivity=share(called, outcomes, "no patient has the class"),
        specificity=share(~called, ~outcomes, "every patient has the class"),
        ppv=share(outcomes, called, "no row is called positive"),
        npv=share(~outcomes, ~called, "no row is called negative"),
    )


def _estimate(values: FloatArray, patients: IntArray, absent: str, interval: Interval, min_patients: int) -> Estimate:
    if not len(values):
        return Estimate(0, 0, reason=absent)
    count, value = int(patients.max()) + 1, float(values.mean())
    if count < min_patients:
        return Estimate(count, len(values), value, reason=TOO_FEW)
    return interval(values, patients)


def needed_threshold(
    sample: Sample,
    positive: int,
    target: float,
    *,
    interval: Interval = proportion_interval,
    min_patients: int = 10,
) -> Estimate:
    """Threshold that this group would have needed to reach a sensitivity.

    The interval holds every threshold whose sensitivity, with its own interval, is compatible with the target. Unlike
    percentiles of a bootstrap it does not end at the smallest score seen: with few positives it reaches down to 0.

    Args:
        sample: rows of one model in one group.
        positive: class looked at, against all others.
        target: sensitivity to reach, in (0, 1].
        interval: see :func:`operating_point`.
        min_patients: below it, among the patients with the class, there is a value and no interval.

    Returns:
        The highest threshold that reaches the target, in [0, 1], of the positive rows alone.

    Raises:
        ValueError: if there is no such class or the target is not a share.

    Source: Woodruff 1952, Journal of the American Statistical Association 47:635.
    """
    scores, outcomes = one_against_rest(sample, positive)
    scores, aim = scores[outcomes], _target(target)
    if not len(scores):
        return Estimate(0, 0, reason="no patient has the class")
    _, patients = np.unique(sample.patients[outcomes], return_inverse=True)
    count, value = int(patients.max()) + 1, _highest(scores, aim)
    if count < min_patients:
        return Estimate(count, len(scores), value, reason=TOO_FEW)
    thresholds = np.r_[np.unique(scores), np.inf]  # at the last nothing is called positive

    def reached(index: int) -> Estimate:
        return interval((scores >= thresholds[index]).astype(np.float64), patients)

    steps = range(len(thresholds))
    first = bisect_left(steps, True, key=lambda index: reached(index).low <= aim + ROUNDING)
    last = bisect_left(steps, True, key=lambda index: reached(index).high < aim - ROUNDING) - 1
    low, high = float(thresholds[first - 1]) if first else 0.0, min(1.0, float(thresholds[last]))
    if not low < high:
        return Estimate(count, len(scores), value, reason="too few different probabilities")
    return Estimate(count, len(scores), value, low, high, INVERTED)
