"""How far two models or two periods lie apart, with the patient as the unit.

Models on the same cases are compared case by case; periods are two samples that may share patients. Every difference
carries a p value for any null value, since a test of non-inferiority asks at the margin and not at zero. Normal
approximations fail where classifiers are good: at an AUC of 0.97 DeLong's test passes a student at the margin in about
one of ten runs with 40 patients. Score and logit intervals, which bend near 0 and 1, take their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from pipeline.audit.arms import Arm, mean_influence, rows_per_patient
from pipeline.audit.intervals import mean_interval
from pipeline.audit.statistics import TOO_FEW, Estimate, FloatArray, IntArray, Z

UPPER = 0.975  # quantile of a two-sided 95 % interval
TINY = 1e-12  # below it a variance is rounding
NEVER_DIFFER = "the two never differ"


@dataclass(frozen=True)
class Difference:
    """First minus second.

    Args:
        estimate: value and 95 % interval.
        p_above: p value of the null hypothesis that the true difference is at most its argument, one-sided; rises
            with the argument, from 0.025 at the lower end of the interval to 0.975 at the upper.
    """

    estimate: Estimate
    p_above: Callable[[float], float] = lambda _: math.nan

    @property
    def p_two_sided(self) -> float:
        """P value of no difference; below 0.05 if, and only if, 0 lies outside the interval. NaN without one."""
        above = self.p_above(0.0)
        return 2 * min(above, 1 - above)


def paired_proportion(difference: FloatArray, patients: IntArray, *, min_patients: int) -> Difference:
    r"""Difference of two shares of right answers to the same cases.

    Tango's score statistic, with the counts scaled to the number of independent rows that vary as much as these,
    see :func:`effective_size`:

    .. math:: z(\delta) = \frac{b - c - n\delta}{\sqrt{n(2\hat q_{21} + \delta(1-\delta))}}

    Args:
        difference: ``(n,)``, in {-1, 0, 1}: right (1) or wrong (0) of the first minus that of the second.
        patients: ``(n,)``, codes ``0 … P - 1`` without gaps.
        min_patients: below it there is a value and no interval.

    Returns:
        The difference, in [-1, 1]; with an interval even where the two never differ.

    Example:
        >>> found = paired_proportion(np.repeat([1.0, -1.0, 0.0], [1, 7, 13]), np.arange(21), min_patients=10)
        >>> [round(end, 3) for end in (found.estimate.value, found.estimate.low, found.estimate.high)]
        [-0.286, -0.517, -0.026]

    Source: Tango 1998, Statistics in Medicine 17:891; the example is that of Fagerland, Lydersen & Laake 2014,
    Statistics in Medicine 33:2850.
    """
    plain = _plain(difference, patients, min_patients)
    if plain.reason:
        return Difference(plain)
    n = effective_size(difference, patients)
    gains, losses = (float(np.mean(difference == sign)) * n for sign in (1, -1))

    from scipy.optimize import brentq  # slow to import

    def score(delta: float) -> float:
        return tango_score(gains, losses, n, delta)

    low = brentq(lambda delta: score(delta) - Z, -1, plain.value) if plain.value > -1 else -1.0
    high = brentq(lambda delta: score(delta) + Z, plain.value, 1) if plain.value < 1 else 1.0
    return Difference(_with(plain, low, high, "Tango"), lambda delta: float(ndtr(-score(delta))))


def tango_score(gains: float, losses: float, n: float, delta: float) -> float:
    """Score statistic of a paired difference of proportions; standard normal if the difference is ``delta``.

    Args:
        gains: pairs in which the first alone is right.
        losses: pairs in which the second alone is right.
        n: pairs.
        delta: difference under the null hypothesis, in [-1, 1].
    """
    linear = -gains - losses + (2 * n - gains + losses) * delta
    root = math.sqrt(max(linear**2 + 8 * n * losses * delta * (1 - delta), 0.0))
    variance = n * (2 * (root - linear) / (4 * n) + delta * (1 - delta))
    return (gains - losses - n * delta) / math.sqrt(max(variance, TINY))


def effective_size(values: FloatArray, patients: IntArray) -> float:
    """Independent rows whose mean would be as uncertain as that of these.

    The design effect is the variance of the mean between patients over that of independent rows. It is kept between
    1 and what it is when all rows of a patient agree, which also stands in where nothing varies. Few patients say
    little about it: the size is lowered by the square of the ratio of the t quantiles.

    Args:
        values: ``(n,)``.
        patients: ``(n,)``, codes; at least two patients.

    Returns:
        At most n; n if every patient has one row.

    Source: Korn & Graubard 1998, Survey Methodology 24:193.
    """
    counts = rows_per_patient(patients)
    n, total = len(values), len(counts)
    largest = float(np.sum(counts**2)) / n
    independent, clustered = float(np.var(values, ddof=1)) / n, _variance(mean_influence(values, patients))
    effect = min(max(clustered / independent, 1.0), largest) if independent > TINY else largest
    return n / effect * float(stdtrit(n - 1, UPPER) / stdtrit(total - 1, UPPER)) ** 2


def paired_mean(difference: FloatArray, patients: IntArray, *, min_patients: int) -> Difference:
    """Mean difference of a continuous value on the same cases, with :func:`~pipeline.audit.intervals.mean_interval`.

    Args:
        difference: ``(n,)``, first minus second, in the value's own unit.
        patients: ``(n,)``, codes ``0 … P - 1`` without gaps.
        min_patients: below it there is a value and no interval.

    Returns:
        The difference; not estimable if it is the same in all patients. Its p value is that of Student's t whose
        2.5 % points are the interval's ends.
    """
    found = mean_interval(difference, patients, min_patients=min_patients)
    if not found.estimable:
        return Difference(found)
    freedom = found.n_rows**2 / float(np.sum(rows_per_patient(patients) ** 2)) - 1
    return Difference(found, _p_from_interval(found, max(freedom, 1.0)))


def difference_of_arms(first: Arm, second: Arm, *, n_patients: int, n_rows: int) -> Difference:
    r"""Difference of two arms from their own intervals and their correlation ("square and add").

    .. math:: L = d - \sqrt{(a - l_a)^2 + (u_b - b)^2 - 2 r (a - l_a)(u_b - b)}

    Args:
        first: a; its patients are coded as those of the second.
        second: b.
        n_patients: patients in either.
        n_rows: rows behind the difference; cases, if both arms are of the same.

    Returns:
        The difference; not estimable if an arm is not, or if every patient moves both alike. Its p value is that of a
        normal whose 2.5 % points are the interval's ends.

    Source: Newcombe 1998, Statistics in Medicine 17:873; Zou & Donner 2008, Statistics in Medicine 27:1693 (MOVER).
    """
    a, b = first.estimate, second.estimate
    plain = Estimate(n_patients, n_rows, a.value - b.value)
    missing = a.reason or (f"other side: {b.reason}" if b.reason else None)
    if missing:
        return Difference(replace(plain, reason=missing))
    together = _correlation(first.influence, second.influence)
    if math.isclose(together, 1, abs_tol=TINY) and math.isclose(plain.value, 0, abs_tol=TINY):
        return Difference(replace(plain, reason=NEVER_DIFFER))
    low = plain.value - _added(a.value - a.low, b.high - b.value, together)
    high = plain.value + _added(a.high - a.value, b.value - b.low, together)
    found = _with(plain, low, high, "MOVER" if abs(together) < TINY else "MOVER, correlated")
    return Difference(found, _p_from_interval(found))


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Of two arms; the codes of patients that only one of them has may end the longer one."""
    length = max(len(one), len(other))
    one, other = (np.pad(influence, (0, length - len(influence))) for influence in (one, other))
    size = math.sqrt(float(np.sum(one**2)) * float(np.sum(other**2)))
    return float(one @ other) / size if size > TINY else 0.0


def _variance(influence: FloatArray) -> float:
    return float(np.sum(influence**2))


def _plain(values: FloatArray, patients: IntArray, min_patients: int) -> Estimate:
    """Value and counts without an interval; with a reason where none would be honest."""
    total = len(rows_per_patient(patients))
    if not total:
        return Estimate(0, 0, reason="no patients")
    return Estimate(total, len(values), float(np.mean(values)), reason=TOO_FEW if total < min_patients else None)


def _with(plain: Estimate, low: float, high: float, method: str) -> Estimate:
    return replace(plain, low=float(low), high=float(high), interval=method, reason=None)


def _added(one: float, other: float, together: float) -> float:
    return math.sqrt(max(one**2 + other**2 - 2 * together * one * other, 0.0))


def _p_from_interval(found: Estimate, freedom: float = math.inf) -> Callable[[float], float]:
    """Half of the interval stands for the 97.5 % quantile, as in Altman & Bland 2011, BMJ 343:d2304."""
    quantile = Z if math.isinf(freedom) else float(stdtrit(freedom, UPPER))

    def p_above(delta: float) -> float:
        half = found.value - found.low if delta < found.value else found.high - found.value
        if half < TINY:
            return float(delta >= found.value)
        errors = quantile * (delta - found.value) / half
        return float(ndtr(errors) if math.isinf(freedom) else stdtr(freedom, errors))

    return p_above
