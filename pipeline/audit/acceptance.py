"""A hospital's own studies against a model's audit, scanner group by scanner group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.audit.acceptance_rule import FAIL, PASS, TOO_FEW, Check, judge, margin_of, note_on_width
from pipeline.audit.arms import without_gaps
from pipeline.audit.audited import Audited
from pipeline.audit.findings import ALL, Measure
from pipeline.audit.grouping import folded
from pipeline.audit.intervals import auc_interval, mean_interval, proportion_interval
from pipeline.audit.statistics import Estimate, FloatArray, IntArray
from pipeline.tracking.group_metrics import METRICS
from pipeline.tracking.predictions import (
    UNKNOWN,
    PredictionsError,
    classes_of,
    group_names,
    labels_of,
    probabilities_of,
)


@dataclass(frozen=True)
class Acceptance:
    """What the local studies say of a model.

    Args:
        audited: the audit's word.
        measure: what was compared.
        margin: in its unit.
        column: grouping column; ``all`` if the groups were not told apart.
        n_patients: of the hospital.
        n_cases: likewise.
        labels: class -> cases; empty without a classification.
        checks: one per group.
        notes: what a reader should know about table and comparison.
    """

    audited: Audited
    measure: Measure
    margin: float
    column: str
    n_patients: int
    n_cases: int
    labels: dict[str, int]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``fail`` if a group fails, ``pass`` if all pass, else ``too few``."""
        verdicts = {check.verdict for check in self.checks}
        return FAIL if FAIL in verdicts else PASS if verdicts == {PASS} else TOO_FEW

    @property
    def missing(self) -> int | None:
        """Further patients, over all groups; None if no number would tell in one of them."""
        open_checks = [check for check in self.checks if check.verdict == TOO_FEW]
        missing = [check.missing for check in open_checks if check.missing is not None]
        return sum(missing) if len(missing) == len(open_checks) else None


def accept(
    rows: pd.DataFrame,
    audited: Audited,
    measure: Measure,
    *,
    column: str,
    group: str | None = None,
    margin: float | None = None,
    notes: Sequence[str] = (),
) -> Acceptance:
    """Compare a hospital's studies with the audit, scanner group by scanner group.

    Args:
        rows: predictions table of one model and split, with truths.
        audited: what the audit says of the model.
        measure: what is compared, one of the audit's.
        column: grouping column of the audit; ``all`` compares all local patients with all audited ones.
        group: group that all rows belong to; None reads it from ``column``.
        margin: see :func:`margin_of`.
        notes: of the reading.

    Returns:
        Verdict, checks and notes.

    Raises:
        PredictionsError: if the classes are not those of the audit, or a group is spelt otherwise than there.
        ValueError: if there is no margin.
    """
    chosen = margin_of(measure, margin)
    if measure.name in METRICS:
        _same_classes(rows, audited)
    if column == ALL or group is not None:
        names = np.full(len(rows), group or ALL, dtype=object)
    else:
        names = np.array(group_names(rows, column), dtype=object)
    least = int(audited.plan["min_patients"])
    checks, said = [], list(notes)
    for name in sorted(set(names)):
        standard, audited_here, note = _standard(audited, measure, column, str(name))
        local = _estimate(rows[names == name], measure, least)
        check = judge(str(name), standard, local, audited_here, measure=measure, margin=chosen, least=least)
        checks.append(check)
        said += [text for text in (note, note_on_width(check, measure)) if text]
    return Acceptance(
        audited=audited,
        measure=measure,
        margin=chosen,
        column=column,
        n_patients=int(rows["patient_id"].nunique()),
        n_cases=int(rows["case_id"].nunique()),
        labels={str(k): int(n) for k, n in rows["label"].value_counts().sort_index().items()}
        if "label" in rows
        else {},
        checks=tuple(checks),
        notes=tuple(said),
    )


def _standard(audited: Audited, measure: Measure, column: str, group: str) -> tuple[str, Estimate, str | None]:
    """The audited group, its estimate, and a note where it is not the group itself."""
    everyone = audited.find(ALL, ALL, measure.name) or Estimate(0, 0, reason="no patients")
    if column == ALL:
        return ALL, everyone, None
    _same_spelling(audited.groups(column), group, column)
    found = None if group == UNKNOWN else audited.find(column, group, measure.name)
    if found is not None and found.estimable:
        return group, found, None
    if group == UNKNOWN:
        why = f"Some local studies do not say their {column}"
    elif found is None or not found.n_patients:
        why = f"{group} was not audited"
    else:
        why = f"{group} was audited with {found.n_patients} patients and has no interval ({found.reason})"
    return ALL, everyone, f"{why}: compared with all audited patients, which does not say how it does on this scanner."


def _same_spelling(known: Sequence[str], group: str, column: str) -> None:
    alike = [name for name in known if folded(name) == folded(group) and name != group]
    if alike and group not in known:
        raise PredictionsError(
            f"column {column!r} must spell groups as the audit does; {group!r} and {alike[0]!r} differ only by case, "
            f"spaces or accents; if they are one, --merge {column}:{group}={alike[0]}"
        )


def _same_classes(rows: pd.DataFrame, audited: Audited) -> None:
    here = classes_of(rows)
    if set(here) != set(audited.classes):
        raise PredictionsError(
            f"the table must have the audit's classes, {', '.join(audited.classes)}; it has {', '.join(here)}; use the "
            "predictions of the audited model, or name its columns, --column prob_CLASS=NAME"
        )


def _estimate(rows: pd.DataFrame, measure: Measure, least: int) -> Estimate:
    patients = without_gaps(pd.factorize(rows["patient_id"])[0].astype(np.int64))
    if measure.name == "auc":
        return auc_interval(labels_of(rows), probabilities_of(rows), patients, min_patients=least)
    if measure.name == "accuracy":
        right = (probabilities_of(rows).argmax(axis=1) == labels_of(rows)).astype(np.float64)
        return proportion_interval(right, patients, min_patients=least)
    return _mean(rows[measure.name].to_numpy(dtype=np.float64), patients, measure, least)


def _mean(values: FloatArray, patients: IntArray, measure: Measure, least: int) -> Estimate:
    read = ~np.isnan(values)
    bounds = (0.0, 1.0) if measure.scale == "share" else (-math.inf, math.inf)
    return mean_interval(values[read], without_gaps(patients[read]), bounds=bounds, min_patients=least)
