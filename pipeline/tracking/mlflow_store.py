"""The database behind MLflow: which one, made once, quietly.

A relative artifact folder would depend on where the server is started, so MLflow stores an absolute one. A database
that is moved therefore finds its artifacts again only under the old path, or through
``mlflow server --serve-artifacts --artifacts-destination <folder>``.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.telemetry import set_telemetry_client

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what a hospital trains is nobody else's business
set_telemetry_client()  # the import has made a reporter already: take it away again

ENVIRONMENT_URI = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
SQLITE = "sqlite:///"
SERVERS = ("http", "https", "postgresql", "mysql", "mssql", "databricks")
LOCK_SECONDS = 300.0


def resolve_tracking_uri(tracking_uri: str | None, output_dir: str | Path) -> str:
    """Choose the tracking server: what is asked for, else ``MLFLOW_TRACKING_URI``, else sqlite in ``output_dir``.

    Args:
        tracking_uri: a server's or a database's address; None or empty leaves the choice to the environment.
        output_dir: folder of the default database.

    Returns:
        The address; a sqlite file with its absolute path.

    Raises:
        ValueError: if it names a folder, which MLflow no longer writes to, or a database in memory.

    Example:
        >>> resolve_tracking_uri("http://localhost:5000", "eval")
        'http://localhost:5000'
    """
    uri = str(tracking_uri or os.environ.get(ENVIRONMENT_URI) or "")
    if not uri:
        return f"{SQLITE}{Path(output_dir).resolve() / DATABASE}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{_database(uri)}"
    if uri.split(":", 1)[0].split("+", maxsplit=1)[0] not in SERVERS or "://" not in uri:
        raise ValueError(
            f"a tracking URI must name a database or a server, as MLflow no longer writes to folders; got {uri!r}; "
            f"use {SQLITE}{uri.removeprefix('file:').rstrip('/') or '/path'}/{DATABASE}, or an http(s) address"
        )
    return uri


def _database(uri: str) -> Path:
    path = uri.removeprefix(SQLITE)
    if path in {"", ":memory:"} or "?" in path:
        raise ValueError(
            f"a sqlite URI must name a file; got {uri!r}; use {SQLITE}/absolute/path/{DATABASE}, without options"
        )
    return Path(path).resolve()


def ensure_store(uri: str, experiment: str) -> str:
    """Make database and experiment where they do not exist yet, safely among processes that start together.

    MLflow builds its schema without a lock: of two processes on a new sqlite file, one would fail.

    Args:
        uri: from :func:`resolve_tracking_uri`.
        experiment: name.

    Returns:
        The experiment's id. Its artifacts lie beside a sqlite file, else where the server puts them.

    Raises:
        ValueError: if the experiment has been deleted.
    """
    if not uri.startswith(SQLITE):
        return _ensure_experiment(uri, experiment, None)
    database = _database(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(database.with_name(f".{database.name}.lock")):
        return _ensure_experiment(uri, experiment, (database.parent / ARTIFACTS).as_uri())


def _ensure_experiment(uri: str, name: str, artifact_location: str | None) -> str:
    with quiet():
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            return str(client.create_experiment(name, artifact_location=artifact_location))
    if found.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ValueError(
            f"the experiment {name!r} must exist; it was deleted from {uri.rsplit('@', maxsplit=1)[-1]}; "
            "restore it or name another"
        )
    return str(found.experiment_id)


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Hold a lock that the system releases when its owner dies; sqlite's own works on every platform."""
    with closing(sqlite3.connect(lock, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Let MLflow and Alembic report problems only; warnings of third parties are theirs to mend."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def without_environment_uri() -> Iterator[None]:
    """Hide ``MLFLOW_TRACKING_URI`` from MONAI's handler, which would prefer it to what it was given."""
    hidden = os.environ.pop(ENVIRONMENT_URI, None)
    try:
        yield
    finally:
        if hidden is not None:
            os.environ[ENVIRONMENT_URI] = hidden
