"""Which files below a folder belong to which study, whatever they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.dicom.folder import files_in
from pipeline.dicom.header import (
    SOP_CLASS_TAG,
    BrokenHeaderError,
    NotDicomError,
    Wanted,
    opened,
    read_header,
)
from pipeline.dicom.system_errors import pass_on
from pipeline.dicom.values import Values, tag_of

DIRECTORY_CLASS = "1.2.840.10008.1.3.10"  # DICOMDIR
STUDY_TAG = tag_of("StudyInstanceUID")
WANTED = Wanted(frozenset({SOP_CLASS_TAG, STUDY_TAG}), last=STUDY_TAG)


def studies_in(root: Path, on_file: Callable[[], object] | None = None) -> tuple[dict[str, list[Path]], int]:
    """Group the DICOM files below a folder by study; of each only the beginning is read.

    Args:
        root: a folder, or one file.
        on_file: called after each file, e.g. a progress bar's ``update``.

    Returns:
        Files by StudyInstanceUID, studies and files ordered by path; and how many files are no DICOM, cannot be read or
        name no study. A DICOMDIR counts as neither. Links to folders are followed, each folder once.

    Raises:
        FileNotFoundError: if there is no ``root``.
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`): who knows which study would lack a file.
    """
    if not root.exists():
        raise FileNotFoundError(f"no file or folder at {root}; give the one that holds the DICOM files")
    studies: dict[str, list[Path]] = {}
    others = 0
    for path in files_in(root):
        kind, study = _identity(path)
        if study:
            studies.setdefault(study, []).append(path)
        elif kind != DIRECTORY_CLASS:
            others += 1
        if on_file:
            on_file()
    return studies, others


def _identity(path: Path) -> tuple[str, str]:
    """MediaStorageSOPClassUID and StudyInstanceUID of a file; empty for what is not there."""
    try:
        with opened(path) as stream:
            header = read_header(stream, WANTED)
    except (NotDicomError, BrokenHeaderError, OSError) as error:
        pass_on(error)
        return "", ""
    if header.cut:  # perhaps inside the UID
        return "", ""
    return header.media_class, Values(header.elements.values).text("StudyInstanceUID")
