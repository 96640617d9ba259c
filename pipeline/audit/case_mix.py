"""Who was examined on which scanner, and what the metric would be if all scanners had examined the same mix.

A scanner that sees more of a hard disease looks worse without being worse. Standardising gives every group the same mix
of strata (classes, sexes, age bands); what then still differs is not the mix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.audit.statistics import (
    TOO_FEW,
    Estimate,
    FloatArray,
    IntArray,
    Z,
    wilson_interval,
)
from pipeline.tracking.predictions import group_names

MIX_COLUMNS = ("label", "sex", "age_band")


@dataclass(frozen=True)
class MixRow:
    """Patients of one group in one category of a column; ``share`` is of the group's patients, NaN if it has none."""

    group: str
    column: str
    category: str
    n_patients: int
    share: float


@dataclass(frozen=True)
class Standardised:
    """A metric at a common case mix.

    Args:
        estimate: value and interval.
        covered: share of the common mix that the group has patients for; below 1 only if renormalised.
        absent: strata of the common mix without a patient in the group.
    """

    estimate: Estimate
    covered: float
    absent: tuple[str, ...]


def case_mix(
    frame: pd.DataFrame, column: str, by: Sequence[str] = MIX_COLUMNS, known_groups: Sequence[str] = ()
) -> list[MixRow]:
    """Count the patients of every group by class, sex and age band.

    Args:
        frame: predictions table; rows of several models count once.
        column: grouping column, or several joined by ``" x "``.
        by: columns to count; those that the table lacks are left out.
        known_groups: further groups to list even without a patient.

    Returns:
        One row per group, column and category, zeros included. A patient with two labels counts in both.

    Raises:
        PredictionsError: if the table has no such grouping column.
    """
    groups = np.asarray(group_names(frame, column), dtype=object)
    listed, patients = sorted({*groups, *known_groups}), frame["patient_id"].to_numpy(dtype=object)
    rows = []
    for part in (part for part in by if part in frame.columns):
        categories = np.asarray(group_names(frame, part), dtype=object)
        for group in listed:
            total = len(set(patients[groups == group]))
            for category in sorted(set(categories)):
                n = len(set(patients[(groups == group) & (categories == category)]))
                rows.append(MixRow(group, part, category, n, n / total if total else math.nan))
    return rows


def common_mix(strata: Sequence[str], patients: IntArray) -> dict[str, float]:
    """Share of the patients in each stratum, over all groups: the mix to standardise to.

    Args:
        strata: ``(n,)``, stratum of each row.
        patients: ``(n,)``, patient of each row. One in two strata counts in both.

    Returns:
        Stratum -> weight, in order of name; they sum to 1.

    Example:
        >>> common_mix(["DCM", "NOR", "NOR", "NOR"], np.array([0, 1, 1, 2]))
        {'DCM': 0.3333333333333333, 'NOR': 0.6666666666666666}
    """
    pairs = pd.DataFrame({"stratum": list(strata), "patient": patients}).drop_duplicates()
    counts = pairs["stratum"].value_counts().sort_index()
    return {str(name): float(count / len(pairs)) for name, count in counts.items()}


def standardised_mean(
    values: FloatArray,
    strata: Sequence[str],
    patients: IntArray,
    mix: Mapping[str, float],
    *,
    renormalise: bool = False,
    min_patients: int = 10,
) -> Standardised:
    r"""Mean per stratum, weighted by the common mix: accuracy, sensitivity, Dice, error.

    .. math:: \hat\theta = \sum_s w_s \bar x_s

    Args:
        values: ``(n,)``, one per row; 0 and 1 only makes it a proportion.
        strata: ``(n,)``, stratum of each row.
        patients: ``(n,)``, codes ``0 … P - 1``.
        mix: stratum -> weight, at least 0, of the common mix.
        renormalise: if strata are absent from the group, weigh the others alone and say how much they cover.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate. A proportion has Wilson's interval on effective patients: as many as an unweighted, unclustered
        sample of the same precision would need. Any other mean has Student's t over patients.

    Raises:
        ValueError: if the lengths differ or the mix is empty or has a negative weight.

    Source: Kish 1965, Survey Sampling, section 8.2 (effective size); Korn & Graubard 1998, Survey Methodology 24:193.
    """
    weights, covered, absent = weights_of(strata, mix, renormalise)
    rows, count = len(values), len(np.unique(patients))
    if not len(values) == len(strata) == len(patients):
        raise ValueError(
            f"values, strata and patients need one entry per row; got {rows}, {len(strata)} and {len(patients)}; "
            "pass one each"
        )
    if reason := why_not(absent, covered, renormalise, count):
        return Standardised(Estimate(count, rows, reason=reason), covered, absent)
    code, share = coded_strata(strata, weights)
    inside = code >= 0
    x, code, patients = values[inside], code[inside], patients[inside]
    parts = np.bincount(code, weights=x) / np.bincount(code)
    each = (share / np.bincount(code))[code]  # weight of a row
    residuals, value = x - parts[code], float(share @ parts)
    reason = too_thin(code, patients, list(weights), min_patients)
    if reason:
        return Standardised(Estimate(count, rows, value, reason=reason), covered, absent)
    proportion = bool(np.isin(x, (0.0, 1.0)).all())
    ends = _proportion_ends if proportion else _mean_ends
    low, high = ends(value, each, residuals, code, patients)
    if not high > low:
        return Standardised(Estimate(count, rows, value, reason="no variation"), covered, absent)
    method = "Wilson" if proportion else "cluster t"
    return Standardised(Estimate(count, rows, value, low, high, method), covered, absent)


def weights_of(
    strata: Sequence[str], mix: Mapping[str, float], renormalise: bool
) -> tuple[dict[str, float], float, tuple[str, ...]]:
    """Weights of the strata that the group has, summing to 1; the share they cover; the strata it lacks."""
    total = sum(mix.values())
    if not total > 0 or min(mix.values()) < 0:
        raise ValueError(f"the common mix needs weights of at least 0, not all 0; got {dict(mix)}; see common_mix")
    wanted = {name: weight / total for name, weight in mix.items() if weight > 0}
    here = set(strata)
    absent = tuple(name for name in wanted if name not in here)
    covered = 1.0 if not absent else sum(weight for name, weight in wanted.items() if name in here)
    scale = covered if renormalise and covered else 1.0
    return {name: weight / scale for name, weight in wanted.items() if name in here}, covered, absent


def why_not(absent: Sequence[str], covered: float, renormalise: bool, count: int) -> str | None:
    """Why the mix cannot be had from these patients; None if it can."""
    if not count:
        return "no patients"
    if absent and (not renormalise or not covered):
        return f"no patient of {', '.join(absent)}"
    return None


def coded_strata(strata: Sequence[str], weights: Mapping[str, float]) -> tuple[IntArray, FloatArray]:
    """Stratum of each row, -1 if it has no weight; weights ``(S,)`` in the same order."""
    code = pd.Index(list(weights)).get_indexer(pd.Index(list(strata))).astype(np.int64)
    return code, np.array(list(weights.values()), dtype=np.float64)


def too_thin(code: IntArray, patients: IntArray, names: Sequence[str], min_patients: int) -> str | None:
    """Why there is no interval: too few patients, or one alone in a stratum; None with one."""
    if len(np.unique(patients)) < min_patients:
        return TOO_FEW
    alone = [name for index, name in enumerate(names) if len(np.unique(patients[code == index])) < 2]
    return f"one patient only of {', '.join(alone)}" if alone else None


def _error_between(terms: FloatArray, code: IntArray, patients: IntArray) -> tuple[float, float]:
    """Standard error of a sum over patients drawn within strata, and its degrees of freedom (Satterthwaite).

    Args:
        terms: ``(n,)``, what each row adds, of mean 0 in each stratum.
        code: ``(n,)``, stratum of each row; each has at least two patients.
        patients: ``(n,)``, patient of each row; one in several strata counts as one.
    """
    _, person = np.unique(patients, return_inverse=True)
    cells = np.zeros((int(person.max()) + 1, int(code.max()) + 1))
    present = np.zeros_like(cells)
    np.add.at(cells, (person, code), terms)
    present[person, code] = 1
    size = present.sum(axis=0)  # patients of a stratum
    cells *= np.sqrt(size / (size - 1))
    variances = np.sum(cells**2, axis=0)
    total = float(np.sum(variances**2 / (size - 1)))
    freedom = float(variances.sum() ** 2 / total) if total > 0 else float(np.sum(size - 1))
    return math.sqrt(float(np.sum(cells.sum(axis=1) ** 2))), freedom


def _proportion_ends(
    value: float, each: FloatArray, residuals: FloatArray, code: IntArray, patients: IntArray
) -> tuple[float, float]:
    """Wilson on ``1 / (sum a^2 x design effect)``, a being the rows' weights.

    The design effect is the variance between patients over that of independent rows, made larger by the t quantile for
    having been estimated; it lies between 1 and that of rows alike within a patient, and is the latter if nothing
    varies.
    """
    independent = float(each @ each)
    sums = np.bincount(np.unique(patients, return_inverse=True)[1], weights=each)
    alike = float(sums @ sums) / independent
    error, freedom = _error_between(each * residuals, code, patients)
    spread = float(np.sum((each * residuals) ** 2))
    estimated = (error * _t_quantile(freedom) / Z) ** 2 / spread if spread > 0 else alike
    effect = min(max(estimated, 1.0), alike)
    return wilson_interval(value, max(1, math.floor(1 / (independent * effect) + 1e-9)))


def _mean_ends(
    value: float, each: FloatArray, residuals: FloatArray, code: IntArray, patients: IntArray
) -> tuple[float, float]:
    error, freedom = _error_between(each * residuals, code, patients)
    half = _t_quantile(freedom) * error
    return value - half, value + half


def _t_quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
