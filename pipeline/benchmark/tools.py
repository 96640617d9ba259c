"""What does a benchmark's work, in one place, so that a test can put something quick there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.bundle_runs import run_bundle, training_size
from pipeline.benchmark.cohorts import build_cohort, prepare_pool
from pipeline.benchmark.kinds import Cohorts

if TYPE_CHECKING:
    from pipeline.benchmark.measure import Measured


def make_database(folder: Path, plans: Sequence[str]) -> str:
    """Make MLflow's database before several processes write to it.

    Args:
        folder: where ``mlflow.db`` goes.
        plans: each gets an experiment, ``benchmark-<plan>``.

    Returns:
        Its address. Its journal lets processes read while one of them writes.
    """
    from pipeline.tracking.mlflow_store import ensure_store, resolve_tracking_uri

    database = folder / "mlflow.db"
    uri = resolve_tracking_uri(f"sqlite:///{database}", folder)
    for plan in plans:
        ensure_store(uri, f"benchmark-{plan}")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return uri


def measure_model(model_path: Path, datalist: Path, *, evaluate: Mapping[str, Any]) -> Measured:
    """Measure a model; torch is loaded only when this is called."""
    from pipeline.benchmark.measure import measure

    return measure(model_path, datalist, evaluate=evaluate)


def curves_of_model(model_path: Path, tracking_uri: str) -> dict[str, Any]:
    """Group weights and losses over a model's training; torch is loaded only when this is called."""
    from pipeline.benchmark.curves import training_curves

    return training_curves(model_path, tracking_uri)


@dataclass(frozen=True)
class Tools:
    """What does the work. Others in their place must be functions that a new process can import.

    Args:
        prepare_pool: renders and prepares what the cohorts of a kind share.
        build_cohort: gives a prepared datalist.
        database: makes the database of runs and gives its address.
        run_bundle: trains; leaves ``model.pt`` in the folder ``output_dir``.
        measure: measures a model.
        training_size: cases that a training visits in an epoch.
        curves: group weights and losses over a model's training, empty where groups are not weighted.
    """

    prepare_pool: Callable[[Cohorts, Path, int], None] = prepare_pool
    build_cohort: Callable[..., Path] = build_cohort
    database: Callable[[Path, Sequence[str]], str] = make_database
    run_bundle: Callable[[str, Sequence[str], Mapping[str, Any]], None] = run_bundle
    measure: Callable[..., Measured] = measure_model
    training_size: Callable[[str, Sequence[str], Mapping[str, Any]], int] = training_size
    curves: Callable[[Path, str], Mapping[str, Any]] = curves_of_model
