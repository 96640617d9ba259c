"""Labels for DICOM studies: a table that somebody made by hand, checked before it is believed.

Messages name rows and columns by number and never quote a cell: a table of patients without its header would
otherwise be printed.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.cohort.validation import SEXES
from pipeline.dicom.frame_fields import OLDEST_YEARS

KEYS = ("patient_id", "study_uid", "case_id")
COLUMNS = (*KEYS, "label", "sex", "age")
DELIMITERS = (",", ";")
OLDEST_BELIEVED = 130.0
SHOWN_ROWS = 5
PSEUDONYM = re.compile(r"patient-[0-9a-f]{12}")

Cells = Mapping[str, str]


@dataclass(frozen=True)
class Label:
    """One row of the table.

    Attributes:
        row: its number in the file; the header is row 1.
        key: the pseudonym of the patient or the study that it is about.
        label: class name; empty if the cell is.
        sex: ``M``, ``F`` or ``O``; ``None`` if not given.
        age: years, at most 90; ``None`` if not given.
    """

    row: int
    key: str
    label: str
    sex: str | None = None
    age: float | None = None


@dataclass
class Labels:
    """A table of labels, asked study by study; it remembers which rows were of use.

    Args:
        rows: the rows, no key twice.
    """

    rows: Sequence[Label]
    used: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._by_key = {row.key: row for row in self.rows}

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that occur, sorted."""
        return tuple(sorted({row.label for row in self.rows if row.label}))

    def of(self, *, patient: str, case_id: str) -> Label | None:
        """Row of a study.

        Args:
            patient: pseudonym of its patient.
            case_id: pseudonym of the study.

        Returns:
            The row of the study or of its patient, whichever the table has; ``None`` if it has neither.
        """
        key = case_id if case_id in self._by_key else patient
        found = self._by_key.get(key)
        self.used |= {key} if found else set()
        return found

    def notes(self) -> list[str]:
        """What a reader should know of the table: rows without a study, rows without a label."""
        idle = sum(row.key not in self.used for row in self.rows)
        bare = sum(not row.label for row in self.rows)
        found = []
        if idle:
            found.append(
                f"labels: {_rows(idle)} of {len(self.rows)} without a study that came in; "
                "identifiers must be spelt as in DICOM, leading zeros included"
            )
        return found + ([f"labels: {_rows(bare)} without a label"] if bare else [])


def read_labels(path: str | Path, *, patient: Callable[[str], str], study: Callable[[str], str]) -> Labels:
    """Read a table of labels.

    Args:
        path: CSV, comma or semicolon, UTF-8 with or without byte order mark. Columns: one of ``patient_id`` (as in
            DICOM, or the pseudonym), ``study_uid`` (StudyInstanceUID) and ``case_id`` (as printed); ``label``;
            optional ``sex`` (M, F, O) and ``age`` (years). Further columns are not read.
        patient: from a PatientID to its pseudonym.
        study: from a StudyInstanceUID to its pseudonym.

    Returns:
        The labels. Of the identifiers only pseudonyms are kept.

    Raises:
        FileNotFoundError: if there is no file at ``path``.
        ValueError: if the header or a row breaks a rule; the message names rows and columns by their number.
    """
    header, rows = _table(Path(path))
    columns = _columns(header)
    key = next(name for name in KEYS if name in columns)
    makers: dict[str, Callable[[str], str]] = {
        "patient_id": lambda raw: patient_key(raw, patient),
        "study_uid": study,
        "case_id": str,
    }
    cells = [(number, _cells(row, columns)) for number, row in rows]
    _check_cells(cells, key)
    found = [_label(number, row, _pseudonym(makers[key], number, row[key])) for number, row in cells]
    _check_unique(found, key)
    if not any(row.label for row in found):
        raise ValueError("the table of labels must hold at least one label; its column 'label' is empty; fill it")
    return Labels(found)


def patient_key(raw: str, patient: Callable[[str], str]) -> str:
    """Pseudonym of a patient, from a PatientID or from the pseudonym itself.

    Args:
        raw: either.
        patient: makes the pseudonym of a PatientID.
    """
    return raw if PSEUDONYM.fullmatch(raw) else patient(raw)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and the rows that hold something, with their numbers."""
    if not path.is_file():
        raise FileNotFoundError(f"no table of labels at {path}; give the path of a CSV file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[cell.strip() for cell in row] for row in reader]
    except (UnicodeDecodeError, csv.Error):  # their messages may quote the text
        raise ValueError("the table of labels must be plain text in UTF-8; save it as 'CSV UTF-8'") from None
    header = [name.lower() for name in rows[0]] if rows else []
    return header, [(number, row) for number, row in enumerate(rows[1:], start=2) if any(row)]


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Place of each column that is read.

    Raises:
        ValueError: if a column is missing, misspelt, or given twice.
    """
    for name in COLUMNS:
        if header.count(name) > 1:
            raise ValueError(f"the table of labels must have one column {name!r}; it has several; remove all but one")
    keys = [name for name in KEYS if name in header]
    if len(keys) > 1:
        raise ValueError(f"the table of labels must say in one column whom a row is about; it has {keys}; keep one")
    if "label" not in header:
        raise ValueError(_missing("'label'", ("label",), header))
    if not keys:
        raise ValueError(_missing("'patient_id' (or 'study_uid', or 'case_id')", KEYS, header))
    for name in ("sex", "age"):
        if name not in header and (place := _alike((name,), header)):
            raise ValueError(f"column {place} of the table of labels looks like {name!r} misspelt; rename it")
    return {name: header.index(name) for name in COLUMNS if name in header}


def _missing(wanted: str, names: Sequence[str], header: Sequence[str]) -> str:
    place = _alike(names, header)
    remedy = f"column {place} looks like it misspelt: rename it" if place else _first_row(header)
    return f"the table of labels must have a column {wanted}; {_columns_found(len(header))}; {remedy}"


def _columns_found(n: int) -> str:
    return "its only column has another name" if n == 1 else f"none of its {n} columns has that name"


def _first_row(header: Sequence[str]) -> str:
    if len(header) == 1:
        return "separate columns by commas or semicolons, and name them in the first row: patient_id,label"
    return "name the columns in the first row: patient_id,label"


def _alike(names: Sequence[str], header: Sequence[str]) -> int | None:
    """Number, from 1, of a column whose name is nearly one of ``names``; header cells are never quoted."""
    unknown = {name: place for place, name in enumerate(header, start=1) if name not in COLUMNS}
    close = [match for name in names for match in difflib.get_close_matches(name, unknown, n=1, cutoff=0.75)]
    return unknown[close[0]] if close else None


def _cells(row: Sequence[str], columns: Mapping[str, int]) -> dict[str, str]:
    return {name: row[place] if place < len(row) else "" for name, place in columns.items()}


def _check_cells(rows: Sequence[tuple[int, Cells]], key: str) -> None:
    rules: tuple[tuple[str, Callable[[str], bool], str], ...] = (
        (key, bool, "must not be empty; fill it, or remove the row"),
        ("sex", lambda text: not text or text.upper() in SEXES, f"must be one of {', '.join(SEXES)}, or empty"),
        ("age", lambda text: not text or _years(text) is not None, "must be a number of years, or empty"),
    )
    for name, rule, must in rules:
        broken = [number for number, row in rows if name in row and not rule(row[name])]
        if broken:
            raise ValueError(f"table of labels, {_numbered(broken)}: {name} {must}")


def _label(number: int, row: Cells, key: str) -> Label:
    sex, age = row.get("sex", ""), _years(row.get("age", ""))
    return Label(number, key, row["label"], sex.upper() or None, None if age is None else min(age, OLDEST_YEARS))


def _check_unique(rows: Sequence[Label], key: str) -> None:
    """Refuse what stands twice: equal rows may be a mistake of the identifiers, unlike ones contradict each other."""
    for first, second in _pairs(rows):
        says = "the same" if first.label == second.label else "unlike labels"
        raise ValueError(
            f"table of labels, rows {first.row} and {second.row}: they hold the same {key} with {says}; "
            "one row for each: remove one"
        )


def _pairs(rows: Sequence[Label]) -> Iterator[tuple[Label, Label]]:
    seen: dict[str, Label] = {}
    for row in rows:
        if row.key in seen:
            yield seen[row.key], row
        seen[row.key] = row


def _years(text: str) -> float | None:
    try:
        years = float(text.replace(",", "."))
    except ValueError:
        return None
    return years if math.isfinite(years) and 0 < years <= OLDEST_BELIEVED else None


def _pseudonym(make: Callable[[str], str], number: int, raw: str) -> str:
    try:
        return make(raw)
    except ValueError:  # a word such as "anonymous" names nobody
        raise ValueError(f"table of labels, row {number}: the identifier names nobody; correct or remove it") from None


def _numbered(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:SHOWN_ROWS]))
    more = f" and {len(numbers) - SHOWN_ROWS} more" if len(numbers) > SHOWN_ROWS else ""
    return f"row {shown}" if len(numbers) == 1 else f"rows {shown}{more}"


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"
