"""Which group differs? Each against the rest, or against one that is named, with the whole family accounted for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.design import BETWEEN, Design
from pipeline.audit.differences import Difference
from pipeline.audit.multiplicity import holm
from pipeline.audit.statistics import Estimate

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
        design: ``between patients``, or ``within patients``: the other side are the same patients in other groups.
    """

    group: str
    against: str
    difference: Estimate
    p: float = math.nan
    test: str | None = None
    family: int = 0
    p_holm: float = math.nan
    p_bh: float = math.nan
    design: Design = BETWEEN


def contrasts(
    found: Mapping[str, Difference],
    *,
    against: str = REST,
    p_values: Mapping[str, float] | None = None,
    design: Design = BETWEEN,
) -> list[Contrast]:
    """Differences of a family of groups, adjusted for their number.

    Args:
        found: group -> its difference from the other side, from the rows of :func:`sides`.
        against: name of the other side.
        p_values: group -> p value, from :mod:`pipeline.audit.contrast_tests`; NaN where there is none. None takes them
            from the intervals, for values that no patient has alone.
        design: of the sides.

    Returns:
        One contrast per group, in their order; those not estimable stay, outside the family.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65; Benjamini & Hochberg 1995, JRSS B 57:289.
    """
    rows = []
    for group, difference in found.items():
        p = difference.p_two_sided if p_values is None else p_values.get(group, math.nan)
        test = None if math.isnan(p) else FROM_INTERVAL if p_values is None else PERMUTATION
        rows.append(Contrast(group, against, difference.estimate, p, test, design=design))
    return _adjusted(rows)


def _adjusted(found: list[Contrast]) -> list[Contrast]:
    from statsmodels.stats.multitest import multipletests

    family = [contrast.p for contrast in found if contrast.test]
    if not family:
        return found
    claims, screening = iter(holm(family)), iter(multipletests(family, method="fdr_bh")[1].tolist())
    return [replace(c, family=len(family), p_holm=next(claims), p_bh=next(screening)) if c.test else c for c in found]


def sides(
    groups: ArrayLike, patients: ArrayLike, reference: str | None = None, design: Design = BETWEEN
) -> dict[str, Pair]:
    """Rows of every group and of the other side: of different patients, or of the same.

    Args:
        groups: ``(n,)``, names.
        patients: ``(n,)``, integer codes.
        reference: the one group to compare with; None for all other groups together.
        design: ``between patients`` leaves out those seen on both sides, so that the two are independent; ``within
            patients`` takes them alone.

    Returns:
        Group -> two masks ``(n,)``; the reference is not compared with itself.

    Raises:
        ValueError: if the reference is not a group.

    Example:
        >>> {g: (a.tolist(), b.tolist()) for g, (a, b) in sides(["GE", "GE", "Canon"], [0, 1, 1], "Canon").items()}
        {'GE': ([True, False, False], [False, False, False])}
        >>> [a.tolist() for a in sides(["GE", "GE", "Canon"], [0, 1, 1], "Canon", "within patients")["GE"]]
        [[False, True, False], [False, False, True]]
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
        kept = ~both if design == BETWEEN else both
        if group != reference:
            found[group] = (one & kept, other & kept)
    return found
