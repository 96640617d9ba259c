"""Results of models that never were."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.benchmark.reading import Measurement
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
    cell_row,
    held_out_row,
    patient_codes,
    prediction_row,
)

VENDORS = ("Canon", "GE", "Philips", "Siemens")
CLASSES = ("NOR", "HCM", "DCM")


def phantom_test_set(per_cell: int = 12) -> HeldOut:
    """Every patient in one group, as the phantom has them."""
    grid = np.indices((len(VENDORS), len(CLASSES), per_cell)).reshape(3, -1)
    return HeldOut(CLASSES, VENDORS, grid[1], grid[0], patient_codes([f"P{k}" for k in range(grid.shape[1])]))


def crossed_test_set(names: Sequence[str]) -> HeldOut:
    """Every patient in every group, as simulated scanners have them."""
    grid = np.indices((len(VENDORS), len(names))).reshape(2, -1)
    labels = np.array([int(name[1:]) % len(CLASSES) for name in names])
    return HeldOut(CLASSES, VENDORS, labels[grid[1]], grid[0], patient_codes([names[k] for k in grid[1]]))


def probabilities(held_out: HeldOut, accuracy: Mapping[str, float], rng: np.random.Generator) -> FloatArray:
    """Softmax outputs that are right with the probability given for each group."""
    n, n_classes = len(held_out.labels), len(held_out.classes)
    chance = np.array([accuracy[name] for name in held_out.groups])[held_out.group_index]
    wrong = (held_out.labels + rng.integers(1, n_classes, n)) % n_classes
    decision = np.where(rng.random(n) < chance, held_out.labels, wrong)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), decision] = logits.max(axis=1) + rng.gamma(2.0, 0.7, n)
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def measurement(held_out: HeldOut, given: FloatArray, **cell: Any) -> Measurement:
    """A measurement whose row agrees with its predictions."""
    values = {
        "plan": "headline", "cohort": "phantom", "dials": {}, "seed": 0, "fold": None, "model": "kd", "role": "student",
        "parameters": 80_000, "n_training": 272, "seconds": 30.0,
    } | cell  # fmt: skip
    digest = "-".join(str(values[name]) for name in ("plan", "dials", "seed", "fold", "model"))
    accuracy = float(np.mean(given.argmax(axis=1) == held_out.labels))
    return Measurement(Cell(**{"config_digest": digest, "accuracy": accuracy, **values}), held_out, given)


def write_results(folder: Path, measurements: Iterable[Measurement]) -> None:
    """The three tables."""
    listed = list(measurements)
    tests = {m.held_out.digest: held_out_row(m.held_out) for m in listed}
    predictions = [prediction_row(m.cell.config_digest, m.held_out, m.probabilities) for m in listed]
    _write(folder / RESULTS, RESULT_COLUMNS, [cell_row(m.cell) for m in listed])
    _write(folder / PREDICTIONS, PREDICTION_COLUMNS, predictions)
    _write(folder / TEST_SETS, TEST_SET_COLUMNS, list(tests.values()))


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
