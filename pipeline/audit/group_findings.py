"""One measure of one model in the groups of one column: values, differences, the worst."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.arms import Arm, shared_error
from pipeline.audit.case_mix import Standardised, common_mix, standardised_mean
from pipeline.audit.contrasts import REST, Contrast, Pair, contrasts, sides
from pipeline.audit.design import BETWEEN, WITHIN, Design, choose_design
from pipeline.audit.detectable import gap_seen, gap_within, patients_for, patients_within
from pipeline.audit.findings import ContrastRow, EffectRow, Measure, MetricRow, WorstRow
from pipeline.audit.layout import columns_of
from pipeline.audit.measured import Mask, Measured, MeasuredMean
from pipeline.audit.model_rows import Column, Grouped
from pipeline.audit.plan import Plan
from pipeline.audit.power import PatientsNeeded, SmallestGap
from pipeline.audit.resampling import Pools, pools
from pipeline.audit.statistics import Estimate, FloatArray, IntArray, worst_group
from pipeline.audit.worst import fresh_half, shrink, worst_interval
from pipeline.tracking.predictions import group_names

SPLITS = 200  # into halves


def generator(seed: int, column: str, group: str, purpose: str) -> np.random.Generator:
    """Source of randomness that depends on these four alone: the same for every model, whatever else is audited.

    Args:
        seed: of the plan.
        column: grouping column.
        group: its name; empty where all groups take part.
        purpose: what is drawn.
    """
    digest = hashlib.sha256("\n".join((column, group, purpose)).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


@dataclass(frozen=True, eq=False)
class CaseMix:
    """The mix that groups are standardised to.

    Args:
        columns: of its strata; none where nothing is standardised.
        shares: stratum -> share of all patients.
    """

    columns: tuple[str, ...]
    shares: Mapping[str, float]


def common_case_mix(rows: pd.DataFrame, column: Column, plan: Plan) -> CaseMix:
    """Mix of all patients by the plan's strata, else by class, less what the groups of a column are made of.

    Args:
        rows: of the audited split, of all models.
        column: that is standardised.
        plan: names the strata.
    """
    own = columns_of([column.name])
    strata = tuple(name for name in (plan.strata or ("label",)) if name in rows.columns and name not in own)
    if not strata or not column.compared:
        return CaseMix((), {})
    return CaseMix(strata, common_mix(strata_of(rows, strata), rows["patient_id"].to_numpy(dtype=object)))


def strata_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Stratum of each row, ``(n,)``: its values of the columns, joined."""
    return group_names(rows, " x ".join(columns))


@dataclass(frozen=True, eq=False)
class GroupFindings:
    """One measure of one model in the groups of one column.

    Args:
        plan: what is asked.
        grouped: rows of the model, sorted into groups.
        measure: what is measured.
    """

    plan: Plan
    grouped: Grouped
    measure: Measure

    @cached_property
    def measured(self) -> Measured:
        """What gives estimates, draws and tests."""
        return self.grouped.rows.measured(self.measure)

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """Group -> value and interval, and what each patient adds to its error."""
        return {group: self._arm(inside) for group, inside in self.grouped.inside.items()}

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Group -> value and interval, or the reason for none."""
        return {group: arm.estimate for group, arm in self.arms.items()}

    def _arm(self, inside: Mask) -> Arm:
        return self.measured.arm(inside, min_patients=self.plan.min_patients)

    @cached_property
    def strata(self) -> IntArray | None:
        """Classes ``(n,)`` that the test of any difference keeps apart; None if groups are made of them."""
        rows = self.grouped.rows
        return rows.sample.labels if rows.classes and not self.grouped.column.has_labels else None

    @cached_property
    def design(self) -> Design:
        """Whether the groups are compared between patients or within them."""
        rows = self.measured.present
        strata = None if self.strata is None else self.strata[rows]
        return choose_design(self.measured.patients[rows], self.grouped.names[rows], strata)

    def generator(self, group: str, purpose: str) -> np.random.Generator:
        """See :func:`generator`."""
        return generator(self.plan.seed, self.grouped.column.name, group, purpose)

    def metric_rows(self, mix: CaseMix) -> Iterator[MetricRow]:
        """Every group's value, as it is and at the common case mix."""
        strata = None
        if mix.columns and isinstance(self.measured, MeasuredMean):
            strata = np.asarray(strata_of(self.grouped.rows.frame, mix.columns), dtype=object)
        for group, found in self.estimates.items():
            standardised = None if strata is None else self._standardised(group, strata, mix)
            yield MetricRow(self.grouped.place(group), self.measure.name, found, standardised)

    def _standardised(self, group: str, strata: NDArray[np.object_], mix: CaseMix) -> Standardised:
        values = self.grouped.rows.values(self.measure)
        rows = self.grouped.inside[group] & ~np.isnan(values)
        patients = np.unique(self.grouped.rows.patients[rows], return_inverse=True)[1].astype(np.int64)
        return standardised_mean(
            values[rows], strata[rows].tolist(), patients, mix.shares, min_patients=self.plan.min_patients
        )

    def effect(self) -> EffectRow:
        """Whether any group differs; within classes, unless the groups are made of them."""
        rows, column = self.grouped.rows, self.grouped.column
        found = self.measured.effect(
            self.grouped.names,
            self.strata,
            design=self.design,
            permutations=self.plan.replicates,
            rng=self.generator("", "effect"),
        )
        return EffectRow(rows.model, column.name, self.measure.name, found)

    def contrast_rows(self) -> Iterator[ContrastRow]:
        """Every group against the rest, or against the reference group, and what that could have shown."""
        column = self.grouped.column.name
        reference = self.plan.reference_group.get(column)
        arms = {group: self._pair(*pair) for group, pair in self._sides(reference).items()}
        differences = {group: self.measured.difference(*pair) for group, pair in arms.items()}
        p_values = self._p_values(reference, {g for g, found in differences.items() if found.estimate.estimable})
        found = contrasts(differences, against=reference or REST, p_values=p_values, design=self.design)
        largest = max((contrast.family for contrast in found), default=1)
        for contrast in found:
            gap, needed = self._could_show(contrast, *arms[contrast.group], max(largest, 1))
            yield ContrastRow(self.grouped.rows.model, column, self.measure.name, contrast, gap, needed)

    def _pair(self, one: Mask, other: Mask) -> tuple[Arm, Arm]:
        if self.design == BETWEEN:
            return self._arm(one), self._arm(other)
        return self.measured.paired_arms(one, other, self.grouped.names, min_patients=self.plan.min_patients)

    def _could_show(
        self, contrast: Contrast, one: Arm, other: Arm, family: int
    ) -> tuple[SmallestGap, PatientsNeeded | None]:
        measure = self.measure
        if self.design == WITHIN:
            return gap_within(contrast.difference, family), patients_within(measure, contrast.difference, family)
        pair = one.estimate, other.estimate
        return gap_seen(measure, *pair, family), patients_for(measure, *pair, family)

    def _sides(self, reference: str | None) -> dict[str, Pair]:
        """Rows of every group and of the other side; groups without a row are there as well."""
        names, inside = self.grouped.names, self.grouped.inside
        known = reference is None or bool(inside[reference].any())
        found = sides(names, self.grouped.rows.patients, reference, self.design) if known and len(names) else {}
        return {
            group: found.get(group, (mask, ~mask if reference is None else inside[reference]))
            for group, mask in inside.items()
            if group != reference
        }

    def _p_values(self, reference: str | None, usable: Set[str]) -> dict[str, float] | None:
        """P values of the groups whose difference has an interval; others would only enlarge the family."""
        if not usable:
            return {}
        found = self.measured.p_values(
            self.grouped.names,
            reference,
            design=self.design,
            permutations=self.plan.replicates,
            rng=self.generator("", "contrasts"),
        )
        return None if found is None else {group: p for group, p in found.items() if group in usable}

    def worst(self) -> WorstRow:
        """The worst group: how settled, within what bounds, in fresh patients, and drawn towards the others."""
        usable = {group: found for group, found in self.estimates.items() if found.estimable}
        higher, scale = self.measure.better == "higher", self.measure.scale
        draws, first, second = self._resampled(list(usable)) if len(usable) > 1 else ({}, {}, {})
        return WorstRow(
            self.grouped.rows.model,
            self.grouped.column.name,
            self.measure.name,
            worst_group({group: usable[group].value for group in draws}, draws, higher_is_better=higher),
            worst_interval(usable, scale=scale, higher_is_better=higher),
            fresh_half(first, second, higher_is_better=higher),
            shrink(usable, scale=scale, shared=shared_error([self.arms[group] for group in usable])),
            tuple(group for group in self.estimates if group not in usable),
        )

    def _resampled(self, groups: Sequence[str]) -> tuple[dict[str, FloatArray], ...]:
        """Values of the groups over draws of patients, in their first halves, and in their second ones."""
        inside = {group: self.grouped.inside[group] for group in groups}
        draws, halves = (self._pools(purpose) for purpose in ("patient bootstrap", "halves"))
        width = len(self.measured.patients)
        return (
            self.measured.over(inside, draws.draws(self.plan.replicates, width)),
            self.measured.over(inside, halves.halves(SPLITS, width)),
            self.measured.over(inside, (1 - block for block in halves.halves(SPLITS, width))),
        )

    def _pools(self, purpose: str) -> Pools:
        rows = self.measured.present
        return pools(self.measured.patients[rows], self.grouped.names[rows], lambda pool: self.generator(pool, purpose))
