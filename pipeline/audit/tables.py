"""An audit in words and figures: for the console, and for whoever writes it elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.audit.assessment import ALL, Audit
from pipeline.audit.statistics import Estimate
from pipeline.tracking.group_metrics import METRICS

WORDS = {"field_strength_t": "field strength", "label": "class", ALL: "all patients"}
METRIC_WORDS = {"accuracy": "Accuracy", "auc": "AUC"}


def in_words(column: str) -> str:
    """Column name as a reader would say it: ``field strength`` for ``field_strength_t``."""
    return " and ".join(WORDS.get(part, part.replace("_", " ")) for part in column.split(" x "))


def console_table(audit: Audit) -> str:
    """The audit as aligned plain text: per group and model the patients, accuracy, AUC and how often it is the worst.

    Returns:
        Lines joined by newlines, without one at the end.
    """
    lines = [["group", "model", "patients", "accuracy [95 %]", "AUC [95 %]", "lowest accuracy"]]
    for column in (*audit.settings.group_by, ALL):
        lines.append([in_words(column)] + [""] * 5 if column != ALL else [""] * 6)
        for group in audit.groups(column):
            lines += [_console_line(audit, model, column, group) for model in audit.models]
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    texts = ["  ".join(_align(line, widths)).rstrip() for line in lines]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def _align(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if i == 2 else cell.ljust(width)  # patients
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]


def _console_line(audit: Audit, model: str, column: str, group: str) -> list[str]:
    accuracy, auc = (audit.find(model, column, group, metric) for metric in METRICS)
    name = WORDS[ALL] if column == ALL else f"  {group}"
    return [
        name,
        model,
        str(accuracy.n_patients),
        in_figures(accuracy),
        in_figures(auc),
        worst_mark(audit, model, column, group),
    ]


def in_figures(found: Estimate) -> str:
    """``0.86 [0.75, 0.94]``, ``0.67 (too few patients)`` or ``- (no patients)``."""
    value = "-" if math.isnan(found.value) else f"{found.value:.2f}"
    return f"{value} [{found.low:.2f}, {found.high:.2f}]" if found.estimable else f"{value} ({found.reason})"


def worst_mark(audit: Audit, model: str, column: str, group: str, metric: str = "accuracy") -> str:
    """``lowest, in 64 % of draws`` for the worst group, else an empty text."""
    for row in audit.worst:
        if (row.model, row.column, row.metric) == (model, column, metric) and row.worst:
            return f"lowest, in {percent(row.worst.frequency)} of draws" if row.worst.group == group else ""
    return ""


def percent(share: float) -> str:
    """``64 %``; a share that is not quite all or nothing is never rounded to it.

    Example:
        >>> percent(0.64), percent(0.9996), percent(0.001), percent(1.0)
        ('64 %', '> 99 %', '< 1 %', '100 %')
    """
    if 0 < share < 0.005:
        return "< 1 %"
    if 0.995 <= share < 1:
        return "> 99 %"
    return f"{100 * share:.0f} %"
