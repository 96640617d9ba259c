"""Is one model as good as another in every group, or as good as it was before: paired by patient, with a margin.

A difference is the first minus the second: student minus teacher, after minus before. Groups are one family: their p
values are adjusted after Holm. All patients together are a family of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.arms import Arm, auc_arm, mean_arm, proportion_arm, without_gaps
from pipeline.audit.differences import Difference, difference_of_arms, paired_mean, paired_proportion
from pipeline.audit.multiplicity import holm
from pipeline.audit.statistics import Estimate, FloatArray, IntArray
from pipeline.tracking.predictions import PredictionsError, classes_of, group_names, labels_of, probabilities_of

Mask = NDArray[np.bool_]
Better = Literal["higher", "lower"]

LEVEL = 0.025  # one-sided: the half of 5 % that faces the margin
NONINFERIOR, WORSE, NOT_SHOWN, NOT_ESTIMABLE = "non-inferior", "worse", "not shown", "not estimable"
KEY = ["patient_id", "case_id"]
CLASSIFICATION = ("accuracy", "auc")


@dataclass(frozen=True)
class Outcome:
    """What is compared, and by how much the first may fall short.

    Args:
        name: ``accuracy``, ``auc``, or a column of numbers.
        margin: above 0, in the outcome's own unit: 0.05 of accuracy is five points. None asks for no non-inferiority.
        better: ``higher``, or ``lower`` for distances and errors.
    """

    name: str
    margin: float | None = None
    better: Better = "higher"

    def __post_init__(self) -> None:
        share = self.name in CLASSIFICATION
        if self.margin is not None and not 0 < self.margin < (1 if share else math.inf):
            most = " and below 1 (0.05 is five points)" if share else ""
            raise ValueError(f"the margin of {self.name!r} must be above 0{most}; got {self.margin}; choose another")
        if share and self.better != "higher":
            raise ValueError(f"{self.name!r} is better the higher it is; got {self.better!r}; leave it out")


@dataclass(frozen=True)
class Comparison:
    """One group's difference and what it shows.

    Args:
        first: model or period.
        second: what it is compared with.
        group: the group's name.
        outcome: what is compared.
        estimate: first minus second, with the 95 % interval of this group alone.
        p_noninferior: of the null hypothesis that the first falls short by the margin or more, one-sided; NaN without
            a margin or an interval.
        p_worse: of the null hypothesis that the first is as good or better, one-sided.
        family: groups that could be compared, for which both p values are adjusted.
        p_noninferior_adjusted: after Holm.
        p_worse_adjusted: after Holm.
    """

    first: str
    second: str
    group: str
    outcome: Outcome
    estimate: Estimate
    p_noninferior: float
    p_worse: float
    family: int = 1
    p_noninferior_adjusted: float = math.nan
    p_worse_adjusted: float = math.nan

    @property
    def verdict(self) -> str:
        """``non-inferior``, ``worse``, ``not shown`` or ``not estimable``, by the adjusted p values at 0.025.

        A first that is surely lower, and surely by less than the margin, is non-inferior: that is what a margin says.
        """
        if not self.estimate.estimable:
            return NOT_ESTIMABLE
        if self.p_noninferior_adjusted < LEVEL:
            return NONINFERIOR
        return WORSE if self.p_worse_adjusted < LEVEL else NOT_SHOWN


def compare_models(
    rows: pd.DataFrame,
    outcome: Outcome,
    *,
    model: str,
    reference: str,
    groups: Mapping[str, Mask],
    min_patients: int = 10,
) -> list[Comparison]:
    """Compare two models on the cases that both have read, group by group.

    Args:
        rows: predictions table of one split.
        outcome: what is compared.
        model: the first.
        reference: the second, e.g. the teacher.
        groups: name -> ``(n,)``, which rows are inside; together one family.
        min_patients: a group of fewer gets a value and no interval.

    Returns:
        One comparison per group, in the order of ``groups``.

    Raises:
        PredictionsError: if a model or the outcome's column is not in the table.

    Source: Piaggio et al. 2012, JAMA 308:2594 (margin and verdicts); Holm 1979.
    """
    _known(rows, "model", (model, reference))
    cases = rows[KEY].assign(at=np.arange(len(rows)))
    of = {name: cases[(rows["model"] == name).to_numpy()] for name in (model, reference)}
    both = of[model].merge(of[reference], on=KEY, suffixes=("", "_reference"))
    here, there = both["at"].to_numpy(), both["at_reference"].to_numpy()
    compare = _paired(rows, outcome, min_patients)
    read = _readable(rows, outcome)
    inside = {name: (mask & read)[here] & (mask & read)[there] for name, mask in groups.items()}
    found = {name: compare(here[mask], there[mask]) for name, mask in inside.items()}
    return comparisons(model, reference, outcome, found)


def compare_periods(
    rows: pd.DataFrame,
    outcome: Outcome,
    *,
    column: str,
    after: str,
    before: str,
    groups: Mapping[str, Mask],
    min_patients: int = 10,
) -> list[Comparison]:
    """Compare one model on two sets of cases, e.g. after and before an upgrade of a scanner.

    The patients are others; those that are in both sets are taken for what they are, correlated.

    Args:
        rows: predictions table of one split and one model.
        outcome: what is compared.
        column: says which set a row belongs to, e.g. ``software``.
        after: its value in the first set.
        before: its value in the second.
        groups: as for :func:`compare_models`.
        min_patients: a group with fewer in either set gets a value and no interval.

    Returns:
        One comparison per group, in the order of ``groups``.

    Raises:
        PredictionsError: if a value or the outcome's column is not in the table, or the rows are of several models.
    """
    models = sorted(set(rows["model"]))
    if len(models) != 1:
        raise PredictionsError(
            f"two periods are compared for one model; got {', '.join(models) or 'none'}; choose the rows of one"
        )
    names = np.asarray(group_names(rows, column), dtype=object)
    _known(pd.DataFrame({column: names}), column, (after, before))
    arm, patients = _arm(rows, outcome, min_patients), rows["patient_id"].to_numpy(dtype=object)
    read = _readable(rows, outcome)
    found = {}
    for name, mask in groups.items():
        here, there = (np.flatnonzero(mask & read & (names == value)) for value in (after, before))
        codes = without_gaps(patients[np.concatenate([here, there])])
        one, other = arm(here, codes[: len(here)]), arm(there, codes[len(here) :])
        found[name] = difference_of_arms(one, other, n_patients=len(np.unique(codes)), n_rows=len(codes))
    return comparisons(after, before, outcome, found)


def comparisons(first: str, second: str, outcome: Outcome, found: Mapping[str, Difference]) -> list[Comparison]:
    """What differences show, the groups being one family.

    Args:
        first: model or period.
        second: what it is compared with.
        outcome: what is compared.
        found: group -> first minus second.

    Returns:
        One comparison per group, in the order of ``found``.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    single = [
        Comparison(first, second, group, outcome, difference.estimate, *_p_values(difference, outcome))
        for group, difference in found.items()
    ]
    family = sum(row.estimate.estimable for row in single)
    noninferior = holm([row.p_noninferior for row in single])
    worse = holm([row.p_worse for row in single])
    return [
        replace(row, family=family, p_noninferior_adjusted=one, p_worse_adjusted=other)
        for row, one, other in zip(single, noninferior, worse, strict=True)
    ]


def _p_values(difference: Difference, outcome: Outcome) -> tuple[float, float]:
    """Of non-inferiority and of being worse."""
    if not difference.estimate.estimable:
        return math.nan, math.nan
    higher, margin = outcome.better == "higher", outcome.margin
    not_better = difference.p_above(0.0)
    worse = 1 - not_better if higher else not_better
    if margin is None:
        return math.nan, worse
    return difference.p_above(-margin) if higher else 1 - difference.p_above(margin), worse


def _paired(rows: pd.DataFrame, outcome: Outcome, min_patients: int) -> Callable[[IntArray, IntArray], Difference]:
    """What compares the rows at two lists of places, which are of the same cases in the same order."""
    patients = rows["patient_id"].to_numpy(dtype=object)
    if outcome.name == "auc":
        arm = _arm(rows, outcome, min_patients)

        def areas(here: IntArray, there: IntArray) -> Difference:
            codes = without_gaps(patients[here])
            one, other = arm(here, codes), arm(there, codes)
            return difference_of_arms(one, other, n_patients=len(np.unique(codes)), n_rows=len(codes))

        return areas
    values = _values(rows, outcome)
    compare = paired_proportion if outcome.name == "accuracy" else paired_mean

    def means(here: IntArray, there: IntArray) -> Difference:
        return compare(values[here] - values[there], without_gaps(patients[here]), min_patients=min_patients)

    return means


def _arm(rows: pd.DataFrame, outcome: Outcome, min_patients: int) -> Callable[[IntArray, IntArray], Arm]:
    """What describes the rows at a list of places, given the codes of their patients."""
    if outcome.name == "auc":
        _has_classes(rows, outcome)
        labels, scores = labels_of(rows), probabilities_of(rows)
        return lambda at, codes: auc_arm(labels[at], scores[at], codes, min_patients=min_patients)
    values = _values(rows, outcome)
    describe = proportion_arm if outcome.name == "accuracy" else mean_arm
    return lambda at, codes: describe(values[at], codes, min_patients=min_patients)


def _readable(rows: pd.DataFrame, outcome: Outcome) -> Mask:
    """``(n,)``: rows with a value."""
    return np.ones(len(rows), dtype=bool) if outcome.name == "auc" else ~np.isnan(_values(rows, outcome))


def _values(rows: pd.DataFrame, outcome: Outcome) -> FloatArray:
    """``(n,)``: right (1) or wrong (0), or the column's numbers; NaN where a cell is empty."""
    if outcome.name == "accuracy":
        _has_classes(rows, outcome)
        return np.asarray(probabilities_of(rows).argmax(axis=1) == labels_of(rows), dtype=np.float64)
    if outcome.name not in rows.columns:
        raise PredictionsError(
            f"the outcome must be accuracy, auc or a column of the table; {outcome.name!r} is none of them; "
            f"choose among {', '.join(map(str, rows.columns))}"
        )
    numbers = pd.to_numeric(rows[outcome.name], errors="coerce").to_numpy(dtype=np.float64)
    strange = np.isinf(numbers) | (np.isnan(numbers) & rows[outcome.name].notna().to_numpy())
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise PredictionsError(
            f"column {outcome.name!r} must hold finite numbers or nothing; row {row + 1} has "
            f"{rows[outcome.name].iloc[row]!s:.80}; correct it or leave the cell empty"
        )
    return numbers


def _has_classes(rows: pd.DataFrame, outcome: Outcome) -> None:
    if not classes_of(rows):
        raise PredictionsError(
            f"{outcome.name!r} needs a label and columns prob_<class>; the table has none; add them, or compare "
            "columns of numbers"
        )


def _known(rows: pd.DataFrame, column: str, wanted: Sequence[str]) -> None:
    known = sorted(set(rows[column]))
    for name in wanted:
        if name not in known:
            raise PredictionsError(
                f"a comparison needs two values of {column!r} that the table has; {name!r} is not among them; "
                f"choose among {', '.join(map(str, known))}"
            )
