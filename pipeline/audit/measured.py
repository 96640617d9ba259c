"""What is measured of a model, under one face: a mean over rows (accuracy, endpoints) and the area under the ROC curve.

Both give an estimate per group, draws and halves of its patients, a test of any difference and p values of contrasts.
Permuting ranks every row again and again; where a table is so large that this would take hours, fewer permutations
are drawn, and contrasts take their p values from the intervals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.contrasts import auc_p_values, mean_p_values
from pipeline.audit.findings import Measure
from pipeline.audit.intervals import auc_interval, mean_interval, proportion_interval
from pipeline.audit.plan import Plan
from pipeline.audit.scanner_effect import AUC_PERMUTATIONS, ScannerEffect, scanner_effect, scanner_effect_auc
from pipeline.audit.statistics import BLOCK_SIZE, Estimate, FloatArray, IntArray, Sample, Statistic, bootstrap
from pipeline.audit.worst import halves
from pipeline.tracking.group_metrics import weighted_auc_of

Mask = NDArray[np.bool_]
Names = NDArray[np.str_]

WORDS = {"accuracy": "Accuracy", "auc": "AUC"}
SHORT = 2  # letters of a word that is an abbreviation: EF, LV
MOST_WORK = 300_000_000  # rows ranked by a test: about a minute
LEAST_DRAWS = 99


class Measured(Protocol):
    """One measure of one model, over the rows of the audited split."""

    @property
    def measure(self) -> Measure:
        """What is measured."""

    def estimate(self, inside: Mask, *, min_patients: int) -> Estimate:
        """Value and interval of the rows inside ``(n,)``."""

    def draws(self, inside: Mask, replicates: int, rng: np.random.Generator) -> FloatArray:
        """Values ``(replicates,)`` over draws of the patients inside."""

    def halves(self, inside: Mask, splits: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Values ``(splits,)`` of random halves of the patients inside, and of the other halves."""

    def effect(
        self, groups: Names, strata: IntArray | None, *, permutations: int, rng: np.random.Generator
    ) -> ScannerEffect:
        """Whether any of the groups ``(n,)`` differs."""

    def p_values(
        self, groups: Names, reference: str | None, *, permutations: int, rng: np.random.Generator
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

    def estimate(self, inside: Mask, *, min_patients: int) -> Estimate:
        """See :class:`Measured`."""
        values, patients = self.inside(inside)
        interval = proportion_interval if self.measure.scale == "share" else mean_interval
        return interval(values, patients, min_patients=min_patients)

    def inside(self, inside: Mask) -> tuple[FloatArray, IntArray]:
        """Values of the rows inside that have one, and their patients coded without gaps."""
        rows = inside & ~np.isnan(self.values)
        return self.values[rows], _coded(self.patients[rows])

    def draws(self, inside: Mask, replicates: int, rng: np.random.Generator) -> FloatArray:
        """See :class:`Measured`."""
        statistic, patients = self._of_patients(inside)
        return bootstrap(statistic, patients, replicates, rng)

    def halves(self, inside: Mask, splits: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See :class:`Measured`."""
        return _halves(*self._of_patients(inside), splits, rng)

    def _of_patients(self, inside: Mask) -> tuple[Statistic, IntArray]:
        """Mean over rows from the weights of patients: each has its sum and its number of rows."""
        values, patients = self.inside(inside)
        sums, sizes = np.bincount(patients, values), np.bincount(patients).astype(np.float64)

        def mean(weights: FloatArray) -> FloatArray:
            rows = weights @ sizes
            return np.where(rows > 0, weights @ sums / np.where(rows > 0, rows, 1.0), np.nan)

        return mean, np.arange(len(sums))

    def effect(
        self, groups: Names, strata: IntArray | None, *, permutations: int, rng: np.random.Generator
    ) -> ScannerEffect:
        """See :class:`Measured`."""
        return scanner_effect(self.values, self.patients, groups, rng=rng, strata=strata, permutations=permutations)

    def p_values(
        self, groups: Names, reference: str | None, *, permutations: int, rng: np.random.Generator
    ) -> dict[str, float]:
        """See :class:`Measured`; never None."""
        return mean_p_values(
            self.values, self.patients, groups, rng=rng, reference=reference, permutations=permutations
        )


@dataclass(frozen=True, eq=False)
class MeasuredAuc:
    """Area under the ROC curve.

    Args:
        measure: what is measured.
        sample: rows of the model; patients may be coded with gaps.
    """

    measure: Measure
    sample: Sample

    def estimate(self, inside: Mask, *, min_patients: int) -> Estimate:
        """See :class:`Measured`."""
        part = take(self.sample, inside)
        return auc_interval(part.labels, part.probabilities, part.patients, min_patients=min_patients)

    def draws(self, inside: Mask, replicates: int, rng: np.random.Generator) -> FloatArray:
        """See :class:`Measured`."""
        part = take(self.sample, inside)
        return bootstrap(weighted_auc_of(part.labels, part.probabilities), part.patients, replicates, rng)

    def halves(self, inside: Mask, splits: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See :class:`Measured`."""
        part = take(self.sample, inside)
        return _halves(weighted_auc_of(part.labels, part.probabilities), part.patients, splits, rng)

    def effect(
        self,
        groups: Names,
        strata: IntArray | None,  # noqa: ARG002
        *,
        permutations: int,
        rng: np.random.Generator,
    ) -> ScannerEffect:
        """See :class:`Measured`; the strata are always the labels."""
        work = self._work * len(np.unique(groups))
        count = affordable(min(permutations, AUC_PERMUTATIONS), work)
        return scanner_effect_auc(self.sample, groups, rng=rng, permutations=count)

    def p_values(
        self, groups: Names, reference: str | None, *, permutations: int, rng: np.random.Generator
    ) -> dict[str, float] | None:
        """See :class:`Measured`."""
        count = min(permutations, AUC_PERMUTATIONS)
        if affordable(count, 2 * self._work * len(np.unique(groups))) < count:
            return None
        return auc_p_values(self.sample, groups, rng=rng, reference=reference, permutations=count)

    @property
    def _work(self) -> int:
        """Rows that one permutation ranks."""
        classes = self.sample.probabilities.shape[1]
        return len(self.sample.labels) * (1 if classes == 2 else classes)


def affordable(count: int, rows: int, work: int = MOST_WORK) -> int:
    """Draws that are made of the ones asked for, when each looks at so many rows.

    Args:
        count: asked for.
        rows: of one draw.
        work: rows of all draws.

    Returns:
        ``count``, or fewer in a large table, but at least 99 of them.

    Example:
        >>> affordable(1999, 10_000), affordable(1999, 1_000_000)
        (1999, 300)
    """
    return min(count, max(LEAST_DRAWS, work // max(rows, 1)))


def take(sample: Sample, inside: Mask) -> Sample:
    """Rows inside ``(n,)``, their patients coded without gaps."""
    return Sample(sample.labels[inside], sample.probabilities[inside], _coded(sample.patients[inside]))


def _coded(patients: IntArray) -> IntArray:
    return np.unique(patients, return_inverse=True)[1].astype(np.int64)


def _halves(
    statistic: Statistic, patients: IntArray, splits: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    if not len(patients):
        return np.full(splits, np.nan), np.full(splits, np.nan)
    block = max(1, BLOCK_SIZE // len(patients))
    first, second = [], []
    for start in range(0, splits, block):
        weights = halves(patients, min(block, splits - start), rng)
        first.append(statistic(weights))
        second.append(statistic(1 - weights))
    return np.concatenate(first), np.concatenate(second)


def measures_of(plan: Plan) -> tuple[Measure, ...]:
    """Everything that a plan measures: metrics, then endpoints.

    Example:
        >>> from pipeline.audit.plan import Endpoint
        >>> plan = Plan(group_by=("vendor",), metrics=("auc",), endpoints={"hd95_mm": Endpoint("lower", "mm")})
        >>> [(found.name, found.words, found.better, found.scale) for found in measures_of(plan)]
        [('auc', 'AUC', 'higher', 'share'), ('hd95_mm', 'HD95', 'lower', 'plain')]
    """
    metrics = [Measure(metric, WORDS[metric], margin=plan.margin) for metric in plan.metrics]
    endpoints = [
        Measure(name, endpoint_words(name, endpoint.unit), endpoint.unit, endpoint.better, "plain", endpoint.margin)
        for name, endpoint in plan.endpoints.items()
    ]
    return (*metrics, *endpoints)


def endpoint_words(name: str, unit: str = "") -> str:
    """A column's name as a heading, without its unit.

    Example:
        >>> endpoint_words("hd95_mm", "mm"), endpoint_words("ef_error"), endpoint_words("dice_LV")
        ('HD95', 'EF error', 'Dice LV')
    """
    words = name.removesuffix(f"_{unit}").replace("_", " ").split() or [name]
    words = [word.upper() if len(word) <= SHORT or word[-1].isdigit() else word for word in words]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])
