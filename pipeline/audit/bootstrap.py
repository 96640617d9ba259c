"""The patient bootstrap: an interval for any value of weighted rows."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pipeline.audit.intervals import LEAST_VARIATION, shortage
from pipeline.audit.statistics import BLOCK_SIZE, Estimate, FloatArray, IntArray, Statistic, bootstrap

BCA = "patient bootstrap, BCa"


def bootstrap_interval(
    statistic: Statistic, patients: IntArray, replicates: int, rng: np.random.Generator, *, min_patients: int = 2
) -> Estimate:
    """Any value of weighted rows, with the BCa interval of the patient bootstrap.

    Args:
        statistic: from weights ``(replicates, n)`` to values ``(replicates,)``, NaN where there is none.
        patients: ``(n,)``, codes ``0 … P - 1``.
        replicates: number of draws; 2,000 or more.
        rng: source of randomness.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate; none where draws do not vary.

    Example:
        >>> score = np.array([0.7, 0.8, 0.9, 0.6])
        >>> mean = lambda weights: weights @ score / weights.sum(axis=1)
        >>> bootstrap_interval(mean, np.arange(4), 2000, np.random.default_rng(0)).interval
        'patient bootstrap, BCa'

    Source: Efron 1987, Journal of the American Statistical Association 82:171.
    """
    rows = len(patients)
    size = int(patients.max(initial=-1)) + 1
    value = float(statistic(np.ones((1, rows)))[0]) if rows else math.nan
    if size < min_patients or math.isnan(value):
        return Estimate(size, rows, value, reason=shortage(size, min_patients) or "not estimable from these rows")
    draws = bootstrap(statistic, patients, replicates, rng)
    left_out = np.concatenate([statistic(weights) for weights in leave_one_out_weights(patients)])
    low, high = bca_interval(value, draws, left_out)
    if math.isnan(low):
        return Estimate(size, rows, value, reason="no draw of patients differs from another")
    return Estimate(size, rows, value, low, high, BCA)


def leave_one_out_weights(patients: IntArray) -> Iterator[FloatArray]:
    """Weights of the rows without one patient after the other, in blocks that fit into memory.

    Args:
        patients: ``(n,)``, codes ``0 … P - 1``.

    Yields:
        ``(block, n)``, 0 for the rows of the patient left out and 1 for all others; P rows in all.
    """
    total = int(patients.max()) + 1
    block = max(1, BLOCK_SIZE // len(patients))
    for start in range(0, total, block):
        left_out = np.arange(start, min(start + block, total))
        yield (patients[None, :] != left_out[:, None]).astype(np.float64)


def bca_interval(value: float, draws: FloatArray, jackknife: FloatArray) -> tuple[float, float]:
    r"""95 % interval of a bootstrap, corrected for bias, skewness and few patients.

    Percentiles are those of a t with P - 1 degrees of freedom, stretched by :math:`\sqrt{P/(P-1)}`: a bootstrap
    of few patients varies too little.

    Args:
        value: of the sample.
        draws: ``(replicates,)``, values of draws of patients; NaN is left out.
        jackknife: ``(P,)``, values without one patient each; NaN is left out.

    Returns:
        Lower and upper end, both among the draws; NaN where the draws do not vary.

    Source: Efron 1987, Journal of the American Statistical Association 82:171; percentiles as in Hesterberg 2015, The
    American Statistician 69:371.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    drawn, left_out = draws[~np.isnan(draws)], jackknife[~np.isnan(jackknife)]
    if len(left_out) < 2 or not varies(drawn):
        return math.nan, math.nan
    share = float(np.mean(drawn < value) + np.mean(drawn == value) / 2)
    bias = float(ndtri(np.clip(share, 1 / (2 * len(drawn)), 1 - 1 / (2 * len(drawn)))))
    size = len(left_out)
    quantile = float(stdtrit(size - 1, 0.975)) * math.sqrt(size / (size - 1))
    shifted = bias + np.array([-quantile, quantile])
    levels = ndtr(bias + shifted / (1 - _acceleration(left_out) * shifted))
    low, high = np.quantile(drawn, levels)
    return float(low), float(high)


def _acceleration(jackknife: FloatArray) -> float:
    pull = jackknife.mean() - jackknife
    spread = float(np.sum(pull**2))
    return float(np.sum((pull / math.sqrt(spread)) ** 3)) / 6 if spread > 0 else 0.0


def varies(values: FloatArray) -> bool:
    """Whether values differ by more than rounding."""
    return bool(values.size) and float(np.ptp(values)) > LEAST_VARIATION * float(np.max(np.abs(values)))
