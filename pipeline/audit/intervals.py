"""One 95 % interval per kind of value, for patients with one row or many.

A share of right answers, a mean, an AUC: each has the interval that covered best in ``benchmarks/audit_coverage.py``.
None of the three draws random numbers, so none needs a seed. Any other value has the patient bootstrap,
:mod:`pipeline.audit.bootstrap`. Where rows vary too little for an interval, or there are too few patients, the estimate
says why and has none.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.delong import Areas, areas
from pipeline.audit.statistics import (
    TOO_FEW,
    Estimate,
    FloatArray,
    IntArray,
    Z,
    newcombe_auc_interval,
    wilson_interval,
)

DELONG = "DeLong, logit"
DELONG_CLUSTERED = "DeLong by patient, logit"
HALL = "t, skewness corrected"
NEWCOMBE = "Newcombe"
WILSON = "Wilson"
WILSON_CLUSTERED = "Wilson on effective patients"

IMAGINARY_PATIENT = 0.1  # weight; chosen by coverage where few patients have a rare answer
LEAST_VARIATION = 1e-9  # relative to the size of the values; below it there is rounding


def proportion_interval(values: FloatArray, patients: IntArray, *, min_patients: int = 2) -> Estimate:
    """Share of right answers over rows, with Wilson's interval on as many patients as the rows are worth.

    Args:
        values: ``(n,)``, right (1) or wrong (0); shares in between are allowed.
        patients: ``(n,)``, codes ``0 … P - 1``.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate, in [0, 1]; Wilson's own interval where every patient has one row. Where all rows agree every
        patient counts as one, however many rows there are.

    Raises:
        ValueError: if a value lies outside [0, 1].

    Example:
        >>> found = proportion_interval(np.ones(20), np.arange(20))
        >>> round(found.low, 3), found.high, found.interval
        (0.839, 1.0, 'Wilson')

    Source: Wilson 1927; effective sizes as in Korn & Graubard 1998, Survey Methodology 24:193.
    """
    if np.nanmin(values, initial=0.0) < 0 or np.nanmax(values, initial=1.0) > 1:
        raise ValueError(
            f"right or wrong must lie in [0, 1]; got {np.nanmin(values)} to {np.nanmax(values)}; "
            "use mean_interval for other values"
        )
    found = _without_interval(values, patients, min_patients)
    if found.reason:
        return found
    effective = found.n_rows / design_effect(values, patients)
    low, high = wilson_interval(found.value, effective)
    name = WILSON if found.n_rows == found.n_patients else WILSON_CLUSTERED
    return Estimate(found.n_patients, found.n_rows, found.value, low, high, name)


def design_effect(values: FloatArray, patients: IntArray) -> float:
    r"""How many times more the rows' share varies than that of as many independent rows.

    .. math:: d = \frac{\sum_k (t_k - n_k \tilde p)^2 / (1 - n_k/N) + w \bar m^2 (r - \tilde p)^2}
        {(N + w \bar m)\, \tilde p (1 - \tilde p)}, \quad \bar m = \sum_k n_k^2 / N

    with :math:`t_k` right of :math:`n_k` rows of patient k, and a tenth (w) of an imaginary patient all of whose rows
    have the rarer answer r. That one matters only where few patients have the rare answer and cannot show how alike
    their rows are: without it an interval covered 86 % of the time there. The result lies between 1, independent rows,
    and :math:`\bar m`, rows that are copies.

    Args:
        values: ``(n,)``, right (1) or wrong (0).
        patients: ``(n,)``, codes ``0 … P - 1``, P at least 2.

    Returns:
        At least 1; exactly 1 where every patient has one row.

    Example:
        >>> copies = np.repeat([0.0, 1.0, 1.0, 1.0], 5)
        >>> design_effect(copies, np.repeat(np.arange(4), 5))
        5.0

    Source: Kish 1965, Survey Sampling; leverage as in Bell & McCaffrey 2002, Survey Methodology 28:169.
    """
    sizes, rows = np.bincount(patients), len(values)
    mean_size = float(np.sum(sizes.astype(np.float64) ** 2)) / rows
    share, extra = float(np.mean(values)), IMAGINARY_PATIENT * mean_size
    rare = 0.0 if share >= 1 / 2 else 1.0
    pooled = (share * rows + rare * extra) / (rows + extra)
    surplus = np.bincount(patients, weights=values) - pooled * sizes
    between = float(np.sum(surplus**2 / (1 - sizes / rows))) + extra * mean_size * (rare - pooled) ** 2
    return float(np.clip(between / ((rows + extra) * pooled * (1 - pooled)), 1.0, mean_size))


def mean_interval(
    values: FloatArray,
    patients: IntArray,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    min_patients: int = 2,
) -> Estimate:
    r"""Mean over rows, with a t interval on patients that leans with the skewness of the values.

    Patient k adds :math:`u_k = \sum_{i \in k} (y_i - \bar y) / N` to the error of the mean; :math:`\mathrm{se}^2 =
    \sum u_k^2 / (1 - n_k/N)`, :math:`\kappa = \sum u_k^3 / (\sum u_k^2)^{3/2}`, and the degrees of freedom are the
    effective patients :math:`N^2 / \sum n_k^2` less 1. The ends are those of :func:`skewed_ends`.

    Args:
        values: ``(n,)``, e.g. Dice, HD95 [mm] or EF error [points].
        patients: ``(n,)``, codes ``0 … P - 1``.
        bounds: of the values, e.g. (0, 1) for Dice; the interval is cut there.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate, in the unit of the values; none where all patients have the same value.

    Raises:
        ValueError: if a value lies outside ``bounds``.

    Example:
        >>> found = mean_interval(np.array([1.0, 2.0, 3.0]), np.arange(3))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (2.0, -0.48, 4.48)

    Source: Hall 1992, Journal of the Royal Statistical Society B 54:221; leverage and degrees of freedom as in Bell &
    McCaffrey 2002, Survey Methodology 28:169.
    """
    from scipy.special import stdtrit

    if np.nanmin(values, initial=bounds[0]) < bounds[0] or np.nanmax(values, initial=bounds[1]) > bounds[1]:
        raise ValueError(
            f"values must lie in {bounds}; got {np.nanmin(values)} to {np.nanmax(values)}; correct bounds or values"
        )
    found = _without_interval(values, patients, min_patients)
    if found.reason:
        return found
    sizes = np.bincount(patients)
    added = np.bincount(patients, weights=values - found.value) / found.n_rows
    spread = float(np.sum(added**2))
    if math.sqrt(spread) <= LEAST_VARIATION * float(np.max(np.abs(values))):
        return Estimate(found.n_patients, found.n_rows, found.value, reason="all patients have the same value")
    error = math.sqrt(float(np.sum(added**2 / (1 - sizes / found.n_rows))))
    freedom = found.n_rows**2 / float(np.sum(sizes.astype(np.float64) ** 2)) - 1
    skewness = float(np.sum((added / math.sqrt(spread)) ** 3))
    ends = skewed_ends(found.value, error, skewness, float(stdtrit(max(freedom, 1.0), 0.975)))
    low, high = (float(np.clip(end, *bounds)) for end in ends)
    return Estimate(found.n_patients, found.n_rows, found.value, low, high, HALL)


def skewed_ends(value: float, error: float, skewness: float, quantile: float) -> tuple[float, float]:
    r"""Ends of an interval whose pivot is made symmetric by Hall's cubic.

    .. math:: g(T) = T + \tfrac13 \kappa T^2 + \tfrac1{27} \kappa^2 T^3 + \tfrac16 \kappa, \quad
        T = (\hat\mu - \mu) / \mathrm{se}, \quad \text{ends } \hat\mu - \mathrm{se}\; g^{-1}(\pm q)

    Args:
        value: the mean.
        error: its standard error, above 0.
        skewness: :math:`\kappa`, of the mean (that of the values over the root of their number).
        quantile: q, e.g. 1.96.

    Returns:
        Lower and upper end; further from the mean on the side of the long tail.

    Example:
        >>> skewed_ends(0.0, 1.0, 0.0, 1.96)
        (-1.96, 1.96)

    Source: Hall 1992, Journal of the Royal Statistical Society B 54:221.
    """
    if abs(skewness) < LEAST_VARIATION:
        return value - error * quantile, value + error * quantile
    pivots = [3 / skewness * (math.cbrt(1 + skewness * (q - skewness / 6)) - 1) for q in (quantile, -quantile)]
    return value - error * pivots[0], value - error * pivots[1]


def auc_interval(labels: IntArray, probabilities: FloatArray, patients: IntArray, *, min_patients: int = 2) -> Estimate:
    r"""AUC with DeLong's interval by patient, on the logit scale.

    The quantile is normal where every patient has one row: there the logit alone covers. With :math:`\bar m` rows per
    patient :math:`q^2 = z^2 / \bar m + t_\nu^2 (1 - 1/\bar m)`, Satterthwaite's :math:`\nu` coming from how evenly
    patients add to the error. Newcombe's interval on patients takes over where there is no variance.

    Args:
        labels: ``(n,)``, class indices in ``0 … C - 1``.
        probabilities: ``(n, C)``; two classes or the mean over more, as in :func:`pipeline.audit.delong.areas`.
        patients: ``(n,)``, codes ``0 … P - 1``.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate, in [0, 1]; none where a class is absent or has one patient.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.35, 0.8])
        >>> found = auc_interval(np.array([0, 0, 1, 1]), np.c_[1 - scores, scores], np.arange(4))
        >>> found.value, round(found.low, 2), round(found.high, 2)
        (0.75, 0.07, 0.99)

    Source: DeLong, DeLong & Clarke-Pearson 1988, Biometrics 44:837; Obuchowski 1997, Biometrics 53:567; logit as in
    Pepe 2003, The Statistical Evaluation of Medical Tests, 5.2.
    """
    return auc_estimate(areas(labels, [probabilities], patients), len(labels), min_patients=min_patients)


def auc_estimate(found: Areas, rows: int, *, min_patients: int = 2) -> Estimate:
    """Value and interval of :func:`auc_interval`, from the area of one model.

    Args:
        found: areas over patients coded without gaps.
        rows: that they were found on.
        min_patients: below it there is a value and no interval.
    """
    size, value = len(found.influence), float(found.values[0])
    if not rows or size < min_patients or found.reason:
        short = TOO_FEW if rows else "no patients"
        return Estimate(size, rows, value, reason=short if size < min_patients else found.reason)
    if found.separated[0]:
        return Estimate(size, rows, value, *_newcombe_ends(found), NEWCOMBE)
    logit = math.log(value / (1 - value))
    half = _auc_quantile(found.influence[:, 0], rows) * float(found.standard_errors[0]) / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-end)) for end in (logit - half, logit + half))
    return Estimate(size, rows, value, low, high, DELONG if rows == size else DELONG_CLUSTERED)


def _newcombe_ends(found: Areas) -> tuple[float, float]:
    """Mean of the ends over classes: exact for two, too wide rather than too narrow for more."""
    value = float(found.values[0])
    ends = [newcombe_auc_interval(value, int(own), int(others)) for own, others in found.patients_per_class.T]
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)


def _auc_quantile(influence: FloatArray, rows: int) -> float:
    """Between z, one row per patient, and Satterthwaite's t, many."""
    from scipy.special import stdtrit

    size = len(influence)
    kurtosis = size * float(np.sum(influence**4)) / float(np.sum(influence**2)) ** 2  # 3 for a normal
    freedom = min(2 * size / max(kurtosis - 1, LEAST_VARIATION), max(size - 2, 2))
    repeated = 1 - size / rows
    return math.sqrt(Z**2 * (1 - repeated) + float(stdtrit(freedom, 0.975)) ** 2 * repeated)


def _without_interval(values: FloatArray, patients: IntArray, min_patients: int) -> Estimate:
    """Counts and mean of the rows, and why there can be no interval where there can be none."""
    size, rows = int(patients.max(initial=-1)) + 1, len(values)
    missing: NDArray[np.bool_] = np.isnan(values)
    value = float(np.mean(values)) if rows else math.nan
    reason = shortage(size, min_patients) or ("a value is missing" if missing.any() else None)
    return Estimate(size, rows, value, reason=reason)


def shortage(size: int, min_patients: int) -> str | None:
    """Why so few patients have no interval; None if they can have one."""
    if not size:
        return "no patients"
    return TOO_FEW if size < max(min_patients, 2) else None
