"""An audit goes to the runs that made the predictions, under names that a server takes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.validation import _validate_metric_name

from pipeline.audit.findings import Audit
from pipeline.audit.report import TABLES
from pipeline.tracking.audit_run import REPORT, audit_metrics, log_audit, runs_that_made
from pipeline.tracking.mlflow_artifacts import store_artifact
from pipeline.tracking.mlflow_store import ensure_store, resolve_tracking_uri
from pipeline.tracking.predictions import predictions_frame
from tests.audit.made import ACCURACY, AUC, MODELS, made_audit


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a database; making one takes seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        uri = resolve_tracking_uri(None, folder)
    ensure_store(uri, "evenbeat")
    return uri


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    assert "MLFLOW_TRACKING_URI" not in os.environ


@pytest.fixture(scope="module")
def audit() -> Audit:
    """Three models, six vendors, UIH with four patients and Hitachi with none."""
    return made_audit(measures=(ACCURACY, AUC))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A folder with a report, and beside it what is nobody's business."""
    folder = tmp_path / "report"
    folder.mkdir()
    for name in ("audit.json", "audit.html", "groups.csv", "plan.yaml", "local.csv", "model.pt"):
        (folder / name).write_text(name)
    return folder


def table(seed: int) -> pd.DataFrame:
    """Predictions of every model on 30 patients."""
    rng = np.random.default_rng(seed)
    records = [{"case_id": f"c{seed}-{i}", "patient_id": f"Doe^Jane {i}", "label": "NOR"} for i in range(30)]
    return pd.concat(
        [
            predictions_frame(records, rng.dirichlet([2, 1, 1], 30), ("NOR", "HCM", "DCM"), split="test", model=model)
            for model in MODELS
        ],
        ignore_index=True,
    )


def evaluated(store: str, predictions: pd.DataFrame, split: str = "test") -> str:
    """An evaluation run as the bundles leave it: finished, with its predictions."""
    client = MlflowClient(tracking_uri=store)
    run = client.create_run(ensure_store(store, "evenbeat"), tags={"trained_run_id": "abc"})
    client.log_param(run.info.run_id, "section", split)
    store_artifact(client, run.info.run_id, "predictions.parquet", predictions)
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def recorded(store: str, run_id: str) -> Run:
    return MlflowClient(tracking_uri=store).get_run(run_id)


def artifacts(store: str, run_id: str, path: str | None = None) -> set[str]:
    return {file.path for file in MlflowClient(tracking_uri=store).list_artifacts(run_id, path)}


def test_each_model_gets_its_report_on_the_run_that_made_its_predictions(
    store: str, audit: Audit, report: Path
) -> None:
    """Found by the predictions: rows in another order, the model called otherwise, CSV's rounding.

    A model without a run gets a new one.
    """
    frame = table(1)
    runs = {}
    for model in MODELS[:2]:
        own = frame[frame["model"] == model].sample(frac=1, random_state=0)
        noise = own[["prob_NOR", "prob_HCM", "prob_DCM"]] + 1e-9
        runs[model] = evaluated(store, own.assign(model="student (kd)", **noise))
    found = log_audit(report, frame, audit, store)
    assert {model: found[model] for model in MODELS[:2]} == runs
    for model, run_id in found.items():
        run = recorded(store, run_id)
        expected = audit.find(model, "vendor", "GE", "accuracy")
        metrics = run.data.metrics
        assert metrics["audit/test/accuracy/vendor/ge"] == expected.value
        assert metrics["audit/test/accuracy_low/vendor/ge"] == expected.low
        assert metrics["audit/test/accuracy_n/vendor/ge"] == expected.n_patients
        assert run.info.status == "FINISHED"
        assert run.data.tags["audit_plan"] == audit.plan.fingerprint[:16]
        assert artifacts(store, run_id, "audit") == {
            f"audit/{name}" for name in ("audit.json", "audit.html", "groups.csv", "plan.yaml")
        }
    new = recorded(store, found[MODELS[2]])
    assert new.info.run_name.startswith("audit-")
    assert artifacts(store, new.info.run_id) == {"audit"}


def test_runs_are_told_apart_by_their_cases_their_numbers_and_their_split(store: str, audit: Audit) -> None:
    """Of two alike, the newer one."""
    frame, client = table(2), MlflowClient(tracking_uri=store)
    own = frame[frame["model"] == "teacher"]
    evaluated(store, own.assign(prob_NOR=own["prob_HCM"], prob_HCM=own["prob_NOR"]))
    evaluated(store, own.iloc[1:])
    evaluated(store, own.drop(columns="prob_DCM"))
    evaluated(store, own, split="validation")
    assert runs_that_made(frame, audit, client) == {}
    evaluated(store, own)
    newest = evaluated(store, own)
    assert runs_that_made(frame, audit, client) == {"teacher": newest}
    endpoints = frame.drop(columns=["prob_NOR", "prob_HCM", "prob_DCM"])
    assert runs_that_made(endpoints, audit, client) == {}


def test_a_named_run_gets_all_models_each_under_its_name(store: str, audit: Audit, report: Path) -> None:
    """And a second audit takes the place of the first."""
    run_id = evaluated(store, table(3))
    for again in (audit, replace(audit, rows=audit.rows[::-1])):
        assert log_audit(report, table(4), again, store, run_id) == dict.fromkeys(MODELS, run_id)
    metrics = recorded(store, run_id).data.metrics
    for model in MODELS:
        assert metrics[f"audit/test/auc/all/{model}"] == audit.find(model, "all", "all", "auc").value
    with pytest.raises(ValueError, match="'0123' is not in this store"):
        log_audit(report, table(4), audit, store, "0123")


def test_names_are_taken_by_the_server_and_what_is_not_estimable_has_none(audit: Audit) -> None:
    """UIH has a value without an interval, Hitachi neither; the worst group has its simultaneous interval."""
    metrics = audit_metrics(audit, ["teacher"])
    for name, value in metrics.items():
        _validate_metric_name(name)
        assert math.isfinite(value)
    of_uih = {name for name in metrics if name.endswith("vendor/uih") and "accuracy" in name}
    assert of_uih == {"audit/test/accuracy/vendor/uih", "audit/test/accuracy_n/vendor/uih"}
    assert metrics["audit/test/accuracy_n/vendor/hitachi"] == 0
    assert "audit/test/accuracy/vendor/hitachi" not in metrics
    (lowest,) = (row for row in audit.worst if (row.model, row.column, row.measure) == ("teacher", "vendor", "auc"))
    assert lowest.interval is not None
    assert metrics["audit/test/auc_low/worst/vendor"] == lowest.interval.low
    (effect,) = (r.effect for r in audit.effects if (r.model, r.column, r.measure) == ("teacher", "sex", "auc"))
    assert metrics["audit/test/auc_effect_p/sex"] == effect.p


def test_two_groups_under_one_name_are_refused() -> None:
    """Skyra (3T) and Skyra 3T: one would overwrite the other."""
    audit = made_audit({"scanner": {"Skyra (3T)": 20, "Skyra 3T": 20}}, models=["mine"], measures=(ACCURACY,))
    with pytest.raises(
        ValueError, match=r"accuracy / scanner / Skyra \(3T\) / mine and .*'audit/test/accuracy/scanner"
    ):
        audit_metrics(audit, ["mine"])


def test_every_file_of_a_report_is_stored() -> None:
    """And nothing else: what lies beside it may name patients. The command adds the plan."""
    assert set(REPORT) == {*TABLES, "model_card.md", "audit.html", "audit.json", "plan.yaml"}


def test_without_a_report_nothing_is_logged(tmp_path: Path, audit: Audit) -> None:
    with pytest.raises(FileNotFoundError, match="written before it is logged"):
        log_audit(tmp_path, table(5), audit, f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []
