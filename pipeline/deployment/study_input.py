"""The study in an input folder: whose it is, which scanner made it, and its cine; whatever else lies there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from pipeline.deployment.cine_input import CineInput
from pipeline.deployment.nifti_input import is_nifti, read_nifti
from pipeline.deployment.uids import MANUFACTURER
from pipeline.dicom.folder import files_in
from pipeline.dicom.refusal import Code, Refusal
from pipeline.dicom.system_errors import pass_on
from transforms.scanner import Scanner

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from pipeline.dicom.frame_header import FileHeader
    from pipeline.dicom.frames import StudyFiles, StudyTags
    from pipeline.dicom.header import DicomHeader

MOST_BYTES = 30 * 16 * 512 * 512 * 2  # of a cine's pixels; with all else the process then stays below 400 MiB
KEY_DIGITS = 16
UID = re.compile(r"[0-9.]{1,64}")
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # DICOMDIR
SIDECARS = (".tags", ".json", ".xml", "summary.png")  # of routers and archives, and results of ours
PATIENT = ("PatientID", "PatientName", "PatientBirthDate")
OF_NO_IMAGE = frozenset({Code.NOT_AN_IMAGE, Code.NOT_MR, Code.DERIVED})


@dataclass(frozen=True)
class StudyInput:
    """A study before its pixels are read.

    Attributes:
        key: names it in files and logs (:func:`study_key`).
        scanner: as the headers tell, raw text and all: to be judged, not to be shown; ``None`` without any image.
        cine: reads the cine, or raises a Refusal that says why there is none.
    """

    key: str
    scanner: Scanner | None
    cine: Callable[[], CineInput]


def study_key(*study_uids: str) -> str:
    """What names a study outside of DICOM: first 16 hexadecimal digits of the SHA-256 of its StudyInstanceUID.

    Args:
        *study_uids: StudyInstanceUID; of a folder that cannot be read, all that its files name, or none.

    Example:
        >>> study_key("1.2.3")
        'c47f5b18b8a430e6'
    """
    return hashlib.sha256("\n".join(sorted(study_uids)).encode()).hexdigest()[:KEY_DIGITS]


def find_study(folder: Path) -> StudyInput:
    """Find out what lies in a folder, and read the headers of its study.

    Args:
        folder: DICOM files of one study in any folders and under any names, or one 4-D NIfTI image with its scanner
            facts (:mod:`pipeline.deployment.nifti_input`). Sidecars of routers, a DICOMDIR and results of ours are
            passed over.

    Returns:
        The study. That it cannot be read shows when its cine is asked for.

    Raises:
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    paths = list(files_in(folder))
    images = [path for path in paths if is_nifti(path)]
    others = [path for path in paths if path not in images and not _is_sidecar(path)]
    if not images:
        return _dicom(folder, others)
    if len(images) > 1:
        return _refused(folder, Refusal(Code.SEVERAL_STUDIES, f"{len(images)} NIfTI images"))
    if any(_is_dicom(path) for path in others):
        return _refused(folder, Refusal(Code.SEVERAL_STUDIES, "a NIfTI image among DICOM files"))
    try:
        found = read_nifti(images[0], most_bytes=MOST_BYTES)
    except Refusal as refusal:
        return StudyInput(_content_key(images[0]), None, partial(_raise, refusal))
    return StudyInput(_content_key(images[0]), found.scanner, found.cine)


def used_headers(paths: Sequence[Path], sop_uids: Iterable[str]) -> list[Dataset]:
    """Headers of the instances that were read: what a result object takes over from them, and no pixels.

    Args:
        paths: their files.
        sop_uids: their SOPInstanceUIDs.

    Returns:
        One data set per instance, in the order of the files. None at all if an instance is not named as it must be,
        by UIDs of its own and a class of MR images: a report could not say which images it is about.

    Raises:
        Refusal: ``SEVERAL_PATIENTS`` if they are not of one, by ID, name and day of birth, as when half of a study was
            corrected and sent again; ``UNREADABLE_FILE`` if a file cannot be read any more.
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    if not paths:
        return []
    from pipeline.deployment.source_headers import KEYWORDS, REFERENCED
    from pipeline.dicom.frame_header import MR_IMAGE_CLASSES
    from pipeline.dicom.header import SOP_CLASS_TAG, BrokenHeaderError, NotDicomError, Wanted, opened, read_header
    from pipeline.dicom.values import Values, character_set, tag_of

    tags = frozenset({SOP_CLASS_TAG, *map(tag_of, KEYWORDS)})
    found: dict[str, Dataset] = {}
    patients = set()
    for path in paths:
        try:
            with opened(path) as stream:
                header = read_header(stream, Wanted(tags, last=max(tags)))
        except (OSError, NotDicomError, BrokenHeaderError) as error:
            pass_on(error)
            raise Refusal(Code.UNREADABLE_FILE) from None
        values = Values(header.elements.values, encoding=character_set(header.elements.values))
        patients.add(tuple(map(values.text, PATIENT)))
        uids = {name: values.text(name) for name in REFERENCED}
        if all(map(UID.fullmatch, uids.values())) and uids["SOPClassUID"] in MR_IMAGE_CLASSES:
            found.setdefault(uids["SOPInstanceUID"], _dataset(header))
    if len(patients) > 1:
        raise Refusal(Code.SEVERAL_PATIENTS, f"the images that would be read name {len(patients)}")
    return list(found.values()) if found.keys() == set(sop_uids) and len(found) == len(paths) else []


def _dataset(header: DicomHeader) -> Dataset:
    """A header's elements as pydicom's, their bytes as they stand in the file."""
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

    return Dataset(
        {
            BaseTag(tag): RawDataElement(BaseTag(tag), vr or None, len(value), value, 0, not vr, header.little)
            for tag, (vr, value) in header.elements.values.items()
        }
    )


def _dicom(folder: Path, paths: Sequence[Path]) -> StudyInput:
    from pipeline.dicom.frames import read_study

    try:
        study = read_study(paths, ignored=_is_no_part)
    except Refusal as refusal:
        return _refused(folder, refusal)
    return StudyInput(study_key(study.tags.study_uid), _scanner(study.tags), partial(_cine, study))


def _cine(study: StudyFiles) -> CineInput:
    from pipeline.dicom.cine import assemble_cine

    cine = assemble_cine(study, most_bytes=MOST_BYTES)
    affine = cine.affine.astype(np.float32).astype(np.float64)  # as the NIfTI holds it that the training reads
    return CineInput(cine.values, affine, cine.warnings, cine.left_out, cine.sources, cine.files)


def _refused(folder: Path, refusal: Refusal) -> StudyInput:
    """A folder that holds no study that could be read: named by all studies that its DICOM files name."""
    from pipeline.dicom.files import studies_in

    return StudyInput(study_key(*studies_in(folder)[0]), None, partial(_raise, refusal))


def _raise(refusal: Refusal) -> NoReturn:
    raise refusal


def _scanner(tags: StudyTags) -> Scanner:
    return Scanner.from_raw(manufacturer=tags.manufacturer, model=tags.model, field_strength=tags.field_strength)


def _content_key(path: Path) -> str:
    """A NIfTI file names no study, and its own name may be the patient's: its bytes stand for it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:KEY_DIGITS]


def _is_no_part(file: FileHeader) -> bool:
    """Whether a file without MR images is a DICOMDIR, or a result of ours that came back with the study."""
    ours = file.manufacturer == MANUFACTURER and file.code in OF_NO_IMAGE
    return ours or file.sop_class == DIRECTORY_CLASS


def _is_sidecar(path: Path) -> bool:
    return path.name.lower().endswith(SIDECARS) and not _begins_as_dicom(path)


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, without a preamble, too."""
    from pipeline.dicom.frame_header import read_file

    return read_file(path).code is not Code.NOT_DICOM


def _begins_as_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError as error:
        pass_on(error)
        return False
