"""The AUC that a group would have at the common case mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.bootstrap import bootstrap_interval
from pipeline.audit.case_mix import Standardised, coded_strata, too_thin, weights_of, why_not
from pipeline.audit.statistics import Estimate, FloatArray, Sample
from pipeline.tracking.group_metrics import weighted_auc


def standardised_auc(
    sample: Sample,
    strata: Sequence[str],
    mix: Mapping[str, float],
    *,
    replicates: int,
    rng: np.random.Generator,
    renormalise: bool = False,
    min_patients: int = 10,
) -> Standardised:
    """Area under the ROC curve with the rows weighted so that the group has the common mix.

    Args:
        sample: rows of one model in one group.
        strata: ``(n,)``, stratum of each row, e.g. sex; by class a two-class AUC does not change.
        mix: stratum -> weight, at least 0, of the common mix.
        replicates: draws of the patient bootstrap; 2,000 or more.
        rng: source of randomness.
        renormalise: if strata are absent from the group, weigh the others alone and say how much they cover.
        min_patients: below it there is a value and no interval.

    Returns:
        The estimate, weights computed anew in every draw. Draws that lack a stratum or a class do not count.

    Raises:
        ValueError: if the mix is empty or has a negative weight.
    """
    weights, covered, absent = weights_of(strata, mix, renormalise)
    rows, count = len(sample.labels), sample.n_patients
    if reason := why_not(absent, covered, renormalise, count):
        return Standardised(Estimate(count, rows, reason=reason), covered, absent)
    code, share = coded_strata(strata, weights)
    member = (code[:, None] == np.arange(len(share))).astype(np.float64)  # (n, S)
    value = float(_reweighted_auc(sample, member, share, np.ones((1, rows)))[0])
    reason = "a class is absent" if math.isnan(value) else too_thin(code, sample.patients, list(weights), min_patients)
    if reason:
        return Standardised(Estimate(count, rows, value, reason=reason), covered, absent)
    found = bootstrap_interval(
        lambda drawn: _reweighted_auc(sample, member, share, drawn), sample.patients, replicates, rng
    )
    return Standardised(found, covered, absent)


def _reweighted_auc(sample: Sample, member: FloatArray, share: FloatArray, drawn: NDArray[np.float64]) -> FloatArray:
    """AUC of each draw, ``(replicates,)``; NaN where a stratum or a class was not drawn."""
    totals = drawn @ member  # (replicates, S)
    complete = (totals > 0).all(axis=1)
    factors = (share / np.where(totals > 0, totals, 1.0)) @ member.T
    values = weighted_auc(sample.labels, sample.probabilities, drawn * factors)
    return np.where(complete, values, np.nan)
