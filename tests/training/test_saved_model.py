"""What is said of a saved model is what it says itself, whichever network was validated last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn import functional
from torch.utils.data import DataLoader

from pipeline.tracking.ignite_metrics import GroupMetrics
from pipeline.training.networks import Classifier
from pipeline.training.saved_model import SavedModel

VENDORS = ("GE", "Siemens")


def _items() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.randn(2, 16, 16, generator=generator),
            "label": i % 3,
            "case_id": f"c{i}",
            "patient_id": f"p{i}",
            "vendor": VENDORS[i % 2],
        }
        for i in range(14)
    ]


@pytest.fixture
def network() -> Classifier:
    torch.manual_seed(1)
    return Classifier(classes=3, channels=2, widths=(4, 4, 4, 4)).eval()


def _saved(folder: Path, network: Classifier, **record: Any) -> SavedModel:
    known = {"network": network.settings, "classes": ["x", "y", "z"], "recipe_digest": "abc", "epoch": 7}
    torch.save({"model": network.state_dict(), **known, **record}, folder / "model.pt")
    groups = GroupMetrics(split="validation", columns=["vendor"], gather=False)
    loader = DataLoader(_items(), batch_size=5)  # type: ignore[arg-type]
    return SavedModel(folder / "model.pt", loader, groups=groups, device="cpu")


def test_metrics_and_rows_are_those_of_the_saved_network(network: Classifier, tmp_path: Path) -> None:
    """Accuracy and cross-entropy by vendor, from its logits; there is nothing to gather from other processes."""
    items = _items()
    labels = torch.tensor([item["label"] for item in items])
    with torch.no_grad():
        logits = network(torch.stack([item["image"] for item in items]))
    right, losses = logits.argmax(dim=1) == labels, functional.cross_entropy(logits, labels, reduction="none")
    saved = _saved(tmp_path, network)
    found, rows = saved(), saved.per_group()
    assert found["model/epoch"] == 7
    assert rows is not None
    for first, vendor in enumerate(VENDORS):
        accuracy = float(right[first::2].float().mean())
        assert found[f"model/validation/accuracy/vendor/{vendor.lower()}"] == pytest.approx(accuracy)
        assert found[f"model/validation/loss/vendor/{vendor.lower()}"] == pytest.approx(float(losses[first::2].mean()))
        assert [row["accuracy"] for row in rows if row["group"] == vendor] == [pytest.approx(accuracy)]


def test_one_process_of_several_reads_all_cases_alone(
    network: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others have gone on: to gather would be to wait for ever."""

    def never(*_: Any) -> None:
        raise AssertionError

    saved = _saved(tmp_path, network)
    monkeypatch.setattr(distributed, "all_gather_object", never)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        assert saved()["model/validation/n/vendor/ge"] == 7
    finally:
        distributed.destroy_process_group()


def test_a_retrained_last_layer_counts_by_left_out_patients(network: Classifier, tmp_path: Path) -> None:
    """It was fitted to these cases: what it says of them now is not a validation."""
    fit = {"strength": 1.0, "worst_group_accuracy": {0.1: 0.5, 1.0: 0.75}, "cases": 14, "cells": 6}
    saved = _saved(tmp_path, network, last_layer_fit=fit)
    assert saved() == {"model/epoch": 7, "model/left_out/accuracy/worst": 0.75}
    assert saved.per_group() is None


def test_nothing_random_is_drawn(network: Classifier, tmp_path: Path) -> None:
    saved = _saved(tmp_path, network)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    saved()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
