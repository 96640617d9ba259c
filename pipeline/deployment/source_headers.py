"""What results take over from the headers of the images that were read: whose study it is, and when.

A PACS files an object under the patient and study that it names, so these values are copied byte for byte, with the
character set that they are written in; nothing else of a header is.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from pydicom import charset
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from pipeline.dicom.header import quiet

# Type 2 of the Patient and General Study modules: present in every object, empty where the source has none.
ALWAYS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
# What tells one hospital's identifiers and times from another's, what a PACS lists a study under, and that a study is
# de-identified: an object that kept silent about it would contradict the rest of its study.
IF_PRESENT = (
    *("IssuerOfPatientID", "StudyDescription", "TimezoneOffsetFromUTC"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
)
COPIED = (*ALWAYS, *IF_PRESENT)
METHOD_OF_SOURCE = "As the source images"
LONGEST = 1024  # bytes; no value of these may be longer, by far
MOMENTS = (
    ("ContentDate", "ContentTime"),
    ("AcquisitionDate", "AcquisitionTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
NO_MOMENT = ("19000101", "000000")
LATIN_9 = frozenset({"ISO_IR 203", "ISO 2022 IR 203"})  # of the standard, though pydicom 3.0 does not know them
REFERENCED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# All that results look at in a header: whoever reads one for them need read no more.
KEYWORDS = tuple(
    dict.fromkeys(
        ("SpecificCharacterSet", *REFERENCED, "NumberOfFrames", *COPIED, *(word for pair in MOMENTS for word in pair))
    )
)

_DATE = re.compile(r"(\d{8})")
_TIME = re.compile(r"(\d{2})(\d{2})?(\d{2})?(?:\.\d{1,6})?")


@contextmanager
def quietly() -> Iterator[None]:
    """Let pydicom take values that break the standard, and say nothing: warnings quote them, logs name UIDs."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    with quiet(), disable_value_validation():
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def in_order(headers: Sequence[Dataset]) -> list[Dataset]:
    """Headers by series and instance, each instance once: in whichever order files came, results are the same.

    Args:
        headers: one per instance, without pixels.

    Raises:
        ValueError: if they are not of one study, or lack a UID.
    """
    by_uid = {(uid_of(header, "SeriesInstanceUID"), uid_of(header, "SOPInstanceUID")): header for header in headers}
    studies = {uid_of(header, "StudyInstanceUID") for header in headers}
    if len(studies) > 1:
        raise ValueError(f"headers must be of one study, got {len(studies)}; write each study's results by themselves")
    return [by_uid[key] for key in sorted(by_uid)]


def reference(header: Dataset) -> Dataset:
    """Which instance it is, of which series and study, and nothing else of its header."""
    empty = [_raw(keyword, b"") for keyword in ALWAYS]  # not taken apart until it is asked for: one header per file
    bare = Dataset({element.tag: element for element in empty})
    for keyword in REFERENCED:
        setattr(bare, keyword, uid_of(header, keyword))
    return bare


def copy_patient_and_study(header: Dataset, target: Dataset) -> None:
    """Copy what a PACS files by, byte for byte, and empty what the header lacks.

    Args:
        header: of one of the study's images.
        target: an object of the same study. Its own texts must be ASCII, which every character set holds.
    """
    if "SpecificCharacterSet" in target:
        del target.SpecificCharacterSet
    terms = _character_set(header)
    if terms:
        target.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
    for keyword in ALWAYS:
        _put(target, keyword, _copied(header, keyword) or _raw(keyword, b""))
    for keyword in IF_PRESENT:
        element = _copied(header, keyword)
        if element is not None:
            _put(target, keyword, element)
    if target.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in target:
        target.DeidentificationMethod = METHOD_OF_SOURCE  # required by then; their codes are not copied


def newest_moment(headers: Sequence[Dataset]) -> tuple[str, str]:
    """Date and time of the newest image, ``YYYYMMDD`` and ``HHMMSS``; 1 January 1900 where no header tells.

    It stands where other programs write the time of their run. A repeat would then be another object, and an archive
    would hold both; the content is a function of these images, and no newer than they are.
    """
    found = [moment for header in headers if (moment := _moment(header)) is not None]
    return max(found, default=NO_MOMENT)


def uid_of(header: Dataset, keyword: str) -> str:
    """A UID of a header.

    Raises:
        ValueError: if it has none.
    """
    value = header.get(keyword)
    uid = str(value).strip(" \0") if value else ""
    if not uid:
        raise ValueError(f"a header must have a {keyword}, got none; export the images as they left the scanner")
    return uid


def _moment(header: Dataset) -> tuple[str, str] | None:
    for date_keyword, time_keyword in MOMENTS:
        date = _DATE.fullmatch(_text(header, date_keyword))
        if date is None:
            continue
        time = _TIME.fullmatch(_text(header, time_keyword))
        clock = "".join(part or "00" for part in time.groups()) if time else "000000"
        try:
            datetime.strptime(date[1] + clock, "%Y%m%d%H%M%S")
        except ValueError:
            continue
        return date[1], clock
    return None


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _character_set(header: Dataset) -> list[str]:
    """Terms of the standard, as the header has them; a header's own words are not carried on."""
    value = header.get("SpecificCharacterSet")
    terms = [value] if isinstance(value, str) else list(value or ())
    terms = [str(term).strip(" \0") for term in terms]
    known = charset.python_encoding.keys() | LATIN_9
    return terms if any(terms) and all(term in known for term in terms) else []


def _copied(header: Dataset, keyword: str) -> DataElement | RawDataElement | None:
    """A header's element as its file has it; ``None`` where there is none, or none that could be right."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in header:
        return None
    element = header.get_item(tag)
    if element.is_raw:
        value = element.value or b""
        return _raw(keyword, value) if len(value) <= LONGEST else None
    return DataElement(tag, dictionary_VR(tag), element.value)


def _raw(keyword: str, value: bytes) -> RawDataElement:
    """An element that is written as it stands: decoded and encoded again, a name could come out as another."""
    tag = tag_for_keyword(keyword)
    padded = value + b" " * (len(value) % 2)
    vr = dictionary_VR(keyword)
    return RawDataElement(tag, vr, len(padded), padded, 0, False, True)  # type: ignore[arg-type]  # a tag of ours


def _put(target: Dataset, keyword: str, element: DataElement | RawDataElement) -> None:
    if keyword in target:
        del target[keyword]
    target[element.tag] = element
