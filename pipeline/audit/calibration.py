"""Whether probabilities mean what they say: Brier score, and calibration error beside its null band.

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
    PERCENTILES,
    Estimate,
    FloatArray,
    IntArray,
    Sample,
)

BINS = 15


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
    return float(_errors(right, confidence, np.eye(bins)[index])[0])


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
    inside = np.eye(bins)[_bins(confidence, bins, equal_mass)[0]]
    block = max(1, BLOCK_SIZE // sample.probabilities.size)
    sizes = [min(block, replicates - start) for start in range(0, replicates, block)]
    null = np.concatenate([_errors(_redrawn_right(sample, size, rng), confidence, inside) for size in sizes])
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


def _errors(right: NDArray[np.bool_], confidence: FloatArray, inside: FloatArray) -> FloatArray:
    """Calibration error of many outcomes, ``(replicates, n)``, of the same decisions in bins ``(n, bins)``."""
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
