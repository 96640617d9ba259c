"""Everything that is written of an audit: the page, the numbers, tables for a spreadsheet, a model card."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.audit.findings import Audit
from pipeline.audit.model_card import model_card
from pipeline.audit.page import render
from pipeline.audit.records import Record, as_json, fields
from pipeline.files import atomic_path

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the beginning of one
TABLES = {
    "groups.csv": "groups",
    "effects.csv": "effects",
    "contrasts.csv": "contrasts",
    "worst.csv": "worst",
    "differences.csv": "differences",
    "calibration.csv": "calibration",
    "reliability.csv": "reliability",
    "operating_points.csv": "operating_points",
    "case_mix.csv": "case_mix",
    "worst_cases.csv": "worst_cases",
}


def write_report(audit: Audit, folder: str | Path, *, title: str | None = None, note: str | None = None) -> None:
    """Write ``audit.html``, ``audit.json``, ``model_card.md`` and a CSV for every kind of finding.

    All are made before the first is written, and each is complete or absent. The same findings give the same bytes.

    Args:
        audit: the findings.
        folder: made if absent.
        title: headline of the page; None for a plain one.
        note: a sentence or two about the data, shown below the headline.
    """
    numbers = as_json(audit)
    texts = {name: as_csv(numbers[kind], fields(kind)) for name, kind in TABLES.items()}
    texts["model_card.md"] = model_card(audit, title=title, note=note)
    texts["audit.html"] = render(audit, title=title, note=note)
    texts["audit.json"] = json.dumps(numbers, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        with atomic_path(Path(folder) / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


def as_csv(rows: Sequence[Record], columns: Sequence[str]) -> str:
    r"""Rows as CSV in full precision; None is an empty cell, a list is joined by semicolons.

    A text that a spreadsheet would take for a formula, such as a group's name ``=1+1`` or ``-`` from somebody's table,
    has an apostrophe before it. Numbers stay numbers, negative ones too; ``audit.json`` has every name as it is.

    Args:
        rows: one kind of :func:`~pipeline.audit.records.records`.
        columns: its fields, the heading even of a table without rows.

    Example:
        >>> as_csv([{"group": "GE", "low": None, "left_out": ["UIH", "Canon"]}], ["group", "low", "left_out"])
        'group,low,left_out\nGE,,UIH; Canon\n'
        >>> as_csv([{"group": "=1+1", "low": -0.5}], ["group", "low"])
        "group,low\n'=1+1,-0.5\n"

    Source: OWASP, CSV Injection.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    shown = "; ".join(map(str, value)) if isinstance(value, list) else value
    return f"'{shown}" if isinstance(shown, str) and shown.startswith(FORMULA) else shown
