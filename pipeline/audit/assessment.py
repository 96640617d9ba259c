"""From a table and a plan to all findings of an audit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.audit.case_mix import case_mix
from pipeline.audit.comparison import Outcome, compare_models
from pipeline.audit.decisions import calibration_row, operating_row, positive_class, thresholds, worst_read
from pipeline.audit.findings import ALL, Audit, DifferenceRow, Measure
from pipeline.audit.group_findings import GroupFindings, common_case_mix, generator
from pipeline.audit.layout import columns_of
from pipeline.audit.measures import measures_of
from pipeline.audit.model_rows import (
    Column,
    Grouped,
    ModelRows,
    check_content,
    columns_of_groups,
    of_split,
    rows_by_model,
)
from pipeline.audit.plan import Plan
from pipeline.audit.reading import Table
from pipeline.audit.reading_notes import table_notes
from pipeline.tracking.predictions import PredictionsError, classes_of, validate

WORST_CASES = 5
MIXED = ("label", "sex", "age")  # columns of the case mix, beside the plan's strata
SHOWN_AFTER = 3.0  # seconds


def choose_split(frame: pd.DataFrame) -> str:
    """The only split of the table, or ``test`` among several.

    Raises:
        PredictionsError: if there are several and none is called ``test``.
    """
    splits = sorted(set(frame["split"]))
    if len(splits) > 1 and "test" not in splits:
        raise PredictionsError(f"an audit reads one split; the table has {', '.join(splits)}; name the one to audit")
    return "test" if "test" in splits else str(splits[0])


def choose_reference(models: Sequence[str]) -> str | None:
    """The model to compare with: the first by name that is called a teacher, if it has any to be compared with it.

    What stands in brackets is how a model was made, and ``student (random_teacher)`` is none.
    """
    called = {model: re.sub(r"\(.*\)", "", model.lower()) for model in sorted(set(models))}
    teachers = (model for model, name in called.items() if re.search(r"(?<![a-z])teacher(?![a-z])", name))
    return next(teachers, None) if len(called) > 1 else None


def assess(
    table: Table | pd.DataFrame,
    plan: Plan,
    known_groups: Mapping[str, Sequence[str]] | None = None,
    *,
    pictures: Mapping[str, str] | None = None,
    worst_cases: int = WORST_CASES,
    progress: bool = False,
) -> Audit:
    """Find everything that a plan asks for.

    Args:
        table: read by :func:`pipeline.audit.reading.read_table`, or a predictions table in memory. Groups are listed
            from all its splits; numbers come from one, and thresholds from the development split that a rule names.
        plan: what is asked.
        known_groups: column -> further groups to list even without a patient.
        pictures: case_id -> path of its picture, relative to the report.
        worst_cases: of each group, model and measure.
        progress: whether a bar is shown, in a terminal, when it takes more than a few seconds.

    Returns:
        The audit; the order of the table's rows does not matter.

    Raises:
        PredictionsError: if a column, class, group, split or model of the plan is not in the table.
    """
    read = table if isinstance(table, Table) else _in_memory(table, plan)
    classes = check_content(read.frame, plan)
    columns = columns_of_groups(read.frame, plan.group_by, known_groups)
    _check_references(columns, plan)
    models = rows_by_model(read.frame, plan.split, plan.reference_model)
    rows = of_split(read.frame, plan.split)
    audit = Audit(
        plan=plan,
        classes=classes,
        models=tuple(models),
        measures=measures_of(plan),
        n_patients=int(rows["patient_id"].nunique()),
        n_cases=int(rows["case_id"].nunique()),
        groups={column.name: column.groups for column in columns if column.compared},
        notes=read.notes,
    )
    assessing = _Assessing(audit, read, rows, thresholds(read.frame, plan, audit.models, classes), pictures or {})
    parts = [(column, model) for column in columns for model in models.values()]
    hidden = None if progress else True
    for column, model in tqdm(parts, desc="audit", delay=SHOWN_AFTER, leave=False, disable=hidden):
        assessing.add(Grouped(model, column), worst_cases)
        if plan.reference_model not in {None, model.model}:
            assessing.add_differences(column, model, models[str(plan.reference_model)])
    for column in columns:
        assessing.add_mix(column)
    return _in_order(audit)


def _in_memory(frame: pd.DataFrame, plan: Plan) -> Table:
    checked = validate(frame, classified=bool(classes_of(frame)))
    check_content(checked, plan)
    return Table(checked, tuple(table_notes(checked, plan.layout(), numbered=False)))


def _check_references(columns: Sequence[Column], plan: Plan) -> None:
    for column in columns:
        reference = plan.reference_group.get(column.name)
        if reference is not None and reference not in column.groups:
            raise PredictionsError(
                f"the reference group must be a group of {column.name}; {reference!r} is not; choose among "
                f"{', '.join(column.groups)}"
            )


@dataclass(frozen=True, eq=False)
class _Assessing:
    """An audit while it is filled.

    Args:
        audit: with empty lists.
        table: all splits.
        rows: the audited split.
        thresholds: model -> operating point; empty without one.
        pictures: case_id -> path.
    """

    audit: Audit
    table: Table
    rows: pd.DataFrame
    thresholds: Mapping[str, float]
    pictures: Mapping[str, str]

    def add(self, grouped: Grouped, worst_cases: int) -> None:
        """Everything about one model in the groups of one column."""
        audit, compared = self.audit, grouped.column.compared
        mix = common_case_mix(self.rows, grouped.column, audit.plan)
        for measure in audit.measures:
            found = GroupFindings(audit.plan, grouped, measure)
            audit.rows.extend(found.metric_rows(mix))
            if compared:
                audit.effects.append(found.effect())
                audit.contrasts.extend(found.contrast_rows())
                audit.worst.append(found.worst())
                self._add_worst_cases(grouped, measure, worst_cases)
        if audit.classes:
            self._add_decisions(grouped)

    def _add_worst_cases(self, grouped: Grouped, measure: Measure, count: int) -> None:
        if measure.name != "auc" and count:
            self.audit.worst_cases.extend(
                worst_read(grouped, measure, count, pictures=self.pictures, numbered=self.table.numbered)
            )

    def _add_decisions(self, grouped: Grouped) -> None:
        audit, model = self.audit, grouped.rows.model
        positive = positive_class(audit.plan, audit.classes)
        for place, sample in grouped.samples():
            rng = generator(audit.plan.seed, place.column, place.group, "calibration")
            audit.calibration.append(calibration_row(place, sample, audit.plan, positive, rng))
            if positive is not None and model in self.thresholds:
                audit.operating.append(operating_row(place, sample, audit.plan, positive, self.thresholds[model]))

    def add_mix(self, column: Column) -> None:
        """Who was examined in each group."""
        if not column.compared:
            return
        own = columns_of([column.name])
        by = [
            name for name in dict.fromkeys((*MIXED, *self.audit.plan.strata)) if name in self.rows and name not in own
        ]
        people = self.rows[list(dict.fromkeys(["patient_id", *own, *by]))].drop_duplicates()
        self.audit.mix[column.name] = case_mix(people, column.name, by, column.groups)

    def add_differences(self, column: Column, model: ModelRows, reference: ModelRows) -> None:
        """A model against the reference, group by group; the groups of a column are one family."""
        codes = np.concatenate([model.patients, reference.patients])
        pair = pd.concat([model.frame, reference.frame], ignore_index=True).assign(patient_id=codes)
        groups = column.inside(column.names(pair))
        for measure in self.audit.measures:
            found = compare_models(
                pair,
                Outcome(measure.name, measure.margin, measure.better),
                model=model.model,
                reference=reference.model,
                groups=groups,
                min_patients=self.audit.plan.min_patients,
            )
            self.audit.differences.extend(DifferenceRow(column.name, comparison) for comparison in found)


def _in_order(audit: Audit) -> Audit:
    """Sort every list by column, group, model and measure; cases of one place stay as they are, worst first."""
    columns = [*audit.groups, ALL]
    measures = [measure.name for measure in audit.measures]

    def key(column: str, group: str, model: str, measure: str | None = None) -> tuple[int, ...]:
        groups = audit.groups.get(column, (ALL,))
        place = (columns.index(column), groups.index(group) if group else 0, audit.models.index(model))
        return (*place, measures.index(measure) if measure else 0)

    def at(row: Any) -> tuple[int, ...]:  # noqa: ANN401
        return key(row.place.column, row.place.group, row.place.model, getattr(row, "measure", None))

    def of_column(row: Any) -> tuple[int, ...]:  # noqa: ANN401
        group = row.contrast.group if hasattr(row, "contrast") else ""
        return key(row.column, group, row.model, row.measure)

    rows: Sequence[tuple[list[Any], Callable[[Any], tuple[int, ...]]]] = (
        (audit.rows, at),
        (audit.calibration, at),
        (audit.operating, at),
        (audit.worst_cases, at),
        (audit.effects, of_column),
        (audit.contrasts, of_column),
        (audit.worst, of_column),
        (
            audit.differences,
            lambda row: key(row.column, row.comparison.group, row.comparison.first, row.comparison.outcome.name),
        ),
    )
    for listed, order in rows:
        listed.sort(key=order)
    return audit
