"""The folder of results: three tables to which finished cells are added, one at a time and from several processes.

A cell stands in ``results.csv`` only after its predictions and its test set have been written, so that a run that is
killed leaves whole cells or none.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from numpy.typing import ArrayLike

from pipeline.benchmark.records import (
    PREDICTION_COLUMNS,
    PREDICTIONS,
    RESULT_COLUMNS,
    RESULTS,
    TEST_SET_COLUMNS,
    TEST_SETS,
    Cell,
    HeldOut,
    cell_row,
    held_out_row,
    prediction_row,
)
from pipeline.files import atomic_path

Row = dict[str, str]
LOCK = ".results.lock"


class Results:
    """Tables of finished cells.

    Args:
        folder: made with the first cell.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def digests(self) -> frozenset[str]:
        """Config digests of the cells that are finished.

        Raises:
            ValueError: if the table has other columns than these results have.
        """
        return frozenset(row["config_digest"] for row in _rows(self.folder / RESULTS, RESULT_COLUMNS))

    def append(self, cell: Cell, held_out: HeldOut, probabilities: ArrayLike) -> None:
        """Add a finished cell; one that is there already stays as it is.

        Args:
            cell: its row of ``results.csv``.
            held_out: the test set.
            probabilities: ``(n, C)`` of the test set's cases, in [0, 1].

        Raises:
            ValueError: if the probabilities do not fit the test set, or a table has other columns.
        """
        predictions = prediction_row(cell.config_digest, held_out, probabilities)
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK):
            if cell.config_digest in self.digests():
                return
            _put(self.folder / TEST_SETS, TEST_SET_COLUMNS, held_out_row(held_out), key="test_set")
            _put(self.folder / PREDICTIONS, PREDICTION_COLUMNS, predictions, key="config_digest")
            _put(self.folder / RESULTS, RESULT_COLUMNS, cell_row(cell), key="config_digest")


def _put(path: Path, columns: Sequence[str], row: Row, *, key: str) -> None:
    """Add a row; one of the same key, which a run left that was killed before its cell was whole, gives way."""
    rows = [known for known in _rows(path, columns) if known[key] != row[key]]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])


def _rows(path: Path, columns: Sequence[str]) -> list[Row]:
    if not path.is_file():
        return []
    csv.field_size_limit(2**31 - 1)  # predictions of a test set stand in one field
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise ValueError(
                f"{path} must have the columns {', '.join(columns)}; it has {', '.join(reader.fieldnames or ())}; "
                "move it away, or choose another folder for results"
            )
        return list(reader)
