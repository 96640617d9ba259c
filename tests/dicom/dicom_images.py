"""Small DICOM files for tests of reading: well-formed ones by pydicom, the rest byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

LONG_FORM = {"OB", "OW", "SQ", "UN", "UT"}
PREAMBLE = bytes(128) + b"DICM"
STUDY, SERIES = "1.2.3", "1.2.3.4"


def mr_image(pixels: np.ndarray | None = None, **elements: Any) -> Dataset:
    """A classic MR image of one slice; ``None`` takes an element away.

    Args:
        pixels: ``(rows, cols)`` or ``(frames, rows, cols)``, 8, 16 or 32 bits.
        elements: by keyword, beside the usual ones or instead of them.
    """
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) if pixels is None else pixels
    bits = 8 * pixels.dtype.itemsize
    usual = {
        "SOPClassUID": MRImageStorage,
        "SOPInstanceUID": f"{SERIES}.{elements.get('InstanceNumber', 1)}",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "PatientID": "P1",
        "Modality": "MR",
        "InstanceNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "ImagePositionPatient": [1, 2, 3],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1.5, 1.25],
    }
    if pixels.ndim == 3:
        usual |= {"SOPClassUID": EnhancedMRImageStorage, "NumberOfFrames": len(pixels)}
    image = Dataset()
    for keyword, value in (usual | elements).items():
        if value is not None:
            setattr(image, keyword, value)
    image.add_new("PixelData", "OB" if bits == 8 else "OW", pixels.tobytes())
    return image


def item(**elements: Any) -> Dataset:
    """One item of a sequence."""
    return mapped(Dataset(), elements)


def mapped(dataset: Dataset, elements: Mapping[str, Any]) -> Dataset:
    """The data set with the elements in it."""
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def save(dataset: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write a data set with native, little endian pixels as a DICOM file, big endian or compressed if so asked."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if UID(syntax).is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        dataset.compress(syntax, encoding_plugin="pylibjpeg")
    elif syntax == ExplicitVRBigEndian and dataset["PixelData"].VR == "OW":
        words = np.frombuffer(dataset.PixelData, f"<u{max(dataset.BitsAllocated // 8, 2)}")
        dataset.PixelData = words.byteswap().tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return path


def element(tag: int | str, value: bytes, vr: str | None = None, *, length: int | None = None) -> bytes:
    """One element, explicit and little endian, of any bytes and any length; ``vr=""`` writes it implicitly."""
    number = tag if isinstance(tag, int) else tag_for_keyword(tag)
    assert number is not None
    vr = dictionary_VR(number).split()[0] if vr is None else vr
    value += b"\0" * (len(value) % 2)
    said = len(value) if length is None else length
    head = struct.pack("<HH", number >> 16, number & 0xFFFF)
    if not vr:
        return head + struct.pack("<L", said) + value
    long = vr in LONG_FORM
    return head + vr.encode() + (struct.pack("<HL", 0, said) if long else struct.pack("<H", said & 0xFFFF)) + value


def sequence(tag: int | str, items: Sequence[bytes], *, undefined: bool = False, vr: str = "SQ") -> bytes:
    """A sequence of items, with lengths or with marks at their ends."""
    if undefined:
        body = b"".join(_mark(0xE000, 0xFFFFFFFF) + one + _mark(0xE00D, 0) for one in items) + _mark(0xE0DD, 0)
        return element(tag, body, vr, length=0xFFFFFFFF)
    return element(tag, b"".join(_mark(0xE000, len(one)) + one for one in items), vr)


def _mark(number: int, length: int) -> bytes:
    return struct.pack("<HHL", 0xFFFE, number, length)


def file_of(*elements: bytes, syntax: str = ExplicitVRLittleEndian, preamble: bytes = PREAMBLE) -> bytes:
    """A file of these elements, which must be in order."""
    return preamble + element(0x00020010, syntax.encode(), "UI") + b"".join(elements)


def raw_image(wild: Mapping[int, bytes] | None = None, pixels: bytes = bytes(24)) -> bytes:
    """An MR image of 3 x 4 pixels, some of whose elements (tag to whole element) are as the test wants them."""
    image = mr_image()
    del image.PixelData
    usual = {int(one.tag): one for one in image}
    words = {tag: _encoded(one) for tag, one in usual.items()}
    words |= wild or {}
    return file_of(*(words[tag] for tag in sorted(words)), element(0x7FE00010, pixels, "OW"))


def _encoded(one: Any) -> bytes:
    if one.VR == "US":
        return element(int(one.tag), struct.pack("<H", one.value), "US")
    values = one.value if one.VM > 1 else [one.value]
    return element(int(one.tag), "\\".join(map(str, values)).encode(), one.VR)
