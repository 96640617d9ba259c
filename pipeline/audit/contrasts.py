"""Which group differs? Each against the rest, or against one that is named, with the whole family accounted for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.multiplicity import holm
from pipeline.audit.scanner_effect import (
    AUC_PERMUTATIONS,
    PERMUTATIONS,
    GroupAuc,
    by_patient,
    centred_members,
    comparable,
    group_moments,
    has_every_class,
    permuted,
    share_as_extreme,
)
from pipeline.audit.statistics import Estimate, FloatArray, IntArray, Sample, Z

REST = "the rest"
PERMUTATION, FROM_INTERVAL = "patient permutation", "interval"
Pair = tuple[NDArray[np.bool_], NDArray[np.bool_]]


@dataclass(frozen=True)
class Contrast:
    """One group minus another side.

    Args:
        group: its name.
        against: ``the rest``, or the reference group's name.
        difference: group minus the other side, with a 95 % interval for this contrast alone; its counts are the
            group's.
        p: two-sided; NaN if not estimable.
        test: ``patient permutation`` or ``interval``; None without a p value.
        family: number of contrasts with a p value, over which the next two are adjusted.
        p_holm: for claims: all of the family are right with 95 %.
        p_bh: for screening: of those below 0.05, 5 % are expected to be wrong.
    """

    group: str
    against: str
    difference: Estimate
    p: float = math.nan
    test: str | None = None
    family: int = 0
    p_holm: float = math.nan
    p_bh: float = math.nan


def mover_difference(one: Estimate, other: Estimate) -> Estimate:
    r"""Difference of two independent values, its interval put together from theirs.

    .. math:: L = d - \sqrt{(x_1 - l_1)^2 + (u_2 - x_2)^2}, \quad U = d + \sqrt{(u_1 - x_1)^2 + (x_2 - l_2)^2}

    Args:
        one: value with a 95 % interval; no patient of the other side.
        other: what is subtracted.

    Returns:
        The difference, with the counts of ``one``. Without an interval on either side there is none, and the reason.

    Example:
        >>> one = Estimate(70, 70, 0.8, 0.6917, 0.8768, "Wilson")
        >>> found = mover_difference(one, Estimate(80, 80, 0.6, 0.4904, 0.7001, "Wilson"))
        >>> round(found.low, 2), round(found.high, 2)
        (0.05, 0.33)

    Source: Newcombe 1998, Statistics in Medicine 17:873, method 10; Zou & Donner 2008, Statistics in Medicine 27:1693.
    """
    value = one.value - other.value
    missing = one.reason or (f"other side: {other.reason}" if other.reason else None)
    if missing:
        return Estimate(one.n_patients, one.n_rows, value, reason=missing)
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(one.n_patients, one.n_rows, value, low, high, "MOVER")


def contrasts(
    pairs: Mapping[str, tuple[Estimate, Estimate]],
    *,
    against: str = REST,
    p_values: Mapping[str, float] | None = None,
) -> list[Contrast]:
    """Differences of a family of groups, adjusted for their number.

    Args:
        pairs: group -> its estimate and that of the other side, from the rows of :func:`sides`.
        against: name of the other side.
        p_values: group -> p value, from :func:`mean_p_values` or :func:`auc_p_values`; NaN where there is none.
            None takes them from the intervals, for values that no patient has alone.

    Returns:
        One contrast per pair, in their order; those not estimable stay, outside the family.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65; Benjamini & Hochberg 1995, JRSS B 57:289.
    """
    found = []
    for group, (one, other) in pairs.items():
        difference = mover_difference(one, other)
        p = interval_p_value(difference) if p_values is None else p_values.get(group, math.nan)
        test = None if math.isnan(p) else FROM_INTERVAL if p_values is None else PERMUTATION
        found.append(Contrast(group, against, difference, p, test))
    return _adjusted(found)


def _adjusted(found: list[Contrast]) -> list[Contrast]:
    from statsmodels.stats.multitest import multipletests

    family = [contrast.p for contrast in found if contrast.test]
    if not family:
        return found
    claims, screening = iter(holm(family)), iter(multipletests(family, method="fdr_bh")[1].tolist())
    return [replace(c, family=len(family), p_holm=next(claims), p_bh=next(screening)) if c.test else c for c in found]


def interval_p_value(difference: Estimate) -> float:
    """Two-sided p value that agrees with a 95 % interval: below 0.05 if, and only if, 0 lies outside.

    The half towards 0 stands for 1.96 standard errors.

    Args:
        difference: with an interval; NaN without one.

    Source: Altman & Bland 2011, BMJ 343:d2304.
    """
    from scipy.special import ndtr

    if not difference.estimable:
        return math.nan
    half = difference.value - difference.low if difference.value > 0 else difference.high - difference.value
    return float(2 * ndtr(-abs(difference.value) / half * Z)) if half > 0 else math.nan


def sides(groups: ArrayLike, patients: ArrayLike, reference: str | None = None) -> dict[str, Pair]:
    """Rows of every group and of the other side, without the patients seen on both: the two are independent.

    Args:
        groups: ``(n,)``, names.
        patients: ``(n,)``, integer codes.
        reference: the one group to compare with; None for all other groups together.

    Returns:
        Group -> two masks ``(n,)``; the reference is not compared with itself.

    Raises:
        ValueError: if the reference is not a group.

    Example:
        >>> {g: (a.tolist(), b.tolist()) for g, (a, b) in sides(["GE", "GE", "Canon"], [0, 1, 1], "Canon").items()}
        {'GE': ([True, False, False], [False, False, False])}
    """
    named, owners = np.asarray(groups).astype(str), np.asarray(patients)
    listed = np.unique(named).tolist()
    if reference is not None and reference not in listed:
        raise ValueError(f"the reference must be a group; {reference!r} is not; choose among {', '.join(listed)}")
    found = {}
    for group in listed:
        one = named == group
        other = ~one if reference is None else named == reference
        both = np.isin(owners, np.intersect1d(owners[one], owners[other]))
        if group != reference:
            found[group] = (one & ~both, other & ~both)
    return found


def mean_p_values(
    values: ArrayLike,
    patients: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    reference: str | None = None,
    strata: ArrayLike | None = None,
    permutations: int = PERMUTATIONS,
) -> dict[str, float]:
    """P value of every group's mean against the other side: Welch's t, patients exchanged between the two.

    Args:
        values: ``(n,)``, e.g. right (1) or wrong (0), or Dice; averaged per patient, NaN not counted.
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        rng: source of randomness.
        reference: the one group to compare with; None for all others together.
        strata: ``(n,)``, e.g. labels: compared and exchanged within a stratum only.
        permutations: number drawn per group.

    Returns:
        Group -> p value, twice the smaller tail: where errors are rare, a group without any has a large t and would
        otherwise hide one with many. Permutations that tie count half (mid-p). NaN without two patients on both sides,
        or without variation.

    Raises:
        ValueError: if the reference is not a group.

    Source: Janssen 1997, Statistics & Probability Letters 36:9.
    """
    numbers, owners = np.asarray(values, dtype=np.float64), np.asarray(patients)
    kinds = None if strata is None else np.asarray(strata)
    found = {}
    for group, (one, other) in sides(groups, owners, reference).items():
        rows = one | other
        table = by_patient(numbers[rows], owners[rows], one[rows], None if kinds is None else kinds[rows])
        kept = comparable(table)
        centred, members = centred_members(kept) if len(kept.values) else (np.zeros(0), np.zeros((0, 2)))

        def signed(drawn: FloatArray, members: FloatArray = members) -> FloatArray:
            means, variances = group_moments(drawn, members)
            return _both_signs(means, variances / members.sum(axis=0))

        blocks = permuted(centred, kept.strata, permutations, rng)
        found[group] = _two_sided(signed, centred[None], blocks) if centred.any() else math.nan
    return found


def auc_p_values(
    sample: Sample,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    reference: str | None = None,
    permutations: int = AUC_PERMUTATIONS,
) -> dict[str, float]:
    """P value of every group's AUC against the other side; patients are exchanged between the two within their labels.

    Args:
        sample: rows of one model.
        groups: ``(n,)``, names.
        rng: source of randomness.
        reference: the one group to compare with; None for all others together.
        permutations: number drawn per group.

    Returns:
        Group -> p value, twice the smaller tail; NaN where a side lacks two patients of a class.

    Raises:
        ValueError: if the reference is not a group.
    """
    found = {}
    for group, (one, other) in sides(groups, sample.patients, reference).items():
        if not (has_every_class(sample, one) and has_every_class(sample, other)):
            found[group] = math.nan
            continue
        rows = one | other
        table = by_patient(np.zeros(rows.sum()), sample.patients[rows], one[rows], sample.labels[rows])
        part = Sample(sample.labels[rows], sample.probabilities[rows], sample.patients[rows])
        aucs = GroupAuc(part, table)

        def signed(codes: IntArray, aucs: GroupAuc = aucs) -> FloatArray:
            return _both_signs(*aucs(codes))

        blocks = permuted(table.groups, table.strata, permutations, rng, width=len(part.labels))
        found[group] = _two_sided(signed, table.groups[None], blocks)
    return found


def _both_signs(values: FloatArray, squared_errors: FloatArray) -> FloatArray:
    """Difference of two columns over its standard error, and its negative: ``(B, 2)``."""
    ratio = (values[:, 1] - values[:, 0]) / np.sqrt(squared_errors.sum(axis=1))
    return np.stack([ratio, -ratio], axis=1)


def _two_sided(
    signed: Callable[[NDArray[Any]], FloatArray], observed: NDArray[Any], drawn: Iterator[NDArray[Any]]
) -> float:
    """Twice the smaller tail, ties counting half: right and wrong tie often, and the test would hardly ever reject."""
    return min(1.0, 2 * float(share_as_extreme(signed(observed)[0], map(signed, drawn), ties=0.5).min()))
