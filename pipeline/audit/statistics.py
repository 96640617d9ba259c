"""Intervals and worst groups, with the patient as the unit.

Rows of one patient (several studies, slices or visits) rise and fall together, so a bootstrap draws patients, inside
each group. Where it has nothing to vary (all right, all wrong, perfect separation) its interval would have no width and
read as certainty; a score interval on the number of patients takes its place, and is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tracking.group_metrics import METRICS, overall_metrics, weighted_accuracy, weighted_auc

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Z = 1.959963984540054  # two-sided 95 %
PERCENTILES = (2.5, 97.5)
BOOTSTRAP = "patient bootstrap"
TOO_FEW = "too few patients"
BLOCK_SIZE = 2_000_000  # weights held at once: 16 MB
MIN_PATIENTS_PER_CLASS = 2
WEIGHTED = {"accuracy": weighted_accuracy, "auc": weighted_auc}


@dataclass(frozen=True)
class Sample:
    """Rows of one model in one group.

    Args:
        labels: ``(n,)``, class indices.
        probabilities: ``(n, C)``.
        patients: ``(n,)``, patient of each row, coded ``0 … P - 1`` without gaps.
    """

    labels: IntArray
    probabilities: FloatArray
    patients: IntArray

    @property
    def n_patients(self) -> int:
        """Number of different patients."""
        return int(self.patients.max()) + 1 if self.patients.size else 0


@dataclass(frozen=True)
class Estimate:
    """A value, how sure it is, and why not if it is not.

    Args:
        n_patients: patients behind the value.
        n_rows: rows behind the value.
        value: NaN if it cannot be computed.
        low: lower end of the 95 % interval; NaN without one.
        high: upper end.
        interval: its method, ``patient bootstrap``, ``Wilson``, ``Newcombe`` or ``Tango``; None without one.
        reason: why there is no interval; None with one.
    """

    n_patients: int
    n_rows: int
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    interval: str | None = None
    reason: str | None = None

    @property
    def estimable(self) -> bool:
        """True with a value and an interval."""
        return self.interval is not None


@dataclass(frozen=True)
class Worst:
    """The group with the lowest value, and how often each is the lowest when patients are drawn again."""

    group: str
    value: float
    frequency: float
    frequencies: dict[str, float]


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion.

    Args:
        share: in [0, 1].
        n: independent observations, at least 1.

    Returns:
        Lower and upper end, in [0, 1].

    Example:
        >>> [round(end, 3) for end in wilson_interval(1.0, 20)]
        [0.839, 1.0]

    Source: Wilson 1927.
    """
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def newcombe_auc_interval(auc: float, n_positive: int, n_negative: int) -> tuple[float, float]:
    r"""95 % score interval of an AUC; it keeps its width at 0 and 1.

    The ends are the :math:`\theta` with :math:`|\hat\theta - \theta| = z\,\mathrm{se}(\theta)`, Hanley and McNeil's
    standard error with both counts replaced by their mean :math:`N^*`:

    .. math:: \mathrm{se}^2 = \frac{\theta(1-\theta)}{mn}
        \left[1 + (N^*-1)\left(\frac{1-\theta}{2-\theta} + \frac{\theta}{1+\theta}\right)\right]

    Args:
        auc: in [0, 1].
        n_positive: m, at least 1.
        n_negative: n, at least 1.

    Returns:
        Lower and upper end, in [0, 1].

    Source: Newcombe 2006, Statistics in Medicine 25:559, method 5.
    """

    def surplus(theta: float) -> float:
        shape = 1 + ((n_positive + n_negative) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (auc - theta) ** 2 - Z**2 * theta * (1 - theta) * shape / (n_positive * n_negative)

    return _crossing(surplus, 0.0, auc), _crossing(surplus, 1.0, auc)


def _crossing(surplus: Callable[[float], float], outside: float, inside: float) -> float:
    """Bisect between a point outside the interval (surplus > 0) and one inside it."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if surplus(middle) > 0 else (outside, middle)
    return inside


def patient_weights(patients: IntArray, replicates: int, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Draw patients with replacement and say how often each row came, in blocks that fit into memory.

    Args:
        patients: ``(n,)``, codes ``0 … P - 1``.
        replicates: number of draws.
        rng: source of randomness.

    Yields:
        ``(block, n)`` counts; all rows of a patient have the same.
    """
    total = int(patients.max()) + 1
    block = max(1, BLOCK_SIZE // len(patients))
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        drawn = rng.integers(total, size=(size, total)) + total * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * total).reshape(size, total)
        yield counts[:, patients].astype(np.float64)


def bootstrap(sample: Sample, replicates: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Values of every metric over draws of patients.

    Args:
        sample: rows of one model in one group.
        replicates: number of draws.
        rng: source of randomness; the same state gives the same patients, whatever the model.

    Returns:
        Metric -> ``(replicates,)``; NaN where a draw lacks a class (AUC) or the sample is empty.
    """
    if not sample.n_patients:
        return {metric: np.full(replicates, np.nan) for metric in METRICS}
    blocks: dict[str, list[FloatArray]] = {metric: [] for metric in METRICS}
    for weights in patient_weights(sample.patients, replicates, rng):
        for metric, weighted in WEIGHTED.items():
            blocks[metric].append(weighted(sample.labels, sample.probabilities, weights))
    return {metric: np.concatenate(parts) for metric, parts in blocks.items()}


def estimate(sample: Sample, metric: str, draws: FloatArray, *, min_patients: int) -> Estimate:
    """Value and 95 % interval of one metric.

    Args:
        sample: rows of one model in one group.
        metric: ``accuracy`` or ``auc``.
        draws: ``(replicates,)`` from :func:`bootstrap`.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate; with ``reason`` instead of an interval where none would be honest.
    """
    patients, rows = sample.n_patients, len(sample.labels)
    if not patients:
        return Estimate(0, 0, reason="no patients")
    value = overall_metrics(sample.labels, sample.probabilities)[metric]
    reason = _why_not(sample, metric, min_patients)
    if reason:
        return Estimate(patients, rows, value, reason=reason)
    low, high = np.nanpercentile(draws, PERCENTILES)
    if high - low > 1e-12:
        return Estimate(patients, rows, value, float(low), float(high), BOOTSTRAP)
    if metric == "accuracy":
        return Estimate(patients, rows, value, *wilson_interval(value, patients), "Wilson")
    return Estimate(patients, rows, value, *_auc_score_interval(sample, value), "Newcombe")


def _why_not(sample: Sample, metric: str, min_patients: int) -> str | None:
    if sample.n_patients < min_patients:
        return TOO_FEW
    if metric == "auc":
        fewest = min(min(pair) for pair in _patients_per_class(sample))
        if fewest < MIN_PATIENTS_PER_CLASS:
            return "a class is absent" if fewest == 0 else "too few patients of a class"
    return None


def _patients_per_class(sample: Sample) -> list[tuple[int, int]]:
    """Patients with a row of each class, and patients with a row of any other."""
    classes = range(sample.probabilities.shape[1])
    return [
        (len(np.unique(sample.patients[sample.labels == c])), len(np.unique(sample.patients[sample.labels != c])))
        for c in classes
    ]


def _auc_score_interval(sample: Sample, value: float) -> tuple[float, float]:
    """Mean of the ends over classes: exact for two, too wide rather than too narrow for more."""
    ends = [newcombe_auc_interval(value, *pair) for pair in _patients_per_class(sample)]
    return float(np.mean([low for low, _ in ends])), float(np.mean([high for _, high in ends]))


def worst_group(values: Mapping[str, float], draws: Mapping[str, FloatArray]) -> Worst | None:
    """Name the lowest group and say how settled that is.

    Groups that tie within a draw share it. If the values themselves tie, the one more often lowest is named.

    Args:
        values: group -> value, estimable groups only.
        draws: group -> ``(replicates,)`` from :func:`bootstrap`.

    Returns:
        None with fewer than two groups: there is nothing to compare.
    """
    if len(values) < 2:
        return None
    groups = sorted(values)
    table = np.stack([draws[group] for group in groups])  # (groups, replicates)
    table = np.where(np.isnan(table), np.inf, table)
    lowest = table == table.min(axis=0)
    usable = np.isfinite(table).any(axis=0)
    shares = (lowest / lowest.sum(axis=0))[:, usable].mean(axis=1)
    frequencies = {group: float(share) for group, share in zip(groups, shares, strict=True)}
    named = min(groups, key=lambda group: (values[group], -frequencies[group]))
    return Worst(named, values[named], frequencies[named], frequencies)


def paired_difference(
    difference: FloatArray, patients: IntArray, replicates: int, rng: np.random.Generator, *, min_patients: int
) -> Estimate:
    """Mean difference between two models on the same rows, with a 95 % interval.

    Args:
        difference: ``(n,)``, right (1) or wrong (0) of one model minus that of the other.
        patients: ``(n,)``, codes ``0 … P - 1``.
        replicates: number of draws.
        rng: source of randomness.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate, in [-1, 1]. Where no draw differs from another the interval is Tango's for pairs without
        discordance, ``± z² / (P + z²)``, or Wilson's stretched to [-1, 1].

    Source: Tango 1998, Statistics in Medicine 17:891.
    """
    if not len(difference):
        return Estimate(0, 0, reason="no patients")
    count, value = int(patients.max()) + 1, float(np.mean(difference))
    if count < min_patients:
        return Estimate(count, len(difference), value, reason=TOO_FEW)
    blocks = [w @ difference / w.sum(axis=1) for w in patient_weights(patients, replicates, rng)]
    low, high = (float(end) for end in np.percentile(np.concatenate(blocks), PERCENTILES))
    if high - low > 1e-12:
        return Estimate(count, len(difference), value, low, high, BOOTSTRAP)
    if value == 0:
        half = Z**2 / (count + Z**2)
        return Estimate(count, len(difference), value, -half, half, "Tango")
    low, high = (2 * end - 1 for end in wilson_interval((value + 1) / 2, count))
    return Estimate(count, len(difference), value, low, high, "Wilson")
