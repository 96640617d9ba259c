"""Findings as flat rows of plain values: what the file of numbers and the tables beside the page are made of.

Every row names model, column and group, and has a value with ``low``, ``high``, ``estimable`` and ``reason``; what is
not a number is None. ``schemas/audit.schema.json`` says what each field means, and in which order they stand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import metadata, resources
from typing import Any

from pipeline.audit.case_mix import MixRow
from pipeline.audit.findings import (
    Audit,
    CalibrationRow,
    CaseRow,
    ContrastRow,
    DifferenceRow,
    EffectRow,
    MetricRow,
    OperatingRow,
    Place,
    WorstRow,
)
from pipeline.audit.plan import SHOWN_DIGITS, as_record
from pipeline.audit.statistics import Estimate

FORMAT_VERSION = 2
SCHEMA = "schemas/audit.schema.json"
SHARES = ("sensitivity", "specificity", "ppv", "npv")
VERSIONS = ("evenbeat", "numpy", "scipy", "pandas", "statsmodels")
Record = dict[str, Any]


@cache
def schema() -> Mapping[str, Any]:
    """JSON schema of ``audit.json``."""
    return dict(json.loads(resources.files("pipeline.audit").joinpath(SCHEMA).read_text(encoding="utf-8")))


def fields(kind: str) -> list[str]:
    """Fields of one kind of row, in their order; kinds are the keys of :func:`records`."""
    return list(schema()["$defs"][kind]["properties"])


def as_json(audit: Audit) -> Record:
    """All findings as plain lists and mappings, as ``audit.json`` holds them."""
    head = {
        "version": FORMAT_VERSION,
        "created_with": versions(),
        "plan": as_record(audit.plan),
        "fingerprint": audit.plan.fingerprint[:SHOWN_DIGITS],
        "confidence": 0.95,
        "classes": list(audit.classes),
        "models": list(audit.models),
        "measures": [dict(vars(measure)) for measure in audit.measures],
        "n_patients": audit.n_patients,
        "n_cases": audit.n_cases,
        "group_names": {column: list(groups) for column, groups in audit.groups.items()},
        "notes": list(audit.notes),
    }
    return head | records(audit)


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    return {name: metadata.version(name) for name in VERSIONS}


def records(audit: Audit) -> dict[str, list[Record]]:
    """Kind -> its rows, in the order of the findings.

    Returns:
        ``groups``, ``effects``, ``contrasts``, ``worst``, ``differences``, ``calibration``, ``reliability``,
        ``operating_points``, ``case_mix`` and ``worst_cases``.
    """
    worst = {(row.model, row.column, row.measure): row for row in audit.worst}
    rows: dict[str, list[Record]] = {
        "groups": [_group(row, worst) for row in audit.rows],
        "effects": [_effect(row) for row in audit.effects],
        "contrasts": [_contrast(row) for row in audit.contrasts],
        "worst": [_worst(row) for row in audit.worst],
        "differences": [_difference(row) for row in audit.differences],
        "calibration": [_calibration(row) for row in audit.calibration],
        "reliability": [record for row in audit.calibration for record in _reliability(row)],
        "operating_points": [record for row in audit.operating for record in _operating_points(row)],
        "case_mix": [_mix(column, row) for column, rows in audit.mix.items() for row in rows],
        "worst_cases": [_case(row) for row in audit.worst_cases],
    }
    return {kind: [_finite(record) for record in found] for kind, found in rows.items()}


def _finite(record: Record) -> Record:
    """None for what is not a number."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def _place(place: Place) -> Record:
    return {"model": place.model, "column": place.column, "group": place.group}


def _estimate(found: Estimate) -> Record:
    return vars(found) | {"estimable": found.estimable}


def _prefixed(prefix: str, found: Estimate | None) -> Record:
    """Value, ends and reason of a further estimate in the same row."""
    shown = found or Estimate(0, 0)
    return {f"{prefix}_{name}": getattr(shown, name) for name in ("value", "low", "high", "reason")}


def _group(row: MetricRow, worst: Mapping[tuple[str, str, str], WorstRow]) -> Record:
    place = row.place
    of_column = worst.get((place.model, place.column, row.measure))
    frequencies = of_column.worst.frequencies if of_column and of_column.worst else {}
    shrunken = of_column.shrunken.get(place.group) if of_column else None
    standard = row.standardised
    return (
        _place(place)
        | {"measure": row.measure}
        | _estimate(row.estimate)
        | {"worst_frequency": frequencies.get(place.group)}
        | _prefixed("shrunken", shrunken.estimate if shrunken else None)
        | {"shrunken_own": shrunken.own if shrunken else None}
        | _prefixed("standardised", standard.estimate if standard else None)
        | {
            "standardised_covered": standard.covered if standard else None,
            "standardised_absent": list(standard.absent) if standard else [],
        }
    )


def _effect(row: EffectRow) -> Record:
    found = row.effect
    names = {"model": row.model, "column": row.column, "measure": row.measure}
    listed = {"groups": list(found.groups), "left_out": list(found.left_out)}
    said = ("n_patients", "design", "in_several", "in_one", "permutations", "p", "reason", "estimable")
    return names | listed | {name: getattr(found, name) for name in said}


def _contrast(row: ContrastRow) -> Record:
    found = row.contrast
    return (
        {"model": row.model, "column": row.column, "group": found.group, "measure": row.measure}
        | {"against": found.against, "design": found.design}
        | _estimate(found.difference)
        | {"p": found.p, "test": found.test, "family": found.family, "p_holm": found.p_holm, "p_bh": found.p_bh}
        | {"smallest_gap": row.smallest_gap.gap, "smallest_gap_reason": row.smallest_gap.reason}
        | {
            "patients_needed": row.needed.needed if row.needed else None,
            "patients_missing": row.needed.missing if row.needed else None,
            "patients_needed_reason": row.needed.reason if row.needed else None,
        }
    )


def _worst(row: WorstRow) -> Record:
    found, fresh = row.worst, row.fresh
    interval = row.interval or Estimate(0, 0, reason="fewer than two groups can be compared")
    return (
        {"model": row.model, "column": row.column, "group": found.group if found else None, "measure": row.measure}
        | _estimate(interval)
        | {
            "frequency": found.frequency if found else None,
            "fresh_group": fresh.group,
            "fresh_picked": fresh.picked,
            "fresh_value": fresh.fresh,
            "fresh_confirmed": fresh.confirmed,
            "left_out": list(row.left_out),
        }
    )


def _difference(row: DifferenceRow) -> Record:
    found = row.comparison
    return (
        {"model": found.first, "reference": found.second, "column": row.column, "group": found.group}
        | {"measure": found.outcome.name}
        | _estimate(found.estimate)
        | {
            "margin": found.outcome.margin,
            "p_noninferior": found.p_noninferior,
            "p_worse": found.p_worse,
            "family": found.family,
            "p_noninferior_holm": found.p_noninferior_adjusted,
            "p_worse_holm": found.p_worse_adjusted,
            "verdict": found.verdict,
        }
    )


def _calibration(row: CalibrationRow) -> Record:
    error = row.error
    return (
        _place(row.place)
        | {"measure": "brier"}
        | _estimate(row.brier)
        | {"ece": error.value, "ece_null_mean": error.null_mean, "ece_null_low": error.null_low}
        | {"ece_null_high": error.null_high, "ece_beyond_chance": error.beyond_chance, "ece_reason": error.reason}
        | _prefixed("slope", row.slope)
        | _prefixed("intercept", row.intercept)
    )


def _reliability(row: CalibrationRow) -> list[Record]:
    return [
        _place(row.place)
        | {"lower": b.lower, "upper": b.upper, "mean_probability": b.mean_probability}
        | _estimate(b.observed)
        for b in row.curve
    ]


def _operating_points(row: OperatingRow) -> list[Record]:
    """One row per share, and one for the threshold that the group would have needed."""
    point = row.point
    shares = {name: getattr(point, name) for name in SHARES} | {"needed_threshold": row.needed}
    counts = {"threshold": row.threshold, "n_positive": point.n_positive, "n_negative": point.n_negative}
    return [_place(row.place) | {"measure": name} | _estimate(e) | counts for name, e in shares.items() if e]


def _mix(column: str, row: MixRow) -> Record:
    counted = {"by": row.column, "category": row.category, "n_patients": row.n_patients, "share": row.share}
    return {"column": column, "group": row.group} | counted


def _case(row: CaseRow) -> Record:
    names = _place(row.place) | {"measure": row.measure}
    return names | {name: getattr(row, name) for name in ("case_id", "badness", "truth", "answer", "picture")}
