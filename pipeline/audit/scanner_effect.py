"""Is there any scanner effect? Patients are exchanged between the groups, or their studies among their own; never rows.

If no scanner matters, a patient's rows could have come from any of them. Where patients have one group each, the groups
of the patients are permuted, within strata (e.g. the label) where the case mix may differ. Where they have several,
each patient's studies are permuted among these, so that every patient is their own control. The observed statistic is
held against the permuted ones. Each is first given the tail that it would have under the groups' own variances, so that
the test keeps its size where groups differ in number and in spread but not in their value
(``python -m benchmarks.audit_size``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from pipeline.audit.cells import Cells, cells_of, permuted_cells
from pipeline.audit.design import BETWEEN, WITHIN, Design, choose_design
from pipeline.audit.group_auc import GroupAuc, has_every_class
from pipeline.audit.permutation import (
    AUC_PERMUTATIONS,
    PERMUTATIONS,
    PatientTable,
    between_groups,
    by_patient,
    centred_members,
    comparable,
    group_moments,
    permuted,
    share_as_extreme,
)
from pipeline.audit.statistics import FloatArray, IntArray, Sample
from pipeline.audit.within_patients import OwnOthersAuc, against_own_others, auc_cells, between_own_groups

NOTHING_TO_COMPARE = "fewer than two groups have the patients to be compared"
NO_VARIATION = "every patient has the same value"
NO_VARIATION_WITHIN = "no patient has different values in different groups"


@dataclass(frozen=True)
class ScannerEffect:
    """Answer of a permutation test over all groups.

    Args:
        groups: groups in the test.
        left_out: groups without the patients to be compared.
        n_patients: patients in the test.
        in_several: patients left out because they were seen in several groups, and groups are compared between
            patients.
        permutations: number drawn.
        p: share of permutations at least as extreme, the observed one among them; NaN if not estimable.
        reason: why there is no p value; None with one.
        design: ``between patients`` or ``within patients``.
        in_one: patients left out because they were seen in one group alone, and groups are compared within patients.
    """

    groups: tuple[str, ...]
    left_out: tuple[str, ...]
    n_patients: int
    in_several: int
    permutations: int
    p: float = math.nan
    reason: str | None = None
    design: Design = BETWEEN
    in_one: int = 0

    @property
    def estimable(self) -> bool:
        """True with a p value."""
        return self.reason is None


def scanner_effect(
    values: ArrayLike,
    patients: ArrayLike,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    strata: ArrayLike | None = None,
    permutations: int = PERMUTATIONS,
    design: Design | None = None,
) -> ScannerEffect:
    """Test whether the mean of any group differs from the others'.

    Args:
        values: ``(n,)``, e.g. right (1) or wrong (0), or Dice; averaged per patient and group, NaN not counted.
        patients: ``(n,)``, integer codes.
        groups: ``(n,)``, names.
        rng: source of randomness.
        strata: ``(n,)``, e.g. labels: patients are exchanged and compared within a stratum only, so that a scanner that
            sees more of the difficult disease is not blamed for it. A patient with several has their combination.
        permutations: number drawn.
        design: how groups are compared; None for :func:`~pipeline.audit.design.choose_design`.

    Returns:
        The p value and what it stands on.

    Raises:
        ValueError: if the lengths differ.

    Example:
        >>> scanner = ["GE"] * 8 + ["Canon"] * 8
        >>> found = scanner_effect([1] * 8 + [0] * 8, range(16), scanner, rng=np.random.default_rng(0))
        >>> found.p < 0.01, found.n_patients, found.design
        (True, 16, 'between patients')

    Source: Brown & Forsythe 1974, Technometrics 16:129, see :func:`~pipeline.audit.permutation.between_groups`;
    Geisser & Greenhouse 1958, see :func:`~pipeline.audit.within_patients.between_own_groups`.
    """
    table = by_patient(values, patients, groups, strata)
    if (design or _design(values, patients, groups, strata)) == WITHIN:
        return _mean_within(cells_of(values, patients, groups, strata), table, permutations, rng)
    kept = comparable(table)
    found = _before(table, kept, permutations)
    if len(found.groups) < 2:
        return replace(found, reason=NOTHING_TO_COMPARE)
    centred, members = centred_members(kept)
    if not centred.any():
        return replace(found, reason=NO_VARIATION)

    def statistic(drawn: FloatArray) -> FloatArray:
        return between_groups(*group_moments(drawn, members), members.sum(axis=0))

    drawn = (statistic(block) for block in permuted(centred, kept.strata, permutations, rng))
    return replace(found, p=float(share_as_extreme(statistic(centred), drawn)))


def _design(values: ArrayLike, patients: ArrayLike, groups: ArrayLike, strata: ArrayLike | None) -> Design:
    """Of the rows with a value."""
    used = np.isfinite(np.asarray(values, dtype=np.float64))
    kinds = None if strata is None else np.asarray(strata)[used]
    return choose_design(np.asarray(patients)[used], np.asarray(groups)[used], kinds)


def _before(table: PatientTable, kept: PatientTable, permutations: int) -> ScannerEffect:
    inside = tuple(kept.names[code] for code in np.unique(kept.groups))
    return ScannerEffect(inside, _left_out(table, inside), len(kept.values), table.in_several, permutations)


def _before_within(table: PatientTable, kept: Cells, permutations: int) -> ScannerEffect:
    alone, left_out = len(table.values), _left_out(table, kept.groups)
    return ScannerEffect(kept.groups, left_out, kept.n_patients, 0, permutations, design=WITHIN, in_one=alone)


def _left_out(table: PatientTable, inside: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in table.names if name not in inside)


def _mean_within(cells: Cells, table: PatientTable, permutations: int, rng: np.random.Generator) -> ScannerEffect:
    found = _before_within(table, cells, permutations)
    if len(found.groups) < 2:
        return replace(found, reason=NOTHING_TO_COMPARE)
    if not cells.varies:
        return replace(found, reason=NO_VARIATION_WITHIN)

    def statistic(drawn: FloatArray) -> FloatArray:
        return between_own_groups(*against_own_others(drawn, cells.present), cells.present)

    drawn = map(statistic, permuted_cells(cells.values, cells.present, permutations, rng))
    return replace(found, p=float(share_as_extreme(statistic(cells.values[None])[0], drawn)))


def scanner_effect_auc(
    sample: Sample,
    groups: ArrayLike,
    *,
    rng: np.random.Generator,
    permutations: int = AUC_PERMUTATIONS,
    design: Design | None = None,
) -> ScannerEffect:
    """Test whether the AUC of any group differs from the others'; patients are exchanged within their labels.

    Args:
        sample: rows of one model. Two classes: the second is the positive one. More: the mean of each against the rest.
        groups: ``(n,)``, names.
        rng: source of randomness.
        permutations: number drawn.
        design: how groups are compared; None for :func:`~pipeline.audit.design.choose_design`.

    Returns:
        The p value and what it stands on. A group takes part with two patients of every class, and two of no such.

    Raises:
        ValueError: if the lengths differ.

    Source: DeLong et al. 1988, Biometrics 44:837; Obuchowski 1997, Biometrics 53:567 (patients with several rows).
    """
    table = by_patient(np.zeros(len(sample.labels)), sample.patients, groups, sample.labels)
    if (design or choose_design(sample.patients, groups, sample.labels)) == WITHIN:
        return _auc_within(sample, groups, table, permutations, rng)
    rows = [np.isin(sample.patients, table.patients[table.groups == code]) for code in range(len(table.names))]
    able = [code for code, inside in enumerate(rows) if has_every_class(sample, inside)]
    kept = table.take(np.isin(table.groups, able))
    found = _before(table, kept, permutations)
    if len(found.groups) < 2:
        return replace(found, reason=NOTHING_TO_COMPARE)
    aucs = GroupAuc(sample, kept)
    sizes = np.bincount(kept.groups)[able].astype(np.float64)

    def statistic(codes: IntArray) -> FloatArray:
        values, squared_errors = aucs(codes)
        return between_groups(values, squared_errors * sizes, sizes)

    blocks = permuted(kept.groups, kept.strata, permutations, rng, width=len(aucs.rows))
    return replace(found, p=float(share_as_extreme(statistic(kept.groups[None])[0], map(statistic, blocks))))


def _auc_within(
    sample: Sample, groups: ArrayLike, table: PatientTable, permutations: int, rng: np.random.Generator
) -> ScannerEffect:
    cells = auc_cells(sample, groups)
    found = _before_within(table, cells, permutations)
    if len(found.groups) < 2:
        return replace(found, reason=NOTHING_TO_COMPARE)
    aucs = OwnOthersAuc(sample, cells)

    def statistic(assigned: IntArray) -> FloatArray:
        return between_own_groups(*aucs(assigned), cells.present)

    drawn = map(statistic, permuted_cells(cells.codes, cells.present, permutations, rng, width=aucs.width))
    return replace(found, p=float(share_as_extreme(statistic(cells.codes[None])[0], drawn)))
