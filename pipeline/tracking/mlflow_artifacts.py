"""Tables, figures, plain data, files and folders, each under the path it was given in a run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path, PurePosixPath

import pandas as pd
from mlflow import MlflowClient


def check_artifact_path(path: str) -> None:
    """Refuse a path that MLflow would refuse only after training.

    Raises:
        ValueError: if it is empty, absolute or leaves the run's folder.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or str(pure) != path:
        raise ValueError(
            f"an artifact path must be relative and plain; got {path!r}; write e.g. 'tables/predictions.parquet'"
        )


def store_artifact(client: MlflowClient, run_id: str, path: str, value: object) -> None:
    """Store one artifact.

    Args:
        client: of the server that has the run.
        run_id: the run.
        path: where it goes in the run, with the file's name; for a folder, the folder's.
        value: a DataFrame (written as the suffix of ``path`` says: ``.parquet`` or ``.csv``), a dict or list (``.json``
            or ``.yaml``), a figure with ``savefig``, or the path of a file or folder (subfolders are kept).
            None stores nothing.

    Raises:
        FileNotFoundError: if a named file does not exist.
        ValueError: if a table's suffix is neither of the two.
    """
    if value is None:
        return
    if isinstance(value, dict | list):
        client.log_dict(run_id, value, path)
    elif hasattr(value, "savefig"):
        client.log_figure(run_id, value, path)
    elif isinstance(value, str | Path) and Path(value).is_dir():
        client.log_artifacts(run_id, str(value), path)
    else:
        _store_file(client, run_id, PurePosixPath(path), value)


def _store_file(client: MlflowClient, run_id: str, path: PurePosixPath, value: object) -> None:
    parent = None if path.parent == PurePosixPath(".") else str(path.parent)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name  # MLflow names an artifact as its file is named
        if isinstance(value, pd.DataFrame):
            _write_table(value, file)
        else:
            _copy(Path(str(value)), file)
        client.log_artifact(run_id, str(file), parent)


def _write_table(table: pd.DataFrame, file: Path) -> None:
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    elif file.suffix == ".csv":
        table.to_csv(file, index=False)
    else:
        raise ValueError(f"a table's artifact must end in .parquet or .csv; got {file.name!r}; rename it")


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise FileNotFoundError(f"an artifact's file must exist; nothing at {source}; write it before the run ends")
    shutil.copyfile(source, target)
