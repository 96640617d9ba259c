"""The rows of one split as arrays, model by model: what all parts of an assessment read.

Rows are put in order of model, patient and study first, so that sums, and with them all findings, do not depend on the
order of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pipeline.audit.findings import ALL, Measure, Place
from pipeline.audit.layout import columns_of, nearest
from pipeline.audit.measured import Mask, Measured, MeasuredMean, Names, take
from pipeline.audit.measured_auc import MeasuredAuc
from pipeline.audit.plan import Plan
from pipeline.audit.statistics import FloatArray, IntArray, Sample
from pipeline.tracking.predictions import (
    PredictionsError,
    classes_of,
    group_names,
    labels_of,
    probabilities_of,
)

NUMBER = "row in the order read"


@dataclass(frozen=True, eq=False)
class Column:
    """Groups that are compared with one another.

    Args:
        name: grouping column, or ``all``.
        groups: listed, those without a row among them.
    """

    name: str
    groups: tuple[str, ...]

    @property
    def compared(self) -> bool:
        """Whether groups are compared; False for all patients together."""
        return self.name != ALL

    @property
    def has_labels(self) -> bool:
        """Whether the class is part of the groups, so that none has a case mix of its own."""
        return "label" in columns_of([self.name])

    def names(self, frame: pd.DataFrame) -> Names:
        """Group of every row, ``(n,)``."""
        return np.asarray(group_names(frame, self.name)).astype(str) if self.compared else np.full(len(frame), ALL)

    def inside(self, names: Names) -> dict[str, Mask]:
        """Group -> rows inside, ``(n,)``."""
        return {group: np.asarray(names == group) for group in self.groups}


@dataclass(frozen=True, eq=False)
class ModelRows:
    """Rows of one model in the audited split.

    Args:
        model: name.
        frame: the rows of the table, by patient and study, with their number in the order read.
        patients: ``(n,)``, codes that all models share.
    """

    model: str
    frame: pd.DataFrame
    patients: IntArray

    @cached_property
    def sample(self) -> Sample:
        """Labels, probabilities and patients of all rows; patients may be coded with gaps."""
        return Sample(labels_of(self.frame), probabilities_of(self.frame), self.patients)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the class indices."""
        return classes_of(self.frame)

    @cached_property
    def right(self) -> FloatArray:
        """Right (1) or wrong (0), ``(n,)``."""
        return np.asarray(self.sample.probabilities.argmax(axis=1) == self.sample.labels, dtype=np.float64)

    def values(self, measure: Measure) -> FloatArray:
        """Values ``(n,)`` of accuracy or an endpoint, NaN where a row has none."""
        return self.right if measure.name == "accuracy" else np.asarray(self.frame[measure.name], dtype=np.float64)

    def measured(self, measure: Measure) -> Measured:
        """What gives estimates, draws and tests of one measure."""
        if measure.name == "auc":
            return MeasuredAuc(measure, self.sample)
        return MeasuredMean(measure, self.values(measure), self.patients)


@dataclass(frozen=True, eq=False)
class Grouped:
    """Rows of one model, sorted into the groups of one column.

    Args:
        rows: of the model.
        column: its groups.
    """

    rows: ModelRows
    column: Column

    @cached_property
    def names(self) -> Names:
        """Group of every row, ``(n,)``."""
        return self.column.names(self.rows.frame)

    @cached_property
    def inside(self) -> dict[str, Mask]:
        """Group -> rows inside, ``(n,)``."""
        return self.column.inside(self.names)

    def place(self, group: str) -> Place:
        """Where the findings of a group belong."""
        return Place(self.rows.model, self.column.name, group)

    def samples(self) -> Iterator[tuple[Place, Sample]]:
        """Place and rows of every group."""
        for group, inside in self.inside.items():
            yield self.place(group), take(self.rows.sample, inside)


def rows_by_model(frame: pd.DataFrame, split: str, reference: str | None) -> dict[str, ModelRows]:
    """Rows of a split, model by model.

    Args:
        frame: validated predictions table.
        split: rows to take.
        reference: model that comes first; None for order of name alone.

    Returns:
        Model -> rows.

    Raises:
        PredictionsError: if the split or the reference is not in the table.
    """
    rows = of_split(frame, split)
    if rows.empty:
        raise PredictionsError(
            f"the split to audit must be in the table; {split!r} is not; it has "
            f"{', '.join(sorted(set(frame['split'])))}; name one of them"
        )
    models = sorted(set(rows["model"]))
    if reference is not None and reference not in models:
        raise PredictionsError(
            f"the reference must be a model of the table; {reference!r} is not; choose among {', '.join(models)}"
        )
    codes, _ = pd.factorize(rows["patient_id"], sort=True)
    numbered = rows.assign(**{NUMBER: rows.groupby("model").cumcount() + 1})
    found = {}
    for model in sorted(models, key=lambda name: (name != reference, name)):
        at = np.flatnonzero((rows["model"] == model).to_numpy())
        cases = rows["case_id"].iloc[at].rank(method="dense").to_numpy()
        at = at[np.lexsort((cases, codes[at]))]
        found[model] = ModelRows(model, numbered.iloc[at].reset_index(drop=True), codes[at].astype(np.int64))
    return found


def of_split(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    """Rows of one split; the table itself, no copy of it, if it has no other."""
    inside = (frame["split"] == split).to_numpy()
    return frame if inside.all() else frame[inside]


def columns_of_groups(
    frame: pd.DataFrame, names: Sequence[str], known_groups: Mapping[str, Sequence[str]] | None
) -> list[Column]:
    """Grouping columns with their groups in any split, by name; ``all`` comes last.

    Args:
        frame: predictions table.
        names: grouping columns.
        known_groups: column -> further groups to list even without a row.

    Raises:
        PredictionsError: if the table lacks a column, or one is called ``all``.
    """
    if ALL in names:
        raise PredictionsError(f"no grouping column may be called {ALL!r}: all patients are; rename it, or map it")
    known = known_groups or {}
    listed = [Column(name, tuple(sorted({*group_names(frame, name), *known.get(name, ())}))) for name in names]
    return [*listed, Column(ALL, (ALL,))]


def check_content(frame: pd.DataFrame, plan: Plan) -> tuple[str, ...]:
    """Classes of a table, if a plan asks for them.

    Args:
        frame: predictions table.
        plan: what is asked.

    Raises:
        PredictionsError: if the table lacks an endpoint, the classification or the positive class.
    """
    for name in plan.endpoints:
        if name not in frame:
            raise PredictionsError(
                f"endpoints are columns of the table; {name!r} is not; {nearest(name, frame.columns)}"
            )
    classes = classes_of(frame) if plan.metrics else ()
    if plan.metrics and not classes:
        raise PredictionsError(
            f"{' and '.join(plan.metrics)} need a label and columns prob_<class>; the table has none; add them, or "
            "audit endpoints only"
        )
    if plan.positive is not None and plan.positive not in classes:
        raise PredictionsError(
            f"the positive class must have a probability; {plan.positive!r} has none; choose among {', '.join(classes)}"
        )
    return classes
