"""What all of an audit's statistics stand on: rows of patients, estimates, score intervals, draws, the worst group.

Rows of one patient (several studies, slices or visits) rise and fall together, so a bootstrap draws patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Z = 1.959963984540054  # two-sided 95 %
PERCENTILES = (2.5, 97.5)
TOO_FEW = "too few patients"
BLOCK_SIZE = 500_000  # weights held at once: 4 MB, which caches hold
MIN_PATIENTS_PER_CLASS = 2
LEAST_DRAWS = 99

Statistic = Callable[[FloatArray], FloatArray]  # from weights (replicates, n) to values (replicates,)


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
        interval: its method, e.g. ``Wilson``; None without one.
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
    """The group with the worst value, and how often each is the worst when patients are drawn again."""

    group: str
    value: float
    frequency: float
    frequencies: dict[str, float]


def wilson_interval(share: float, n: float) -> tuple[float, float]:
    """95 % score interval of a proportion.

    Args:
        share: in [0, 1].
        n: independent observations, at least 1; a fraction where they are effective ones.

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
        yield patient_counts(total, min(block, replicates - start), rng)[:, patients]


def patient_counts(patients: int, draws: int, rng: np.random.Generator) -> FloatArray:
    """How often each patient came when so many were drawn with replacement, ``(draws, patients)``."""
    drawn = rng.integers(patients, size=(draws, patients)) + patients * np.arange(draws)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=draws * patients)
    return counts.reshape(draws, patients).astype(np.float64)


def bootstrap(statistic: Statistic, patients: IntArray, replicates: int, rng: np.random.Generator) -> FloatArray:
    """Values of a statistic over draws of patients.

    Args:
        statistic: of weighted rows; NaN where it has no value.
        patients: ``(n,)``, codes ``0 … P - 1``.
        replicates: number of draws.
        rng: source of randomness; the same state gives the same patients, whatever the statistic.

    Returns:
        ``(replicates,)``; NaN without patients.

    Example:
        >>> values = np.array([0.0, 1.0, 1.0])
        >>> draws = bootstrap(lambda w: w @ values / w.sum(axis=1), np.arange(3), 100, np.random.default_rng(0))
        >>> sorted({round(float(draw), 2) for draw in draws})
        [0.0, 0.33, 0.67, 1.0]
    """
    if not len(patients):
        return np.full(replicates, np.nan)
    return np.concatenate([statistic(weights) for weights in patient_weights(patients, replicates, rng)])


def affordable(count: int, rows: int, work: int) -> int:
    """Draws that are made of the ones asked for, when each looks at so many rows.

    Args:
        count: asked for.
        rows: of one draw.
        work: rows of all draws.

    Returns:
        ``count``, or fewer in a large table, but at least 99 of them.

    Example:
        >>> affordable(1999, 10_000, 300_000_000), affordable(1999, 1_000_000, 300_000_000)
        (1999, 300)
    """
    return min(count, max(LEAST_DRAWS, work // max(rows, 1)))


def worst_group(
    values: Mapping[str, float], draws: Mapping[str, FloatArray], *, higher_is_better: bool = True
) -> Worst | None:
    """Name the worst group and say how settled that is.

    Groups that tie within a draw share it. If the values themselves tie, the one more often the worst is named.

    Args:
        values: group -> value, estimable groups only.
        draws: group -> ``(replicates,)`` from :func:`bootstrap`.
        higher_is_better: False makes the highest the worst, e.g. of a distance [mm].

    Returns:
        None with fewer than two groups: there is nothing to compare.
    """
    if len(values) < 2:
        return None
    sign = 1.0 if higher_is_better else -1.0
    groups = sorted(values)
    table = sign * np.stack([draws[group] for group in groups])  # (groups, replicates)
    table = np.where(np.isnan(table), np.inf, table)
    lowest = table == table.min(axis=0)
    usable = np.isfinite(table).any(axis=0)
    shares = (lowest / lowest.sum(axis=0))[:, usable].mean(axis=1)
    frequencies = {group: float(share) for group, share in zip(groups, shares, strict=True)}
    named = min(groups, key=lambda group: (sign * values[group], -frequencies[group]))
    return Worst(named, values[named], frequencies[named], frequencies)
