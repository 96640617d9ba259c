"""Studies that were damaged on their way or made to do harm, each by its seed."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.datadict import DicomDictionary, tag_for_keyword

from tests.deployment.hospital_studies import beating_study, write_nifti
from tests.dicom.dicom_extras import EXTRAS
from tests.dicom.dicom_writer import LAYOUTS, Study, to_bytes
from tests.dicom.mutations import MUTATIONS, Parcel

STUDIES_OF_A_LAYOUT = 2
Random = np.random.Generator
Files = dict[str, bytes]

STRINGS = (
    *(b"", b"\0" * 70, b"\xff" * 64, b"A" * 65_000, b"\\" * 50, b"1.2.3" * 30, b"../../etc/passwd", b"%s%n%x", b"NaN"),
    *(
        b"1e999",
        b"-1",
        b"0",
        b"99999999999999999999",
        b"\x1b$B\x1b(J",
        "Ünï^Cødé=漢字".encode(),
        b"\r\n\r\n",
        b"'; DROP",
    ),
    *(b"ISO_IR 192", b"ISO 2022 IR 87", b"1\\2\\3\\4\\5\\6\\7", b"1e-30\\1e-30", b"1e30\\1e30", b"{}", b"<script>"),
)
TEXTS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "PatientIdentityRemoved"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "StudyID"),
    *("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "SoftwareVersions", "SpecificCharacterSet"),
    *("StudyDate", "StudyTime", "ContentDate", "AcquisitionTime", "TimezoneOffsetFromUTC", "AccessionNumber"),
    *("ReferringPhysicianName", "StudyDescription", "DeidentificationMethod", "ImageType", "SequenceName", "Modality"),
    "PhotometricInterpretation",
)
NUMBERS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "NumberOfFrames"),
    *("PixelRepresentation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope"),
    *("RescaleIntercept", "TriggerTime", "InstanceNumber", "SliceThickness", "NominalInterval", "HeartRate"),
    *("CardiacNumberOfImages", "EchoTime", "InversionTime"),
)
FACTS = {"manufacturer": "SIEMENS", "model": "Avanto", "field_strength": 1.5}
LENGTHS = (0, 1, 3, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)


def bit_flips(files: Files, random: Random) -> None:
    """Up to 64 bits, the header's as often as the pixels'."""
    name = _pick(files, random)
    data = bytearray(files[name])
    for _ in range(int(random.integers(1, 65))):
        end = len(data) if random.random() < 0.5 else min(len(data), 3000)
        data[int(random.integers(end))] ^= 1 << int(random.integers(8))
    files[name] = bytes(data)


def truncation(files: Files, random: Random) -> None:
    """One file or all of them end anywhere."""
    share = float(random.random())
    for name in list(files) if random.random() < 0.2 else [_pick(files, random)]:
        files[name] = files[name][: int(share * len(files[name]))]


def giant_lengths(files: Files, random: Random) -> None:
    """Lengths of up to 8 elements, in one file or in all, at the same places."""
    names = list(files) if random.random() < 0.2 else [_pick(files, random)]
    places = random.integers(132, 2500, int(random.integers(1, 9)))
    length, form = LENGTHS[int(random.integers(len(LENGTHS)))], "<H" if random.random() < 0.5 else "<L"
    for name in names:
        data = bytearray(files[name])
        for place in places:
            if place + 4 < len(data):
                struct.pack_into(form, data, int(place), length & (0xFFFF if form == "<H" else 0xFFFFFFFF))
        files[name] = bytes(data)


def swapped_tags(files: Files, random: Random) -> None:
    """Two elements of explicit representation with each other's tag, in all files."""
    for name, data in files.items():
        places = _elements(data)
        if len(places) > 2:
            one, other = sorted(int(i) for i in random.choice(len(places), 2, replace=False))
            a, b = places[one], places[other]
            swapped = bytearray(data)
            swapped[a : a + 4], swapped[b : b + 4] = data[b : b + 4], data[a : a + 4]
            files[name] = bytes(swapped)
        if random.random() < 0.5:
            return


def hostile_strings(files: Files, random: Random) -> None:
    """A string of the list in place of a value, in one file or in all; pydicom writes what it is given."""
    every, count = random.random() < 0.5, int(random.integers(1, 6))
    keywords = [_keyword(random) for _ in range(count)]
    texts = [STRINGS[int(random.integers(len(STRINGS)))] for _ in range(count)]
    for name in list(files) if every else [_pick(files, random)]:
        for keyword, text in zip(keywords, texts, strict=True):
            files[name] = _with_value(files[name], keyword, text)


def hostile_numbers(files: Files, random: Random) -> None:
    """Sizes, bits, spacing, position and scaling that are none, in one file or in all."""
    values = ("0", "-1", "1", "65535", "1e30", "-1e30", "1e-30", "nan", "inf", "4294967295", "2.5")
    every = random.random() < 0.6
    keyword = str(random.choice(NUMBERS))
    value = "\\".join([str(random.choice(values))] * (int(random.integers(1, 7)) if random.random() < 0.5 else 1))
    for name in list(files) if every else [_pick(files, random)]:
        files[name] = _with_value(files[name], keyword, value.encode())


def rubbish_files(files: Files, random: Random) -> None:
    """Files of noise, of zeros, of a magic word, of nothing; a sidecar or two."""
    for number in range(int(random.integers(1, 6))):
        noise = random.bytes(int(random.integers(1, 5000)))
        start = (b"", bytes(128) + b"DICM", b"\x08\0\x05\0", b"\x1f\x8b", struct.pack("<i", 348))[random.integers(5)]
        name = ("x", "y.dcm", "z.nii", "z.nii.gz", "task.json", "a.tags", "DICOMDIR", "result.json")[random.integers(8)]
        files[f"{number}-{name}" if name != "task.json" else name] = b"" if random.random() < 0.1 else start + noise


def nested_sequences(files: Files, random: Random) -> None:
    """Sequences within sequences, deeper than any parser's stack, or with lengths that run out of each other."""
    depth = int(random.choice([10, 300, 3000, 20_000]))
    undefined = random.random() < 0.7
    item = b""
    for _ in range(depth if undefined else 5):
        length = 0xFFFFFFFF if undefined else int(random.integers(0, 1 << 31))
        item += struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, length) + struct.pack("<HHL", 0xFFFE, 0xE000, length)
    name = _pick(files, random)
    data, places = files[name], _elements(files[name])
    if len(places) > 3:
        files[name] = data[: places[3]] + item + data[places[3] :]


def damaged_nifti(files: Files, random: Random) -> None:
    """A NIfTI image in place of the study, its header or its packed bytes damaged."""
    with tempfile.TemporaryDirectory() as folder:
        name = "cine.nii.gz" if random.random() < 0.4 else "cine.nii"
        write_nifti(Path(folder), FACTS, name=name)
        files.clear()
        files.update({path.name: path.read_bytes() for path in Path(folder).iterdir()})
    data = bytearray(files[name])
    kind = int(random.integers(4))
    if kind == 0:
        data = data[: int(random.integers(len(data)))]
    else:
        for _ in range(int(random.integers(1, 40))):
            place = int(random.integers(352 if kind < 3 else len(data)))
            data[place] = int(random.integers(256))
    files[name] = bytes(data)
    if random.random() < 0.3:
        files["cine.json"] = random.bytes(30) if random.random() < 0.5 else b'{"modle": "x", "field_strength": 1e999}'


DAMAGES: Mapping[str, Callable[[Files, Random], None]] = {
    damage.__name__.replace("_", " "): damage
    for damage in (
        *(bit_flips, truncation, giant_lengths, swapped_tags, hostile_strings, hostile_numbers, rubbish_files),
        *(nested_sequences, damaged_nifti),
    )
}


def written(seed: int) -> tuple[str, Files]:
    """A damaged study.

    Args:
        seed: of the study, its layout and what befalls it; one in four is damaged by the importer's own tests.

    Returns:
        What was done to it, and its files.
    """
    random = np.random.default_rng(seed)
    layout = list(LAYOUTS)[int(random.integers(len(LAYOUTS)))]
    study, files = _study(seed % STUDIES_OF_A_LAYOUT, layout)
    files = dict(files)
    if random.random() < 0.25:
        name = str(random.choice([name for name in MUTATIONS if not name.startswith("with ")]))
        parcel = Parcel(study, {**files})
        MUTATIONS[name](parcel, random)
        return name, {key: data if isinstance(data, bytes) else data.read_bytes() for key, data in parcel.files.items()}
    if random.random() < 0.2:
        kind = str(random.choice(list(EXTRAS)))
        files |= {f"other-{i}": to_bytes(data) for i, data in enumerate(EXTRAS[kind](study.plan))}
    name = str(random.choice(list(DAMAGES)))
    DAMAGES[name](files, random)
    return name, files


@cache
def _study(seed: int, layout: str) -> tuple[Study, Files]:
    study = beating_study(seed, layout)
    return study, {name: to_bytes(data) for name, data in study.files.items()}


def _pick(files: Files, random: Random) -> str:
    return list(files)[int(random.integers(len(files)))]


def _elements(data: bytes) -> list[int]:
    """Where the top elements of an explicit little-endian file begin, past the file meta information."""
    at, found = 132, []
    while at + 12 < len(data):
        group, kind = struct.unpack_from("<H", data, at)[0], data[at + 4 : at + 6]
        wide = kind in {b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"OD", b"UC", b"UR"}
        length = struct.unpack_from("<L", data, at + 8)[0] if wide else struct.unpack_from("<H", data, at + 6)[0]
        if group > 2:
            found.append(at)
        if group > 0x50 or length == 0xFFFFFFFF:
            break
        at += (12 if wide else 8) + length
    return found


def _keyword(random: Random) -> str:
    if random.random() < 0.8:
        return str(random.choice(TEXTS))
    every = [entry[4] for tag, entry in DicomDictionary.items() if 0x00080000 < tag < 0x00210000 and entry[4]]
    return str(random.choice(every))


def _with_value(data: bytes, keyword: str, value: bytes) -> bytes:
    """A file with other bytes as an element's value, whatever its representation asks for; unchanged if it lacks it."""
    tag = tag_for_keyword(keyword) or 0
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    for at in _elements(data):
        kind = data[at + 4 : at + 6]
        if data[at : at + 4] != head or kind in {b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC"}:
            continue
        length = struct.unpack_from("<H", data, at + 6)[0]
        padded = (value + b" " * (len(value) % 2))[:65_534]
        if kind in {b"US", b"SS"}:
            number = float(value.split(b"\\")[0]) if value[:1].isdigit() else -1.0
            padded = struct.pack("<H", int(number) & 0xFFFF if abs(number) < 1e18 else 0xFFFF)
        return data[: at + 6] + struct.pack("<H", len(padded)) + padded + data[at + 8 + length :]
    return data
