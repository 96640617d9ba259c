"""The two tables of a phantom cohort: M&Ms' own, and the truth; and what the truth allows a reader to reach."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cohort.phantom_anatomy import PATHOLOGIES, class_probabilities
from pipeline.cohort.phantom_plan import VENDORS, Study
from pipeline.files import atomic_path

TABLE_NAME = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
TRUTH_NAME = "phantom_truth.csv"

_VENDOR_LETTERS = dict(zip(VENDORS, "ABCD", strict=True))


def best_possible_accuracy(truth_csv: str | Path) -> dict[str, Any]:
    """Accuracy on the test part of a reader who sees the true anatomy and names the most probable pathology.

    Args:
        truth_csv: the ``phantom_truth.csv`` of a cohort.

    Returns:
        ``overall``: accuracy on these studies; ``expected``: mean probability of the named pathology, steadier where
        studies are few; ``by_vendor``: accuracy per vendor; ``n``: test studies.

    Raises:
        FileNotFoundError: if the table is absent.
        ValueError: if it has no test study.
    """
    path = Path(truth_csv)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "Testing"]
    if not rows:
        raise ValueError(f"{path.name} must hold test studies; it has none; write the cohort with test_per_cell > 0")
    chances = np.array([[float(row[f"prob_{name}"]) for name in PATHOLOGIES] for row in rows])
    labels = np.array([PATHOLOGIES.index(row["pathology"]) for row in rows])
    vendors = np.array([row["vendor"] for row in rows])
    right = chances.argmax(axis=1) == labels
    return {
        "overall": float(right.mean()),
        "expected": float(chances.max(axis=1).mean()),
        "by_vendor": {vendor: float(right[vendors == vendor].mean()) for vendor in VENDORS if vendor in vendors},
        "n": len(rows),
    }


def write_tables(root: Path, studies: Sequence[Study]) -> None:
    """Write M&Ms' table and the truth beside it, sorted by code so that the order tells nothing."""
    _write_csv(root / TABLE_NAME, [{"": i, **_mnms_row(study)} for i, study in enumerate(_by_code(studies))])
    _write_csv(root / TRUTH_NAME, [_truth_row(study) for study in _by_code(studies)])


def _by_code(studies: Sequence[Study]) -> list[Study]:
    return sorted(studies, key=lambda study: study.code)


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _mnms_row(study: Study) -> dict[str, Any]:
    return {
        "External code": study.code,
        "VendorName": study.vendor,
        "Vendor": _VENDOR_LETTERS[study.vendor],
        "Centre": study.site,
        "ED": study.ed,
        "ES": study.es,
        "Age": study.age,
        "Pathology": study.pathology,
        "Sex": study.sex,
        "Height": study.height_cm,
        "Weight": study.weight_kg,
    }


def _truth_row(study: Study) -> dict[str, Any]:
    anatomy, look = study.anatomy, study.appearance
    measures = {**asdict(anatomy)}
    for name in ("lv_edv_ml", "lv_esv_ml", "rv_edv_ml", "rv_esv_ml"):
        measures[name] = getattr(anatomy, name)
    for axis, millimetres in zip("xyz", study.origin_mm, strict=True):
        measures[f"heart_{axis}_mm"] = millimetres
    for name in ("field_strength_t", "flip_angle_deg", "bias_amplitude", "resolution", "noise_sd"):
        measures[name] = getattr(look, name)
    return {
        "code": study.code,
        "part": study.part,
        "vendor": study.vendor,
        "pathology": study.pathology,
        "ed": study.ed,
        "es": study.es,
        "storage": study.storage,
        **{name: f"{value:.6g}" for name, value in measures.items()},
        **{f"prob_{name}": f"{chance:.6g}" for name, chance in class_probabilities(anatomy).items()},
    }
