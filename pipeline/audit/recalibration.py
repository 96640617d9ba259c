"""Slope and intercept by which one class's probabilities would have to be corrected."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.calibration import one_against_rest
from pipeline.audit.statistics import (
    MIN_PATIENTS_PER_CLASS,
    TOO_FEW,
    Estimate,
    FloatArray,
    IntArray,
    Sample,
)

CLIP = 1e-6  # probabilities of 0 and 1 have no logit
JACKKNIFE = "patient jackknife"


def calibration_slope(sample: Sample, positive: int, *, min_patients: int = 10) -> Estimate:
    r"""Slope of the outcome on the model's logit: below 1 the model is too sure, above 1 not sure enough.

    .. math:: \mathrm{logit}\, P(y = 1) = a + b \, \mathrm{logit}(p)

    Args:
        sample: rows of one model in one group.
        positive: class looked at, against all others. Its probabilities are kept away from 0 and 1 by ``CLIP``.
        min_patients: below it there is a value and no interval.

    Returns:
        ``b``, with a 95 % interval from leaving out one patient at a time and Student's t. Without a value where a
        class is absent, all probabilities are equal, or they separate the classes: the slope is then infinite.

    Raises:
        ValueError: if there is no such class.

    Source: Cox 1958, Biometrika 45:562; Van Calster et al. 2019, BMC Medicine 17:230; standard error: Bell &
    McCaffrey 2002, Survey Methodology 28:169.
    """
    logits, outcomes = _logits(sample, positive)
    reason = _why_no_slope(logits, outcomes)
    if reason:
        return Estimate(sample.n_patients, len(outcomes), reason=reason)
    design = np.c_[np.ones_like(logits), logits]
    return _recalibrated(design, np.zeros_like(logits), outcomes, sample.patients, min_patients)


def calibration_intercept(sample: Sample, positive: int, *, min_patients: int = 10) -> Estimate:
    r"""Calibration in the large: below 0 the class is announced more often than it comes, above 0 less often.

    .. math:: \mathrm{logit}\, P(y = 1) = a + \mathrm{logit}(p)

    Args:
        sample: rows of one model in one group.
        positive: class looked at, against all others. Its probabilities are kept away from 0 and 1 by ``CLIP``.
        min_patients: below it there is a value and no interval.

    Returns:
        ``a``, the slope held at 1, with a 95 % interval as in :func:`calibration_slope`; without a value where a class
        is absent.

    Raises:
        ValueError: if there is no such class.

    Source: Van Calster et al. 2019, BMC Medicine 17:230.
    """
    logits, outcomes = _logits(sample, positive)
    if len(np.unique(outcomes)) < 2:
        return Estimate(sample.n_patients, len(outcomes), reason=_absent(outcomes))
    return _recalibrated(np.ones((len(logits), 1)), logits, outcomes, sample.patients, min_patients)


def _logits(sample: Sample, positive: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    probabilities, outcomes = one_against_rest(sample, positive)
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    return np.log(clipped / (1 - clipped)), outcomes


def _absent(outcomes: NDArray[np.bool_]) -> str:
    return "a class is absent" if len(outcomes) else "no patients"


def _why_no_slope(logits: FloatArray, outcomes: NDArray[np.bool_]) -> str | None:
    if len(np.unique(outcomes)) < 2:
        return _absent(outcomes)
    upper, lower = logits[outcomes], logits[~outcomes]
    if np.ptp(logits) < 1e-9:
        return "all probabilities are equal"
    if lower.max() <= upper.min() or upper.max() <= lower.min():
        return "the probabilities separate the classes"
    return None


def _recalibrated(
    design: FloatArray, offset: FloatArray, outcomes: NDArray[np.bool_], patients: IntArray, min_patients: int
) -> Estimate:
    """Last coefficient of a logistic regression, with the interval of a patient jackknife."""
    count, rows = int(patients.max()) + 1, len(outcomes)
    coefficients = _logistic(design, offset, outcomes)
    value = float(coefficients[-1])
    if count < min_patients:
        return Estimate(count, rows, value, reason=TOO_FEW)
    if min(len(np.unique(patients[outcomes])), len(np.unique(patients[~outcomes]))) < MIN_PATIENTS_PER_CLASS:
        return Estimate(count, rows, value, reason="too few patients of a class")
    error = _jackknife_error(design, offset + design @ coefficients, outcomes, patients)
    if not 0 < error < math.inf:
        return Estimate(count, rows, value, reason="one patient decides the fit")
    from scipy.special import stdtrit

    half = float(stdtrit(count - 1, 0.975)) * error
    return Estimate(count, rows, value, value - half, value + half, JACKKNIFE)


def _logistic(design: FloatArray, offset: FloatArray, outcomes: NDArray[np.bool_]) -> FloatArray:
    """Coefficients of greatest likelihood, ``(k,)``; they exist, as the callers made sure."""
    from scipy.optimize import minimize
    from scipy.special import expit

    def loss(b: FloatArray) -> float:
        linear = offset + design @ b
        return float(np.mean(np.logaddexp(0, linear) - outcomes * linear))

    def gradient(b: FloatArray) -> FloatArray:
        return np.asarray(design.T @ (expit(offset + design @ b) - outcomes) / len(outcomes))

    def curvature(b: FloatArray) -> FloatArray:
        mean = expit(offset + design @ b)
        return np.asarray((design * (mean * (1 - mean))[:, None]).T @ design / len(outcomes))

    start = np.zeros(design.shape[1])
    found = minimize(loss, start, jac=gradient, hess=curvature, method="trust-exact", options={"gtol": 1e-10})
    return np.asarray(found.x, dtype=np.float64)


def _jackknife_error(design: FloatArray, linear: FloatArray, outcomes: NDArray[np.bool_], patients: IntArray) -> float:
    """Standard error of the last coefficient when each patient is left out in turn, by one Newton step each (CR3)."""
    from scipy.special import expit

    mean, count, k = expit(linear), int(patients.max()) + 1, design.shape[1]
    terms = np.c_[design * (outcomes - mean)[:, None], _products(design) * (mean * (1 - mean))[:, None]]  # (n, k + k^2)
    sums = np.stack([np.bincount(patients, weights=term) for term in terms.T], axis=1)
    scores, curvatures = sums[:, :k], sums[:, k:].reshape(count, k, k)
    rest = curvatures.sum(axis=0) - curvatures
    if np.any(np.linalg.cond(rest) > 1e12):
        return math.inf
    moved = np.linalg.solve(rest, scores[:, :, None])[:, -1, 0]
    return math.sqrt((count - 1) / count * float(moved @ moved))


def _products(design: FloatArray) -> FloatArray:
    """Outer product of each row with itself, ``(n, k^2)``."""
    return np.asarray((design[:, :, None] * design[:, None, :]).reshape(len(design), -1))
