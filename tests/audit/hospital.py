"""A hospital's studies, and the audit that they are compared with."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.audit.findings import Measure
from pipeline.audit.intervals import proportion_interval
from pipeline.audit.records import FORMAT_VERSION
from pipeline.audit.statistics import Estimate
from pipeline.tracking.predictions import predictions_frame

ACCURACY = Measure("accuracy", "Accuracy")
HD95 = Measure("hd95_mm", "HD95", unit="mm", better="lower", scale="plain", margin=1.0)
CLASSES = ["NOR", "HCM"]


def share(right: int, n: int) -> Estimate:
    """Wilson's, one patient per row."""
    return proportion_interval(np.repeat([1.0, 0.0], [right, n - right]), np.arange(n), min_patients=10)


def row(column: str, group: str, found: Estimate, measure: str = "accuracy", model: str = "student") -> dict[str, Any]:
    record = {"model": model, "column": column, "group": group, "measure": measure, "interval": found.interval}
    numbers = {
        "n_patients": found.n_patients,
        "n_rows": found.n_rows,
        "value": found.value,
        "low": found.low,
        "high": found.high,
    }
    plain = {key: None if isinstance(n, float) and math.isnan(n) else n for key, n in numbers.items()}
    return record | plain | {"estimable": found.estimable, "reason": found.reason}


def record_of(groups: dict[str, Estimate], everyone: Estimate, **plan: Any) -> dict[str, Any]:
    """An audit.json of accuracy by vendor."""
    rows = [row("vendor", group, found) for group, found in groups.items()] + [row("all", "all", everyone)]
    teacher = [record | {"model": "teacher"} for record in rows]
    frozen = {"group_by": ["vendor"], "metrics": ["accuracy", "auc"], "min_patients": 10, "split": "test"}
    return {
        "version": FORMAT_VERSION,
        "groups": teacher + rows,
        "classes": CLASSES,
        "measures": [asdict(ACCURACY)],
        "plan": frozen | {"reference_model": "teacher"} | plan,
        "fingerprint": "0123456789abcdef",
    }


def write_audit(folder: Path) -> Path:
    """Siemens and GE with 200 patients each, Canon with four, UIH with none; as in a student package."""
    groups = {"Siemens": share(180, 200), "GE": share(160, 200), "Canon": share(4, 4), "UIH": share(0, 0)}
    path = folder / "student" / "audit.json"
    path.parent.mkdir()
    path.write_text(json.dumps(record_of(groups, share(344, 404))))
    return path


def studies(right: int, wrong: int, vendor: str = "Siemens", rows: int = 1) -> pd.DataFrame:
    """One patient per answer, with so many rows each."""
    answers = np.repeat([True, False], [right * rows, wrong * rows])
    records = [
        {"case_id": f"{vendor}-{i}", "patient_id": f"Doe^Jane {vendor} {i // rows}", "label": "HCM", "vendor": vendor}
        for i in range(len(answers))
    ]
    scores = np.where(answers, 0.9, 0.2)
    return predictions_frame(records, np.c_[1 - scores, scores], CLASSES, split="test", model="student")
