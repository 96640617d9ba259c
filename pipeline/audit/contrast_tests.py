"""P values of contrasts: a group against the other side, by exchanging patients between the two, or within patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.audit.cells import Cells, cells_of, permuted_cells
from pipeline.audit.contrasts import sides
from pipeline.audit.design import BETWEEN, WITHIN, Design
from pipeline.audit.group_auc import GroupAuc, has_every_class
from pipeline.audit.permutation import (
    AUC_PERMUTATIONS,
    PERMUTATIONS,
    PatientTable,
    by_patient,
    centred_members,
    comparable,
    group_moments,
    permuted,
    ratio_of_two,
    two_sided,
)
from pipeline.audit.statistics import FloatArray, IntArray, Sample
from pipeline.audit.within_patients import OwnOthersAuc, against_own_others, own_ratio

Mask = NDArray[np.bool_]


def mean_p_values(
    values: ArrayLike,
    patients: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    reference: str | None = None,
    strata: ArrayLike | None = None,
    permutations: int = PERMUTATIONS,
    design: Design = BETWEEN,
) -> dict[str, float]:
    """P value of every group's mean against the other side, by a studentised difference.

    Args:
        values: ``(n,)``, e.g. right (1) or wrong (0), or Dice; averaged per patient and group, NaN not counted.
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        rng: source of randomness.
        reference: the one group to compare with; None for all others together.
        strata: ``(n,)``, e.g. labels: compared and exchanged within a stratum only.
        permutations: number drawn per group.
        design: ``between patients``: Welch's t, patients exchanged between the two sides, without those seen on both.
            ``within patients``: the paired t of those seen on both, each patient's studies exchanged.

    Returns:
        Group -> p value, see :func:`~pipeline.audit.permutation.two_sided`. NaN without two patients on both sides, or
        without variation.

    Raises:
        ValueError: if the reference is not a group.

    Source: Janssen 1997, Statistics & Probability Letters 36:9.
    """
    numbers, owners, named = np.asarray(values, dtype=np.float64), np.asarray(patients), np.asarray(groups).astype(str)
    kinds = np.zeros(len(numbers), dtype=np.int64) if strata is None else np.asarray(strata)
    if design == WITHIN:

        def tested(rows: Mask) -> tuple[Cells, FloatArray]:
            cells = cells_of(numbers[rows], owners[rows], named[rows], kinds[rows])
            return cells, _paired_means(cells, permutations, rng)

        return _within(named, reference, tested)
    found = {}
    for group, (one, other) in sides(named, owners, reference).items():
        rows = one | other
        kept = comparable(by_patient(numbers[rows], owners[rows], one[rows], kinds[rows]))
        found[group] = _unpaired_mean(kept, permutations, rng)
    return found


def _unpaired_mean(kept: PatientTable, permutations: int, rng: np.random.Generator) -> float:
    """Of the second group against the first; NaN without two groups or any variation."""
    if not len(kept.values):
        return math.nan
    centred, members = centred_members(kept)
    if not centred.any():
        return math.nan

    def ratio(drawn: FloatArray) -> FloatArray:
        means, variances = group_moments(drawn, members)
        return ratio_of_two(means, variances / members.sum(axis=0))

    return float(two_sided(ratio, centred[None], permuted(centred, kept.strata, permutations, rng)))


def _paired_means(cells: Cells, permutations: int, rng: np.random.Generator) -> FloatArray:
    """Of every group against the same patients' others, ``(G,)``."""
    if not cells.varies:
        return np.full(len(cells.names), np.nan)

    def ratio(drawn: FloatArray) -> FloatArray:
        return own_ratio(*against_own_others(drawn, cells.present))

    return two_sided(ratio, cells.values[None], permuted_cells(cells.values, cells.present, permutations, rng))


def _within(
    named: NDArray[np.str_], reference: str | None, tested: Callable[[Mask], tuple[Cells, FloatArray]]
) -> dict[str, float]:
    """P values of all groups from one family of permutations, or from one for each pair with the reference."""
    listed = np.unique(named).tolist()
    if reference is None:
        return _by_name(*tested(np.ones(len(named), dtype=bool)), listed)
    found: dict[str, float] = {}
    for group in listed:
        if group != reference:
            found |= _by_name(*tested(np.isin(named, (group, reference))), [group])
    return found


def _by_name(cells: Cells, p: FloatArray, wanted: Sequence[str]) -> dict[str, float]:
    known = dict(zip(cells.names, np.where(cells.present.any(axis=0), p, np.nan).tolist(), strict=True))
    return {group: known.get(group, math.nan) for group in wanted}


def auc_p_values(
    sample: Sample,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    reference: str | None = None,
    permutations: int = AUC_PERMUTATIONS,
    design: Design = BETWEEN,
) -> dict[str, float]:
    """P value of every group's AUC against the other side; patients are exchanged between the two within their labels.

    Args:
        sample: rows of one model.
        groups: ``(n,)``, names.
        rng: source of randomness.
        reference: the one group to compare with; None for all others together.
        permutations: number drawn per group.
        design: as in :func:`mean_p_values`; patients seen on both sides keep their labels on both.

    Returns:
        Group -> p value, twice the smaller tail; NaN where a side lacks two patients of a class.

    Raises:
        ValueError: if the reference is not a group.
    """
    named = np.asarray(groups).astype(str)
    if design == WITHIN:

        def tested(rows: Mask) -> tuple[Cells, FloatArray]:
            part = Sample(sample.labels[rows], sample.probabilities[rows], sample.patients[rows])
            cells = cells_of(np.zeros(len(part.labels)), part.patients, named[rows], part.labels)
            return cells, _paired_aucs(part, cells, permutations, rng)

        return _within(named, reference, tested)
    return {
        group: _unpaired_auc(sample, one, other, permutations, rng)
        for group, (one, other) in sides(named, sample.patients, reference).items()
    }


def _unpaired_auc(sample: Sample, one: Mask, other: Mask, permutations: int, rng: np.random.Generator) -> float:
    if not (has_every_class(sample, one) and has_every_class(sample, other)):
        return math.nan
    rows = one | other
    table = by_patient(np.zeros(rows.sum()), sample.patients[rows], one[rows], sample.labels[rows])
    part = Sample(sample.labels[rows], sample.probabilities[rows], sample.patients[rows])
    aucs = GroupAuc(part, table)

    def ratio(codes: IntArray) -> FloatArray:
        return ratio_of_two(*aucs(codes))

    blocks = permuted(table.groups, table.strata, permutations, rng, width=len(part.labels))
    return float(two_sided(ratio, table.groups[None], blocks))


def _paired_aucs(sample: Sample, cells: Cells, permutations: int, rng: np.random.Generator) -> FloatArray:
    """Of every group against the same patients' others, ``(G,)``; NaN where these lack two patients of a class."""
    aucs = OwnOthersAuc(sample, cells)
    if not aucs.partners:
        return np.full(len(cells.names), np.nan)

    def ratio(assigned: IntArray) -> FloatArray:
        return own_ratio(*aucs(assigned))

    blocks = permuted_cells(cells.codes, cells.present, permutations, rng, width=aucs.width)
    p = two_sided(ratio, cells.codes[None], blocks)
    return np.where([position in aucs.partners for position in range(len(p))], p, np.nan)
