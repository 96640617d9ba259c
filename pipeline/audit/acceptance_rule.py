r"""Does a model do in one hospital what its audit says? A rule with three answers, and how many patients are missing.

The audited value :math:`a` of the scanner group is the standard, held fixed, with its interval :math:`(l_a, u_a)` and a
margin :math:`m` that was chosen before. For values that are better the higher they are, with the local 95 % interval
:math:`(l, u)` by patient:

- **pass** if :math:`l > a - m`: not inferior to the audited value, a one-sided test at 2.5 %;
- **fail** if :math:`u < l_a - m`: below everything that the audit leaves possible, by more than the margin;
- **too few** otherwise, with the patients that would probably (80 %) tell.

Several groups are each judged so. Passing all of them needs no correction, since each must pass (intersection-union);
failing in one of them fails.

How often the rule is wrong (``python -m benchmarks.audit_noninferiority --only acceptance``): a model at the audited
value less the margin passes in 1 to 3 % of runs, one that does as audited fails in less than 1 %. The truth behind an
audited value is another matter: with 400 local patients, a model that falls short of *it* by the margin passes in 6 %
of runs if 400 patients were audited, 15 % if 100, 23 % if 40. Where an audit is so small, the notes say so.

Source: Piaggio et al. 2012, JAMA 308:2594; Berger 1982, Technometrics 24:295.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.audit.findings import ALL, Measure
from pipeline.audit.power import PatientsNeeded, StandardError, mean_error, patients_needed, proportion_error
from pipeline.audit.statistics import Estimate, Z

PASS, FAIL, TOO_FEW = "pass", "fail", "too few"
MARGIN = 0.05  # of a share, where neither plan nor user names one
NOT_AUDITED = "the audit has no interval to compare with"
AUDIT_TOO_WIDE = "between what passes and what fails: more audited patients would tell, more local ones hardly"


@dataclass(frozen=True)
class Bounds:
    """What a local interval is held against.

    Args:
        goal: the interval must lie on the good side of it to pass.
        floor: and on the bad side of it to fail.
    """

    goal: float
    floor: float


@dataclass(frozen=True)
class Check:
    """One scanner group of the hospital.

    Args:
        group: its name.
        standard: audited group that it is compared with; ``all`` for all audited patients.
        local: value and interval of the hospital.
        audited: those of the standard.
        bounds: that follow from the standard; NaN without one.
        verdict: ``pass``, ``fail`` or ``too few``.
        missing: further patients that would probably tell; None if the verdict stands, or no number would.
        reason: why no number would.
    """

    group: str
    standard: str
    local: Estimate
    audited: Estimate
    bounds: Bounds
    verdict: str
    missing: int | None = None
    reason: str | None = None


def bounds_of(audited: Estimate, measure: Measure, margin: float) -> Bounds:
    """Goal and floor of a standard.

    Example:
        >>> bounds_of(Estimate(100, 100, 0.9, 0.83, 0.94, "Wilson"), Measure("accuracy", "Accuracy"), 0.05)
        Bounds(goal=0.85, floor=0.78)
    """
    sign = _sign(measure)
    end = audited.low if sign > 0 else audited.high
    return Bounds(round(audited.value - sign * margin, 12), round(end - sign * margin, 12))


def verdict_of(local: Estimate, bounds: Bounds, measure: Measure) -> str:
    """The rule of this module.

    Example:
        >>> measure, bounds = Measure("accuracy", "Accuracy"), Bounds(goal=0.85, floor=0.78)
        >>> [
        ...     verdict_of(Estimate(80, 80, 0.0, *ends, "Wilson"), bounds, measure)
        ...     for ends in ((0.86, 0.95), (0.6, 0.77), (0.7, 0.9))
        ... ]
        ['pass', 'fail', 'too few']
    """
    if not local.estimable:
        return TOO_FEW
    sign = _sign(measure)
    low, high = sorted((sign * local.low, sign * local.high))
    if low > sign * bounds.goal:
        return PASS
    return FAIL if high < sign * bounds.floor else TOO_FEW


def judge(
    group: str, standard: str, local: Estimate, audited: Estimate, *, measure: Measure, margin: float, least: int
) -> Check:
    """Compare one group with its standard.

    Args:
        group: local name.
        standard: the audit's group.
        local: of the hospital.
        audited: of the standard.
        measure: what is compared.
        margin: in its unit.
        least: patients below which there is no interval.

    Returns:
        The check; ``too few`` comes with the patients that are missing.
    """
    if not audited.estimable:
        nothing = Bounds(math.nan, math.nan)
        return Check(group, standard, local, audited, nothing, TOO_FEW, reason=NOT_AUDITED)
    bounds = bounds_of(audited, measure, margin)
    verdict = verdict_of(local, bounds, measure)
    if verdict != TOO_FEW:
        return Check(group, standard, local, audited, bounds, verdict)
    found = patients_to_tell(local, audited, bounds, measure, least=least)
    return Check(group, standard, local, audited, bounds, verdict, found.missing, found.reason)


def patients_to_tell(
    local: Estimate, audited: Estimate, bounds: Bounds, measure: Measure, *, least: int
) -> PatientsNeeded:
    """Patients that would probably (80 %) pass if the model does here as it was audited; rows of one add nothing.

    Where there are as many already, those that would tell if the model does as it has done here so far.

    Args:
        local: of the hospital.
        audited: of the standard.
        bounds: of the standard.
        measure: what is compared.
        least: patients below which there is no interval.

    Returns:
        Patients in all, and how many are missing; with ``reason`` where none would tell.
    """
    sign, error = _sign(measure), _error(measure, audited)
    goal, floor, here = sign * bounds.goal, sign * bounds.floor, sign * local.value
    for value, end in ((sign * audited.value, goal), (here, goal), (floor, here)):
        if value > end:  # not so for NaN
            missing = max(_needed(error, value, end, local.n_patients), least) - local.n_patients
            if missing > 0:
                return PatientsNeeded(missing + local.n_patients, missing)
    return PatientsNeeded(reason=AUDIT_TOO_WIDE)


def _needed(error: StandardError, value: float, end: float, patients: int) -> int:
    """Patients to tell a value from an end below it; 0 if the end is off the scale, or no number is enough."""
    if math.isnan(error(end, 2)):
        return 0
    found = patients_needed(error, value, value - end, patients=patients, other_patients=math.inf)
    return found.needed or 0


def _error(measure: Measure, audited: Estimate) -> StandardError:
    """Of a share by its value; of others by the audited interval, half of which is 1.96 standard errors."""
    if measure.name == "accuracy":
        return proportion_error
    return mean_error((audited.high - audited.low) / (2 * Z) * math.sqrt(audited.n_patients))


def _sign(measure: Measure) -> int:
    return 1 if measure.better == "higher" else -1


def margin_of(measure: Measure, margin: float | None) -> float:
    """The margin that was asked for, else the plan's, else five points of a share.

    Raises:
        ValueError: if it is not positive, or there is none for a value with a unit.
    """
    chosen = margin if margin is not None else measure.margin
    if chosen is None and measure.scale == "share":
        chosen = MARGIN
    if chosen is None or not 0 < chosen < (1 if measure.scale == "share" else math.inf):
        most = " and below 1 (0.05 is five points)" if measure.scale == "share" else f" {measure.unit}".rstrip()
        raise ValueError(
            f"the margin of {measure.name!r} must be above 0{most}; got {chosen}; choose the largest loss that would "
            "not matter, --margin"
        )
    return chosen


def note_on_width(check: Check, measure: Measure) -> str | None:
    """Sentence on a standard that is itself less sure than the margin; None where it is surer."""
    found = check.audited
    unsure = found.low < check.bounds.goal if _sign(measure) > 0 else found.high > check.bounds.goal
    if not (found.estimable and unsure):
        return None
    whom = "of all audited patients" if check.standard == ALL else f"that was audited on {check.standard}"
    return (
        f"The value {whom} rests on {found.n_patients} patients; its interval reaches beyond what passes here, so "
        "that a pass says little about the truth behind it."
    )
