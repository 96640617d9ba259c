"""Studies as they lie in a hospital's folder: beating hearts in DICOM and NIfTI, small enough for many tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom.dataset import Dataset

from pipeline.deployment.selftest import beating_heart
from tests.dicom.dicom_writer import LAYOUTS, Study, cine_study, pixels, to_bytes

MATRIX = 64
MODEL = "Avanto"


def beating_study(seed: int = 3, layout: str = "B: one series, slice-major") -> Study:
    """A study of the writer with a beating disc in place of its noise."""
    study = cine_study(seed, LAYOUTS[layout])
    row, col = np.mgrid[:MATRIX, :MATRIX]
    for name, keys in study.contents.items():
        discs = [_disc(row, col, phase / study.plan.phases, place) for place, _, phase in keys]
        data = study.files[name]
        pixels(data, np.stack(discs) if len(discs) > 1 else discs[0])
        data.ManufacturerModelName = MODEL
    return study


def _disc(row: np.ndarray, col: np.ndarray, time: float, place: int) -> np.ndarray:
    """Smaller from slice to slice, so that the order of the slices shows."""
    radius = (12 + 4 * np.cos(2 * np.pi * time)) * (1 - 0.03 * place)
    return np.asarray(100 + 400 * np.clip(radius - np.hypot(row - 30, col - 33), 0, 1)).astype(np.int16)


def write_dicom(folder: Path, study: Study, change: Callable[[Dataset], None] | None = None) -> Path:
    """Write a study's files.

    Args:
        folder: made.
        study: from :func:`beating_study`.
        change: done to each data set before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in study.files.items():
        if change is not None:
            change(data)
        (folder / name).write_bytes(to_bytes(data))
    return folder


def write_nifti(folder: Path, facts: dict[str, Any] | None = None, *, name: str = "cine.nii.gz") -> Path:
    """Write the heart of the self-test.

    Args:
        folder: made.
        facts: on its scanner; no file without them.
        name: of the image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cine, affine = beating_heart()
    nibabel.save(nibabel.Nifti1Image(cine.astype(np.int16).transpose(3, 2, 1, 0), affine), folder / name)
    if facts is not None:
        (folder / f"{name.partition('.')[0]}.json").write_text(json.dumps(facts))
    return folder
