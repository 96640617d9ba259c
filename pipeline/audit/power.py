"""What a comparison of this size could have seen, and how many patients a chosen gap would take.

Normal approximations, two-sided. With fewer than about 20 patients a side they promise a little too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

StandardError = Callable[[float, float], float]  # (value, independent patients) -> standard error; NaN out of range
MOST_PATIENTS = 1e9
NOTHING = 1e-12  # a gap that is none
BEYOND_SCALE = "no gap on the scale is large enough"
OTHERS_TOO_FEW = "the other side has too few patients for this gap, however many are added here"


@dataclass(frozen=True)
class Design:
    """How a comparison is made.

    Args:
        power: chance to find the gap if it is there.
        alpha: two-sided error of the whole family of comparisons.
        family: comparisons that Holm's procedure shares ``alpha`` among; its hardest step, ``alpha / family``, counts.
        rows_per_patient: rows (slices, phases) that each patient brings.
        icc: intraclass correlation of a patient's rows, in [0, 1]; 1 makes further rows worthless.

    Raises:
        ValueError: if a value is out of its range.
    """

    power: float = 0.8
    alpha: float = 0.05
    family: int = 1
    rows_per_patient: float = 1.0
    icc: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and self.alpha / 2 < self.power < 1 and self.family >= 1):
            raise ValueError(
                "alpha must lie in (0, 1), power between alpha / 2 and 1, family at least at 1; got "
                f"{self.alpha}, {self.power} and {self.family}; e.g. 0.05, 0.8 and 1"
            )
        if not (0 <= self.icc <= 1 and self.rows_per_patient >= 1):
            raise ValueError(
                f"icc must lie in [0, 1] and rows_per_patient at 1 or above; got {self.icc} and "
                f"{self.rows_per_patient}; with one row per patient leave both out"
            )

    @property
    def distance(self) -> float:
        """Standard errors that the gap must measure.

        Example:
            >>> round(Design().distance, 3), round(Design(family=5).distance, 3)
            (2.802, 3.417)
        """
        from scipy.special import ndtri

        return float(ndtri(1 - self.alpha / (2 * self.family)) + ndtri(self.power))

    @property
    def worth(self) -> float:
        """Independent rows that one patient is worth: rows divided by the design effect ``1 + (rows - 1) icc``.

        Example:
            >>> round(Design(rows_per_patient=10, icc=0.4).worth, 2)  # 10 / 4.6
            2.17
        """
        return self.rows_per_patient / (1 + (self.rows_per_patient - 1) * self.icc)


@dataclass(frozen=True)
class SmallestGap:
    """Smallest gap that a comparison could have seen; NaN with the reason if there is none."""

    gap: float = math.nan
    reason: str | None = None


@dataclass(frozen=True)
class PatientsNeeded:
    """Patients that a gap takes in the group, and how many are missing; None with the reason if none suffice."""

    needed: int | None = None
    missing: int | None = None
    reason: str | None = None


def proportion_error(value: float, patients: float) -> float:
    """Standard error of a proportion (accuracy; sensitivity, when the patients are those with the disease).

    Args:
        value: in [0, 1].
        patients: independent ones.

    Returns:
        NaN outside [0, 1].

    Example:
        >>> proportion_error(0.5, 25)
        0.1
    """
    return math.sqrt(value * (1 - value) / patients) if 0 <= value <= 1 else math.nan


def mean_error(sd: float) -> StandardError:
    """Standard error of a mean (Dice, HD95, EF error) of a known standard deviation over patients.

    An observed standard error ``se`` of ``n`` patients, e.g. of a clustered AUC, comes in as
    ``mean_error(se * sqrt(n))``.

    Args:
        sd: at least 0, in the unit of the mean.

    Returns:
        Function of value and patients.

    Raises:
        ValueError: if ``sd`` is negative or not a number.
    """
    if not 0 <= sd < math.inf:
        raise ValueError(f"the standard deviation must be a number, not negative; got {sd}; take it from earlier data")
    return lambda _value, patients: sd / math.sqrt(patients)


def auc_error(positive_share: float) -> StandardError:
    """Standard error of an AUC of one class against the rest.

    Args:
        positive_share: share of the patients that have the class, in (0, 1).

    Returns:
        Function of AUC and patients (of both kinds together); NaN outside [0, 1].

    Raises:
        ValueError: if ``positive_share`` leaves one side empty.

    Source: Hanley & McNeil 1982, Radiology 143:29, equation 1.
    """
    if not 0 < positive_share < 1:
        raise ValueError(
            f"positive_share must lie between 0 and 1; got {positive_share}; an AUC needs patients with and without "
            "the class"
        )

    def error(auc: float, patients: float) -> float:
        if not 0 <= auc <= 1:
            return math.nan
        m, n = positive_share * patients, (1 - positive_share) * patients
        above, below = auc / (2 - auc) - auc**2, 2 * auc**2 / (1 + auc) - auc**2
        variance = auc * (1 - auc) + max(m - 1, 0) * above + max(n - 1, 0) * below
        return math.sqrt(max(variance, 0.0) / (m * n))

    return error


def smallest_gap(
    error: StandardError, value: float, patients: float, other_patients: float, design: Design | None = None
) -> SmallestGap:
    """Smallest gap below ``value`` that a group could have shown against the others.

    Args:
        error: :func:`proportion_error`, :func:`mean_error` or :func:`auc_error`.
        value: what the others reach.
        patients: in the group.
        other_patients: in what it is compared with; ``math.inf`` for a fixed value, or when ``error`` is that of
            differences paired by patient.
        design: power, error, family, rows per patient.

    Returns:
        The gap, in the unit of ``value``; with ``reason`` where none can be seen.

    Example:
        >>> round(smallest_gap(proportion_error, 0.9, 40, 200).gap, 3)
        0.214
    """
    plan = design or Design()
    if min(patients, other_patients) < 2:
        return SmallestGap(reason="fewer than two patients on a side")
    own, others = patients * plan.worth, other_patients * plan.worth

    def surplus(gap: float) -> float:
        return gap - plan.distance * math.hypot(error(value - gap, own), error(value, others))

    if math.isnan(error(value, others)):
        return SmallestGap(reason="no value on the scale to go by")
    widest = _bracket(surplus, value)
    if widest is None:
        return SmallestGap(reason=BEYOND_SCALE)
    if surplus(NOTHING) >= 0:
        return SmallestGap(reason="no variation")
    from scipy.optimize import brentq

    return SmallestGap(float(brentq(surplus, NOTHING, widest, xtol=NOTHING)))


def _bracket(surplus: Callable[[float], float], value: float) -> float | None:
    """A gap that is surely large enough; None if the scale (down to 0) ends before."""
    if not math.isnan(surplus(2 * abs(value) + 1)):  # an unbounded scale: the error does not depend on the value
        return 2 * abs(surplus(0.0)) + 1
    return value if value > 0 and surplus(value) >= 0 else None


def smallest_gap_from_errors(error: float, other_error: float, design: Design | None = None) -> SmallestGap:
    """Smallest gap that two estimates with these standard errors could have shown; clustering is in them already.

    Args:
        error: standard error of the group's value.
        other_error: standard error of the others' value; 0 for a fixed value.
        design: power, error, family.

    Returns:
        The gap, in the unit of the errors.

    Example:
        >>> round(smallest_gap_from_errors(0.03, 0.04).gap, 3)
        0.14
    """
    together = math.hypot(error, other_error)
    if not 0 < together < math.inf:
        return SmallestGap(reason="no standard error to go by")
    return SmallestGap((design or Design()).distance * together)


def patients_needed(
    error: StandardError,
    value: float,
    gap: float,
    *,
    patients: float = 0,
    other_patients: float | None = None,
    design: Design | None = None,
) -> PatientsNeeded:
    """Patients that it takes in a group to show a gap below ``value``.

    Args:
        error: :func:`proportion_error`, :func:`mean_error` or :func:`auc_error`.
        value: what the others reach.
        gap: above 0, in the unit of ``value``.
        patients: that the group has already.
        other_patients: in what it is compared with, held at that number; None for as many as in the group,
            ``math.inf`` for a fixed value or differences paired by patient.
        design: power, error, family, rows per patient.

    Returns:
        Patients in the group, and how many of them are missing; with ``reason`` where no number suffices.

    Raises:
        ValueError: if the gap is not positive or leaves the scale.

    Example:
        >>> patients_needed(proportion_error, 0.95, 0.05, patients=40)
        PatientsNeeded(needed=432, missing=392, reason=None)
        >>> patients_needed(mean_error(0.03), 0, 0.01, other_patients=math.inf).needed  # paired Dice
        71
    """
    if not gap > 0 or math.isnan(error(value - gap, 2)) or math.isnan(error(value, 2)):
        raise ValueError(
            f"the gap must be positive and stay on the scale; got {gap} below {value}; choose one between 0 and {value}"
        )
    plan = design or Design()

    def surplus(log_count: float) -> float:
        count = math.exp(log_count)
        others = count if other_patients is None else other_patients
        both = math.hypot(error(value - gap, count * plan.worth), error(value, others * plan.worth))
        return gap - plan.distance * both

    least, most = math.log(2), math.log(MOST_PATIENTS)
    if (other_patients is not None and other_patients < 2) or surplus(most) < 0:
        return PatientsNeeded(reason=OTHERS_TOO_FEW)
    from scipy.optimize import brentq

    exact = 2.0 if surplus(least) >= 0 else math.exp(brentq(surplus, least, most, xtol=1e-12))
    needed = math.ceil(exact - 1e-6)
    return PatientsNeeded(needed, max(0, needed - math.floor(patients)))
