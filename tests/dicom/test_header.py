"""The walk through a header: whatever the bytes are, it ends, and takes no private copy for the element itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.dicom.frame_tags import FUNCTIONAL_GROUPS, GROUPS_OF_EACH, WANTED
from pipeline.dicom.header import (
    LARGEST_HEADER,
    UNDEFINED,
    BrokenHeaderError,
    DicomHeader,
    Elements,
    NotDicomError,
    opened,
    read_header,
)
from pipeline.dicom.values import tag_of
from tests.dicom.dicom_images import element, file_of, item, mr_image, raw_image, save, sequence

POSITION, PLANE = tag_of("ImagePositionPatient"), tag_of("PlanePositionSequence")
PRIVATE = 0x2005140F
CLASS = element("SOPClassUID", b"1.2.840.10008.5.1.4.1.1.4.1")


def _read(path: Path, data: bytes) -> DicomHeader:
    path.write_bytes(data)
    with opened(path) as stream:
        return read_header(stream, WANTED)


def _positions(elements: Elements) -> list[bytes]:
    groups = [group for each in elements.items.get(GROUPS_OF_EACH, []) for group in each.items.get(PLANE, [])]
    return [group.values[POSITION][1] for group in groups]


@pytest.mark.parametrize("outer", [True, False])
@pytest.mark.parametrize("inner", [True, False])
@pytest.mark.parametrize("vr", ["SQ", "UN", ""])
def test_items_are_read_whether_lengths_are_told_or_not(tmp_path: Path, outer: bool, inner: bool, vr: str) -> None:
    """An UN sequence holds implicit elements; some writers turn to those inside an explicit file, too."""
    within = "DS" if vr == "SQ" else ""
    planes = [
        sequence(
            PLANE, [element(POSITION, f"0\\0\\{n}".encode(), within)], undefined=inner, vr=vr if vr == "SQ" else ""
        )
        for n in range(3)
    ]
    groups = sequence(GROUPS_OF_EACH, planes, undefined=outer, vr=vr)
    header = _read(tmp_path / "file", file_of(CLASS, groups, element(0x7FE00010, b"\1\2", "OW")))
    assert [value.strip(b"\0") for value in _positions(header.elements)] == [b"0\\0\\0", b"0\\0\\1", b"0\\0\\2"]
    assert (header.pixel_length, header.cut) == (2, False)


@pytest.mark.parametrize("undefined", [True, False])
def test_a_private_copy_is_never_taken_for_the_element(tmp_path: Path, undefined: bool) -> None:
    """Philips keeps another position of each slice in a private sequence, beside the one that holds."""
    copy = sequence(PRIVATE, [element(POSITION, b"9\\9\\9")], undefined=undefined)
    plane = sequence(PLANE, [element(POSITION, b"1\\2\\3 ")], undefined=undefined)
    groups = sequence(GROUPS_OF_EACH, [plane + copy], undefined=undefined)
    header = _read(tmp_path / "file", file_of(CLASS, copy, groups))
    assert POSITION not in header.elements.values
    assert _positions(header.elements) == [b"1\\2\\3 "]


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian],
)
def test_each_way_of_writing_gives_the_same_elements(tmp_path: Path, syntax: str) -> None:
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, n])]) for n in range(2)]
    image = mr_image(PerFrameFunctionalGroupsSequence=groups, TriggerTime=12.5)
    header = _read(tmp_path / "copy", save(image, tmp_path / "file", syntax).read_bytes())
    assert header.transfer_syntax == syntax
    assert header.little == (syntax != ExplicitVRBigEndian)
    assert header.elements.values[tag_of("TriggerTime")][1] == b"12.5"
    assert [value.split(b"\\")[2][:1] for value in _positions(header.elements)] == [b"0", b"1"]


def test_pixels_are_found_where_they_are(tmp_path: Path) -> None:
    data = raw_image(pixels=bytes(range(24)))
    header = _read(tmp_path / "file", data)
    assert data[header.pixel_offset :] == bytes(range(24))
    assert (header.pixel_vr, header.pixel_length, header.size) == ("OW", 24, len(data))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_file_without_preamble_is_known_by_its_elements(tmp_path: Path, syntax: str) -> None:
    whole = save(mr_image(), tmp_path / "whole", syntax).read_bytes()
    for start in (132, whole.index(b"\x08\x00\x16\x00")):  # from the meta information on, and without that, too
        header = _read(tmp_path / "file", whole[start:])
        assert header.transfer_syntax == syntax
        assert header.elements.values[tag_of("Modality")][1] == b"MR"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"DICM",
        b"Name,Label\nPATIENT^ONE,HCM\n" * 20,
        bytes(1000),
        b"\x08\x00\x05\x00" * 100,
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    ],
)
def test_what_is_no_dicom_is_told(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotDicomError):
        _read(tmp_path / "file", data)


def test_a_hole_in_a_file_ends_the_walk(tmp_path: Path) -> None:
    """A copy that broke off leaves zeros; eight bytes at a time they would take long, and mean nothing."""
    with pytest.raises(BrokenHeaderError):
        _read(tmp_path / "file", file_of(CLASS) + bytes(1 << 24))


def test_sequences_without_end_are_refused(tmp_path: Path) -> None:
    nested = b""
    for _ in range(2000):
        nested = sequence(PRIVATE, [nested], undefined=True)
    with pytest.raises(BrokenHeaderError):
        _read(tmp_path / "file", file_of(CLASS, nested))


def test_a_byte_order_that_is_not_the_transfer_syntaxs_gives_nothing(tmp_path: Path) -> None:
    data = save(mr_image(), tmp_path / "file", ExplicitVRBigEndian).read_bytes()
    mislabelled = data.replace(b"1.2.840.10008.1.2.2\0", b"1.2.840.10008.1.2.1\0")
    assert mislabelled != data
    header = _read(tmp_path / "file", mislabelled)
    assert header.elements.values == {}
    assert header.cut


def test_of_a_deflated_file_no_more_than_a_header_is_inflated(tmp_path: Path) -> None:
    """A megabyte may inflate to a gigabyte; its header tells what it is all the same."""
    image = mr_image(np.zeros((2048, 2048), np.uint16))
    path = save(image, tmp_path / "file", DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 20_000
    with opened(path) as stream:
        header = read_header(stream, WANTED)
    assert header.transfer_syntax == DeflatedExplicitVRLittleEndian
    assert header.elements.values[tag_of("Modality")][1] == b"MR"
    assert header.size == LARGEST_HEADER


def test_what_says_to_be_deflated_and_is_not_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenHeaderError):
        _read(tmp_path / "file", file_of(b"not deflated at all", syntax=DeflatedExplicitVRLittleEndian))


def test_wherever_a_file_is_cut_the_walk_ends_and_meets_no_pixels(tmp_path: Path) -> None:
    """And says so, but where the cut lies between elements or in the twelve bytes with which one begins."""
    plane = sequence(PLANE, [element(POSITION, b"1\\2\\3 ")], undefined=True)
    data = file_of(CLASS, element("Modality", b"MR"), sequence(GROUPS_OF_EACH, [plane, plane]))
    path, told = tmp_path / "file", 0
    for length in range(len(data)):
        try:
            header = _read(path, data[:length])
        except (NotDicomError, BrokenHeaderError):
            told += 1
        else:
            told += header.cut
            assert not header.pixel_tag
    assert told >= len(data) - 5 * 12
    assert not _read(path, data).cut


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_make_it_raise_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed, cut or drawn at random behind a preamble."""
    groups = sequence(GROUPS_OF_EACH, [sequence(tag, [element(POSITION, b"1\\2\\3")]) for tag in FUNCTIONAL_GROUPS[:3]])
    whole = bytearray(file_of(CLASS, groups, element(0x7FE00010, bytes(24), "OW")))
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(132, len(whole) - 1), st.integers(0, 255)), max_size=12), label="changes"
    ):
        whole[place] = value
    tail = data.draw(st.binary(max_size=40), label="tail")
    length = data.draw(st.integers(0, len(whole)), label="length")
    try:
        header = _read(tmp_path / "file", bytes(whole[:length]) + tail)
    except (NotDicomError, BrokenHeaderError):
        return
    assert header.pixel_length <= UNDEFINED
