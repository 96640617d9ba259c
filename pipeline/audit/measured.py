"""What is measured of a model, under one face: a mean over rows here, the AUC in :mod:`pipeline.audit.measured_auc`.

Both give an arm per group (value, interval, what each patient adds to its error), values over draws of patients, a test
of any difference and p values of contrasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.arms import Arm, mean_arm, proportion_arm, without_gaps
from pipeline.audit.contrast_tests import mean_p_values
from pipeline.audit.design import Design
from pipeline.audit.differences import NEVER_DIFFER, Difference, difference_of_arms, paired_proportion
from pipeline.audit.findings import Measure
from pipeline.audit.scanner_effect import ScannerEffect, scanner_effect
from pipeline.audit.statistics import FloatArray, IntArray, Sample

Mask = NDArray[np.bool_]
Names = NDArray[np.str_]


class Measured(Protocol):
    """One measure of one model, over the rows of the audited split."""

    @property
    def measure(self) -> Measure:
        """What is measured."""

    @property
    def patients(self) -> IntArray:
        """``(n,)``, codes; gaps are allowed."""

    @property
    def present(self) -> Mask:
        """``(n,)``, rows with a value."""

    def arm(self, inside: Mask, *, min_patients: int) -> Arm:
        """Value and interval of the rows inside ``(n,)``, and what each patient, by code, adds to its error."""

    def paired_arms(self, one: Mask, other: Mask, groups: Names, *, min_patients: int) -> tuple[Arm, Arm]:
        """Arms of the rows on two sides, of the same patients, who are in several ``groups`` on the other side."""

    def difference(self, one: Arm, other: Arm) -> Difference:
        """One arm minus the other; counts are those of the first."""

    def over(self, groups: Mapping[str, Mask], weights: Iterable[FloatArray]) -> dict[str, FloatArray]:
        """Value of every group for weights of patients, blocks ``(block, P)`` by code; NaN where there is none."""

    def effect(
        self,
        groups: Names,
        strata: IntArray | None,
        *,
        design: Design,
        permutations: int,
        rng: np.random.Generator,
    ) -> ScannerEffect:
        """Whether any of the groups ``(n,)`` differs."""

    def p_values(
        self, groups: Names, reference: str | None, *, design: Design, permutations: int, rng: np.random.Generator
    ) -> dict[str, float] | None:
        """P value of each group against the rest or the reference; None takes them from the intervals."""


@dataclass(frozen=True, eq=False)
class MeasuredMean:
    """Accuracy or an endpoint.

    Args:
        measure: what is measured.
        values: ``(n,)``; NaN in rows without one, which are left out.
        patients: ``(n,)``, codes.
    """

    measure: Measure
    values: FloatArray
    patients: IntArray

    @property
    def present(self) -> Mask:
        """See :class:`Measured`."""
        return ~np.isnan(self.values)

    def arm(self, inside: Mask, *, min_patients: int) -> Arm:
        """See :class:`Measured`."""
        rows = inside & self.present
        describe = proportion_arm if self.measure.scale == "share" else mean_arm
        return describe(self.values[rows], self.patients[rows], min_patients=min_patients)

    def paired_arms(
        self,
        one: Mask,
        other: Mask,
        groups: Names,  # noqa: ARG002
        *,
        min_patients: int,
    ) -> tuple[Arm, Arm]:
        """See :class:`Measured`."""
        return self.arm(one, min_patients=min_patients), self.arm(other, min_patients=min_patients)

    def difference(self, one: Arm, other: Arm) -> Difference:
        """See :class:`Measured`. Shares that never differ in the same patients have the interval of a share of none."""
        found = counted_difference(one, other)
        patients = found.estimate.n_patients
        if found.estimate.reason != NEVER_DIFFER or self.measure.scale != "share":
            return found
        never = paired_proportion(np.zeros(patients), np.arange(patients), min_patients=2)
        return replace(never, estimate=replace(never.estimate, n_rows=found.estimate.n_rows))

    def over(self, groups: Mapping[str, Mask], weights: Iterable[FloatArray]) -> dict[str, FloatArray]:
        """See :class:`Measured`."""
        parts = self._sums(groups)
        blocks = [np.stack([block @ part for part in parts]) for block in weights]
        sums, sizes = np.concatenate(blocks, axis=1)
        means = np.where(sizes > 0, sums / np.where(sizes > 0, sizes, 1.0), np.nan)
        return dict(zip(groups, means.T, strict=True))

    def _sums(self, groups: Mapping[str, Mask]) -> tuple[FloatArray, FloatArray]:
        """Sum of values and number of rows of each patient in each group, ``(P, G)``."""
        total = int(self.patients[self.present].max(initial=-1)) + 1
        sums, sizes = np.zeros((2, total, len(groups)))
        for position, inside in enumerate(groups.values()):
            rows = inside & self.present
            sums[:, position] = np.bincount(self.patients[rows], self.values[rows], minlength=total)
            sizes[:, position] = np.bincount(self.patients[rows], minlength=total)
        return sums, sizes

    def effect(
        self,
        groups: Names,
        strata: IntArray | None,
        *,
        design: Design,
        permutations: int,
        rng: np.random.Generator,
    ) -> ScannerEffect:
        """See :class:`Measured`."""
        return scanner_effect(
            self.values, self.patients, groups, rng=rng, strata=strata, permutations=permutations, design=design
        )

    def p_values(
        self, groups: Names, reference: str | None, *, design: Design, permutations: int, rng: np.random.Generator
    ) -> dict[str, float]:
        """See :class:`Measured`; never None."""
        return mean_p_values(
            self.values,
            self.patients,
            groups,
            rng=rng,
            reference=reference,
            permutations=permutations,
            design=design,
        )


def counted_difference(one: Arm, other: Arm) -> Difference:
    """One arm minus the other, with the counts of the first."""
    return difference_of_arms(one, other, n_patients=one.estimate.n_patients, n_rows=one.estimate.n_rows)


def take(sample: Sample, inside: Mask) -> Sample:
    """Rows inside ``(n,)``, their patients coded without gaps."""
    return Sample(sample.labels[inside], sample.probabilities[inside], without_gaps(sample.patients[inside]))
