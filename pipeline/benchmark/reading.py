"""Results of a benchmark, read back and held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.benchmark.records import (
    PREDICTION_COLUMNS,
    PREDICTIONS,
    RESULT_COLUMNS,
    RESULTS,
    TEST_SET_COLUMNS,
    TEST_SETS,
    Cell,
    FloatArray,
    HeldOut,
    cell_of,
    held_out_of,
    probabilities_of,
)

AGREEMENT = 1e-4  # results.csv is rounded


@dataclass(frozen=True)
class Measurement:
    """A cell and what its model said.

    Args:
        cell: the row.
        held_out: its test set.
        probabilities: ``(n, C)``, in steps of 1/255.
    """

    cell: Cell
    held_out: HeldOut
    probabilities: FloatArray


def read_measurements(folder: str | Path) -> list[Measurement]:
    """Read the three tables and hold them against each other. A cell that was run again has several rows: `latest`.

    Args:
        folder: of ``results.csv``, ``predictions.csv`` and ``test_sets.csv``.

    Returns:
        Every row, in the order of the table.

    Raises:
        FileNotFoundError: if a table is not there.
        ValueError: if columns are missing, a cell has no predictions, a test set is not what its name says, or the
            accuracy in ``results.csv`` is not that of the predictions.
    """
    folder = Path(folder)
    held_out = {row["test_set"]: held_out_of(row) for row in _rows(folder / TEST_SETS, TEST_SET_COLUMNS)}
    predictions = {row["config_digest"]: row for row in _rows(folder / PREDICTIONS, PREDICTION_COLUMNS)}
    rows = _rows(folder / RESULTS, RESULT_COLUMNS)
    return [_measurement(cell_of(row), predictions, held_out) for row in rows]


def latest(measurements: Sequence[Measurement], planned: Set[str] | None) -> tuple[list[Measurement], int]:
    """Of each cell the last row that its plan would make today.

    Args:
        measurements: in the order of their table.
        planned: digests of these; None for a plan that is not at hand: then the last row of each counts.

    Returns:
        One row per cell, and how many cells have none.
    """
    cells = {_place(measurement): measurement for measurement in measurements}
    kept = {_place(m): m for m in measurements if planned is None or m.cell.config_digest in planned}
    return list(kept.values()), len(cells) - len(kept)


def _place(measurement: Measurement) -> tuple[object, ...]:
    cell = measurement.cell
    return cell.plan, cell.cohort, repr(sorted(cell.dials.items())), cell.seed, cell.fold, cell.model


def _measurement(
    cell: Cell, predictions: Mapping[str, Mapping[str, str]], held_out: Mapping[str, HeldOut]
) -> Measurement:
    row = predictions.get(cell.config_digest)
    if row is None or row["test_set"] not in held_out:
        lacking = f"row in {PREDICTIONS}" if row is None else f"test set {row['test_set']} in {TEST_SETS}"
        raise ValueError(
            f"every cell of {RESULTS} needs its predictions and its test set; {cell.model} of {cell.plan}, seed "
            f"{cell.seed} ({cell.config_digest}) has no {lacking}; remove its row and run the plan again"
        )
    test = held_out[row["test_set"]]
    probabilities = probabilities_of(row, test)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == test.labels))
    if abs(accuracy - cell.accuracy) > AGREEMENT:
        raise ValueError(
            f"accuracy in {RESULTS} must be that of the predictions; {cell.model} of {cell.plan}, seed {cell.seed} "
            f"({cell.config_digest}) has {cell.accuracy} and {accuracy:.4f}; remove its row and run the plan again"
        )
    return Measurement(cell, test, probabilities)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be there; run a plan first: evenbeat benchmark")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) != list(columns):
        raise ValueError(
            f"{path.name} must have the columns {', '.join(columns)}; got {', '.join(map(str, table.columns))}; "
            "remove the file and run the plans again"
        )
    return [dict(zip(columns, values, strict=True)) for values in table.itertuples(index=False)]
