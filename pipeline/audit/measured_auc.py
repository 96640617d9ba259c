"""The area under the ROC curve as something that is measured of a model.

Permuting ranks every row again and again. Where a table is so large that this would take hours, fewer permutations are
drawn, and contrasts take their p values from the intervals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.audit.arms import Arm, arm_of_areas, auc_arm
from pipeline.audit.contrast_tests import auc_p_values
from pipeline.audit.contrasts import Pair
from pipeline.audit.delong import Areas, areas
from pipeline.audit.design import Design
from pipeline.audit.differences import Difference
from pipeline.audit.findings import Measure
from pipeline.audit.group_auc import has_every_class
from pipeline.audit.measured import Mask, Names, counted_difference
from pipeline.audit.permutation import AUC_PERMUTATIONS
from pipeline.audit.scanner_effect import ScannerEffect, scanner_effect_auc
from pipeline.audit.statistics import FloatArray, IntArray, Sample, affordable
from pipeline.tracking.group_metrics import weighted_auc_of

MOST_WORK = 300_000_000  # rows ranked by a test: about a minute


@dataclass(frozen=True, eq=False)
class MeasuredAuc:
    """Area under the ROC curve.

    Args:
        measure: what is measured.
        sample: rows of the model; patients may be coded with gaps.
    """

    measure: Measure
    sample: Sample

    @property
    def patients(self) -> IntArray:
        """See :class:`Measured`."""
        return self.sample.patients

    @property
    def present(self) -> Mask:
        """See :class:`Measured`; all of them."""
        return np.ones(len(self.sample.labels), dtype=bool)

    def arm(self, inside: Mask, *, min_patients: int) -> Arm:
        """See :class:`Measured`."""
        rows = self.sample
        return auc_arm(
            rows.labels[inside], rows.probabilities[inside], rows.patients[inside], min_patients=min_patients
        )

    def paired_arms(self, one: Mask, other: Mask, groups: Names, *, min_patients: int) -> tuple[Arm, Arm]:
        """See :class:`Measured`. The mean over the other groups, each in the patients of both, as the test has it."""
        rows = one | other
        codes, owners = np.unique(self.patients[rows], return_inverse=True)

        def area(inside: Mask) -> Areas:
            sample = self.sample
            return areas(sample.labels[inside], [sample.probabilities[inside]], owners[inside[rows]], len(codes))

        pairs = [(area(here), area(there)) for here, there in self._comparable(one, other, groups)]
        if not pairs:
            return self.arm(one, min_patients=min_patients), self.arm(other, min_patients=min_patients)
        mine, theirs = zip(*pairs, strict=True)
        return (
            arm_of_areas(mine, codes, int(one.sum()), min_patients=min_patients),
            arm_of_areas(theirs, codes, int(other.sum()), min_patients=min_patients),
        )

    def _comparable(self, one: Mask, other: Mask, groups: Names) -> Iterator[Pair]:
        """Rows of one side and of each group on the other, of the patients of both, where both have every class."""
        for name in np.unique(groups[other]):
            there = other & (groups == name)
            here = one & np.isin(self.patients, self.patients[there])
            if has_every_class(self.sample, here) and has_every_class(self.sample, there):
                yield here, there

    def difference(self, one: Arm, other: Arm) -> Difference:
        """See :class:`Measured`."""
        return counted_difference(one, other)

    def over(self, groups: Mapping[str, Mask], weights: Iterable[FloatArray]) -> dict[str, FloatArray]:
        """See :class:`Measured`."""
        rows = self.sample
        statistics = {
            group: (rows.patients[inside], weighted_auc_of(rows.labels[inside], rows.probabilities[inside]))
            for group, inside in groups.items()
        }
        found: dict[str, list[FloatArray]] = {group: [np.zeros(0)] for group in groups}
        for block in weights:
            for group, (patients, auc) in statistics.items():
                found[group].append(auc(block[:, patients]))
        return {group: np.concatenate(values) for group, values in found.items()}

    def effect(
        self,
        groups: Names,
        strata: IntArray | None,  # noqa: ARG002
        *,
        design: Design,
        permutations: int,
        rng: np.random.Generator,
    ) -> ScannerEffect:
        """See :class:`Measured`; the strata are always the labels."""
        work = self._work * len(np.unique(groups))
        count = affordable(min(permutations, AUC_PERMUTATIONS), work, MOST_WORK)
        return scanner_effect_auc(self.sample, groups, rng=rng, permutations=count, design=design)

    def p_values(
        self, groups: Names, reference: str | None, *, design: Design, permutations: int, rng: np.random.Generator
    ) -> dict[str, float] | None:
        """See :class:`Measured`."""
        count = min(permutations, AUC_PERMUTATIONS)
        if affordable(count, 2 * self._work * len(np.unique(groups)), MOST_WORK) < count:
            return None
        return auc_p_values(self.sample, groups, rng=rng, reference=reference, permutations=count, design=design)

    @property
    def _work(self) -> int:
        """Rows that one permutation ranks."""
        classes = self.sample.probabilities.shape[1]
        return len(self.sample.labels) * (1 if classes == 2 else classes)
