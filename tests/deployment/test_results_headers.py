"""What results take over from headers: whose study it is and when, as it stands there, and nothing else."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from pipeline.deployment.publish import write_results
from pipeline.deployment.source_headers import KEYWORDS
from pipeline.deployment.summary_picture import summary_picture
from tests.deployment.readings import (
    PICTURE,
    READ,
    Source,
    contents,
    network_input,
    raw_element,
    raw_value,
    read_header,
    source,
    stripped,
    written_to,
)
from tests.dicom.dicom_writer import cine_study
from transforms.scanner import Scanner

ROOT = Path(__file__).parents[2]
# Every attribute that may be a header's, and no other: those that a PACS files by.
MAY_BE_COPIED = {
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription"),
    "TimezoneOffsetFromUTC",
}
NAMES: Mapping[str, tuple[object, bytes]] = {
    "Latin-1": ("ISO_IR 100", "Müller^Jürgen".encode("latin-1")),
    "Japanese": (
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "Latin-9": ("ISO_IR 203", "Lœuf^Zoë".encode("iso8859-15")),
    "Latin-9 by code extension": (["", "ISO 2022 IR 203"], b"L\x1b-b\xbduf^Zo\x1b-b\xeb"),
    "Chinese in UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东".encode()),
    "Chinese in GB18030": ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    "Korean": (
        ["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
    ),
    "Latin-1 that nobody declared": (None, "Müller^Jürgen".encode("latin-1")),
    "not even of its own character set": ("ISO_IR 192", b"M\xfcller^J\xfcrgen"),
}


@pytest.mark.filterwarnings("ignore:Unknown encoding:UserWarning")  # pydicom's, where the test reads Latin-9
@pytest.mark.parametrize("name", NAMES)
def test_a_name_survives_byte_for_byte_with_its_character_set(name: str, tmp_path: Path) -> None:
    terms, value = NAMES[name]
    data = cine_study(3).files["image-0000"]
    if terms is not None:
        data.SpecificCharacterSet = terms
    padded = value + b" " * (len(value) % 2)
    del data.PixelData
    data.set_original_encoding(False, True, data._character_set)
    data[0x00100010] = RawDataElement(Tag(0x00100010), "PN", len(padded), padded, 0, False, True)
    header = read_header(data)
    assert raw_value(header, "PatientName") == padded
    given = Source([header], [], READ)
    for made in written_to(given, tmp_path):
        assert raw_value(made, "PatientName") == padded
        assert made.get("SpecificCharacterSet") == header.get("SpecificCharacterSet")
        if not any(words in name for words in ("nobody", "not even", "Latin-9")):
            assert str(made.PatientName) == str(header.PatientName)


def test_a_character_set_of_the_headers_own_invention_is_not_carried_on(given: Source, tmp_path: Path) -> None:
    header = stripped(given.headers[0])
    header["SpecificCharacterSet"] = raw_element("SpecificCharacterSet", b"ISO_IR 100\\QOWNSETZ")
    header["PatientName"] = raw_element("PatientName", "Müller".encode("latin-1"))
    for made in written_to(Source([header], [], READ), tmp_path):
        assert "SpecificCharacterSet" not in made
        assert raw_value(made, "PatientName") == "Müller".encode("latin-1")


def test_headers_that_were_taken_apart_already_give_the_same_names(tmp_path: Path) -> None:
    """Somebody looked at the name before: pydicom then holds a text in place of bytes."""
    given = source(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen", AccessionNumber="A 1")
    for made in written_to(given, tmp_path / "a"):
        assert made.PatientName == "Müller^Jürgen"
    assert {str(header.PatientName) + header.AccessionNumber for header in given.headers} == {"Müller^JürgenA 1"}
    written_to(given, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_headers_of_implicit_files_are_copied_as_well(tmp_path: Path) -> None:
    data = cine_study(3).files["image-0000"]
    data.PatientName, data.SpecificCharacterSet, data.StudyDescription = "Müller^Jürgen", "ISO_IR 100", "Herz"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    header = dcmread(BytesIO(buffer.getvalue()), stop_before_pixels=True)
    for made in written_to(Source([header], [], READ), tmp_path):
        assert (made.PatientName, made.StudyDescription) == ("Müller^Jürgen", "Herz")


def test_a_stripped_study_gives_objects_with_empty_attributes_and_no_date_that_could_be_true(
    given: Source, tmp_path: Path
) -> None:
    for made in written_to(Source([stripped(given.headers[0])], [], READ), tmp_path):
        empty = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyID")
        assert [str(made[keyword].value or "") for keyword in empty] == [""] * len(empty)
        assert (made.ContentDate, made.ContentTime) == ("19000101", "000000")
        assert "IssuerOfPatientID" not in made


def test_a_deidentified_study_stays_marked_as_such(tmp_path: Path) -> None:
    for made in written_to(source(PatientIdentityRemoved="YES"), tmp_path):
        assert made.PatientIdentityRemoved == "YES"
        assert made.DeidentificationMethod == "As the source images"


@pytest.mark.parametrize(
    ("attributes", "moment"),
    [
        ({"ContentDate": "20260102", "ContentTime": "101112.5"}, ("20260102", "101112")),
        ({"ContentDate": "20261302", "AcquisitionDate": "20260103", "AcquisitionTime": "09"}, ("20260103", "090000")),
        ({"SeriesDate": "20260104", "SeriesTime": "996112"}, ("19000101", "000000")),
        ({"StudyDate": "20260105"}, ("20260105", "000000")),
        ({"StudyDate": "2026.01.05"}, ("19000101", "000000")),
    ],
)
def test_content_is_dated_by_the_images(
    attributes: dict[str, str], moment: tuple[str, str], given: Source, tmp_path: Path
) -> None:
    header = stripped(given.headers[0])
    for keyword, value in attributes.items():
        header[keyword] = raw_element(keyword, value.encode())
    for made in written_to(Source([header], [], READ), tmp_path):
        assert (made.ContentDate, made.ContentTime) == moment
    assert made.DateOfSecondaryCapture == moment[0]


def test_the_newest_image_dates_the_content(tmp_path: Path) -> None:
    given = source(ContentDate="20260102")
    given.headers[4].ContentDate, given.headers[4].ContentTime = "20260103", "0001"
    for made in written_to(given, tmp_path):
        assert (made.ContentDate, made.ContentTime) == ("20260103", "000100")


def test_files_in_another_order_give_the_same_bytes(given: Source, written: Path, tmp_path: Path) -> None:
    written_to(given, tmp_path, headers=[*reversed(given.headers), given.headers[3]])
    assert contents(tmp_path) == contents(written)


@pytest.mark.slow
def test_another_process_at_another_time_gives_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; import numpy as np; from pipeline.deployment.publish import write_results;"
        "from tests.deployment.readings import source; given = source(StudyDate='20260102');"
        "write_results(given.outcome, sys.argv[1], headers=given.headers, sources=given.sources,"
        "picture=np.zeros((4, 4, 3), np.uint8))"
    )
    environment = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True, env=environment, cwd=ROOT)
    written_to(source(StudyDate="20260102"), tmp_path / "here", picture=np.zeros((4, 4, 3), np.uint8))
    assert len(contents(tmp_path / "here")) == 4
    assert contents(tmp_path / "other") == contents(tmp_path / "here")


def _canaries() -> tuple[Dataset, dict[str, bytes]]:
    """A header with a text of its own in every attribute of text, and each one's text by its keyword."""
    header, canaries = stripped(source().headers[0]), {}
    kept = {"SpecificCharacterSet", *(element.keyword for element in header)}
    text = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
    for number, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in text and keyword and keyword not in kept and number >> 16 >= 8:
            canary = f"1.2.{number}" if vr == "UI" else f"Q{number:08X}Z"
            canaries[keyword] = canary.encode()
            header[number] = raw_element(keyword, canaries[keyword])
    inner = Dataset()
    for keyword in ("PatientID", "RequestedProcedureDescription", "ReasonForTheRequestedProcedure"):
        setattr(inner, keyword, f"INNER{keyword[:8]}")
        canaries[f"inner {keyword}"] = f"INNER{keyword[:8]}".encode()
    header.OtherPatientIDsSequence, header.RequestAttributesSequence = [inner], [inner]
    header.add_new(0x00191010, "LO", "PRIVATECANARY")
    canaries["private"] = b"PRIVATECANARY"
    return header, canaries


def test_of_a_header_only_what_a_pacs_files_by_gets_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    header, canaries = _canaries()
    assert len(canaries) > 1500
    scanner = Scanner.from_raw(
        manufacturer="SIEMENS QCANARYZ", model="QMODELZ", field_strength="1.5", site="QSITEZ", software="QSOFTZ"
    )
    outcome = replace(READ, scanner=scanner)
    caplog.set_level(logging.DEBUG)
    picture = summary_picture(network_input(), outcome)
    np.testing.assert_array_equal(picture, summary_picture(network_input(), READ))
    sources = [[(str(header.SOPInstanceUID), 0)]] * 11
    paths = write_results(outcome, tmp_path, headers=[header], picture=PICTURE, sources=sources)
    told = caplog.text + "".join(capfd.readouterr()) + "".join(path.name for path in paths)
    unseen = [b"CANARY", b"QMODELZ", b"QSITEZ", b"QSOFTZ"]
    for path in paths:
        content = path.read_bytes()
        found = {keyword for keyword, canary in canaries.items() if canary in content}
        assert found == (MAY_BE_COPIED if path.suffix == ".dcm" else set()), path.suffix
        assert not any(canary in content for canary in unseen)
    identity = [str(header[keyword].value) for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    assert not re.search(r"Q[0-9A-F]{8}Z|INNER|CANARY", told)
    assert not any(uid in told for uid in identity)
    for name in ("result.json", "summary.png"):
        assert not any(uid.encode() in (tmp_path / name).read_bytes() for uid in identity)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy, of dicom3tools")
def test_headers_of_real_scanners_give_objects_with_no_error_but_the_headers_own(
    real_data: Path, tmp_path: Path
) -> None:
    """Real UIDs have roots that nobody owns, real birth dates are 000: they are copied, for the PACS knows them so."""
    studies: dict[str, list[Dataset]] = {}
    for path in sorted((real_data / "mr_headers").glob("*/**/*.dcm")):
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS), force=True)
        studies.setdefault(str(header.get("StudyInstanceUID", "")), []).append(header)
    studies.pop("", None)
    assert len(studies) > 10
    copied = {str(Tag(tag_for_keyword(keyword) or 0)) for keyword in MAY_BE_COPIED} | {
        str(Tag(tag_for_keyword(keyword) or 0))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "ReferencedSOPInstanceUID")
    }
    for number, headers in enumerate(studies.values()):
        folder = tmp_path / str(number)
        write_results(READ, folder, headers=headers, picture=PICTURE)
        for path in folder.glob("*.dcm"):
            told = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
            errors = [line for line in told.splitlines() if line.startswith("Error") and "dataset contains" not in line]
            tags = [re.search(r"\(0x(\w{4}),0x(\w{4})\)", line) for line in errors]
            assert {f"({tag[1]},{tag[2]})" if tag else "none" for tag in tags} <= copied, errors
