"""One file of somebody's table: its columns' names, and the values of those that are asked for.

CSV may be separated by commas, semicolons or tabs. Every row must have as many fields as the header: a decimal comma
in a file separated by commas moves all values behind it by one column, and would be read as somebody else's.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.tracking.predictions import PredictionsError

SEPARATORS = ("\t", ";", ",")  # of equals, the first: a comma may be part of a name
WORDS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
SPREADSHEETS = frozenset({".xlsx", ".xls", ".xlsm", ".ods", ".numbers"})
DECIMAL_COMMA = r"^\s*([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)\s*$"


@dataclass(frozen=True)
class TableFile:
    """A file and its header.

    Args:
        path: CSV or Parquet.
        columns: names, without the spaces around them.
        separator: of a CSV; None for Parquet.
    """

    path: Path
    columns: tuple[str, ...]
    separator: str | None

    @property
    def decimal_commas(self) -> bool:
        """True if a comma can only be a decimal mark."""
        return self.separator in {"\t", ";"}


def open_table(path: str | Path) -> TableFile:
    """Read the header of a file.

    Args:
        path: ``.parquet``, or ``.csv``, ``.tsv``, ``.txt`` in UTF-8.

    Raises:
        FileNotFoundError: if the file is absent.
        PredictionsError: if it has another suffix, or no header.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"a table must exist; nothing at {path}; check the path")
    if path.suffix.lower() == ".parquet":
        return TableFile(path, tuple(_parquet(path, None).column_names), None)
    if path.suffix.lower() in SPREADSHEETS:
        raise PredictionsError(f"a table must be text or Parquet; got {path.name!r}; save it as CSV in UTF-8")
    if path.suffix.lower() not in {".csv", ".tsv", ".txt"}:
        raise PredictionsError(f"a table must end in .csv, .tsv, .txt or .parquet; got {path.name!r}; rename it")
    return _header(path)


def _header(path: Path) -> TableFile:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = {mark: _first_row(stream, mark) for mark in SEPARATORS}
    except (UnicodeDecodeError, csv.Error):
        raise PredictionsError("a CSV must be text in UTF-8; it is not; save it as 'CSV UTF-8'") from None
    separator = max(rows, key=lambda mark: len(rows[mark]))
    header = tuple(name.strip() for name in rows[separator])
    if not any(header):
        raise PredictionsError("a CSV must begin with the names of its columns; it is empty; export it again")
    return TableFile(path, header, separator)


def _first_row(stream: io.TextIOWrapper, separator: str) -> list[str]:
    stream.seek(0)
    return next((row for row in csv.reader(stream, delimiter=separator) if row), [])


def read_columns(file: TableFile, names: Iterable[str]) -> pd.DataFrame:
    """Values of some columns; no other value of the file is kept.

    Args:
        file: from :func:`open_table`.
        names: columns of it.

    Returns:
        ``(n, names)``, each column once: text from a CSV (nothing counts as missing but an empty cell, which is an
        empty text), any type from Parquet.

    Raises:
        PredictionsError: if a column is there twice, a row of a CSV has more or fewer fields than the header, or the
            file cannot be read; no value of the file is shown.
    """
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if file.columns.count(name) > 1:
            raise PredictionsError(f"column {name!r} must appear once; it appears more often; rename or remove one")
    table = _parquet(file.path, wanted) if file.separator is None else _csv(file, file.separator, wanted)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)[wanted]
    return frame


def _parquet(path: Path, names: list[str] | None) -> Any:  # noqa: ANN401 - a pyarrow.Table, which has no types
    import pyarrow
    import pyarrow.parquet

    try:
        if names is None:
            return pyarrow.parquet.read_schema(path).empty_table()
        return pyarrow.parquet.read_table(path, columns=names)
    except (pyarrow.ArrowException, OSError):
        raise PredictionsError("a file .parquet must be in Parquet; it is not; export it again") from None


def _csv(file: TableFile, separator: str, names: list[str]) -> Any:  # noqa: ANN401 - a pyarrow.Table
    import pyarrow
    from pyarrow import csv as arrow_csv

    raw = file.path.read_bytes()
    if raw.count(b'"') % 2:
        raise PredictionsError('each quotation mark (") must be closed; one is not; export the table again')
    odd: list[Any] = []

    def leave_out(row: object) -> str:
        odd.append(row)
        return "skip"

    positions = [str(file.columns.index(name)) for name in names]
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(raw),
            read_options=arrow_csv.ReadOptions(
                column_names=[str(i) for i in range(len(file.columns))], skip_rows_after_names=1, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=leave_out
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=positions, column_types=dict.fromkeys(positions, pyarrow.string())
            ),
        )
    except pyarrow.ArrowInvalid:
        raise PredictionsError("a CSV must be text in UTF-8, in rows; it is not; save it as 'CSV UTF-8'") from None
    if odd:
        first, marks = odd[0], WORDS[separator]
        raise PredictionsError(
            f"every row must have as many fields as the header, {first.expected_columns} separated by {marks}; row "
            f"{first.number - 1} has {first.actual_columns} ({len(odd)} such rows); put values that have {marks} in "
            "them into quotes, and separate numbers with decimal commas by semicolons"
        )
    return table.rename_columns(names)


def with_decimal_points(values: pd.Series[Any]) -> pd.Series[Any]:
    """Spell ``0,93`` as ``0.93`` in a column that has no decimal point; with both, nothing is changed.

    Example:
        >>> with_decimal_points(pd.Series(["0,93", "1", ""])).tolist()
        ['0.93', '1', '']
        >>> with_decimal_points(pd.Series(["0,93", "0.5"])).tolist()
        ['0,93', '0.5']
    """
    if values.str.contains(".", regex=False).any():
        return values
    return values.str.replace(re.compile(DECIMAL_COMMA), r"\1.\2", regex=True)


def as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """Values as text: a missing one empty, a whole number without ``.0``, as it stands in other files.

    Example:
        >>> as_text(pd.Series([7.0, None, 12345678.0])).tolist()
        ['7', '', '12345678']
    """
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("str").mask(values.isna(), "")
