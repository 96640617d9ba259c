"""Tools of a benchmark that take no time: a training writes its overrides, a measurement is a function of them."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipeline.benchmark.plan import Plan, plan_of
from pipeline.benchmark.records import HeldOut
from pipeline.benchmark.tools import Tools
from pipeline.cohort.case import Case, Datalist, write_datalist

HELD_OUT = HeldOut(("NOR", "HCM"), ("GE", "Philips"), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.arange(4))


def plan(**changes: Any) -> Plan:
    """Two students of a teacher of two members, beside one without a teacher."""
    raw: dict[str, Any] = {
        "name": "fake",
        "question": "Does the engine keep its promises?",
        "cohort": {"kind": "phantom", "settings": {"studies": 24}},
        "seeds": "0-1",
        "budget": {"teacher": {"num_epochs": 2}, "student": {"num_epochs": 3}},
        "teachers": {
            "teacher": {"measure": True, "each": [{"overrides": {"weight_decay": 0.1}}, {"seed_offset": 100}]}
        },
        "models": {
            "erm": {"overlays": ["methods/erm.yaml"]},
            "kd": {"overlays": ["methods/kd.yaml"], "teachers": ["teacher"]},
            "groupdistil": {"teachers": ["teacher"], "overrides": {"group_step": 0.1}},
        },
    }
    return plan_of(raw | changes)


def prepare_pool(cohorts: Any, folder: Path, workers: int) -> None:
    """Nothing is shared."""


def build_cohort(cohorts: Any, *, seed: int, fold: int | None, folds: int, folder: Path) -> Path:
    """One case per section."""
    case = Case("a", "a", "NOR", "1", "GE", "GE", image=Path("a.npz"), ed=0, es=1)
    path = folder / "cohorts" / f"{cohorts.confounding}-{seed}-{fold}" / "datalist.json"
    write_datalist(Datalist(("NOR", "HCM"), "fake", ("vendor",), {"training": (case,)}, "fakes"), path)
    return path


def database(folder: Path, plans: Sequence[str]) -> str:
    """No database."""
    return "sqlite:///none"


def train(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Leave the overrides, paths left out, as the model; read the teachers, as a training would."""
    home = Path(overrides["output_dir"])
    taught = [Path(path).read_text() for path in overrides.get("teacher_checkpoints", [])]
    decides = {"bundle": bundle, "configs": list(configs), "taught": taught}
    decides |= {key: overrides[key] for key in ("num_epochs", "weight_decay", "group_step", "seed") if key in overrides}
    (home / "last.pt").write_text("state")
    if "cache_dir" in overrides:
        Path(overrides["cache_dir"]).mkdir(parents=True, exist_ok=True)
    (home / "model.pt").write_text(json.dumps(decides, sort_keys=True))


def train_slowly(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Leave time to be killed in."""
    time.sleep(0.3)
    train(bundle, configs, overrides)


def measure(model_path: Path, datalist: Path, *, evaluate: Mapping[str, Any]) -> Any:
    """Figures drawn by the model's text."""
    rng = np.random.default_rng(zlib.crc32(model_path.read_bytes()))
    chance = rng.uniform(size=4).round(2)
    row = {"parameters": 10, "accuracy": float(chance[0])}
    return SimpleNamespace(
        row=row,
        held_out=HELD_OUT,
        probabilities=np.stack([chance, 1 - chance], axis=1),
        extra={"asked": dict(evaluate)},
    )


def training_size(bundle: str, configs: Sequence[str], overrides: Mapping[str, Any]) -> int:
    """Teachers see fewer cases."""
    return 7 if "teacher" in bundle else 9


def curves(model_path: Path, tracking_uri: str) -> dict[str, Any]:
    """Of a model that weights groups."""
    return {"epoch": [1]} if "group_step" in model_path.read_text() else {}


TOOLS = Tools(prepare_pool, build_cohort, database, train, measure, training_size, curves)
SLOW_TOOLS = replace(TOOLS, run_bundle=train_slowly)
