"""Curves of a training: what the bundles log, in a real database, becomes what the page draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from pipeline.benchmark.curves import training_curves
from pipeline.benchmark.tools import make_database
from pipeline.tracking.ignite_metrics import GroupMetrics
from pipeline.training.objective import DistillationObjective

SIZES = {"GE": 9, "Hôpital (3 T)": 6, "Canon": 4}  # Canon has no validation case


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_database(tmp_path_factory.mktemp("store"), ["plan"])


def trained(database: str, folder: Path, weighting: Any, validated: tuple[int, ...]) -> Path:
    """A model and its run of three epochs, logged under the names that objective and metrics give."""
    client = MlflowClient(tracking_uri=database)
    run = client.create_run(client.get_experiment_by_name("benchmark-plan").experiment_id).info.run_id
    objective = DistillationObjective(list(SIZES), list(SIZES.values()), weighting=weighting)
    for epoch in (1, 2, 3):
        objective.group_weights.weights = torch.tensor([0.12345 * epoch, 0.5, 0.5 - 0.12345 * epoch])
        logged = {**objective.figures("vendor"), **(validation(0.5 * epoch) if epoch in validated else {})}
        for name, value in logged.items():
            client.log_metric(run, name, value, step=epoch)
    record = {
        "mlflow_run_id": run,
        "group_by": "vendor",
        "training_groups": SIZES,
        "classes": [],
        "recipe_digest": "",
    }
    torch.save({"model": {}, "network": {"architecture": "resnet"}, **record}, folder / "model.pt")
    return folder / "model.pt"


def validation(margin: float) -> dict[str, float]:
    """One case of each of two vendors: right by the margin, and undecided."""
    metrics = GroupMetrics(split="validation", columns=["vendor"], known_groups={"vendor": list(SIZES)})
    cases = [{"case_id": v, "patient_id": v, "vendor": v} for v in list(SIZES)[:2]]
    metrics.update((cases, [{"pred": torch.tensor([margin, 0.0]), "label": 0}, {"pred": torch.zeros(2), "label": 1}]))
    return metrics.compute()


def test_weights_and_losses_go_by_the_groups_names_in_the_epochs_that_have_both(database: str, tmp_path: Path) -> None:
    """Loss of a margin m is log(1 + exp(-m)), here 0.474 and 0.201; that of an undecided case log 2."""
    curves = training_curves(trained(database, tmp_path, "groups", (1, 3)), database)
    assert curves == {
        "epoch": [1, 3],
        "weights": {"GE": [0.123, 0.370], "Hôpital (3 T)": [0.5, 0.5], "Canon": [0.377, 0.130]},
        "loss": {"GE": [0.474, 0.201], "Hôpital (3 T)": [0.693, 0.693]},
    }


def test_a_method_that_does_not_weight_groups_has_no_curves(database: str, tmp_path: Path) -> None:
    assert training_curves(trained(database, tmp_path, "cases", (1, 2, 3)), database) == {}
