"""Anybody's tables, CSV or Parquet, to the one validated table that an audit reads.

Only columns that are asked for are read, what may be absent is made up, and what a reader of the audit should know
about this is said in notes. No note and no message shows an identifier of a patient or a study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.audit.grouping import age_bands, check_spellings, merge_names, merge_options
from pipeline.audit.layout import AGE, FIELD_STRENGTH, PROBABILITY, Layout, find_columns, nearest
from pipeline.audit.reading_notes import merger_notes, table_notes
from pipeline.audit.table_file import TableFile, as_text, open_table, read_columns, with_decimal_points
from pipeline.tracking.predictions import (
    GROUP_COLUMNS,
    PREFIX,
    UNKNOWN,
    PredictionsError,
    classes_of,
    concatenate,
    probability_column,
    refuse_rows,
    validate,
)

MISSING = ("", "na", "n/a", "nan", "none", "null", "-")  # cells without a value, in small letters
NOT_FILLED = ("label", "split", "model", FIELD_STRENGTH)  # `validate` says what an empty cell means there


@dataclass(frozen=True, eq=False)
class Table:
    """What an audit reads.

    Args:
        frame: validated; one row per study, or part of one, and model. Columns as in
            :mod:`pipeline.tracking.predictions`, without ``label`` and ``prob_`` if nothing is classified; then groups
            and strata as text (``age`` as bands), and endpoints as float.
        notes: sentences about what was made up, merged or odd.
        numbered: whether the case_ids were made of patient and row number, and are not to be shown.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    numbered: bool = False


def read_table(paths: str | Path | Sequence[str | Path], layout: Layout) -> Table:
    """Read, join and check tables.

    Args:
        paths: ``.csv``, ``.tsv``, ``.txt`` or ``.parquet``; several models may stand in one file or in several.
        layout: what is asked of them.

    Returns:
        The table and its notes.

    Raises:
        FileNotFoundError: if a file is absent.
        PredictionsError: naming file, column, row (first data row = 1), value and remedy.
    """
    listed = [str(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not listed or len(set(listed)) < len(listed):
        raise PredictionsError(f"an audit needs tables, each once; got {', '.join(listed) or 'none'}; name the files")
    tables = {path: _read(path, layout) for path in listed}
    notes = _name_models(tables) + _name_groups(tables, layout)
    _order_classes(tables, layout)
    numbered = _name_rows(tables)
    for path, frame in tables.items():
        with _naming(path):
            tables[path] = _checked(frame, layout)
    joined = concatenate(tables)
    if numbered:
        _check_rows_pair(joined)
    return Table(joined, (*notes, *table_notes(joined, layout, numbered=numbered)), numbered)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    try:
        yield
    except PredictionsError as error:
        raise PredictionsError(f"{path}: {error}") from None


def _read(path: str, layout: Layout) -> pd.DataFrame:
    with _naming(path):
        file = open_table(path)
        sources = find_columns(file, layout)
        raw = read_columns(file, sources.values())
        if raw.empty:
            raise PredictionsError("the table must have at least one row; it has none; check how it was written")
        frame = pd.DataFrame({target: _values(raw[source], target, file, layout) for target, source in sources.items()})
        return frame.assign(age=age_bands(frame[AGE], layout.age_bands)) if AGE in layout.names else frame


def _values(values: pd.Series[Any], target: str, file: TableFile, layout: Layout) -> pd.Series[Any]:
    """Text of names, and numbers as they stand, but for their decimal commas."""
    number = target in {AGE, PROBABILITY, *layout.endpoints} or target.startswith(PREFIX)
    if (number or target == FIELD_STRENGTH) and file.decimal_commas:
        return with_decimal_points(values)
    return values if number else as_text(values)


def _name_models(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Fill in model and split where a table does not name them; the notes on it."""
    notes: list[str] = []
    unnamed = {path: Path(path).stem for path, frame in tables.items() if "model" not in frame}
    for path, model in unnamed.items():
        if list(unnamed.values()).count(model) > 1:
            raise PredictionsError(
                f"{path}: a table without a column 'model' is one model, called as the file; another file is called "
                f"{model!r}, too; rename one, or add the column"
            )
        tables[path]["model"] = model
        notes.append(f"{Path(path).name} has no column model: its rows are called {model!r}, as the file.")
    for path, frame in tables.items():
        if "split" not in frame:
            frame["split"] = "test"
            notes.append(f"{Path(path).name} has no column split: all its rows count as test.")
    return notes


def _name_groups(tables: Mapping[str, pd.DataFrame], layout: Layout) -> list[str]:
    """Merge names as agreed, then refuse two spellings of one; the notes on the mergers."""
    notes: list[str] = []
    for column in dict.fromkeys((*layout.names, *GROUP_COLUMNS, *NOT_FILLED)):
        having = [frame for frame in tables.values() if column in frame]
        if column == AGE or not having:
            continue
        merge = layout.merge.get(column, {})
        notes += merger_notes(column, pd.concat([frame[column] for frame in having]), merge)
        for frame in having:
            frame[column] = merge_names(frame[column], merge, empty="" if column in NOT_FILLED else UNKNOWN)
        check_spellings(tables, column, merge)
    return notes


def _order_classes(tables: Mapping[str, pd.DataFrame], layout: Layout) -> None:
    """Make two columns of one probability, and the positive class the second of two."""
    positive = layout.positive
    if any(PROBABILITY in frame for frame in tables.values()):
        _two_columns(tables, positive)
    if positive is None:
        return
    for path, frame in tables.items():
        classes = classes_of(frame)
        if positive not in classes:
            raise PredictionsError(
                f"{path}: the positive class must have a probability; {positive!r} has none; "
                f"{nearest(positive, classes)}"
            )
        if len(classes) == 2:
            frame[PREFIX + positive] = frame.pop(PREFIX + positive)  # to the end


def _two_columns(tables: Mapping[str, pd.DataFrame], positive: str | None) -> None:
    labels = {str(label) for frame in tables.values() for label in frame["label"].str.strip().unique()} - {""}
    if positive is None:
        raise PredictionsError(
            "one column 'prob' needs the name of the class that it is of; none came; name it, --positive, one of "
            f"{', '.join(sorted(labels))}"
        )
    others = sorted(labels - {positive})
    if len(others) > 1:
        merge = merge_options("label", dict.fromkeys(others[1:], others[0]))
        raise PredictionsError(
            f"one column 'prob' has two classes, {positive!r} and one other; labels are {', '.join(sorted(labels))}; "
            + (f"make one of the others, {merge}" if positive in labels else nearest(positive, labels))
        )
    for path, frame in tables.items():
        if PROBABILITY in frame:
            with _naming(path):
                share = probability_column(frame.pop(PROBABILITY), PROBABILITY)
            frame[PREFIX + (others[0] if others else f"not {positive}")] = 1 - share
            frame[PREFIX + positive] = share


def _name_rows(tables: Mapping[str, pd.DataFrame]) -> bool:
    """Make case_ids of patient and row number, if no table has any; the number runs through all tables of a model."""
    without = [path for path, frame in tables.items() if "case_id" not in frame]
    if not without:
        return False
    if len(without) < len(tables):
        raise PredictionsError(
            f"{without[0]}: all tables must have a case_id, or none; this has none; rows of two models are paired by "
            "it; add it, or leave it unread everywhere, --column case_id="
        )
    keys = pd.concat({path: frame[["patient_id", "model"]] for path, frame in tables.items()})
    keys = keys.apply(lambda values: values.str.strip())
    case_ids = keys["patient_id"] + "-" + (keys.groupby(["patient_id", "model"]).cumcount() + 1).astype("str")
    for path, frame in tables.items():
        frame["case_id"] = case_ids.loc[path]
    return True


def _checked(frame: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    missing = [column for column in GROUP_COLUMNS if column not in frame]
    table = frame.assign(**dict.fromkeys(missing, UNKNOWN))
    if FIELD_STRENGTH not in table:
        table[FIELD_STRENGTH] = np.nan
    for endpoint in layout.endpoints:
        table[endpoint] = _endpoint(table[endpoint], endpoint, may_be_missing=layout.missing_values)
    return validate(table, classified=bool(classes_of(frame)))


def _endpoint(values: pd.Series[Any], column: str, *, may_be_missing: bool) -> pd.Series[Any]:
    missing = values.isna() | values.astype("str").str.strip().str.casefold().isin(MISSING)
    number = pd.to_numeric(values.mask(missing), errors="coerce").astype("float64")
    bad = ~(number.abs() < np.inf) & ~(missing & may_be_missing)
    remedy = (
        "write what a study counts with that could not be measured (a Dice of 0, say), or allow it, "
        "--missing-values: leaving out what failed makes a model look better"
    )
    refuse_rows(values.astype("str").mask(missing, "no value"), bad, column, "a finite number in every row", remedy)
    return number


def _check_rows_pair(frame: pd.DataFrame) -> None:
    rows = frame.groupby(["patient_id", "model"]).size()
    differ = int((rows.groupby("patient_id").nunique() > 1).sum())
    if differ:
        raise PredictionsError(
            "without a case_id, rows of two models are paired by their order within the patient, so that all models "
            f"must have as many rows of a patient; it is not so for {differ} of the patients; say which "
            "column tells the rows of a patient apart, --column case_id=NAME"
        )
