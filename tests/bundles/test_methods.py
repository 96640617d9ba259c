"""Every overlay of the training bundles trains, and is recorded as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.bundles import bundle_folders
from pipeline.training.checkpoint import load_checkpoint

TEACHER, STUDENT = "cardiac_cine_teacher", "cardiac_cine_student"
VENDORS = ("Canon", "GE", "Philips", "Siemens")
OVERLAYS = [
    (bundle, path.stem)
    for bundle in (TEACHER, STUDENT)
    for path in sorted((bundle_folders()[bundle] / "configs" / "methods").glob("*.yaml"))
]


@pytest.fixture(scope="module")
def of_vendors(trained_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The teacher four times, each as if it were made for one vendor."""
    folder = tmp_path_factory.mktemp("teachers")
    made = torch.load(trained_teacher / "model.pt", weights_only=True)
    for vendor in VENDORS:
        torch.save({**made, "only_group": vendor}, folder / f"{vendor}.pt")
    return [str(folder / f"{vendor}.pt") for vendor in VENDORS]


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "name"), OVERLAYS, ids=[f"{bundle[13:]}-{name}" for bundle, name in OVERLAYS])
def test_an_overlay_trains_by_itself_and_its_settings_are_those_of_the_model(
    bundle: str,
    name: str,
    workflow: Callable[..., Any],
    small: dict[str, Any],
    of_vendors: list[str],
    trained_teacher: Path,
    tmp_path: Path,
) -> None:
    overlay = yaml.safe_load((bundle_folders()[bundle] / "configs" / "methods" / f"{name}.yaml").read_text())
    short = {**small, "num_epochs": 1, "views": 2, "output_dir": str(tmp_path), "cache_dir": str(tmp_path / "cache")}
    needed: dict[str, Any] = {}
    if bundle == STUDENT and overlay.get("teacher_checkpoints") != []:
        needed["teacher_checkpoints"] = of_vendors if "combination" in overlay else of_vendors[:1]
    if name == "agre_kd":
        needed["biased_checkpoint"] = str(trained_teacher / "model.pt")
    if name == "one_group":
        needed |= {"only_group": "GE", "start_checkpoint": str(trained_teacher / "model.pt")}
    if name == "dfr":
        needed["last_layer_retraining#folds"] = 3  # four validation patients of each class
    finished = workflow(bundle, ["train.yaml", f"methods/{name}.yaml"], **{**short, **needed})

    saved = load_checkpoint(tmp_path / "model.pt")
    settings = {key: value for key, value in overlay.items() if key in saved and key not in short}
    assert {key: saved[key] for key in settings} == {
        key: str(value) if key == "combination_weights" else value for key, value in settings.items()
    }
    weights = finished.parser.get_parsed_content("objective").figures("vendor")
    assert len(weights) == (4 if saved["weighting"] == "groups" else 0)
    assert sum(weights.values()) == pytest.approx(len(weights) / 4, abs=1e-5)
