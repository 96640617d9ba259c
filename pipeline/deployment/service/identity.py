"""Which study and instance a received object is of, read from its bytes without its pixels, whatever the bytes are."""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from pipeline.dicom.header import (
    SOP_CLASS_TAG,
    BrokenHeaderError,
    NotDicomError,
    Wanted,
    opened,
    read_header,
)
from pipeline.dicom.values import Values, tag_of

UID = re.compile(r"[0-9.]{1,64}")
INSTANCE_TAG, STUDY_TAG = tag_of("SOPInstanceUID"), tag_of("StudyInstanceUID")
WANTED = Wanted(frozenset({SOP_CLASS_TAG, INSTANCE_TAG, STUDY_TAG}), last=STUDY_TAG)
KEY_DIGITS = 16
NAME_DIGITS = 32  # of an instance's file: a study may have thousands
IMPLEMENTATION = "2.25.240478935561830155180170362106317613871"

UNREADABLE_HEADER, NO_IDENTITY, MISMATCH = "UNREADABLE_HEADER", "NO_IDENTITY", "MISMATCH"


class UnacceptableError(Exception):
    """An instance that cannot be kept.

    Args:
        code: why.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True)
class Identity:
    """What an instance is, without its UIDs.

    Attributes:
        study_key: of its StudyInstanceUID.
        sop_key: of its SOPInstanceUID.
    """

    study_key: str
    sop_key: str


def study_key_of(uid: str) -> str:
    """The name of a study in files and logs: first 16 hexadecimal digits of the SHA-256 of its StudyInstanceUID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:KEY_DIGITS]


def sop_key_of(uid: str) -> str:
    """The name of an instance in files."""
    return hashlib.sha256(uid.encode()).hexdigest()[:NAME_DIGITS]


def file_meta(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble and file meta information, to stand before a data set as it came over the network.

    Args:
        sop_class: its UID.
        sop_instance: its UID.
        transfer_syntax: its UID.

    Returns:
        The beginning of a DICOM file.

    Raises:
        UnacceptableError: if one of them has not the form of a UID.

    Source: DICOM PS3.10, 7.1.
    """
    if not all(UID.fullmatch(uid) for uid in (sop_class, sop_instance, transfer_syntax)):
        raise UnacceptableError(NO_IDENTITY)
    uids = {0x0002: sop_class, 0x0003: sop_instance, 0x0010: transfer_syntax, 0x0012: IMPLEMENTATION}
    body = struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1"
    for element, uid in uids.items():
        value = uid.encode() + b"\0" * (len(uid) % 2)
        body += struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body


def read_identity(path: Path, *, sop_class: str = "", sop_instance: str = "") -> Identity:
    """Read which study and instance a file is of.

    Args:
        path: the file, complete.
        sop_class: what its sender called it; not compared if empty.
        sop_instance: what its sender called it; not compared if empty.

    Returns:
        Its keys.

    Raises:
        UnacceptableError: if the header cannot be read, has no UID, or contradicts its sender.
        OSError: if the file cannot be opened.
    """
    try:
        with opened(path) as stream:
            header = read_header(stream, WANTED)
    except (NotDicomError, BrokenHeaderError, RecursionError, MemoryError):
        raise UnacceptableError(UNREADABLE_HEADER) from None
    if header.cut:  # perhaps inside a UID
        raise UnacceptableError(UNREADABLE_HEADER)
    values = Values(header.elements.values)
    study, instance, kind = (values.text(name) for name in ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"))
    if not UID.fullmatch(study) or not UID.fullmatch(instance):
        raise UnacceptableError(NO_IDENTITY)
    if (sop_class and kind != sop_class) or (sop_instance and instance != sop_instance):
        raise UnacceptableError(MISMATCH)
    return Identity(study_key_of(study), sop_key_of(instance))
