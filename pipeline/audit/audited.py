"""What a written audit says of one model, read back from ``audit.json``: the one place that knows its form."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.audit.findings import Measure
from pipeline.audit.layout import nearest
from pipeline.audit.records import FORMAT_VERSION
from pipeline.audit.statistics import Estimate

AUDIT = "audit.json"
NEEDED = (
    "model",
    "column",
    "group",
    "measure",
    "n_patients",
    "n_rows",
    "value",
    "low",
    "high",
    "interval",
    "reason",
    "estimable",
)
Place = tuple[str, str, str]  # column, group, measure


class AuditError(ValueError):
    """An ``audit.json`` that cannot be used; the message names the file, what came and what to do."""


@dataclass(frozen=True, eq=False)
class Audited:
    """An audit's word on one model.

    Args:
        model: its name in the audit.
        measures: by name.
        classes: of the classification; empty without one.
        group_by: grouping columns.
        estimates: (column, group, measure) -> value and interval; all patients are ``("all", "all", measure)``.
        plan: record of the plan that was followed.
        fingerprint: of that plan.
        digest: SHA-256 of the file.
        level: of the intervals.
        threshold: of the positive class, where the plan has a rule for one; None without.
    """

    model: str
    measures: Mapping[str, Measure]
    classes: tuple[str, ...]
    group_by: tuple[str, ...]
    estimates: Mapping[Place, Estimate]
    plan: Mapping[str, Any]
    fingerprint: str
    digest: str
    level: float = 0.95
    threshold: float | None = None

    def groups(self, column: str) -> tuple[str, ...]:
        """Groups of a column."""
        return tuple(dict.fromkeys(group for place, group, _ in self.estimates if place == column))

    def measure(self, name: str) -> Measure:
        """A measure by its name.

        Raises:
            AuditError: if it was not audited.
        """
        if name not in self.measures:
            raise AuditError(f"the measure must be audited; got {name!r}; {nearest(name, self.measures)}")
        return self.measures[name]

    def find(self, column: str, group: str, measure: str) -> Estimate | None:
        """Estimate of a group; None if the audit does not list it."""
        return self.estimates.get((column, group, measure))


def read_audited(path: str | Path, model: str | None = None) -> Audited:
    """Read what an audit says of one model.

    Args:
        path: ``audit.json``, or a folder that holds it, as a student package does.
        model: its name in the audit; None takes the only one that is not the reference.

    Returns:
        Its estimates and the plan behind them.

    Raises:
        FileNotFoundError: if there is no such file.
        AuditError: if it is not an audit, or the model is not named in it, or it is not clear which is meant.
    """
    file = Path(path) / AUDIT if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"an audit must exist; nothing at {file}; write it with evenbeat audit")
    raw = file.read_bytes()
    try:
        record = json.loads(raw)
        rows, plan = _rows(record), record["plan"]
        chosen = _model(rows, plan, model)
        return Audited(
            model=chosen,
            measures={measure.name: measure for measure in _measures(record)},
            classes=tuple(record["classes"]),
            group_by=tuple(plan["group_by"]),
            estimates={_place(row): _estimate(row) for row in rows if row["model"] == chosen},
            plan=plan,
            fingerprint=str(record["fingerprint"]),
            digest=hashlib.sha256(raw).hexdigest(),
            level=float(record.get("confidence", 0.95)),
            threshold=next((r["threshold"] for r in record.get("operating_points", ()) if r["model"] == chosen), None),
        )
    except AuditError as error:
        raise AuditError(f"{file}: {error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError(
            f"{file}: it must be the audit.json of an audit, as this version writes it; {type(error).__name__}: "
            f"{error}; write it again with evenbeat audit"
        ) from error


def without_cases(path: str | Path) -> bytes:
    """The numbers of an audit with nothing on a single case, for those who have no right to know one.

    Args:
        path: ``audit.json``, or a folder that holds it.
    """
    file = Path(path) / AUDIT if Path(path).is_dir() else Path(path)
    record = json.loads(file.read_bytes()) | {"worst_cases": []}
    return (json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    if record["version"] != FORMAT_VERSION:
        raise AuditError(
            f"its version must be {FORMAT_VERSION}; got {record['version']}; write it again with evenbeat audit"
        )
    rows = list(record["groups"])
    for row in rows:
        missing = [key for key in NEEDED if key not in row]
        if missing:
            raise AuditError(
                f"every row of groups needs {', '.join(NEEDED)}; one lacks {', '.join(missing)}; write it again with "
                "evenbeat audit"
            )
    return rows


def _model(rows: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], model: str | None) -> str:
    models = sorted({str(row["model"]) for row in rows})
    if model is not None and model not in models:
        raise AuditError(
            f"the model must be one that was audited; got {model!r}; "
            f"the audit has {', '.join(map(repr, models))}; say which, --model NAME"
        )
    candidates = [model] if model else [name for name in models if name != plan.get("reference_model")] or models
    if len(candidates) != 1:
        raise AuditError(
            f"one model is accepted at a time; the audit has {', '.join(map(repr, candidates)) or 'none'}; say which, "
            "--model NAME"
        )
    return str(candidates[0])


def _measures(record: Mapping[str, Any]) -> list[Measure]:
    names = [field.name for field in fields(Measure)]
    return [Measure(**{name: row[name] for name in names}) for row in record["measures"]]


def _place(row: Mapping[str, Any]) -> Place:
    return str(row["column"]), str(row["group"]), str(row["measure"])


def _estimate(row: Mapping[str, Any]) -> Estimate:
    value, low, high = (math.nan if row[key] is None else float(row[key]) for key in ("value", "low", "high"))
    count, rows = int(row["n_patients"]), int(row["n_rows"])
    if not row["estimable"]:
        return Estimate(count, rows, value, reason=str(row["reason"]))
    return Estimate(count, rows, value, low, high, str(row["interval"]))
