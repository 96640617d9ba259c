"""Headers as records: classic and enhanced, well-formed and garbled, written for the test and real."""

from __future__ import annotations

import csv
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipeline.dicom.frames import Frame, StudyTags, read_study
from pipeline.dicom.values import tag_of
from tests.dicom.dicom_images import element, item, mr_image, raw_image, save

CLASSIC = {
    "SeriesDescription": "cine SAX",
    "ProtocolName": "tfi",
    "FrameOfReferenceUID": "1.2.5",
    "ImageType": ["ORIGINAL", "PRIMARY", "M"],
    "SliceThickness": 8,
    "SliceLocation": -12.5,
    "TriggerTime": 37.5,
    "TemporalPositionIdentifier": 3,
    "AcquisitionTime": "101500.5",
    "ContentTime": "101501",
    "AcquisitionNumber": 4,
    "HeartRate": 80,
    "CardiacNumberOfImages": 25,
    "InversionTime": 300,
    "EchoTime": 1.5,
    "RepetitionTime": 40,
    "FlipAngle": 50,
    "EchoTrainLength": 1,
    "ScanningSequence": ["GR", "IR"],
    "SequenceName": "*tfi2d1_16",
    "MRAcquisitionType": "2D",
    "RescaleSlope": 2,
    "RescaleIntercept": -5,
}


def _frame(tmp_path: Path, **elements: Any) -> Frame:
    return read_study([save(mr_image(**elements), tmp_path / "image")]).frames[0]


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_classic_header_becomes_a_record(tmp_path: Path) -> None:
    frame = _frame(tmp_path, **CLASSIC)
    assert (frame.study_uid, frame.series_uid, frame.sop_uid) == ("1.2.3", "1.2.3.4", "1.2.3.4.1")
    assert (frame.rows, frame.cols, frame.number, frame.series) == (3, 4, 0, "series 1")
    assert frame.position == (1.0, 2.0, 3.0)
    assert frame.orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert (frame.pixel_spacing, frame.thickness_mm, frame.slice_location_mm) == ((1.5, 1.25), 8.0, -12.5)
    assert (frame.trigger_ms, frame.temporal_position, frame.rr_ms, frame.n_cardiac_images) == (37.5, 3, 750.0, 25)
    assert (frame.acquisition_s, frame.content_s) == (36900.5, 36901.0)
    assert (frame.instance_number, frame.acquisition_number) == (1, 4)
    assert (frame.inversion_ms, frame.echo_ms, frame.repetition_ms) == (300.0, 1.5, 40.0)
    assert (frame.scanning_sequence, frame.sequence_name) == (("GR", "IR"), "*tfi2d1_16")
    assert frame.image_type == ("ORIGINAL", "PRIMARY", "M")
    assert (frame.slope, frame.intercept, frame.text, frame.complete) == (2.0, -5.0, "cine SAX tfi", True)


@pytest.mark.parametrize(
    ("manufacturer", "description", "text"),
    [
        ("GE MEDICAL SYSTEMS", "SAX FIESTA", "SAX FIESTA"),
        ("GE MEDICAL SYSTEMS", None, "FUNCTION / T2*"),
        ("SIEMENS", "SAX FIESTA", "SAX FIESTA FUNCTION / T2*"),
    ],
)
def test_the_protocol_of_a_ge_examination_says_nothing_of_a_series_that_has_a_name(
    tmp_path: Path, manufacturer: str, description: str | None, text: str
) -> None:
    """It is one for all series: each cine of the examination would be taken for a T2* map."""
    names = {"Manufacturer": manufacturer, "SeriesDescription": description, "ProtocolName": "FUNCTION / T2*"}
    [frame] = read_study([save(mr_image(**names), tmp_path / "a")]).frames
    assert frame.text == text


def test_what_a_header_lacks_is_none(tmp_path: Path) -> None:
    bare = _frame(tmp_path, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    known = {"path", "pixels", "series", "study_uid", "series_uid", "sop_uid", "rows", "cols"}
    known |= {"transfer_syntax", "instance_number", "number", "complete"}
    defaults = Frame(path=bare.path)
    for field in fields(Frame):
        if field.name not in known:
            assert getattr(bare, field.name) == getattr(defaults, field.name), field.name


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_functional_groups_of_each_image_come_before_those_of_all(tmp_path: Path, syntax: str) -> None:
    """Two slices of two phases; orientation is shared, position is each one's, type of each overrides the top's."""
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])],
        PixelMeasuresSequence=[item(PixelSpacing=[1.1, 1.2], SliceThickness=7)],
        MRTimingAndRelatedParametersSequence=[item(RepetitionTime=3.2, FlipAngle=60, GradientEchoTrainLength=1)],
        MREchoSequence=[item(EffectiveEchoTime=1.6)],
        CardiacSynchronizationSequence=[item(RRIntervalTimeNominal=800.0)],
    )
    each = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, 10 * (n // 2)])],
            CardiacSynchronizationSequence=[item(NominalCardiacTriggerDelayTime=25.0 * (n % 2))],
            FrameContentSequence=[
                item(
                    StackID="7",
                    InStackPositionNumber=1 + n // 2,
                    TemporalPositionIndex=1 + n % 2,
                    FrameAcquisitionNumber=5,
                    FrameAcquisitionDateTime=f"2020010110150{n}.5",
                )
            ],
            MRImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])],
        )
        for n in range(4)
    ]
    image = mr_image(
        np.zeros((4, 3, 4), np.uint16),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=each,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        ImageType=["DERIVED", "SECONDARY"],
        EchoPulseSequence="GRADIENT",
    )
    frames = read_study([save(image, tmp_path / "image", syntax)]).frames
    assert [frame.number for frame in frames] == [0, 1, 2, 3]
    assert [frame.position for frame in frames] == [(0, 0, 0), (0, 0, 0), (0, 0, 10), (0, 0, 10)]
    assert [frame.delay_ms for frame in frames] == [0, 25, 0, 25]
    assert [(frame.in_stack_position, frame.temporal_index) for frame in frames] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [frame.acquisition_s for frame in frames] == [36900.5 + n for n in range(4)]
    last = frames[-1]
    assert (last.orientation, last.pixel_spacing, last.thickness_mm) == ((0, 1, 0, 0, 0, -1), (1.1, 1.2), 7.0)
    assert (last.repetition_ms, last.echo_ms) == (3.2, 1.6)
    assert (last.stack_id, last.acquisition_number, last.scanning_sequence) == ("7", 5, ("GR",))
    assert last.image_type == ("ORIGINAL", "PRIMARY", "M", "NONE")
    assert [frame.rr_ms for frame in frames] == [800.0] * 4


def test_more_images_than_functional_groups_leaves_the_rest_without_geometry(tmp_path: Path) -> None:
    image = mr_image(
        np.zeros((2, 3, 4), np.uint16),
        ImagePositionPatient=None,
        PerFrameFunctionalGroupsSequence=[item(PlanePositionSequence=[item(ImagePositionPatient=[1, 1, 1])])],
    )
    frames = read_study([save(image, tmp_path / "image")]).frames
    assert [frame.position for frame in frames] == [(1, 1, 1), None]


@pytest.mark.parametrize(
    ("elements", "encoded"),
    [
        ({}, False),
        ({"PhaseContrast": "YES"}, True),
        ({"PhaseContrast": "NO"}, False),
        ({"VelocityEncodingMaximumValue": 150.0, "VelocityEncodingMinimumValue": -150.0}, True),
        ({"VelocityEncodingMaximumValue": 0.0, "VelocityEncodingDirection": [0.0, 0.0, 1.0]}, False),
        ({"VelocityEncodingDirection": [0.0, 0.0, 1.0]}, True),
    ],
)
def test_a_velocity_encoding_is_told(tmp_path: Path, elements: dict[str, Any], encoded: bool) -> None:
    assert _frame(tmp_path, **elements).velocity_encoded is encoded


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"NominalInterval": 900, "HeartRate": 80}, 900.0),
        ({"NominalInterval": 0, "HeartRate": 80}, 750.0),
        ({"HeartRate": 0}, None),
        ({"NominalInterval": 0}, None),
    ],
)
def test_the_rr_interval_is_the_first_that_is_above_zero(
    tmp_path: Path, elements: dict[str, Any], expected: float | None
) -> None:
    assert _frame(tmp_path, **elements).rr_ms == expected


@pytest.mark.parametrize(
    ("keyword", "value", "field"),
    [
        ("ImagePositionPatient", b"1\\2", "position"),
        ("ImagePositionPatient", b"1\\2\\nan ", "position"),
        ("ImagePositionPatient", b"1\\2\\3\\4 ", "position"),
        ("ImageOrientationPatient", b"1\\0\\0\\0\\1 ", "orientation"),
        ("ImageOrientationPatient", b"None\\0\\0\\0\\1\\0", "orientation"),
        ("PixelSpacing", b"1.5 ", "pixel_spacing"),
        ("PixelSpacing", b"1.5\\0 ", "pixel_spacing"),
        ("PixelSpacing", b"-1\\-1 ", "pixel_spacing"),
        ("TriggerTime", b"None", "trigger_ms"),
        ("TriggerTime", b"", "trigger_ms"),
        ("InstanceNumber", b"second", "instance_number"),
        ("SliceThickness", b"0 ", "thickness_mm"),
        ("AcquisitionTime", b"noon", "acquisition_s"),
    ],
)
def test_what_a_header_garbles_is_none(tmp_path: Path, keyword: str, value: bytes, field: str) -> None:
    path = _write(tmp_path / "image", raw_image({tag_of(keyword): element(keyword, value)}))
    assert getattr(read_study([path]).frames[0], field) is None


def test_tags_of_the_study_are_what_most_files_say(tmp_path: Path) -> None:
    said = {"Manufacturer": "SIEMENS", "SoftwareVersions": ["syngo", "B19"], "PatientSex": "F", "PatientAge": "095Y"}
    paths = [save(mr_image(InstanceNumber=n, **said), tmp_path / str(n)) for n in range(2)]
    paths += [save(mr_image(InstanceNumber=9, Manufacturer="A PACS", StationName="MR1"), tmp_path / "9")]
    tags = read_study(paths).tags
    assert tags == StudyTags("1.2.3", "P1", "SIEMENS", software=("syngo", "B19"), station="MR1", sex="F", age_years=90)


@pytest.mark.parametrize(("sex", "age"), [("female", "34"), ("", "None"), ("N", "Y")])
def test_sex_and_age_that_mean_nothing_are_none(tmp_path: Path, sex: str, age: str) -> None:
    wild = {
        tag_of("PatientSex"): element("PatientSex", sex.encode()),
        tag_of("PatientAge"): element("PatientAge", age.encode()),
    }
    tags = read_study([_write(tmp_path / "image", raw_image(wild))]).tags
    assert (tags.sex, tags.age_years) == (None, None)


def _manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as rows:
        return list(csv.DictReader(rows))


@pytest.mark.real_data
def test_every_real_header_is_what_the_manifest_says(real_data: Path) -> None:
    """Five vendors, classic and enhanced; the manifest was written by another program."""
    folder = real_data / "mr_headers"
    rows = _manifest(folder)
    assert len(rows) == 169
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for row in rows:
            files = read_study([folder / row["file"]])
            frame, tags = files.frames[0], files.tags
            found = (tags.manufacturer, tags.model, tags.field_strength, tags.institution, tags.station, tags.serial)
            keys = ("manufacturer", "model", "field", "institution", "station", "serial")
            assert found == tuple(row[key] for key in keys), row["file"]
            size = (len(files.frames), frame.rows, frame.cols, UID(frame.transfer_syntax).name)
            told = (int(row["frames"] or 1), int(row["rows"]), int(row["cols"]), row["transfer_syntax"])
            assert size == told, row["file"]
            assert (frame.complete, files.left_out) == (True, ())


@pytest.mark.real_data
def test_real_cine_headers_hold_geometry_and_time(real_data: Path) -> None:
    """UIDs of these studies have components that begin with zeros, of which pydicom warns file by file."""
    paths = sorted((real_data / "sunnybrook" / "dicoms" / "SCD0000101").iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = read_study(paths)
    assert [frame.instance_number for frame in files.frames] == [*range(1, 241)]
    assert {frame.n_cardiac_images for frame in files.frames} == {20}
    assert len({frame.position for frame in files.frames}) == 12
    assert all(frame.trigger_ms is not None and frame.rr_ms and frame.orientation for frame in files.frames)
