"""What a comparison of these patients could have shown, and how many it would take: from the estimates of both sides.

A share or an AUC counts as a share of as many independent patients as its interval is worth; anything else as a mean
with the standard error of its interval. A group without an interval has the precision per patient of the other side.
Where groups are compared within patients, the interval of the difference says all.
"""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.audit.findings import Measure
from pipeline.audit.power import (
    Design,
    PatientsNeeded,
    SmallestGap,
    mean_error,
    patients_needed,
    proportion_error,
    smallest_gap,
    smallest_gap_from_errors,
)
from pipeline.audit.statistics import Estimate, Z
from pipeline.audit.worst import effective_patients

GAP = 0.05  # of shares, where the plan names none
FEWER_THAN_TWO = "fewer than two patients on a side"
NO_PRECISION = "the other side has no interval to go by"


def gap_of(measure: Measure) -> float | None:
    """Gap that should be seen: the margin; five points of a share without one; None for other measures without one."""
    return measure.margin or (GAP if measure.scale == "share" else None)


def gap_within(difference: Estimate, family: int) -> SmallestGap:
    """Smallest gap that a contrast within patients would have shown with 80 % power: by the interval of its difference.

    Args:
        difference: group minus the same patients' others.
        family: contrasts that Holm's procedure adjusts for.

    Example:
        >>> round(gap_within(Estimate(20, 20, 0.0, -0.1, 0.1, "MOVER, correlated"), 1).gap, 3)
        0.143
    """
    if not difference.estimable:
        return SmallestGap(reason=difference.reason)
    return smallest_gap_from_errors(_error(difference), 0.0, Design(family=max(1, family)))


def patients_within(measure: Measure, difference: Estimate, family: int) -> PatientsNeeded | None:
    """Patients in both the group and others that the gap of the plan would take.

    Args:
        measure: what is measured; its gap is that of :func:`gap_of`.
        difference: group minus the same patients' others.
        family: contrasts that Holm's procedure adjusts for.

    Returns:
        Patients; None for a measure without such a gap.
    """
    gap = gap_of(measure)
    if gap is None:
        return None
    if not difference.estimable:
        return PatientsNeeded(reason=difference.reason)
    error = mean_error(_error(difference) * math.sqrt(difference.n_patients))
    return patients_needed(
        error,
        0.0,
        gap,
        patients=difference.n_patients,
        other_patients=math.inf,
        design=Design(family=max(1, family)),
    )


def gap_seen(measure: Measure, group: Estimate, other: Estimate, family: int) -> SmallestGap:
    """Smallest gap that a group's contrast would have shown with 80 % power.

    Args:
        measure: what is measured.
        group: its estimate.
        other: that of the other side.
        family: contrasts that Holm's procedure adjusts for.

    Returns:
        The gap in the measure's unit, or why there is none.

    Example:
        >>> one, rest = Estimate(40, 40, 0.9, 0.769, 0.960, "Wilson"), Estimate(200, 200, 0.9, 0.851, 0.934, "Wilson")
        >>> round(gap_seen(Measure("accuracy", "Accuracy"), one, rest, 1).gap, 2)
        0.21
    """
    if min(group.n_patients, other.n_patients) < 2:
        return SmallestGap(reason=FEWER_THAN_TWO)
    if not other.estimable:
        return SmallestGap(reason=NO_PRECISION)
    design = Design(family=max(1, family))
    if measure.scale == "share":
        own = group.n_patients * _worth(group, other)
        return smallest_gap(proportion_error, other.value, max(own, 2.0), max(effective_patients(other), 2.0), design)
    own_error = _deviation(group, other) / math.sqrt(group.n_patients)
    return smallest_gap_from_errors(own_error, _error(other), design)


def patients_for(measure: Measure, group: Estimate, other: Estimate, family: int) -> PatientsNeeded | None:
    """Patients of a group that the gap of the plan would take, the other side staying as it is.

    Args:
        measure: what is measured; its gap is that of :func:`gap_of`.
        group: its estimate.
        other: that of the other side.
        family: contrasts that Holm's procedure adjusts for.

    Returns:
        Patients, or why no number suffices; None for a measure without such a gap.
    """
    gap, design = gap_of(measure), Design(family=max(1, family))
    if gap is None:
        return None
    if not other.estimable:
        return PatientsNeeded(reason=NO_PRECISION)
    if measure.scale == "share":
        if not gap < other.value:
            return PatientsNeeded(reason="the other side is no further from 0 than the gap")
        worth = _worth(group, other)
        others = max(effective_patients(other), 2.0)
        found = patients_needed(proportion_error, other.value, gap, other_patients=others, design=design)
        return _in_patients(found, worth, group.n_patients)
    deviation = _deviation(group, other)
    others = (deviation / _error(other)) ** 2  # that have the other side's error with the group's deviation
    return patients_needed(
        mean_error(deviation), 0.0, gap, patients=group.n_patients, other_patients=others, design=design
    )


def _in_patients(found: PatientsNeeded, worth: float, present: int) -> PatientsNeeded:
    """From independent patients to patients with their rows."""
    if found.needed is None:
        return found
    needed = math.ceil(found.needed / worth - 1e-9)
    return replace(found, needed=needed, missing=max(0, needed - present))


def _worth(group: Estimate, other: Estimate) -> float:
    """Independent patients that one patient is worth."""
    known = group if group.estimable else other
    return effective_patients(known) / known.n_patients


def _error(found: Estimate) -> float:
    """Standard error that the interval stands for."""
    return (found.high - found.low) / (2 * Z)


def _deviation(group: Estimate, other: Estimate) -> float:
    """Standard deviation over patients."""
    known = group if group.estimable else other
    return _error(known) * math.sqrt(known.n_patients)
