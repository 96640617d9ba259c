"""The predictions table: one row per study and model, the only thing an audit needs to know.

Columns ``case_id, patient_id, site, vendor, scanner, field_strength_t, label, prob_<class>…, split, model``; others are
kept. The order of the ``prob_`` columns is the order of the classes: with two, the second is the positive one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.files import atomic_path

PREFIX = "prob_"
GROUP_COLUMNS = ("site", "vendor", "scanner")
REQUIRED = ("case_id", "patient_id", *GROUP_COLUMNS, "field_strength_t", "label", "split", "model")
TEXT = tuple(column for column in REQUIRED if column != "field_strength_t")
ROUNDING = 0.005  # of a probability that was written with two decimals
UNKNOWN = "unknown"


class PredictionsError(ValueError):
    """A predictions table that cannot be used; the message names column, row, value and remedy."""


def predictions_frame(
    records: Iterable[Mapping[str, Any]],
    probabilities: ArrayLike,
    classes: Sequence[str],
    *,
    split: str,
    model: str,
) -> pd.DataFrame:
    """Build a table from what is known of each study and what one model said of it.

    Args:
        records: one per study, with ``case_id, patient_id, label`` (class name) and, where known, ``site, vendor,
            scanner, field_strength_t``; absent or None counts as unknown. Other keys are left out.
        probabilities: ``(n, C)``, each row summing to 1.
        classes: ``C`` names, in the order of the columns.
        split: e.g. ``test``.
        model: e.g. ``teacher``.

    Returns:
        Validated table.

    Raises:
        PredictionsError: if the counts disagree or a value is not allowed.
    """
    listed, scores = list(records), np.asarray(probabilities, dtype=np.float64)
    if scores.shape != (len(listed), len(classes)):
        raise PredictionsError(
            f"probabilities must be (studies, classes) = ({len(listed)}, {len(classes)}); got {scores.shape}; "
            "pass one row per study and one column per class"
        )
    frame = pd.DataFrame({column: [record.get(column) for record in listed] for column in REQUIRED[:-2]})
    for position, name in enumerate(classes):
        frame[PREFIX + name] = scores[:, position]
    return validate(frame.assign(split=split, model=model))


def classes_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Class names, in the order of the ``prob_`` columns."""
    return tuple(str(column).removeprefix(PREFIX) for column in frame.columns if str(column).startswith(PREFIX))


def probabilities_of(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Probabilities ``(n, C)`` in the order of :func:`classes_of`."""
    return frame[[PREFIX + name for name in classes_of(frame)]].to_numpy(dtype=np.float64)


def labels_of(frame: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Class indices ``(n,)`` in the order of :func:`classes_of`."""
    codes = {name: code for code, name in enumerate(classes_of(frame))}
    return np.array([codes[label] for label in frame["label"]], dtype=np.int64)


def group_names(frame: pd.DataFrame, column: str) -> list[str]:
    """Name of each row's group in words: ``GE``, ``1.5 T``, ``unknown``; several columns as ``vendor x label``.

    Args:
        frame: predictions table.
        column: a column, or several joined by ``" x "``.

    Returns:
        ``(n,)`` names, printable characters only.

    Raises:
        PredictionsError: if the table has no such column.
    """
    parts = [part.strip() for part in column.split(" x ")]
    missing = [part for part in parts if part not in frame.columns]
    if missing:
        raise PredictionsError(
            f"groups are made of columns of the table; it has no column {missing[0]!r}; "
            f"choose among {', '.join(map(str, frame.columns))}"
        )
    first, *others = (_named(frame[part], part) for part in parts)
    for other in others:
        first = first + " x " + other
    return list(first)


def _named(values: pd.Series[Any], column: str) -> np.ndarray[Any, np.dtype[np.object_]]:
    codes, different = pd.factorize(values, use_na_sentinel=False)
    return np.array([_in_words(value, column) for value in different], dtype=object)[codes]


def _in_words(value: str | float | None, column: str) -> str:
    if pd.isna(value) or not str(value).strip():
        return UNKNOWN
    if column == "field_strength_t":
        return f"{float(str(value)):g} T"
    return "".join(c if c.isprintable() else " " for c in str(value)).strip()


def write_predictions(frame: pd.DataFrame, path: str | Path, *, unlabelled: bool = False) -> None:
    """Validate and write a table; the file is complete or absent.

    Args:
        frame: predictions table.
        path: CSV or Parquet, by the suffix.
        unlabelled: whether labels may be empty. Such a table cannot be audited: reading it refuses it.

    Raises:
        PredictionsError: if a value or the suffix is not allowed.
    """
    suffix = _suffix(path)
    table = validate(frame, unlabelled=unlabelled)
    with atomic_path(path) as temporary:
        if suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            table.to_parquet(temporary, index=False)


def read_predictions(paths: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Read and validate one table, or several with the same classes as one.

    Args:
        paths: CSV or Parquet files.

    Returns:
        Validated table; class order is that of the first file.

    Raises:
        FileNotFoundError: if a file is absent.
        PredictionsError: naming file, column, row (first data row = 1), value and remedy.
    """
    listed = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return concatenate({str(path): _read(Path(path)) for path in listed})


def concatenate(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Join validated tables that have the same classes.

    Args:
        tables: name (e.g. the file) -> table that :func:`validate` returned.

    Returns:
        Validated table; class order is that of the first.

    Raises:
        PredictionsError: if there is no table, the classes differ, or a study of one table comes again in another,
            or with another patient or label; the message names both tables and rows.
    """
    if not tables:
        raise PredictionsError("an audit needs at least one predictions table; none came; name a file")
    first, *others = tables
    for other in others:
        here, there = classes_of(tables[first]), classes_of(tables[other])
        if set(here) != set(there):
            raise PredictionsError(
                f"tables must have the same classes; {first} has {', '.join(here)} and {other} has {', '.join(there)}; "
                "audit them apart, or map their classes to one list"
            )
    joined = pd.concat(tables.values(), ignore_index=True)
    if others:
        ends = np.cumsum([len(table) for table in tables.values()])
        _check_identity(joined, lambda row: _row_of_table(row, list(tables), ends))
    return joined


def _row_of_table(row: int, names: Sequence[str], ends: np.ndarray[Any, np.dtype[np.int64]]) -> str:
    table = int(np.searchsorted(ends, row, side="right"))
    return f"{names[table]} row {row - (int(ends[table - 1]) if table else 0) + 1}"


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"predictions table must exist; nothing at {path}; check the path")
    try:
        if _suffix(path) == ".parquet":
            return validate(pd.read_parquet(path))
        types = dict.fromkeys(TEXT, "str")
        return validate(pd.read_csv(path, dtype=types, keep_default_na=False))
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, OSError, ValueError) as error:
        raise PredictionsError(f"{path} must be a table; reading it gave: {error}; export it again") from error


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in {".csv", ".parquet"}:
        raise PredictionsError(f"a predictions table must end in .csv or .parquet; got {Path(path).name!r}; rename it")
    return suffix


def validate(frame: pd.DataFrame, *, unlabelled: bool = False, classified: bool = True) -> pd.DataFrame:
    """Check every value and return the table with its columns in order and unknown groups named.

    Args:
        frame: table with the columns named in this module's docstring; more are kept, at the end.
        unlabelled: whether labels may be empty.
        classified: False for a table without classes, whose rows have other values (a Dice, say); it needs no label
            and no probability.

    Returns:
        A copy: text as str, probabilities and field strength [T] as float, missing field strength as NaN.

    Raises:
        PredictionsError: naming column, row (first data row = 1), value and remedy; identifiers are never shown.
    """
    required = [column for column in REQUIRED if classified or column != "label"]
    _check_columns(frame, required, classified=classified)
    probabilities = [PREFIX + name for name in classes_of(frame)]
    leading = [*required[:-2], *probabilities, *required[-2:]]
    extra = [column for column in frame.columns if column not in leading]
    table = frame[[*leading, *extra]].reset_index(drop=True)
    for column in TEXT:
        if column in required:
            table[column] = _text(table[column], column, may_be_empty=unlabelled and column == "label")
    table["field_strength_t"] = _field_strength(table["field_strength_t"])
    for column in probabilities:
        table[column] = probability_column(table[column], column)
    if classified:
        _check_sums(table, probabilities)
        _check_labels(table, {*classes_of(table), *([""] if unlabelled else [])})
    _check_identity(table)
    return table


def _check_columns(frame: pd.DataFrame, required: Sequence[str], *, classified: bool) -> None:
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise PredictionsError(
            f"every column must be there; {', '.join(missing)} missing; add it "
            f"(found: {', '.join(map(str, frame.columns))})"
        )
    if classified and len(classes_of(frame)) < 2:
        raise PredictionsError(
            f"at least two columns prob_<class> are needed; got {len(classes_of(frame))}; add one per class"
        )
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise PredictionsError(f"column {twice!r} must appear once; it appears more often; remove the copies")
    if frame.empty:
        raise PredictionsError("the table must have at least one row; it has none; check how it was written")


def refuse_rows(values: pd.Series[Any], bad: pd.Series[bool], column: str, must: str, remedy: str) -> None:
    """Refuse a column in which a row is bad; the message shows the first.

    Args:
        values: ``(n,)``, as they are to be shown.
        bad: ``(n,)``.
        column: its name.
        must: what it must hold.
        remedy: what to do.

    Raises:
        PredictionsError: naming column, row (first data row = 1), value, number of bad rows and remedy.
    """
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        raise PredictionsError(
            f"column {column!r} must hold {must}; row {row + 1} has {values.iloc[row]!s:.80} "
            f"({int(bad.sum())} such rows); {remedy}"
        )


def _text(values: pd.Series[Any], column: str, *, may_be_empty: bool) -> pd.Series[Any]:
    empty = values.isna() | (values.astype("str").str.strip() == "")
    if column in GROUP_COLUMNS:
        return values.astype("str").str.strip().mask(empty, UNKNOWN)
    wrong = empty & (not may_be_empty)
    shown = values.astype("str").mask(empty, "no value")
    refuse_rows(shown, wrong, column, "a text in every row", "fill it in or remove the row")
    return values.astype("str").str.strip().mask(empty, "")


def _field_strength(values: pd.Series[Any]) -> pd.Series[Any]:
    empty = values.isna() | (values.astype("str").str.strip() == "")
    number = pd.to_numeric(values.mask(empty), errors="coerce").astype("float64")
    bad = ~empty & ~((number > 0) & np.isfinite(number))
    refuse_rows(values, bad, "field_strength_t", "tesla as a number, or nothing", "write 1.5, or leave the cell empty")
    return number


def probability_column(values: pd.Series[Any], column: str) -> pd.Series[Any]:
    """Numbers ``(n,)`` in [0, 1] of numbers or text.

    Raises:
        PredictionsError: naming column, row, value and remedy.
    """
    number = pd.to_numeric(values, errors="coerce").astype("float64")
    bad = ~((number >= 0) & (number <= 1))  # NaN is bad as well
    refuse_rows(values, bad, column, "a probability in [0, 1]", "write probabilities, not logits, and no empty cells")
    return number


def _check_sums(table: pd.DataFrame, columns: list[str]) -> None:
    total, tolerance = table[columns].sum(axis=1).round(9), ROUNDING * len(columns)
    refuse_rows(
        total,
        (total - 1).abs().round(9) > tolerance,
        " + ".join(columns),
        f"a sum of 1 (within {tolerance:g}, for rounding)",
        "normalise the row, or add the missing class",
    )


def _check_labels(table: pd.DataFrame, allowed: set[str]) -> None:
    unknown = ~table["label"].isin(allowed)
    remedy = f"use one of {', '.join(classes_of(table))}, or add the column prob_<label>"
    refuse_rows(table["label"], unknown, "label", "a class that has a probability column", remedy)


def _check_identity(table: pd.DataFrame, where: Callable[[int], str] = lambda row: f"row {row + 1}") -> None:
    """Rows are pointed at, never shown: a case_id may be made of a patient's."""
    columns = ["case_id", "model", "split"]
    again = table.duplicated(columns).to_numpy()
    if again.any():
        row = int(np.flatnonzero(again)[0])
        earlier = int(np.flatnonzero((table[columns] == table[columns].iloc[row]).all(axis=1))[0])
        raise PredictionsError(
            f"column 'case_id' must hold each study once per model and split; {where(row)} repeats {where(earlier)} "
            f"({int(again.sum())} such rows); remove the copies, name the models apart, or give the rows of a study "
            "different case_ids"
        )
    studies, _ = pd.factorize(table["case_id"])
    first = np.unique(studies, return_index=True)[1][studies]  # (n,), row in which each row's study comes first
    for column in [column for column in ("patient_id", "label") if column in table]:
        values = table[column].to_numpy()
        differs = values != values[first]
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            raise PredictionsError(
                f"column 'case_id' must hold one {column} per study; {where(row)} has another than "
                f"{where(int(first[row]))} ({int(differs.sum())} such rows); give the study the same {column} in "
                "every row, or different studies different case_ids"
            )
