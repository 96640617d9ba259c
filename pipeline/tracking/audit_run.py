"""An audit in MLflow: the report and its numbers, on the run that made the predictions."""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric
from mlflow.exceptions import MlflowException

from pipeline.tracking.group_metrics import slug
from pipeline.tracking.mlflow_artifacts import store_artifact
from pipeline.tracking.mlflow_store import ensure_store, quiet, resolve_tracking_uri
from pipeline.tracking.predictions import PREFIX
from pipeline.tracking.run_identity import git_commit, source_tags, unique_run_name

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a bar for every run that is looked at

logger = logging.getLogger(__name__)

FOLDER = "audit"  # in the run's artifacts, and the first part of every metric's name
TABLES = (
    "groups", "effects", "contrasts", "worst", "differences", "calibration", "reliability", "operating_points",
    "case_mix", "worst_cases",
)  # fmt: skip
REPORT = ("audit.html", "audit.json", "model_card.md", "plan.yaml", *(f"{table}.csv" for table in TABLES))
PREDICTIONS = "predictions.parquet"  # artifact of an evaluation run
MADE_PREDICTIONS = "tags.trained_run_id != ''"  # evaluation runs have it, see the bundles' evaluate.yaml
RUNS_LOOKED_AT = 200  # newest first
SAME = 1e-6  # probabilities closer than that are those that were written
METRICS_AT_ONCE, LONGEST_NAME = 1000, 250  # MLflow's limits


class _Plan(Protocol):
    @property
    def split(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


class Audited(Protocol):
    """What is logged of an audit; :class:`pipeline.audit.findings.Audit` has it, in a layer above this one."""

    @property
    def plan(self) -> _Plan:
        """Its split and fingerprint are wanted."""

    @property
    def models(self) -> Sequence[str]:
        """Names."""

    def numbers(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        """Model, name in parts, and value, NaN where there is none."""


def log_audit(
    folder: str | Path,
    frame: pd.DataFrame,
    audit: Audited,
    tracking_uri: str | None = None,
    run_id: str | None = None,
) -> dict[str, str]:
    """Store a written report and the numbers of its groups with the runs that made the predictions.

    A model's run is the evaluation run whose ``predictions.parquet`` has these very cases and probabilities, whatever
    the model is called by now. Models without one share a new run. Each run gets the files of the report under
    ``audit/`` and, of its own models, the metrics of :func:`audit_metrics`. The predictions are not stored again: they
    name patients. A second audit of a run takes the place of the first.

    Args:
        folder: of the report.
        frame: the table that was audited.
        audit: its findings.
        tracking_uri: a database or server; None takes ``MLFLOW_TRACKING_URI``, or sqlite in ``folder``.
        run_id: a run that gets everything; None looks for the runs.

    Returns:
        Model -> id of its run.

    Raises:
        ValueError: if ``run_id`` is unknown, or two metrics would have one name.
        FileNotFoundError: if the folder holds no report.
    """
    files = _report_files(Path(folder))
    uri = resolve_tracking_uri(tracking_uri, folder)
    with quiet():
        experiment = ensure_store(uri, "evenbeat")
        client = MlflowClient(tracking_uri=uri)
        found = _given(client, run_id, audit) if run_id else runs_that_made(frame, audit, client)
        homeless = [model for model in audit.models if model not in found]
        by_run = {run: [model for model in audit.models if found.get(model) == run] for run in found.values()}
        named = {run: audit_metrics(audit, models) for run, models in by_run.items()}
        rest = audit_metrics(audit, homeless)
        for run, metrics in named.items():
            _store(client, run, files, metrics, audit)
        if homeless:
            new = _new_run(client, experiment, files, rest, audit)
            found |= dict.fromkeys(homeless, new)
    return {model: found[model] for model in audit.models}


def audit_metrics(audit: Audited, models: Sequence[str]) -> dict[str, float]:
    """Numbers of an audit under names that a server accepts; what is not estimable is left out.

    ``audit/<split>/<measure>/<column>/<group>``, with ``_low``, ``_high`` and ``_n`` (patients) after the measure;
    ``…/all`` for all patients; ``…/worst/<column>`` for the lowest true value; ``…_effect_p/<column>`` for the test
    of any difference. With several models, each name ends in ``/<model>``.

    Args:
        audit: the findings.
        models: whose numbers are wanted.

    Returns:
        Name -> finite value.

    Raises:
        ValueError: if two would share a name; one would overwrite the other.
    """
    named: dict[str, float] = {}
    origin: dict[str, tuple[str, ...]] = {}
    for model, parts, value in audit.numbers():
        if model not in models:
            continue
        own = [model] if len(models) > 1 else []
        name = "/".join([FOLDER, *map(slug, (audit.plan.split, *parts, *own))])[:LONGEST_NAME]
        other = origin.setdefault(name, (*parts, model))
        if other != (*parts, model):
            raise ValueError(
                f"metrics need different names; {' / '.join(other)} and {' / '.join((*parts, model))} are both "
                f"{name!r}; rename one of them"
            )
        if math.isfinite(value):
            named[name] = float(value)
    return named


def runs_that_made(frame: pd.DataFrame, audit: Audited, client: MlflowClient) -> dict[str, str]:
    """Find the evaluation runs whose stored predictions are those of the table.

    Args:
        frame: predictions table.
        audit: its findings; they say which split and models.
        client: of the server.

    Returns:
        Model -> id of its newest such run; models without one are absent.
    """
    classes = [column for column in frame.columns if str(column).startswith(PREFIX)]
    audited = frame[frame["split"] == audit.plan.split]
    wanted = {model: _by_case(audited[audited["model"] == model], classes) for model in audit.models if classes}
    found: dict[str, str] = {}
    for run in _evaluations(client, audit.plan.split):
        if len(found) == len(wanted):
            break
        stored = _stored(client, run, classes)
        found |= dict.fromkeys((model for model in wanted.keys() - found.keys() if _same(wanted[model], stored)), run)
    return found


def _evaluations(client: MlflowClient, split: str) -> Iterator[str]:
    """Ids of the runs that have stored predictions of a split, newest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments, filter_string=MADE_PREDICTIONS, order_by=["start_time DESC"], max_results=RUNS_LOOKED_AT
    )
    for run in runs:
        run_id, of_split = str(run.info.run_id), run.data.params.get("section", split) == split
        if of_split and any(file.path == PREDICTIONS for file in client.list_artifacts(run_id)):
            yield run_id


def _stored(client: MlflowClient, run: str, classes: Sequence[str]) -> pd.DataFrame | None:
    """Probabilities of a run's predictions by case; None if it has other classes."""
    with tempfile.TemporaryDirectory() as folder:
        table = pd.read_parquet(client.download_artifacts(run, PREDICTIONS, folder))
    return _by_case(table, classes) if {*classes, "case_id"} <= set(table.columns) else None


def _by_case(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    return table.set_index(table["case_id"].astype("str"))[list(classes)].sort_index()


def _same(one: pd.DataFrame, other: pd.DataFrame | None) -> bool:
    if other is None or not one.index.equals(other.index):
        return False
    return bool(np.allclose(one.to_numpy(np.float64), other.to_numpy(np.float64), rtol=0, atol=SAME))


def _given(client: MlflowClient, run_id: str, audit: Audited) -> dict[str, str]:
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        run = None
    if run is None or run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise ValueError(
            f"an audit goes to a run that exists; {run_id!r} is not in this store; check the id and the address, or "
            "leave the id out"
        )
    return dict.fromkeys(audit.models, run_id)


def _report_files(folder: Path) -> list[Path]:
    """Files of the report; others that may lie beside it, predictions above all, stay where they are."""
    if not (folder / "audit.json").is_file():
        raise FileNotFoundError(f"a report must be written before it is logged; nothing at {folder / 'audit.json'}")
    return [folder / name for name in REPORT if (folder / name).is_file()]


def _new_run(
    client: MlflowClient, experiment: str, files: Sequence[Path], metrics: Mapping[str, float], audit: Audited
) -> str:
    tags = {"git_commit": git_commit()} | source_tags("evenbeat audit")
    run = str(client.create_run(experiment, run_name=unique_run_name("audit"), tags=tags).info.run_id)
    status = "FAILED"
    try:
        _store(client, run, files, metrics, audit)
        status = "FINISHED"
    finally:
        client.set_terminated(run, status)
    return run


def _store(client: MlflowClient, run: str, files: Sequence[Path], metrics: Mapping[str, float], audit: Audited) -> None:
    for file in files:
        store_artifact(client, run, f"{FOLDER}/{file.name}", file)
    now = int(time.time() * 1000)  # ms
    points = [Metric(name, value, now, 0) for name, value in metrics.items()]
    for first in range(0, len(points), METRICS_AT_ONCE):
        client.log_batch(run, metrics=points[first : first + METRICS_AT_ONCE])
    client.set_tag(run, "audit_plan", audit.plan.fingerprint[:16])
    logger.info("audit stored with run %s", run)
