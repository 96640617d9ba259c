"""The studies of one hospital, read as the audit that they are compared with was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.audit.audited import Audited
from pipeline.audit.findings import ALL, Measure
from pipeline.audit.layout import AGE, Layout, columns_of, nearest
from pipeline.audit.reading import read_table
from pipeline.audit.table_file import open_table
from pipeline.audit.words import in_words, listed
from pipeline.tracking.group_metrics import METRICS
from pipeline.tracking.predictions import PredictionsError


@dataclass(frozen=True, eq=False)
class LocalStudies:
    """What a hospital brings.

    Args:
        rows: predictions table of one model and one split.
        column: grouping column; ``all`` if groups are not told apart.
        group: group that all rows belong to; None if the column says it.
        notes: of the reading.
    """

    rows: pd.DataFrame
    column: str
    group: str | None
    notes: tuple[str, ...]


def read_local(
    paths: Sequence[str | Path],
    audited: Audited,
    measure: Measure,
    *,
    by: str | None = None,
    group: tuple[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
    merge: Mapping[str, Mapping[str, str]] | None = None,
    split: str | None = None,
) -> LocalStudies:
    """Read a hospital's tables.

    Args:
        paths: CSV or Parquet.
        audited: what the audit says of the model.
        measure: what will be compared.
        by: a grouping column of the audit, or ``all``; None takes the first that the tables have.
        group: column and group that all studies belong to, where the tables do not say it.
        columns: the audit's name -> the tables'.
        merge: column -> a group's name in the tables -> in the audit.
        split: rows to read; None takes the only split, or that of the audit.

    Returns:
        The studies and notes.

    Raises:
        FileNotFoundError: if a file is absent.
        PredictionsError: if a table, a name or the choice of rows is not valid.
    """
    named = dict(columns or {})
    column, notes = _column(paths, audited, by, group, named)
    read = ALL if group else column
    table = read_table([str(path) for path in paths], _layout(audited, measure, read, named, merge or {}))
    rows = _of_one_model(_of_one_split(table.frame, audited, split), audited)
    return LocalStudies(rows.reset_index(drop=True), column, group[1] if group else None, (*notes, *table.notes))


def _column(
    paths: Sequence[str | Path],
    audited: Audited,
    by: str | None,
    group: tuple[str, str] | None,
    columns: Mapping[str, str],
) -> tuple[str, list[str]]:
    asked = group[0] if group else by
    if asked is not None and asked not in {*audited.group_by, ALL}:
        raise PredictionsError(
            f"groups must be those of the audit; got {asked!r}; {nearest(asked, (*audited.group_by, ALL))}"
        )
    if asked is not None:
        return asked, []
    header = set.intersection(*(set(open_table(path).columns) for path in paths))
    for column in audited.group_by:
        if all(columns.get(part, part) in header for part in columns_of([column])):
            return column, []
    missing = listed([in_words(column) for column in audited.group_by])
    return ALL, [
        f"The table does not say {missing}: all studies are compared with all audited patients, which does not say how "
        f"the model does on this scanner; if all are of one group, --group {audited.group_by[0]}=NAME"
    ]


def _layout(
    audited: Audited,
    measure: Measure,
    column: str,
    columns: Mapping[str, str],
    merge: Mapping[str, Mapping[str, str]],
) -> Layout:
    classified = measure.name in METRICS
    if column == ALL and not classified:
        raise PredictionsError(
            f"{measure.name!r} is compared by a column of the audit; the table has none; add {audited.group_by[0]!r}"
        )
    parts = columns_of([column])
    positive = audited.plan.get("positive") or (audited.classes[1] if len(audited.classes) == 2 else None)
    return Layout(
        group_by=("label",) if column == ALL else (column,),
        endpoints=() if classified else (measure.name,),
        columns=columns,
        classified=classified,
        positive=positive if classified else None,
        age_bands=tuple(audited.plan.get("age_bands", ())) if AGE in parts else (),
        merge=merge,
    )


def _of_one_split(frame: pd.DataFrame, audited: Audited, split: str | None) -> pd.DataFrame:
    splits = sorted(set(frame["split"]))
    usual = str(audited.plan["split"])
    chosen = split or (splits[0] if len(splits) == 1 else usual)
    if chosen not in splits:
        raise PredictionsError(
            f"the studies must be of one split; {chosen!r} is not in the table; choose among {', '.join(splits)}, "
            "--split"
        )
    return frame[frame["split"] == chosen]


def _of_one_model(frame: pd.DataFrame, audited: Audited) -> pd.DataFrame:
    models = sorted(set(frame["model"]))
    if len(models) > 1 and audited.model not in models:
        raise PredictionsError(
            f"the studies must be read by the audited model, {audited.model!r}; the table has {', '.join(models)}; "
            "choose one, --model"
        )
    return frame[frame["model"] == audited.model] if len(models) > 1 else frame
