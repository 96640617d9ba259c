"""A DICOM file's header, up to its pixels, as pydicom reads it: bytes of the elements that are wanted.

pydicom's warnings quote a value that breaks the standard: a patient's name in the wrong field would stand in a
hospital's log. So its raw elements are taken, with no warning, and :mod:`pipeline.dicom.values` turns their
bytes into values.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.sequence import Sequence

from pipeline.dicom.system_errors import pass_on

UNDEFINED = 0xFFFFFFFF  # a length
ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
SOP_CLASS_TAG, MEDIA_CLASS_TAG, TRANSFER_SYNTAX_TAG = 0x00080016, 0x00020002, 0x00020010
FIRST_TAG, PIXEL_DATA = 0x00010000, 0x7FE00010
ANY_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009, PIXEL_DATA})  # the others are floating point

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG})

LARGEST_VALUE = 1 << 16  # bytes; nothing that is read here is longer
LARGEST_HEADER = 1 << 20  # bytes of a deflated file's header; the whole could inflate beyond any memory
BUFFER = 1 << 15  # bytes; most headers are shorter, and come in one read

_ONE_AT_A_TIME = threading.Lock()

RawElements = dict[int, tuple[str, bytes]]  # by tag: value representation (empty where the file has none), bytes


class NotDicomError(Exception):
    """The file is no DICOM file."""


class BrokenHeaderError(Exception):
    """The file is DICOM, but its header does not hold together."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Tags to read.

    Attributes:
        values: of elements with a value.
        sequences: of sequences, whose items are read for the same tags. Any other sequence is passed over with all
            that it holds, so that a vendor's private copy of a tag is never taken for the tag.
        last: no need to look past this tag.
    """

    values: frozenset[int] = frozenset()
    sequences: frozenset[int] = frozenset()
    last: int = PIXEL_DATA


META = Wanted(values=frozenset({TRANSFER_SYNTAX_TAG, MEDIA_CLASS_TAG}))


@dataclass(slots=True)
class Elements:
    """Elements of a data set or of an item.

    Attributes:
        values: those with a value.
        items: items of the sequences that were asked for, by tag.
    """

    values: RawElements = field(default_factory=dict)
    items: dict[int, list[Elements]] = field(default_factory=dict)


@dataclass(slots=True)
class DicomHeader:
    """A header up to its pixels.

    Attributes:
        elements: those asked for.
        little: whether numbers are little endian.
        transfer_syntax: its UID; where the file has none, that of the way in which it is written.
        media_class: MediaStorageSOPClassUID.
        size: bytes of the file; of a deflated one, of as much as was inflated.
        cut: whether the file ends inside an element.
        pixel_tag: 0 where no pixel data were met.
        pixel_vr: their value representation, empty where the file has none.
        pixel_offset: first byte of their value; of a deflated file no place in the file.
        pixel_length: bytes, or ``UNDEFINED`` where they come in fragments.
    """

    elements: Elements
    little: bool
    transfer_syntax: str
    media_class: str
    size: int
    cut: bool = False
    pixel_tag: int = 0
    pixel_vr: str = ""
    pixel_offset: int = 0
    pixel_length: int = 0


@dataclass(slots=True)
class _Stop:
    """Tells pydicom to stop at the pixels, or past the last tag wanted; remembers where they are, or all ends."""

    stream: BinaryIO
    last: int
    pixel_tag: int = 0
    vr: str = ""
    offset: int = 0
    length: int = 0
    end: int = 0
    reached: bool = False

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        number = int(tag)  # pydicom's own tags compare slowly
        if number < FIRST_TAG:  # a hole in the file, or no element at all
            raise BrokenHeaderError
        at = self.stream.tell()
        if number <= self.last and number not in ANY_PIXEL_DATA:
            self.end = at + length if length != UNDEFINED else 0
            return False
        self.reached = True
        if number in ANY_PIXEL_DATA:
            self.pixel_tag, self.vr, self.offset, self.length = number, vr or "", at, length
        return True


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file under no name: pydicom's warnings give a stream's name, and a file's may be the patient's."""
    with os.fdopen(os.open(path, os.O_RDONLY), "rb", buffering=BUFFER) as stream:
        yield stream


def read_header(stream: BinaryIO, wanted: Wanted) -> DicomHeader:
    """Read chosen elements of a file.

    Args:
        stream: the file, at its start, from :func:`opened`.
        wanted: tags; ``SOP_CLASS_TAG`` must be among them, for it tells a file without preamble from one that is no
            DICOM.

    Returns:
        The header.

    Raises:
        NotDicomError: if the file is none.
        BrokenHeaderError: if the header does not hold together.
        OSError: if the machine fails (:mod:`pipeline.dicom.system_errors`).
    """
    sure = _check_start(stream)
    try:
        with quiet():
            header = _read(stream, wanted)
    except Exception as error:  # pydicom raises many kinds over broken bytes
        pass_on(error)
        raise BrokenHeaderError if sure else NotDicomError from None
    if not sure and not header.elements.values.get(SOP_CLASS_TAG, ("", b""))[1].startswith(b"1."):
        raise NotDicomError
    return header


def fragments(stream: BinaryIO, header: DicomHeader) -> tuple[int, bool]:
    """Count the fragments of compressed pixel data, without reading them.

    Args:
        stream: the file.
        header: its header.

    Returns:
        How many there are after the offset table, and whether they go on to their end mark.
    """
    at, items = header.pixel_offset, 0
    while at + 8 <= header.size:
        stream.seek(at)
        group, element, length = struct.unpack("<HHL" if header.little else ">HHL", stream.read(8))
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return max(items - 1, 0), True
        if tag != ITEM or length == UNDEFINED:
            break
        items, at = items + 1, at + 8 + length
    return max(items - 1, 0), False


@contextmanager
def quiet() -> Iterator[None]:
    """Pydicom says nothing: some of it quotes the header. Filters are the whole process's, so one file at a time."""
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disabled, pydicom_config.logger.disabled = pydicom_config.logger.disabled, True
        try:
            yield
        finally:
            pydicom_config.logger.disabled = disabled


def _check_start(stream: BinaryIO) -> bool:
    """Whether the file says that it is DICOM; if not, it must begin as such files do. Goes to its first element."""
    start = stream.read(132)
    sure = start[128:132] == b"DICM"
    stream.seek(132 if sure else 0)
    if not sure and start[:2] not in {b"\x02\x00", b"\x08\x00", b"\x00\x08"}:
        raise NotDicomError
    return sure


def _read(stream: BinaryIO, wanted: Wanted) -> DicomHeader:
    """File meta information, which is always explicit and little endian, then the data set as it is written."""
    meta = _elements(read_dataset(stream, False, True, stop_when=_past_meta), META).values
    syntax, media_class = (
        meta.get(tag, ("", b""))[1].decode("ascii", "replace").strip("\0 ")
        for tag in (TRANSFER_SYNTAX_TAG, MEDIA_CLASS_TAG)
    )
    size = os.fstat(stream.fileno()).st_size
    if syntax == DEFLATED:
        inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), LARGEST_HEADER)
        stream, size = BytesIO(inflated), len(inflated)
    first = stream.read(1)
    stream.seek(-len(first), os.SEEK_CUR)
    little = syntax != EXPLICIT_BIG if syntax else first != b"\0"  # group 8 comes first
    stop = _Stop(stream, wanted.last)
    tags = sorted(wanted.values | wanted.sequences)
    dataset = read_dataset(stream, syntax == IMPLICIT_LITTLE, little, stop_when=stop, specific_tags=tags)
    written = IMPLICIT_LITTLE if dataset.original_encoding[0] else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    return DicomHeader(
        _elements(dataset, wanted),
        little=little,
        transfer_syntax=syntax or written,
        media_class=media_class,
        size=size,
        cut=not stop.reached and stop.end not in {0, size},
        pixel_tag=stop.pixel_tag,
        pixel_vr=stop.vr,
        pixel_offset=stop.offset,
        pixel_length=stop.length,
    )


def _past_meta(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >> 16 > 2


def _elements(dataset: Dataset, wanted: Wanted) -> Elements:
    found = Elements()
    for tag in dataset.keys():  # noqa: SIM118 - to walk over the data set itself would turn bytes into values
        number = int(tag)
        if number in wanted.sequences:
            items = dataset[tag].value  # a sequence's items hold raw elements in their turn
            found.items[number] = [_elements(item, wanted) for item in items] if isinstance(items, Sequence) else []
        elif number in wanted.values:
            element = dataset.get_item(tag)
            value = element.value if isinstance(element.value, bytes) else b""
            if len(value) <= LARGEST_VALUE:
                found.values[number] = (element.VR or "", value)
    return found
