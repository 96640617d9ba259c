"""One DICOM file's header: what kind of object it is, and its images as records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydicom._uid_dict import UID_dictionary

from pipeline.dicom.frame_fields import acquisition_fields, place_fields, study_tags, time_fields
from pipeline.dicom.frame_records import Frame, PixelPlace, StudyTags
from pipeline.dicom.frame_tags import FUNCTIONAL_GROUPS, GROUPS_OF_EACH, SHARED_GROUPS, WANTED
from pipeline.dicom.header import (
    DEFLATED,
    PIXEL_DATA,
    UNCOMPRESSED,
    UNDEFINED,
    BrokenHeaderError,
    DicomHeader,
    Elements,
    NotDicomError,
    RawElements,
    fragments,
    opened,
    read_header,
)
from pipeline.dicom.refusal import Code
from pipeline.dicom.system_errors import pass_on
from pipeline.dicom.values import Values, character_set

MR_IMAGE_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4",  # MR
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color: left out by its samples
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR
    }
)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and, with a number more, its kinds of many images
GREY = frozenset({"", "MONOCHROME2"})
MOST_FRAMES = 50_000  # in a file; what lies beyond is no number of images
MOST_PIXELS = 1 << 24  # in an image


@dataclass(slots=True)
class FileHeader:
    """What one file holds.

    Attributes:
        code: why it is left out; ``None`` for MR images.
        detail: what belongs to the code.
        images: how many it holds.
        series_uid: SeriesInstanceUID, empty if it has none.
        series_number: SeriesNumber.
        sop_class: SOPClassUID, or that of the file meta information.
        manufacturer: Manufacturer, as the header spells it.
        frames: its images; none if it is left out.
        tags: whose study it is.
    """

    code: Code | None = None
    detail: str = ""
    images: int = 1
    series_uid: str = ""
    series_number: int | None = None
    sop_class: str = ""
    manufacturer: str = ""
    frames: tuple[Frame, ...] = ()
    tags: StudyTags | None = None


class _LeftOutError(Exception):
    """The file holds no image that is read."""

    def __init__(self, code: Code, detail: str = "") -> None:
        self.code, self.detail = code, detail
        super().__init__(code.value)


def read_file(path: Path) -> FileHeader:
    """Read a file's header, once.

    Args:
        path: any file: whatever is in it, this raises nothing.

    Returns:
        Its images, or the code of why there are none.

    Raises:
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    try:
        with opened(path) as stream:
            header = read_header(stream, WANTED)
            whole = _ends_well(stream, header)
    except NotDicomError:
        return FileHeader(code=Code.NOT_DICOM)
    except (BrokenHeaderError, OSError) as error:
        pass_on(error)
        return FileHeader(code=Code.UNREADABLE_FILE)
    elements = header.elements.values
    values = Values(elements, header.little, character_set(elements))
    found = FileHeader(
        series_uid=values.text("SeriesInstanceUID"),
        series_number=values.integer("SeriesNumber"),
        sop_class=values.text("SOPClassUID") or header.media_class,
        manufacturer=values.text("Manufacturer"),
    )
    try:
        _check_kind(header, values)
        place, rows, cols = _pixel_place(header, values)
        found.images = place.frames
        found.frames = tuple(_frames(path, header, values, (place, rows, cols), fragments_end=whole))
        found.tags = study_tags(values)
    except _LeftOutError as reason:
        found.code, found.detail = reason.code, reason.detail
    return found


def _ends_well(stream: BinaryIO, header: DicomHeader) -> bool:
    """Whether fragments, where pixel data come in such, go on to their end mark."""
    if header.pixel_length != UNDEFINED:
        return True
    count, ended = fragments(stream, header)
    return ended and count > 0


def _check_kind(header: DicomHeader, values: Values) -> None:
    """Let MR images pass.

    Raises:
        _LeftOutError: if the file holds something else.
    """
    sop_class, modality = values.text("SOPClassUID") or header.media_class, values.text("Modality")
    if not header.pixel_tag:
        raise _LeftOutError(_without_pixels(header, values, sop_class))
    if modality == "MR" and sop_class.startswith(SECONDARY_CAPTURE):
        raise _LeftOutError(Code.DERIVED, "secondary capture")
    of_mr = sop_class in MR_IMAGE_CLASSES if sop_class in UID_dictionary else modality == "MR"
    if not of_mr or modality not in {"MR", ""}:
        raise _LeftOutError(Code.NOT_MR)
    if header.transfer_syntax == DEFLATED:  # no scanner writes images so
        raise _LeftOutError(Code.UNSUPPORTED_TRANSFER_SYNTAX, UID_dictionary[DEFLATED][0])
    if values.text("PhotometricInterpretation") not in GREY or values.integer("SamplesPerPixel") not in {None, 1}:
        raise _LeftOutError(Code.DERIVED, "colour images")
    if header.pixel_tag != PIXEL_DATA:
        raise _LeftOutError(Code.DERIVED, "floating point values")
    if not values.text("StudyInstanceUID"):
        raise _LeftOutError(Code.UNREADABLE_FILE, "the image names no study")


def _without_pixels(header: DicomHeader, values: Values, sop_class: str) -> Code:
    if sop_class in MR_IMAGE_CLASSES or values.has("Rows"):
        return Code.TRUNCATED_FILE
    return Code.UNREADABLE_FILE if header.cut or not sop_class else Code.NOT_AN_IMAGE


def _pixel_place(header: DicomHeader, values: Values) -> tuple[PixelPlace, int, int]:
    """Where the pixels are; rows; columns.

    Raises:
        _LeftOutError: if the header does not tell.
    """
    rows, cols = values.integer("Rows") or 0, values.integer("Columns") or 0
    frames = (values.integer("NumberOfFrames") or 0) if values.has("NumberOfFrames") else 1
    allocated = values.integer("BitsAllocated") or 0
    stored = values.integer("BitsStored") or allocated
    high_bit = values.integer("HighBit") if values.has("HighBit") else stored - 1
    if not (rows > 0 and cols > 0 and rows * cols <= MOST_PIXELS and 0 < frames <= MOST_FRAMES):
        raise _LeftOutError(Code.UNREADABLE_FILE, "its rows, columns and frames make no images")
    if high_bit is None or not 1 <= stored <= high_bit + 1 <= allocated <= 64:
        raise _LeftOutError(Code.UNREADABLE_FILE, "its bits make no pixel")
    if (header.pixel_length == UNDEFINED) == (header.transfer_syntax in UNCOMPRESSED):
        raise _LeftOutError(Code.UNREADABLE_FILE, "its pixel data are not written as its transfer syntax says")
    place = PixelPlace(
        offset=header.pixel_offset,
        explicit_vr=header.pixel_vr,
        frames=frames,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        signed=values.integer("PixelRepresentation") == 1,
        photometric=values.text("PhotometricInterpretation") or "MONOCHROME2",
    )
    return place, rows, cols


def _frames(
    path: Path, header: DicomHeader, values: Values, matrix: tuple[PixelPlace, int, int], *, fragments_end: bool
) -> Iterator[Frame]:
    """The file's images, with what functional groups say of each of them and of all."""
    place, rows, cols = matrix
    of_file: dict[str, Any] = {
        "path": path,
        "study_uid": values.text("StudyInstanceUID"),
        "series_uid": values.text("SeriesInstanceUID"),
        "sop_uid": values.text("SOPInstanceUID"),
        "frame_of_reference": values.text("FrameOfReferenceUID"),
        "transfer_syntax": header.transfer_syntax,
        "rows": rows,
        "cols": cols,
        "text": _text(values),
        "complete": fragments_end and _is_long_enough(header, place, rows * cols),
        "pixels": place,
    }
    for number, elements in enumerate(_elements_of_each(header.elements, place.frames)):
        own = Values(elements, values.little, values.encoding)
        yield Frame(number=number, **of_file, **place_fields(own), **time_fields(own), **acquisition_fields(own))


def _text(values: Values) -> str:
    """What names the series. GE's ProtocolName names the whole examination: a cine beside T2* maps is none of them."""
    series, protocol = values.text("SeriesDescription"), values.text("ProtocolName")
    if series and values.text("Manufacturer").upper().split()[:1] == ["GE"]:
        return series
    return " ".join(filter(None, (series, protocol)))


def _is_long_enough(header: DicomHeader, place: PixelPlace, pixels: int) -> bool:
    """Whether uncompressed pixel data have the length that rows, columns, frames and bits ask for."""
    if header.pixel_length == UNDEFINED:
        return True
    there = min(header.pixel_length, header.size - header.pixel_offset)
    return there >= math.ceil(pixels * place.frames * place.bits_allocated / 8)


def _elements_of_each(elements: Elements, frames: int) -> Iterator[RawElements]:
    """Elements of each image: its own before those of all, those of functional groups before the top level's."""
    of_all = elements.values
    for shared in elements.items.get(SHARED_GROUPS, [])[:1]:
        of_all = of_all | _flattened(shared)
    of_each = elements.items.get(GROUPS_OF_EACH, [])
    for number in range(frames):
        yield of_all | _flattened(of_each[number]) if number < len(of_each) else of_all


def _flattened(groups: Elements) -> RawElements:
    """Elements of the first item of each functional group."""
    found: RawElements = {}
    for tag in FUNCTIONAL_GROUPS:
        for item in groups.items.get(tag, [])[:1]:
            found |= item.values
    return found
