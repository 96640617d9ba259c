"""An audit as plain text, for the console."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.audit.design import WITHIN
from pipeline.audit.findings import ALL, Audit
from pipeline.audit.statistics import Estimate
from pipeline.audit.words import WORDS, Digits, digits_of, in_words, percent

PATIENTS = 2  # position of the column that is aligned to the right


def console_table(audit: Audit) -> str:
    """The audit as aligned text: per group and model the patients, every measure, and of which it is the worst.

    A column whose groups are compared within patients says so; others are compared between them.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    digits = {m.name: digits_of(m, (r.estimate for r in audit.rows if r.measure == m.name)) for m in audit.measures}
    heads = [f"{m.words} [95 %]" + (f" {m.unit}" if m.unit else "") for m in audit.measures]
    lines = [["group", "model", "patients", *heads, "worst of its column"]]
    for column in audit.columns:
        lines.append([_heading(audit, column)])
        lines += [
            _line(audit, model, column, group, digits) for group in audit.groups[column] for model in audit.models
        ]
    lines.append([""])
    lines += [_line(audit, model, ALL, ALL, digits) for model in audit.models]
    widths = [max(len(line[i]) for line in lines if len(line) > 1) for i in range(len(lines[0]))]
    texts = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def _heading(audit: Audit, column: str) -> str:
    """The column, and that its groups are compared in the same patients where they are."""
    return f"{in_words(column)}, {WITHIN}" if WITHIN in audit.designs(column) else in_words(column)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if i == PATIENTS else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=len(line) > 1))
    ]


def _line(audit: Audit, model: str, column: str, group: str, digits: dict[str, Digits]) -> list[str]:
    found = {measure.name: audit.find(model, column, group, measure.name) for measure in audit.measures}
    return [
        WORDS[ALL] if column == ALL else f"  {group}",
        model,
        str(max(one.n_patients for one in found.values())),
        *(in_figures(one, digits[name]) for name, one in found.items()),
        worst_marks(audit, model, column, group),
    ]


def in_figures(found: Estimate, digits: Digits) -> str:
    """``0.86 [0.75, 0.94]``, ``0.67 (too few patients)`` or ``- (no patients)``."""
    value = "-" if math.isnan(found.value) else digits.value(found.value)
    if not found.estimable:
        return f"{value} ({found.reason})"
    return f"{value} [{digits.value(found.low)}, {digits.value(found.high)}]"


def worst_marks(audit: Audit, model: str, column: str, group: str) -> str:
    """``Accuracy (in 64 % of draws)`` and further measures by which this group is the worst; else an empty text."""
    marks = [
        f"{audit.measure(row.measure).words} (in {percent(row.worst.frequency)} of draws)".replace("\u00a0", " ")
        for row in audit.worst
        if (row.model, row.column) == (model, column) and row.worst is not None and row.worst.group == group
    ]
    return ", ".join(marks)
