"""Group weights and group losses over the epochs of a training, from where it was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from pipeline.tracking.group_metrics import slug
from pipeline.tracking.mlflow_store import quiet
from pipeline.training.checkpoint import load_checkpoint

DIGITS = 3  # behind the point

History = dict[int, float]  # epoch -> value


def training_curves(model_path: str | Path, tracking_uri: str) -> dict[str, Any]:
    """Weight and validation loss of each training group, in the epochs that have both.

    Args:
        model_path: ``model.pt``, which names its run.
        tracking_uri: of the MLflow database.

    Returns:
        ``epoch``, and by group ``weights`` and ``loss`` [nats], one value per epoch; a group without a validation case
        has no loss. Nothing for a method that does not weight groups.
    """
    record = load_checkpoint(model_path)
    column = record["group_by"]  # one text, as a training's settings have it
    names = {"weights": f"train/group_weight/{column}", "loss": f"validation/loss/{slug(column)}"}
    with quiet():
        client = MlflowClient(tracking_uri=tracking_uri)
        parts = {
            part: _histories(
                client, record["mlflow_run_id"], {g: f"{name}/{slug(g)}" for g in record["training_groups"]}
            )
            for part, name in names.items()
        }
    if not parts["weights"]:
        return {}
    histories = [history for lines in parts.values() for history in lines.values()]
    epochs = sorted(set.intersection(*(set(history) for history in histories)))
    curves = {
        part: {group: [round(history[epoch], DIGITS) for epoch in epochs] for group, history in lines.items()}
        for part, lines in parts.items()
    }
    return {"epoch": epochs, **curves}


def _histories(client: MlflowClient, run_id: str, metrics: Mapping[str, str]) -> dict[str, History]:
    """What the run has of each group's metric; groups without one are left out."""
    found = {
        group: {point.step: point.value for point in client.get_metric_history(run_id, metric)}
        for group, metric in metrics.items()
    }
    return {group: history for group, history in found.items() if history}
