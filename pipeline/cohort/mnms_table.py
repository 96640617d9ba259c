"""The M&Ms information table: found by its name's pattern, read by column name, its quirks resolved."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pipeline.cohort.nifti import SetAsideError
from transforms.scanner import UNKNOWN, normalise_vendor

TABLE_PATTERN = "*M&Ms*nformation*.csv"  # releases differ in date, case and ending
REQUIRED_COLUMNS = ("External code", "Vendor", "Centre", "ED", "ES", "Pathology")
VENDOR_LETTERS: Mapping[str, str] = {"A": "Siemens", "B": "Philips", "C": "GE", "D": "Canon"}


@dataclass(frozen=True)
class MnmsRow:
    """One row of the table.

    Attributes:
        code: the study's external code.
        pathology: as written.
        vendor: by its letter.
        vendor_raw: VendorName, or the letter where there is no name.
        site: ``mnms-centre-<n>``.
        ed: end-diastole, from 0; ``None`` if not readable.
        es: end-systole, from 0; ``None`` if not readable.
        sex: ``M`` or ``F``; ``None`` if missing, as are those below.
        age: years.
        height_cm: body height [cm].
        weight_kg: body weight [kg].
    """

    code: str
    pathology: str
    vendor: str
    vendor_raw: str
    site: str
    ed: int | None
    es: int | None
    sex: str | None
    age: float | None
    height_cm: float | None
    weight_kg: float | None


def find_table(
    root: Path,
    *,
    pattern: str = TABLE_PATTERN,
    required: Sequence[str] = REQUIRED_COLUMNS,
    folder: str = "OpenDataset",
) -> tuple[Path, int]:
    """Find the table in ``root`` or in one of its folders.

    Args:
        root: the data set's folder, or one that contains it.
        pattern: of the table's name.
        required: columns that it must have.
        folder: what the data set's folder is called, for messages.

    Returns:
        The table of the newest release (a name begins with YYMMDD) that has the columns, else the newest; and how many
        tables stand beside it.

    Raises:
        FileNotFoundError: if there is none, or no ``root``.
        ValueError: if several folders hold one.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}; give the folder {folder}")
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = {place: sorted(place.glob(pattern), key=_release, reverse=True) for place in folders}
    found = {place: tables for place, tables in found.items() if tables}
    if not found:
        raise FileNotFoundError(f"no table {pattern!r} in {root} or its folders; give the folder {folder}")
    if root not in found and len(found) > 1:
        raise ValueError(f"tables stand in several folders of {root}: {[f.name for f in found]}; give one of them")
    tables = found.get(root) or next(iter(found.values()))
    return next((table for table in tables if set(required) <= set(_columns(table))), tables[0]), len(tables)


def read_table(
    path: Path, *, required: Sequence[str] = REQUIRED_COLUMNS, remedy: str = "use the release with diagnoses"
) -> list[dict[str, str]]:
    """Rows of the table by column name; empty rows are dropped as they are read: a spreadsheet may add a million.

    Raises:
        ValueError: if a column is missing; those found are named.
    """
    with _open(path) as lines:
        reader = csv.reader(lines)
        columns = [name.strip() for name in next(reader, [])]
        empty = dict.fromkeys(columns, "")
        filled = (cells for cells in reader if any(cells))
        rows = [empty | dict(zip(columns, map(str.strip, cells), strict=False)) for cells in filled]
    missing = [name for name in required if name not in columns]
    if missing:
        raise ValueError(
            f"{path.name} must have the columns {missing}; it has {[name for name in columns if name]}; {remedy}"
        )
    return [row for row in rows if any(row.get(name) for name in required)]


def parse_row(row: Mapping[str, str]) -> MnmsRow:
    """Read one row.

    Raises:
        SetAsideError: if the vendor's letter is not known, or its name says another vendor.
    """
    letter, name = row["Vendor"].upper(), row.get("VendorName", "")
    if letter not in VENDOR_LETTERS:
        raise SetAsideError(f"vendor letter is not known: {row['Vendor']!r}")
    vendor = VENDOR_LETTERS[letter]
    if name and normalise_vendor(name) != vendor:
        raise SetAsideError(f"vendor letter and name contradict each other: {letter} is {vendor}, not {name!r}")
    sex = row.get("Sex", "").upper()[:1]
    return MnmsRow(
        code=row["External code"],
        pathology=row["Pathology"],
        vendor=vendor,
        vendor_raw=name or letter,
        site=_site(row["Centre"]),
        ed=_phase(row["ED"]),
        es=_phase(row["ES"]),
        sex=sex if sex in {"M", "F"} else None,
        age=_positive(row.get("Age")),
        height_cm=_positive(row.get("Height")),
        weight_kg=_positive(row.get("Weight")),
    )


def _open(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _columns(path: Path) -> list[str]:
    with _open(path) as lines:
        return [name.strip() for name in next(csv.reader(lines), [])]


def _release(path: Path) -> tuple[str, str]:
    date = re.match(r"\d{6}", path.name)
    return (date.group() if date else "", path.name)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _positive(text: str | None) -> float | None:
    number = _number(text)
    return number if 0 < number < math.inf else None


def _phase(text: str) -> int | None:
    number = _number(text)
    return int(number) if number.is_integer() and number >= 0 else None


def _site(text: str) -> str:
    number = _phase(text)
    return UNKNOWN if number is None else f"mnms-centre-{number}"
