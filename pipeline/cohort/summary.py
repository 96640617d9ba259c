"""What came into a datalist, what did not, and why: the lines that are printed after an import."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pipeline.cohort.case import SECTIONS, Case, Datalist, group_of

REASON_DETAIL = ": "
NO_LABEL = "no label"


def summary_lines(datalist: Datalist) -> list[str]:
    """Describe a datalist.

    Returns:
        For each section that holds a case a table of group x class, every group that occurs anywhere in the datalist
        included (n = 0); then how many were set aside, by reason; then the notes.
    """
    return [*section_lines(datalist), *_set_aside_lines(datalist), *note_lines(datalist.notes)]


def section_lines(datalist: Datalist) -> list[str]:
    """The first part of :func:`summary_lines`: for each section that holds a case a table of group x class.

    Where a case has no label, a column counts those; where none has one, the classes have no columns.
    """
    lines = [f"{datalist.source}: {_count(case for _, case in datalist.cases())}"]
    columns = _row_columns(datalist.group_by)
    groups = sorted({group_of(case, columns) for _, case in datalist.cases()})
    labels = {case.label for _, case in datalist.cases()}
    classes = [*(datalist.classes if any(labels) else ()), *([""] if "" in labels else [])]
    for section in SECTIONS:
        cases = datalist.sections[section]
        lines += ["", f"{section}: {_count(cases)}", *(_table(cases, columns, groups, classes) if cases else [])]
    return lines


def note_lines(notes: Sequence[str]) -> list[str]:
    """The last part of :func:`summary_lines`."""
    return ["", "notes", *(f"  {note}" for note in notes)] if notes else []


def set_aside_counts(datalist: Datalist) -> dict[str, int]:
    """How many studies were set aside for each reason, most frequent first; details are dropped."""
    reasons = (item["reason"].split(REASON_DETAIL)[0] for item in datalist.set_aside)
    return dict(Counter(reasons).most_common())


def _row_columns(group_by: Sequence[str]) -> list[str]:
    """Columns of a row's name; the label has its own columns in the table."""
    return [column for column in group_by if column != "label"] or ["vendor"]


def _table(cases: Sequence[Case], columns: Sequence[str], groups: Sequence[str], classes: Sequence[str]) -> list[str]:
    counts = Counter((group_of(case, columns), case.label) for case in cases)
    rows = [["", *(name or NO_LABEL for name in classes), "all"]]
    for group in groups:
        cells = [counts[group, label] for label in classes]
        rows.append([group, *map(str, cells), str(sum(cells))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + _row(row, widths) for row in rows]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = cells
    padded = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
    return "  ".join([name.ljust(widths[0]), *padded])


def _set_aside_lines(datalist: Datalist) -> list[str]:
    counts = set_aside_counts(datalist)
    head = f"set aside: {len(datalist.set_aside)} (each with its reason in the datalist)"
    return ["", head, *(f"  {n:4d}  {reason}" for reason, n in counts.items())] if counts else ["", "set aside: 0"]


def _count(cases: Iterable[Case]) -> str:
    cases = list(cases)
    n_patients = len({case.patient_id for case in cases})
    return f"{_plural(len(cases), 'case')} of {_plural(n_patients, 'patient')}"


def _plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"
