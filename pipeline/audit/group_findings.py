"""One measure of one model in the groups of one column: values, differences, the worst."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.case_mix import Standardised, common_mix, standardised_mean
from pipeline.audit.contrasts import REST, Pair, contrasts, sides
from pipeline.audit.detectable import gap_seen, patients_for
from pipeline.audit.findings import ContrastRow, EffectRow, Measure, MetricRow, WorstRow
from pipeline.audit.layout import columns_of
from pipeline.audit.measured import Measured, MeasuredMean
from pipeline.audit.model_rows import Column, Grouped
from pipeline.audit.plan import Plan
from pipeline.audit.statistics import Estimate, FloatArray, worst_group
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
    def estimates(self) -> dict[str, Estimate]:
        """Group -> value and interval, or the reason for none."""
        least = self.plan.min_patients
        return {g: self.measured.estimate(inside, min_patients=least) for g, inside in self.grouped.inside.items()}

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
        strata = rows.sample.labels if rows.classes and not column.has_labels else None
        found = self.measured.effect(
            self.grouped.names, strata, permutations=self.plan.replicates, rng=self.generator("", "effect")
        )
        return EffectRow(rows.model, column.name, self.measure.name, found)

    def contrast_rows(self) -> Iterator[ContrastRow]:
        """Every group against the rest, or against the reference group, and what that could have shown."""
        column, least = self.grouped.column.name, self.plan.min_patients
        reference = self.plan.reference_group.get(column)
        pairs = {
            group: (self.measured.estimate(one, min_patients=least), self.measured.estimate(other, min_patients=least))
            for group, (one, other) in self._sides(reference).items()
        }
        found = contrasts(pairs, against=reference or REST, p_values=self._p_values(reference, pairs))
        for contrast in found:
            one, other = pairs[contrast.group]
            family = max(contrast.family, max((c.family for c in found), default=1))
            yield ContrastRow(
                self.grouped.rows.model,
                column,
                self.measure.name,
                contrast,
                gap_seen(self.measure, one, other, family),
                patients_for(self.measure, one, other, family),
            )

    def _sides(self, reference: str | None) -> dict[str, Pair]:
        """Rows of every group and of the other side; groups without a row are there as well."""
        names, inside = self.grouped.names, self.grouped.inside
        known = reference is None or bool(inside[reference].any())
        found = sides(names, self.grouped.rows.patients, reference) if known and len(names) else {}
        return {
            group: found.get(group, (mask, ~mask if reference is None else inside[reference]))
            for group, mask in inside.items()
            if group != reference
        }

    def _p_values(
        self, reference: str | None, pairs: Mapping[str, tuple[Estimate, Estimate]]
    ) -> dict[str, float] | None:
        """P values of the groups whose difference has an interval; others would only enlarge the family."""
        usable = {group for group, (one, other) in pairs.items() if one.estimable and other.estimable}
        if not usable:
            return {}
        found = self.measured.p_values(
            self.grouped.names, reference, permutations=self.plan.replicates, rng=self.generator("", "contrasts")
        )
        return None if found is None else {group: p for group, p in found.items() if group in usable}

    def worst(self) -> WorstRow:
        """The worst group: how settled, within what bounds, in fresh patients, and drawn towards the others."""
        usable = {group: found for group, found in self.estimates.items() if found.estimable}
        higher, scale = self.measure.better == "higher", self.measure.scale
        draws = {group: self._draws(group) for group in usable} if len(usable) > 1 else {}
        split = {group: self._halves(group) for group in usable} if len(usable) > 1 else {}
        first, second = ({group: pair[side] for group, pair in split.items()} for side in (0, 1))
        fresh = fresh_half(first, second, higher_is_better=higher)
        return WorstRow(
            self.grouped.rows.model,
            self.grouped.column.name,
            self.measure.name,
            worst_group({group: usable[group].value for group in draws}, draws, higher_is_better=higher),
            worst_interval(usable, scale=scale, higher_is_better=higher),
            fresh,
            shrink(usable, scale=scale),
            tuple(group for group in self.estimates if group not in usable),
        )

    def _draws(self, group: str) -> FloatArray:
        return self.measured.draws(
            self.grouped.inside[group], self.plan.replicates, self.generator(group, "patient bootstrap")
        )

    def _halves(self, group: str) -> tuple[FloatArray, FloatArray]:
        return self.measured.halves(self.grouped.inside[group], SPLITS, self.generator(group, "halves"))
