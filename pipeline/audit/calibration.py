"""Whether probabilities mean what they say: Brier score, recalibration, and calibration error beside its null band.

The expected calibration error of a *perfectly* calibrated model is not 0: with 20 patients it is often above 0.2. It is
therefore never given without the band in which it would lie if the labels had been drawn from these very probabilities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.intervals import proportion_interval
from pipeline.audit.statistics import (
    BLOCK_SIZE,
    MIN_PATIENTS_PER_CLASS,
    PERCENTILES,
    TOO_FEW,
    Estimate,
    FloatArray,
    IntArray,
    Sample,
)

BINS = 15
CLIP = 1e-6  # probabilities of 0 and 1 have no logit
JACKKNIFE = "patient jackknife"


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error of one model in one group, and where chance alone would put it.

    Args:
        n_patients: patients behind the value.
        n_rows: rows behind the value.
        value: in [0, 1]; NaN without rows.
        null_mean: mean over labels redrawn from the probabilities; NaN if nothing can vary.
        null_low: 2.5th percentile of the same.
        null_high: 97.5th percentile.
        reason: why there is no null band; None with one.
    """

    n_patients: int
    n_rows: int
    value: float = math.nan
    null_mean: float = math.nan
    null_low: float = math.nan
    null_high: float = math.nan
    reason: str | None = None

    @property
    def beyond_chance(self) -> bool:
        """True if a perfectly calibrated model would hardly ever (2.5 %) reach this value."""
        return self.value > self.null_high


@dataclass(frozen=True)
class ReliabilityBin:
    """One point of a reliability curve.

    Args:
        lower: lower edge of the bin, itself inside.
        upper: upper edge; inside only if it is 1.
        mean_probability: of the rows in the bin.
        observed: share of them in which the event came true.
    """

    lower: float
    upper: float
    mean_probability: float
    observed: Estimate


def brier_scores(labels: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    r"""Squared distance of the probabilities from what came true, one value per row; their mean is the Brier score.

    .. math:: b_i = (p_{i1} - y_i)^2 \;\text{(two classes)}, \qquad b_i = \sum_c (p_{ic} - [y_i = c])^2 \;\text{(more)}

    Args:
        labels: ``(n,)``, class indices.
        probabilities: ``(n, C)``.

    Returns:
        ``(n,)``, in [0, 1] for two classes and in [0, 2] for more; 0 is best.

    Raises:
        ValueError: if the shapes disagree or a label has no probability column.

    Example:
        >>> brier_scores([1, 0], [[0.5, 0.5], [0.0, 1.0]]).tolist()
        [0.25, 1.0]

    Source: Brier 1950, Monthly Weather Review 78:1.
    """
    codes, table = _checked(labels, probabilities)
    squares = (table - np.eye(table.shape[1])[codes]) ** 2
    return np.asarray(squares[:, 1] if table.shape[1] == 2 else squares.sum(axis=1))


def expected_calibration_error(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = BINS, equal_mass: bool = False
) -> float:
    r"""Mean distance between how sure the decisions are and how often they are right.

    .. math:: \sum_{m} \frac{n_m}{n} \, |\mathrm{accuracy}_m - \mathrm{confidence}_m|

    over bins of the largest probability. A value on an edge belongs to the bin above it.

    Args:
        labels: ``(n,)``, class indices.
        probabilities: ``(n, C)``.
        bins: how many.
        equal_mass: bins of equal numbers of rows, equal values kept together, instead of bins of equal width.

    Returns:
        In [0, 1]; NaN without rows.

    Raises:
        ValueError: if the shapes disagree or a label has no probability column.

    Example:
        >>> round(expected_calibration_error([0, 1], [[0.9, 0.1], [0.9, 0.1]]), 3)
        0.4

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    codes, table = _checked(labels, probabilities)
    if not len(codes):
        return math.nan
    confidence = table.max(axis=1)
    index, _ = _bins(confidence, bins, equal_mass)
    right = (table.argmax(axis=1) == codes)[None]
    return float(_errors(right, confidence, index, bins)[0])


def calibration_error(
    sample: Sample, *, rng: np.random.Generator, replicates: int = 1000, bins: int = BINS, equal_mass: bool = False
) -> CalibrationError:
    """Expected calibration error, and its band if the model were perfectly calibrated.

    Labels are redrawn from the very probabilities of the sample. All rows of a patient share the noise of a draw
    (one number per patient and class), so that slices of one patient agree as they do in truth: a band from rows
    drawn on their own would be too low.

    Args:
        sample: rows of one model in one group.
        rng: source of randomness.
        replicates: how often labels are redrawn.
        bins: how many.
        equal_mass: see :func:`expected_calibration_error`.

    Returns:
        The error; with ``reason`` instead of a band where nothing can vary.

    Source: Bröcker & Smith 2007, Weather and Forecasting 22:651 (consistency resampling).
    """
    patients, rows = sample.n_patients, len(sample.labels)
    if not patients:
        return CalibrationError(0, 0, reason="no patients")
    value = expected_calibration_error(sample.labels, sample.probabilities, bins=bins, equal_mass=equal_mass)
    confidence = sample.probabilities.max(axis=1)
    if np.all(confidence >= 1):
        return CalibrationError(patients, rows, value, reason="every probability is 0 or 1")
    index, _ = _bins(confidence, bins, equal_mass)
    block = max(1, BLOCK_SIZE // sample.probabilities.size)
    sizes = [min(block, replicates - start) for start in range(0, replicates, block)]
    null = np.concatenate([_errors(_redrawn_right(sample, size, rng), confidence, index, bins) for size in sizes])
    low, high = np.percentile(null, PERCENTILES)
    return CalibrationError(patients, rows, value, float(null.mean()), float(low), float(high))


def _redrawn_right(sample: Sample, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whether each decision is right, ``(size, n)``, when labels are drawn from the probabilities.

    An exponential race: the class with the smallest ``noise / probability`` is drawn, with its very probability.
    """
    patients, top = sample.patients, sample.probabilities.argmax(axis=1)
    noise = rng.exponential(size=(size, sample.n_patients, sample.probabilities.shape[1]))
    decided = noise[:, patients, top] / sample.probabilities.max(axis=1)
    right = np.ones(decided.shape, dtype=bool)
    with np.errstate(divide="ignore"):  # a class of probability 0 never wins
        for c, probability in enumerate(sample.probabilities.T):
            right &= decided <= noise[:, patients, c] / probability
    return right


def _errors(right: NDArray[np.bool_], confidence: FloatArray, index: IntArray, bins: int) -> FloatArray:
    """Calibration error of many outcomes, ``(replicates, n)``, of the same decisions."""
    inside = np.eye(bins)[index]  # (n, bins)
    return np.asarray(np.abs((right - confidence) @ inside).sum(axis=1) / len(confidence))


def _bins(probabilities: FloatArray, bins: int, equal_mass: bool) -> tuple[IntArray, FloatArray]:
    """Bin of each row, and the ``bins + 1`` edges."""
    if not equal_mass:
        index = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
        return index, np.linspace(0, 1, bins + 1)
    inner = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(inner, probabilities, side="right").astype(np.int64), np.r_[0.0, inner, 1.0]


def reliability_curve(
    sample: Sample, *, positive: int | None = None, bins: int = BINS, equal_mass: bool = False
) -> list[ReliabilityBin]:
    """How often the event came true where the model said that it would, bin by bin.

    Args:
        sample: rows of one model in one group.
        positive: class whose probability is looked at; None for the decision: is the most probable class right?
        bins: how many.
        equal_mass: see :func:`expected_calibration_error`.

    Returns:
        Bins with at least one row, by probability. The share has Wilson's interval on the effective patients in
        the bin, and none with a single patient.

    Raises:
        ValueError: if there is no such class.

    Source: Bröcker & Smith 2007, Weather and Forecasting 22:651.
    """
    if positive is None:
        probabilities, outcomes = sample.probabilities.max(axis=1), sample.probabilities.argmax(axis=1) == sample.labels
    else:
        probabilities, outcomes = one_against_rest(sample, positive)
    if not len(outcomes):
        return []
    index, edges = _bins(probabilities, bins, equal_mass)
    return [
        ReliabilityBin(
            float(edges[b]),
            float(edges[b + 1]),
            float(probabilities[index == b].mean()),
            _observed(outcomes[index == b], sample.patients[index == b]),
        )
        for b in np.unique(index)
    ]


def _observed(outcomes: NDArray[np.bool_], patients: IntArray) -> Estimate:
    _, codes = np.unique(patients, return_inverse=True)
    return proportion_interval(outcomes.astype(np.float64), codes)


def one_against_rest(sample: Sample, positive: int) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Probability of one class, ``(n,)``, and whether it was the label, ``(n,)``.

    Args:
        sample: rows of one model in one group.
        positive: class index.

    Returns:
        Probabilities in [0, 1] and outcomes.

    Raises:
        ValueError: if there is no such class.
    """
    classes = sample.probabilities.shape[1]
    if not 0 <= positive < classes:
        raise ValueError(
            f"the positive class must be an index in 0 … {classes - 1}; got {positive}; "
            "pass the position of its probability column"
        )
    return sample.probabilities[:, positive], sample.labels == positive


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
    from scipy.stats import t

    half = float(t.ppf(0.975, count - 1)) * error
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


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[IntArray, FloatArray]:
    codes, table = np.asarray(labels, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    if codes.ndim != 1 or table.ndim != 2 or len(codes) != len(table):
        raise ValueError(
            f"labels must be (n,) and probabilities (n, classes); got {codes.shape} and {table.shape}; "
            "pass one row each"
        )
    if np.any((codes < 0) | (codes >= table.shape[1])):
        raise ValueError(
            f"labels must lie in 0 … {table.shape[1] - 1}, the probability columns; got {codes.min()} … {codes.max()}; "
            "map the labels to class indices"
        )
    return codes, table
