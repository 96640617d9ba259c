"""A tiny MnM2 folder in the making, for tests of its importer."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from pipeline.cohort.case import Case, Datalist
from pipeline.cohort.mnms2 import import_mnms2

TABLE = "dataset_information.csv"
COLUMNS = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")
VENDORS = {"A": "SIEMENS", "B": "Philips Medical Systems", "C": "GE MEDICAL SYSTEMS"}
MODELS = {"A": "SymphonyTim", "B": "Achieva", "C": "SIGNA EXCITE"}
SHAPE = (12, 10, 3, 6)
AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])
KINDS = ("CINE", "ED", "ED_gt", "ES", "ES_gt")
ED, ES = 4, 1


def cine_of(seed: int = 0) -> np.ndarray:
    """A chest that stays and a heart that changes, with noise: neighbouring phases are alike, none is another."""
    generator = np.random.default_rng(seed)
    chest = generator.uniform(0, 300, SHAPE[:3])
    beat = 60 * np.sin(2 * np.pi * np.arange(SHAPE[3]) / SHAPE[3])
    cine = chest[..., None] + generator.uniform(0, 1, (*SHAPE[:3], 1)) * beat + generator.normal(0, 15, SHAPE)
    return np.clip(cine, 0, None).astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@dataclass
class Tree:
    """An MnM2 folder in the making."""

    root: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def row(self, code: object, disease: str = "NOR", vendor: str = "A", **changes: Any) -> None:
        row = {"SUBJECT_CODE": code, "DISEASE": disease, "VENDOR": VENDORS[vendor], "SCANNER": MODELS[vendor]}
        self.rows.append(row | {"FIELD": 1.5} | changes)

    def path(self, code: int, kind: str) -> Path:
        return self.root / "dataset" / f"{code:03d}" / f"{code:03d}_SA_{kind}.nii.gz"

    def subject(self, code: int, disease: str = "NOR", vendor: str = "A", **changes: Any) -> np.ndarray:
        """A row with its folder: cine, ED = phase 4 and ES = phase 1, their masks, and a long axis to be ignored."""
        self.row(code, disease, vendor, **changes)
        cine = cine_of(code)
        masks = {"ED_gt": np.ones(SHAPE[:3], np.uint8), "ES_gt": np.ones(SHAPE[:3], np.uint8)}
        for kind, array in {"CINE": cine, "ED": cine[..., ED], "ES": cine[..., ES], **masks}.items():
            save(self.path(code, kind), array)
        save(self.root / "dataset" / f"{code:03d}" / f"{code:03d}_LA_CINE.nii.gz", cine[:, :, :1])
        return cine

    def write(self, *, columns: tuple[str, ...] = COLUMNS, padding: int = 3) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / TABLE).open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(columns)
            out.writerows([row.get(column, "") for column in columns] for row in self.rows)
            file.write((",,,,\n") * padding)
        return self.root / TABLE

    def imported(self, **settings: Any) -> Datalist:
        if not (self.root / TABLE).exists():
            self.write()
        settings = {"classes": ("NOR", "HCM", "ARR")} | settings
        return import_mnms2(self.root, progress=False, **settings)


def the_case(datalist: Datalist) -> Case:
    [(_, case)] = datalist.cases()
    return case


def reason(datalist: Datalist, code: str) -> str:
    [found] = [item["reason"] for item in datalist.set_aside if item["case_id"] == code]
    return found


def notes_on(datalist: Datalist, code: str) -> list[str]:
    return [note.removeprefix(f"{code}: ") for note in datalist.notes if note.startswith(f"{code}: ")]
