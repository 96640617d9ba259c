"""Names of groups as they stand in tables: spellings that may mean the same, agreed mergers, age bands.

Two spellings of one scanner make two groups, each with too few patients; two scanners under one name hide the worse
one. Which of these it is, the table does not say, so it is asked.
"""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.tracking.predictions import UNKNOWN, PredictionsError, refuse_rows

LARGEST_AGE = 130  # years
_NOT_SEEN = {"Mn", "Cf", "Cc"}  # accents, marks without width, control characters


@dataclass(frozen=True)
class Spelling:
    """One way in which a group is written: where first (first data row = 1), and in how many rows."""

    name: str
    table: str
    row: int
    rows: int

    def __str__(self) -> str:
        return f"{self.name!r} ({self.table} row {self.row}; {self.rows} {'row' if self.rows == 1 else 'rows'})"


def folded(name: str) -> str:
    """A name without case, accents, spaces and what cannot be seen.

    Example:
        >>> folded("Hôpital  Sainte-Justine ") == folded("hopital sainte-justine")
        True
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if not c.isspace() and unicodedata.category(c) not in _NOT_SEEN)


def merge_names(values: pd.Series[Any], merge: Mapping[str, str], *, empty: str = UNKNOWN) -> pd.Series[Any]:
    """Put the agreed name in place of each that is to be merged.

    Args:
        values: ``(n,)`` text, as it stands in the table.
        merge: name -> the one to use. A name is looked up as it stands, then without the spaces around it.
        empty: name of rows without one.

    Returns:
        ``(n,)`` text; other names as they stand.

    Example:
        >>> merge_names(pd.Series(["ge", "GE", ""]), {"ge": "GE"}).tolist()
        ['GE', 'GE', 'unknown']
    """
    codes, names = pd.factorize(values)
    agreed = [merge.get(name, merge.get(name.strip(), name if name.strip() else empty)) for name in names]
    return pd.Series(np.array(agreed, dtype=object)[codes], index=values.index, dtype="str")


def check_spellings(tables: Mapping[str, pd.DataFrame], column: str, merge: Mapping[str, str]) -> None:
    """Refuse names that differ only by case, spaces or accents, over all tables.

    Args:
        tables: file -> table; those without the column are passed over.
        column: of text, after :func:`merge_names`.
        merge: what was agreed; a name that stands for itself there is meant as it is.

    Raises:
        PredictionsError: naming every spelling, where it stands first, and how to say what is meant.
    """
    alike: dict[str, dict[str, Spelling]] = {}
    for spelling in _spellings(tables, column):
        if merge.get(spelling.name) != spelling.name:
            alike.setdefault(folded(spelling.name), {}).setdefault(spelling.name, spelling)
    for spellings in alike.values():
        if len(spellings) > 1:
            _ask(column, sorted(spellings.values(), key=lambda spelling: -spelling.rows))


def _spellings(tables: Mapping[str, pd.DataFrame], column: str) -> Iterator[Spelling]:
    for table, frame in tables.items():
        if column in frame:
            codes, names = pd.factorize(frame[column])
            rows = np.unique(codes, return_index=True)[1]
            for name, row, count in zip(names, rows, np.bincount(codes), strict=True):
                yield Spelling(str(name), table, int(row) + 1, int(count))


def _ask(column: str, spellings: Sequence[Spelling]) -> None:
    names = [spelling.name for spelling in spellings]
    usual, *others = dict.fromkeys(name.strip() for name in names)
    one = merge_options(column, {name: usual for name in names if name != usual})
    apart = f", or that they are not, {merge_options(column, {name: name for name in others})}" if others else ""
    raise PredictionsError(
        f"column {column!r} must spell each group in one way; {' and '.join(map(str, spellings))} differ only by case, "
        f"spaces or accents; say that they are one, {one}{apart}"
    )


def merge_options(column: str, names: Mapping[str, str]) -> str:
    """Mergers as they are written on the command line.

    Example:
        >>> merge_options("vendor", {"ge": "GE", "GE Healthcare": "GE"})
        "--merge vendor:ge=GE --merge 'vendor:GE Healthcare=GE'"
    """
    return " ".join(f"--merge {shlex.quote(f'{column}:{old}={new}')}" for old, new in names.items())


def age_bands(values: pd.Series[Any], edges: Sequence[int]) -> pd.Series[Any]:
    """Band of each age; the exact age is not kept.

    Args:
        values: ``(n,)``, age [years]; empty or missing counts as unknown.
        edges: increasing, whole years from 1; a band begins at its edge.

    Returns:
        ``(n,)`` text, ``0-39``, ``40-59``, ``60+`` for the edges 40 and 60, or ``unknown``.

    Raises:
        PredictionsError: if a value is no age.

    Example:
        >>> age_bands(pd.Series([39.9, 40, 59, 60, None]), (40, 60)).tolist()
        ['0-39', '40-59', '40-59', '60+', 'unknown']
    """
    empty = values.isna() | (values.astype("str").str.strip() == "")
    years = pd.to_numeric(values.mask(empty), errors="coerce").astype("float64")
    bad = ~empty & ~((years >= 0) & (years <= LARGEST_AGE))
    must = f"an age in years, 0 to {LARGEST_AGE}, or nothing"
    refuse_rows(values.astype("str"), bad, "age", must, "write a number such as 63, or leave the cell empty")
    starts = [0, *edges]
    names = [f"{start}-{end - 1}" for start, end in zip(starts, edges, strict=False)] + [f"{starts[-1]}+"]
    band = np.searchsorted(edges, years.fillna(0).to_numpy(), side="right")
    return pd.Series(np.array(names, dtype=object)[band], index=values.index, dtype="str").mask(empty, UNKNOWN)
