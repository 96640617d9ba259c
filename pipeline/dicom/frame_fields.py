"""What an image's elements say of its place, its time and its acquisition, classic and enhanced spellings alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pipeline.dicom.frame_records import StudyTags
from pipeline.dicom.values import Values

OLDEST_YEARS = 90.0  # an age above it identifies
SEQUENCES: Mapping[str, tuple[str, ...]] = {"GRADIENT": ("GR",), "SPIN": ("SE",), "BOTH": ("SE", "GR")}


def place_fields(values: Values) -> dict[str, Any]:
    """Where an image lies: fields of :class:`pipeline.dicom.frame_records.Frame`."""
    position, spacing = values.numbers("ImagePositionPatient"), values.numbers("PixelSpacing")
    orientation = values.numbers("ImageOrientationPatient")
    return {
        "position": position if position and len(position) == 3 else None,
        "orientation": orientation if orientation and len(orientation) == 6 else None,
        "pixel_spacing": spacing if spacing and len(spacing) == 2 and min(spacing) > 0 else None,
        "thickness_mm": values.positive("SliceThickness"),
        "slice_location_mm": values.number("SliceLocation"),
        "in_stack_position": values.integer("InStackPositionNumber"),
        "stack_id": values.text("StackID"),
    }


def time_fields(values: Values) -> dict[str, Any]:
    """When an image was taken, in the heartbeat and in the day."""
    delays = ("NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime")
    acquired = ("FrameAcquisitionDateTime", "AcquisitionTime", "AcquisitionDateTime")
    numbers = ("FrameAcquisitionNumber", "AcquisitionNumber")
    rate = values.positive("HeartRate")
    intervals = (*map(values.positive, ("NominalInterval", "RRIntervalTimeNominal")), 60_000 / rate if rate else None)
    return {
        "trigger_ms": values.number("TriggerTime"),
        "delay_ms": _first(*map(values.number, delays)),
        "cycle_percent": values.number("NominalPercentageOfCardiacPhase"),
        "temporal_index": values.integer("TemporalPositionIndex"),
        "temporal_position": values.integer("TemporalPositionIdentifier"),
        "acquisition_s": _first(*map(values.seconds, acquired)),
        "content_s": _first(*map(values.seconds, ("FrameReferenceDateTime", "ContentTime"))),
        "instance_number": values.integer("InstanceNumber"),
        "acquisition_number": _first(*map(values.integer, numbers)),
        "rr_ms": _first(*intervals),
        "n_cardiac_images": values.integer("CardiacNumberOfImages"),
    }


def acquisition_fields(values: Values) -> dict[str, Any]:
    """How an image was acquired, and what its values stand for."""
    sequence = SEQUENCES.get(values.text("EchoPulseSequence"), ())
    return {
        "image_type": values.texts("FrameType") or values.texts("ImageType"),
        "inversion_ms": _first(values.number("InversionTime"), *(values.numbers("InversionTimes") or ())),
        "echo_ms": _first(*map(values.number, ("EchoTime", "EffectiveEchoTime"))),
        "repetition_ms": values.number("RepetitionTime"),
        "scanning_sequence": values.texts("ScanningSequence") or sequence,
        "sequence_name": values.text("SequenceName") or values.text("PulseSequenceName"),
        "complex_component": values.text("ComplexImageComponent"),
        "velocity_encoded": _velocity_encoded(values),
        "slope": _rescale(values, "RescaleSlope", 1.0),
        "intercept": _rescale(values, "RescaleIntercept", 0.0),
    }


def study_tags(values: Values) -> StudyTags:
    """Whose study it is, and of which scanner."""
    age, sex = values.years("PatientAge"), values.text("PatientSex")
    return StudyTags(
        study_uid=values.text("StudyInstanceUID"),
        patient_id=values.text("PatientID"),
        manufacturer=values.text("Manufacturer"),
        model=values.text("ManufacturerModelName"),
        field_strength=values.text("MagneticFieldStrength"),
        software=values.texts("SoftwareVersions"),
        station=values.text("StationName"),
        serial=values.text("DeviceSerialNumber"),
        institution=values.text("InstitutionName"),
        sex=sex if sex in {"M", "F", "O"} else None,
        age_years=None if age is None else min(age, OLDEST_YEARS),
    )


def _velocity_encoded(values: Values) -> bool:
    if values.text("PhaseContrast") == "YES":
        return True
    speeds = [*map(values.number, ("VelocityEncodingMinimumValue", "VelocityEncodingMaximumValue"))]
    if any(speed is not None for speed in speeds):
        return any(speeds)
    return any(values.numbers("VelocityEncodingDirection") or ())


def _rescale(values: Values, keyword: str, otherwise: float) -> float:
    """A slope or intercept; NaN where the header gives one that is no number, or a slope of zero."""
    if not values.has(keyword):
        return otherwise
    number = values.number(keyword)
    return math.nan if number is None or (keyword == "RescaleSlope" and number == 0) else number


def _first(*candidates: Any) -> Any:  # noqa: ANN401 - numbers of either kind
    """The first that is not ``None``."""
    return next((value for value in candidates if value is not None), None)
