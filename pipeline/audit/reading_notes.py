"""Notes on a table, for the reader of an audit: what was made up, merged, left without a value, or is odd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pipeline.audit.layout import Layout
from pipeline.tracking.predictions import UNKNOWN, group_names


def merger_notes(column: str, values: pd.Series[Any], merge: Mapping[str, str]) -> Iterator[str]:
    """What each agreed merger did.

    Args:
        column: its name.
        values: ``(n,)``, names before they are merged.
        merge: name -> the one to use.

    Yields:
        A sentence per merger; one that found no row is said as well.

    Example:
        >>> list(merger_notes("vendor", pd.Series(["ge", "GE", "ge "]), {"ge": "GE"}))
        ["vendor: 'ge' counts as 'GE' (2 rows)."]
    """
    counts = values.value_counts()
    found = pd.Series([name if name in merge else name.strip() for name in counts.index], dtype="str")
    rows = counts.groupby(found.to_numpy()).sum()
    for name, target in merge.items():
        if name != target:
            yield f"{column}: {name!r} counts as {target!r} ({_several(int(rows.get(name, 0)), 'row')})."


def table_notes(frame: pd.DataFrame, layout: Layout, *, numbered: bool) -> Iterator[str]:
    """What is odd about a validated table.

    Args:
        frame: from all files.
        layout: what was asked of it.
        numbered: whether case_ids were made of patient and row number.

    Yields:
        Sentences; without any oddity, none.
    """
    if numbered:
        yield from _numbering(frame)
    for column in layout.names:
        unknown = group_names(frame, column).count(UNKNOWN)
        if unknown:
            yield f"{column}: {_several(unknown, 'row')} without one form the group {UNKNOWN}."
    for column in layout.group_by:
        pairs = pd.DataFrame({"patient": frame["patient_id"], "group": group_names(frame, column)}).drop_duplicates()
        several = int((pairs["patient"].value_counts() > 1).sum())
        if several:
            total = pairs["patient"].nunique()
            yield f"{column}: {several} of {_several(total, 'patient')} are in more than one group, and count in each."
    for endpoint in layout.endpoints:
        missing = frame[frame[endpoint].isna()]
        if len(missing):
            patients = _several(missing["patient_id"].nunique(), "patient")
            yield f"{endpoint}: {_several(len(missing), 'row')} of {patients} have no value, and are left out."
    yield from _models_apart(frame)
    yield from _patients_alike(frame)


def _numbering(frame: pd.DataFrame) -> Iterator[str]:
    if frame.duplicated(["patient_id", "model"]).any():
        yield "Rows have no case_id: they are numbered within their patient, and two models are paired by that number."
    again = int(frame.duplicated([column for column in frame.columns if column != "case_id"]).sum())
    if again:
        yield (
            f"{_several(again, 'row')} repeat another row of the same patient and model in all values that were read: "
            "copies, or different slices? A case_id would tell."
        )


def _models_apart(frame: pd.DataFrame) -> Iterator[str]:
    """A patient whose id is spelt otherwise in another model's table is paired with nobody."""
    pairs = frame[["patient_id", "model"]].drop_duplicates()
    models, patients = pairs["model"].value_counts(sort=False), pairs["patient_id"].value_counts()
    shared = int((patients == len(models)).sum())
    if shared < len(patients):
        each = ", ".join(f"{model} {count}" for model, count in models.items())
        yield f"{shared} of {_several(len(patients), 'patient')} have rows of all models ({each})."


def _patients_alike(frame: pd.DataFrame) -> Iterator[str]:
    plain = pd.Series(frame["patient_id"].unique(), dtype="str").str.casefold().str.replace(r"\s+", "", regex=True)
    alike = int(plain.str.lstrip("0").duplicated(keep=False).sum())
    if alike:
        yield (
            f"{alike} patient_ids differ from another only by case, spaces or leading zeros; they count as different "
            "patients."
        )


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
