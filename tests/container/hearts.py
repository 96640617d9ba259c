"""Synthetic beating hearts as a scanner files them, and a student that has learned nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.cohort.phantom import affine_of, render_study
from pipeline.cohort.phantom_plan import Settings, draw_studies
from pipeline.training.networks import Classifier
from tests.dicom.dicom_writer import base, clock, geometry, new_uid, pixels, to_bytes
from transforms.recipe import StudentInput

CLASSES = ("NOR", "DCM", "HCM", "ARV")
NAME = "Canary^Carla"  # must not be found in anything but DICOM


def write_heart(folder: Path, seed: int = 1) -> Path:
    """Write a short-axis cine as classic images of one series, and a report that is no image.

    Args:
        folder: is made.
        seed: of heart, scanner and UIDs.

    Returns:
        The folder.
    """
    settings = Settings(seed=seed, test_per_cell=1)
    drawn = next(study for study in draw_studies(settings) if study.part == "Testing")
    cine, affine = render_study(drawn, settings)[0], affine_of(drawn)
    folder.mkdir(parents=True)
    phases, slices = cine.shape[:2]
    for slice_ in range(slices):
        for phase in range(phases):
            image = _image(seed, slice_ * phases + phase, cine[phase, slice_], affine, slice_)
            image.TriggerTime, image.CardiacNumberOfImages = f"{phase * 800 / phases:.2f}", str(phases)
            image.AcquisitionTime = clock(36_000 + 20 * slice_)
            (folder / f"image{image.InstanceNumber:05d}").write_bytes(to_bytes(image))
    return folder


def write_checkpoint(path: Path, seed: int = 0) -> nn.Module:
    """Write a ``model.pt`` of random weights, as a training bundle does.

    Returns:
        Its network.
    """
    torch.manual_seed(seed)
    recipe = StudentInput()
    network = Classifier(classes=len(CLASSES), channels=2 * recipe.slices).eval()
    torch.save(
        {
            "model": network.state_dict(),
            "network": network.settings,
            "classes": list(CLASSES),
            "recipe": recipe.to_dict(),
            "recipe_digest": recipe.digest,
            "training_groups": {"Siemens": 95, "Philips": 125},
            "group_by": "vendor",
            "bundle": "cardiac_cine_student",
            "method": "kd",
        },
        path,
    )
    return network


def _image(seed: int, index: int, values: np.ndarray, affine: np.ndarray, slice_: int):  # noqa: ANN202  a Dataset
    data = base(seed, 1, index)
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = NAME, "canary-17", "19600229", "F"
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20260102", "100000", "canary-acc", "1"
    data.ReferringPhysicianName, data.InstitutionName = "Canary^Doctor", "Canary Hospital"
    data.SeriesDescription, data.ManufacturerModelName = "canary sax", "Canary One"
    data.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    data.ScanningSequence, data.SequenceName, data.MRAcquisitionType = "GR", "*tfi2d1_12", "2D"
    data.EchoTime, data.RepetitionTime, data.FlipAngle, data.NominalInterval = "1.5", "3.3", "45", "800"
    data.FrameOfReferenceUID, data.InstanceNumber = new_uid(seed, 3, 0), index + 1
    lps = affine[:3] * [[-1], [-1], [1]]  # RAS to LPS [mm]
    columns, rows = np.linalg.norm(lps[:, 0]), np.linalg.norm(lps[:, 1])
    place = lps @ [0, 0, slice_, 1]
    geometry(data, place, np.concatenate([lps[:, 0] / columns, lps[:, 1] / rows]), (rows, columns))
    pixels(data, values)
    return data
