"""Outcomes and headers that tests of results share."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from highdicom.sr.utils import find_content_items
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from pipeline.deployment.outcome import (
    AuditedGroup,
    EnvelopeVerdict,
    Outcome,
    PackageIdentity,
    Reading,
    Verdict,
)
from pipeline.deployment.publish import write_results
from pipeline.deployment.summary_picture import summary_picture
from pipeline.dicom.refusal import Code, LeftOut, Refusal
from tests.dicom.dicom_writer import LAYOUTS, cine_study, to_bytes
from transforms.scanner import Scanner

PACKAGE = PackageIdentity("cardiac_cine_student", "0.5.0", "ab12" * 16, "cd34" * 16)
SIEMENS = AuditedGroup("vendor", "Siemens", "accuracy", 95, 0.84, 0.76, 0.9)
AVANTO = AuditedGroup("scanner", "Siemens Avanto 1.5 T", "accuracy", 7, 0.71, reason="7 patients; 10 are needed")
READ = Outcome(
    study_key="0123456789abcdef",
    package=PACKAGE,
    scanner=Scanner("Siemens", "Avanto", 1.5, site="Site", vendor_raw="SIEMENS", software="B17"),
    envelope=EnvelopeVerdict(Verdict.TOO_FEW, (SIEMENS, AVANTO)),
    reading=Reading(
        {"NOR": 0.06, "HCM": 0.87, "DCM": 0.07},
        ed=1,
        es=5,
        n_phases=11,
        n_slices=7,
        heart_confidence=0.93,
        phase_confidence=0.88,
        warnings=("REPEATED_SLICE: a slice was acquired twice; the later one is read",),
    ),
    left_out=(LeftOut("series 3", 12, Code.LONG_AXIS),),
)
REFUSED = Outcome(
    study_key="0123456789abcdef",
    package=PACKAGE,
    scanner=Scanner("GE", "SIGNA Artist", 1.5),
    envelope=EnvelopeVerdict(Verdict.UNSEEN, (AuditedGroup("vendor", "GE", "accuracy", 0),)),
    refusal=Refusal(Code.MISSING_PHASE, "slice 4 of 12 has 19 phases, others 20"),
    left_out=(LeftOut("series 1", 239, Code.MISSING_PHASE, "slice 4 of 12 has 19 phases, others 20"),),
)


@dataclass(frozen=True)
class Source:
    """Headers of a synthetic study and where each of its images belongs.

    Attributes:
        headers: as pydicom reads them, without pixels.
        sources: ``[phase][slice]``, SOPInstanceUID and image in its file, from 0.
        outcome: ``READ``, with the study's numbers of phases and slices.
    """

    headers: list[Dataset]
    sources: list[list[tuple[str, int]]]
    outcome: Outcome


def source(layout: str = "A: series per slice", *, seed: int = 3, **attributes: object) -> Source:
    """Headers of a study in one of the layouts of scanners, with attributes put into each of them."""
    study = cine_study(seed, LAYOUTS[layout])
    headers = []
    places = {}
    for name, data in study.files.items():
        for keyword, value in attributes.items():
            setattr(data, keyword, value)
        headers.append(read_header(data))
        for number, (s, _, p) in enumerate(study.contents[name]):
            places[p, s] = (str(data.SOPInstanceUID), number)
    n_phases, n_slices = study.plan.phases, study.plan.slices
    sources = [[places[p, s] for s in range(n_slices)] for p in range(n_phases)]
    assert READ.reading is not None
    reading = replace(READ.reading, n_phases=n_phases, n_slices=n_slices)
    return Source(headers, sources, replace(READ, reading=reading))


def read_header(data: Dataset) -> Dataset:
    """A data set as it comes out of its file, its values still as bytes."""
    return dcmread(BytesIO(to_bytes(data)), stop_before_pixels=True)


def network_input(slices: int = 8) -> NDArray[np.float32]:
    """A ring that contracts, ``(2, slices, 64, 64)``."""
    rows, cols = np.mgrid[:64, :64]
    distance = np.hypot(rows - 32, cols - 34)
    image = np.zeros((2, slices, 64, 64), np.float32)
    for phase, radius in enumerate((14.0, 9.0)):
        for s in range(slices):
            edge = radius * (1 - 0.08 * s)
            image[phase, s] = 2.0 * (distance < edge) - 0.8 * ((distance >= edge) & (distance < edge + 5))
    return image


PICTURE = np.ascontiguousarray(summary_picture(network_input(), READ)[::10, ::10])  # small: 3 MB a test take time


def written_to(given: Source, folder: Path, **changes: object) -> tuple[Dataset, Dataset]:
    """The report and the picture that come out, read back."""
    wanted = {"headers": given.headers, "picture": PICTURE, "sources": given.sources} | changes
    write_results(given.outcome, folder, **wanted)  # type: ignore[arg-type]
    listed = {entry["kind"]: entry["name"] for entry in json.loads((folder / "result.json").read_text())["outputs"]}
    return dcmread(folder / listed["structured-report"]), dcmread(folder / listed["secondary-capture"])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raw_value(data: Dataset, keyword: str) -> bytes:
    """A value as the file has it."""
    element = data.get_item(Tag(tag_for_keyword(keyword) or 0))
    assert isinstance(element, RawDataElement)
    return element.value or b""


def raw_element(keyword: str, value: bytes) -> RawDataElement:
    """An element as a file would have it, of whatever value."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    padded = value + b" " * (len(value) % 2)
    return RawDataElement(tag, DicomDictionary[tag][0], len(padded), padded, 0, False, True)


def stripped(header: Dataset) -> Dataset:
    """What de-identification leaves at the least."""
    bare = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(bare, keyword, header[keyword].value)
    return bare


def items(report: Dataset, name: object, value_type: str) -> list[Dataset]:
    """Content items of a report of one name, or any, and one type."""
    return find_content_items(report, name=name, value_type=value_type, recursive=True)  # type: ignore[arg-type]
