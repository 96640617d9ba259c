"""Studies of a few hundred bytes, and a reader that counts them: to measure and test what lies around reading."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, MRImageStorage

from pipeline.deployment.outcome import EnvelopeVerdict, Outcome, PackageIdentity, Reading, Verdict
from pipeline.deployment.service.identity import study_key_of
from pipeline.deployment.service.reading import Reader
from pipeline.dicom.refusal import Code, Refusal
from transforms.scanner import Scanner

ROOT = "1.2.826.0.1.3680043.10.1338.9"
IDENTITY = PackageIdentity("tiny", "0", "0" * 64, "1" * 64)
FACTORY = "benchmarks.tiny_studies:counting_reader"


def study_uid(number: int) -> str:
    """StudyInstanceUID of a study."""
    return f"{ROOT}.{number}"


def tiny_study(number: int, instances: int, *, first: int = 0, pixels: int = 64) -> list[Dataset]:
    """Instances of a study, the same each time.

    Args:
        number: of the study.
        instances: how many.
        first: number of the first.
        pixels: bytes of each.
    """
    return [_instance(number, index, pixels) for index in range(first, first + instances)]


def counting_reader(seconds: str = "0", fails: str = "") -> Reader:
    """Make a reader that says how many instances there are.

    Args:
        seconds: it takes for a study [s].
        fails: key of a study that it ends its process over.
    """

    class Counting:
        def read(self, study_folder: Path, out: Path) -> Outcome:
            time.sleep(float(seconds))
            return count(study_folder, out, fails)

    return Counting()


def count(study_folder: Path, out: Path, fails: str = "") -> Outcome:
    """Read the instances of a folder and write one report and ``result.json``, or a refusal where there is no image.

    Args:
        study_folder: with DICOM files.
        out: folder.
        fails: key of a study over which the process ends.
    """
    found = [dcmread(path) for path in sorted(study_folder.iterdir())]
    key = study_key_of(str(found[0].StudyInstanceUID))
    if key == fails:
        import os

        os._exit(9)
    images = sorted(str(one.SOPInstanceUID) for one in found if one.Modality == "MR")
    scanner = Scanner("Siemens", field_strength_t=1.5)
    envelope = EnvelopeVerdict(Verdict.AUDITED, ())
    result = {"study_key": key, "instances": len(images), "digest": digest_of(images)}
    if images:
        report = _report(found[0], images)
        report.save_as(out / f"{report.SeriesInstanceUID}#{report.SOPInstanceUID}.dcm", enforce_file_format=True)
        reading = Reading({"NOR": 0.75, "DCM": 0.25}, 0, 1, 2, 1, 0.9)
        outcome = Outcome(key, IDENTITY, scanner, envelope, reading=reading)
    else:
        outcome = Outcome(key, IDENTITY, scanner, envelope, refusal=Refusal(Code.NOT_AN_IMAGE))
    (out / "result.json").write_text(json.dumps(result | {"status": outcome.status}))
    return outcome


def digest_of(uids: Iterable[str]) -> str:
    """Of a set of SOPInstanceUIDs."""
    return hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()


def _instance(number: int, index: int, pixels: int) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, f"{ROOT}.{number}.2.{index}"
    data.StudyInstanceUID, data.SeriesInstanceUID = study_uid(number), f"{ROOT}.{number}.1"
    data.Modality, data.PatientID, data.PatientName = "MR", "P", "Tiny^Study"
    data.PixelData = bytes(pixels)
    data["PixelData"].VR = "OW"
    return _with_meta(data)


def _report(source: Dataset, images: list[str]) -> Dataset:
    data = Dataset()
    uid = uuid.uuid5(uuid.NAMESPACE_OID, digest_of(images)).int
    data.SOPClassUID, data.SOPInstanceUID = ComprehensiveSRStorage, f"2.25.{uid}"
    data.StudyInstanceUID, data.SeriesInstanceUID = source.StudyInstanceUID, f"{source.StudyInstanceUID}.7"
    data.Modality, data.PatientID = "SR", source.PatientID
    data.ContentLabel = str(len(images))
    return _with_meta(data)


def _with_meta(data: Dataset) -> Dataset:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return data
