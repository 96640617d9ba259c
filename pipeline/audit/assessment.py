"""From a predictions table to the numbers of an audit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.statistics import (
    Estimate,
    FloatArray,
    Sample,
    Worst,
    bootstrap,
    estimate,
    paired_difference,
    worst_group,
)
from pipeline.tracking.group_metrics import METRICS
from pipeline.tracking.predictions import (
    PredictionsError,
    classes_of,
    group_names,
    labels_of,
    probabilities_of,
)

ALL = "all"


@dataclass(frozen=True)
class Settings:
    """What an audit was asked to do.

    Args:
        group_by: columns to audit, each on its own; ``"vendor x label"`` crosses two.
        replicates: draws of the patient bootstrap.
        seed: of the draws.
        min_patients: below it a group gets no interval.
        split: rows to audit.
        reference: model that the others are compared with, e.g. the teacher; None without one.
    """

    group_by: tuple[str, ...]
    replicates: int = 2000
    seed: int = 0
    min_patients: int = 10
    split: str = "test"
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.replicates < 100 or self.min_patients < 2 or self.seed < 0:
            raise ValueError(
                "replicates must be at least 100, min_patients at least 2 and seed not negative; got "
                f"{self.replicates}, {self.min_patients} and {self.seed}; raise the one that is too small"
            )
        if not self.group_by or ALL in self.group_by:
            raise ValueError(
                f"group_by needs at least one column, and none called {ALL!r}; got {list(self.group_by)}; "
                "name e.g. vendor"
            )


@dataclass(frozen=True)
class MetricRow:
    """One metric of one model in one group; over all patients, column and group are ``all``."""

    model: str
    column: str
    group: str
    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class WorstRow:
    """Worst group of one model by one metric; ``worst`` is None if fewer than two groups can be compared."""

    model: str
    column: str
    metric: str
    worst: Worst | None
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class DifferenceRow:
    """Accuracy of a model minus that of the reference on the same studies of one group."""

    model: str
    reference: str
    column: str
    group: str
    estimate: Estimate


@dataclass(frozen=True)
class Audit:
    """Numbers of an audit; lists are ordered by column, group (overall last), model, metric."""

    settings: Settings
    classes: tuple[str, ...]
    models: tuple[str, ...]
    n_patients: int
    n_studies: int
    rows: list[MetricRow] = field(default_factory=list)
    worst: list[WorstRow] = field(default_factory=list)
    differences: list[DifferenceRow] = field(default_factory=list)

    def groups(self, column: str) -> list[str]:
        """Groups of a column, in the order of the rows."""
        return list(dict.fromkeys(row.group for row in self.rows if row.column == column))

    def bands(self, column: str) -> list[tuple[str, str]]:
        """Column and group of every line of a table or figure: the groups, then all patients."""
        return [*((column, group) for group in self.groups(column)), (ALL, ALL)]

    def find(self, model: str, column: str, group: str, metric: str) -> Estimate:
        """Estimate of one row."""
        wanted = (model, column, group, metric)
        return next(r.estimate for r in self.rows if (r.model, r.column, r.group, r.metric) == wanted)


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
    """The model to compare with: the first by name that is called a teacher, else none."""
    return next((model for model in sorted(models) if "teacher" in model.lower()), None)


def assess(frame: pd.DataFrame, settings: Settings, known_groups: Mapping[str, Sequence[str]] | None = None) -> Audit:
    """Compute every estimate, worst group and paired difference.

    Args:
        frame: validated predictions table; groups are listed from all its splits, numbers come from one.
        settings: what to do.
        known_groups: column -> further groups to list even without a patient.

    Returns:
        The audit; the order of the table's rows does not matter.

    Raises:
        PredictionsError: if a column, the split or the reference is not in the table.
    """
    rows = frame[frame["split"] == settings.split]
    models = _models(rows, frame, settings)
    audit = Audit(settings, classes_of(frame), models, rows["patient_id"].nunique(), rows["case_id"].nunique())
    for column in settings.group_by:
        listed = sorted({*group_names(frame, column), *(known_groups or {}).get(column, ())})
        names = np.asarray(group_names(rows, column), dtype=object)
        _add_column(audit, rows, column, {group: names == group for group in listed})
    _add_column(audit, rows, ALL, {ALL: np.ones(len(rows), dtype=bool)})
    return audit


def _models(rows: pd.DataFrame, frame: pd.DataFrame, settings: Settings) -> tuple[str, ...]:
    if rows.empty:
        raise PredictionsError(
            f"the split to audit must be in the table; {settings.split!r} is not; it has "
            f"{', '.join(sorted(set(frame['split'])))}; name one of them"
        )
    models = sorted(set(rows["model"]))
    if settings.reference is not None and settings.reference not in models:
        raise PredictionsError(
            f"the reference must be a model of the table; {settings.reference!r} is not; "
            f"choose among {', '.join(models)}"
        )
    return tuple(sorted(models, key=lambda model: (model != settings.reference, model)))


def _add_column(audit: Audit, rows: pd.DataFrame, column: str, inside: Mapping[str, NDArray[np.bool_]]) -> None:
    draws: dict[tuple[str, str, str], FloatArray] = {}
    for group, mask in inside.items():
        for model in audit.models:
            part = rows[mask & (rows["model"] == model).to_numpy()]
            sample = _sample(part)
            drawn = bootstrap(sample, audit.settings.replicates, _rng(audit.settings, column, group))
            for metric in METRICS:
                found = estimate(sample, metric, drawn[metric], min_patients=audit.settings.min_patients)
                audit.rows.append(MetricRow(model, column, group, metric, found))
                draws[model, group, metric] = drawn[metric]
        audit.differences.extend(_differences(audit, rows[mask], column, group))
    if column != ALL:
        audit.worst.extend(_worst(audit, column, draws))


def _sample(rows: pd.DataFrame) -> Sample:
    _, patients = np.unique(rows["patient_id"].to_numpy(dtype=object), return_inverse=True)
    return Sample(labels_of(rows), probabilities_of(rows), patients.astype(np.int64))


def _rng(settings: Settings, column: str, group: str) -> np.random.Generator:
    """Draws of a group depend on its name alone: the same for every model, whatever else is audited."""
    digest = hashlib.sha256(f"{column}\n{group}".encode()).digest()
    return np.random.default_rng([settings.seed, int.from_bytes(digest[:8], "big")])


def _worst(audit: Audit, column: str, draws: Mapping[tuple[str, str, str], FloatArray]) -> list[WorstRow]:
    found = []
    for model in audit.models:
        for metric in METRICS:
            estimates = {group: audit.find(model, column, group, metric) for group in audit.groups(column)}
            values = {group: e.value for group, e in estimates.items() if e.estimable}
            worst = worst_group(values, {group: draws[model, group, metric] for group in values})
            found.append(WorstRow(model, column, metric, worst, tuple(g for g in estimates if g not in values)))
    return found


def _differences(audit: Audit, rows: pd.DataFrame, column: str, group: str) -> list[DifferenceRow]:
    reference, settings = audit.settings.reference, audit.settings
    if reference is None:
        return []
    right = rows.assign(right=(probabilities_of(rows).argmax(axis=1) == labels_of(rows)).astype(np.float64))
    wide = right.pivot_table(index=["patient_id", "case_id"], columns="model", values="right").reindex(
        columns=list(audit.models)
    )
    found = []
    for model in audit.models:
        if model == reference:
            continue
        both = wide[[model, reference]].dropna()
        _, patients = np.unique(both.index.get_level_values(0).to_numpy(dtype=object), return_inverse=True)
        result = paired_difference(
            (both[model] - both[reference]).to_numpy(dtype=np.float64),
            patients.astype(np.int64),
            settings.replicates,
            _rng(settings, column, group),
            min_patients=settings.min_patients,
        )
        found.append(DifferenceRow(model, reference, column, group, result))
    return found
