"""The summary picture as a DICOM Secondary Capture: every viewer shows it, also those that show no report."""

from __future__ import annotations

import numpy as np
from highdicom import PhotometricInterpretationValues
from highdicom.sc import SCImage
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.deployment.source_headers import reference
from pipeline.deployment.uids import MANUFACTURER, UNNAMED

SERIES_NUMBER = 9102


def secondary_capture(picture: NDArray[np.uint8], header: Dataset) -> SCImage:
    """Build the image. Patient, study and its own UIDs are left open: they are put in later.

    Args:
        picture: ``(height, width, 3)``, RGB, without patient data.
        header: of one of the study's images.

    Raises:
        ValueError: if the picture is not of that form.
    """
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8 (height, width, 3), got {picture.dtype} {picture.shape}")
    image = SCImage(
        pixel_array=picture,
        photometric_interpretation=PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=reference(header).StudyInstanceUID,
        series_instance_uid=UNNAMED,
        series_number=SERIES_NUMBER,
        sop_instance_uid=UNNAMED,
        instance_number=1,
        manufacturer=MANUFACTURER,
    )
    image.PatientOrientation = []  # a page has no left and right of a patient
    image.BodyPartExamined = "HEART"
    image.ConversionType = "SYN"
    image.BurnedInAnnotation = "NO"
    image.RecognizableVisualFeatures = "NO"
    image.LossyImageCompression = "00"
    return image
