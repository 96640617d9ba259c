"""Values from the bytes of a header: what is a number, a time, an age, and what is none of them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pipeline.dicom.values import CHARACTER_SET_TAG, Values, character_set, tag_of


def _values(keyword: str, data: bytes, vr: str = "", **settings: Any) -> Values:
    return Values({tag_of(keyword): (vr, data)}, **settings)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"12.5", 12.5),
        (b" 1e3 ", 1000.0),
        (b"-0\0", 0.0),
        (b"None", None),
        (b"", None),
        (b"   ", None),
        (b"nan", None),
        (b"inf", None),
        (b"-Infinity", None),
        (b"1e999", None),
        (b"1_000", None),
        (b"12,5", None),
        (b"3\\4", None),
        (b"3\\", 3.0),
        (b"\xd9\xa3", None),  # an Arabic three, which Python's float would take
        (b"\xff\xfe", None),
    ],
)
def test_a_number_is_finite_and_alone_or_it_is_none(data: bytes, expected: float | None) -> None:
    assert _values("TriggerTime", data, "DS").number("TriggerTime") == expected


def test_an_element_that_is_absent_has_no_value() -> None:
    nothing = Values({})
    assert (nothing.number("TriggerTime"), nothing.integer("Rows"), nothing.text("Modality")) == (None, None, "")
    assert nothing.numbers("PixelSpacing") is None
    assert not nothing.has("Modality")


@pytest.mark.parametrize("little", [True, False])
def test_binary_numbers_are_read_in_the_order_of_their_bytes(little: bool) -> None:
    order = "<" if little else ">"
    data = struct.pack(f"{order}3d", 1.5, -2, 1e-3)
    assert _values("VelocityEncodingDirection", data, "FD", little=little).numbers("VelocityEncodingDirection") == (
        1.5,
        -2.0,
        0.001,
    )
    assert _values("Rows", struct.pack(f"{order}H", 258), "US", little=little).integer("Rows") == 258


@pytest.mark.parametrize("vr", ["", "UN"])
def test_without_a_representation_in_the_file_that_of_the_standard_holds(vr: str) -> None:
    """Implicit files have none; an archive that knows an element not writes UN."""
    assert _values("Rows", b"\x00\x01", vr).integer("Rows") == 256
    assert _values("TriggerTime", b"7.5 ", vr).number("TriggerTime") == 7.5


def test_a_binary_value_of_the_wrong_length_is_none() -> None:
    assert _values("Rows", b"\x01", "US").integer("Rows") is None
    assert (
        _values("RRIntervalTimeNominal", struct.pack("<d", float("nan")), "FD").number("RRIntervalTimeNominal") is None
    )


@pytest.mark.parametrize(
    ("data", "expected"), [(b"7", 7), (b"7.0", 7), (b"7.5", None), (b"-3 ", -3), (b"1e30", None), (b"seven", None)]
)
def test_an_integer_may_be_spelt_as_a_decimal_but_must_be_whole(data: bytes, expected: int | None) -> None:
    assert _values("InstanceNumber", data, "IS").integer("InstanceNumber") == expected


@pytest.mark.parametrize(
    ("keyword", "data", "expected"),
    [
        ("AcquisitionTime", b"102030.25", 10 * 3600 + 20 * 60 + 30.25),
        ("AcquisitionTime", b"10:20:30", 10 * 3600 + 20 * 60 + 30),
        ("AcquisitionTime", b"1020", 10 * 3600 + 20 * 60),
        ("AcquisitionTime", b"000000", 0.0),
        ("AcquisitionTime", b"256000", None),
        ("AcquisitionTime", b"106000", None),
        ("AcquisitionTime", b"1", None),
        ("AcquisitionTime", b"None", None),
        ("AcquisitionTime", b"10203\xb2", None),  # a raised two is a digit, but not to int()
        ("AcquisitionDateTime", b"20200102102030.5+0100", 10 * 3600 + 20 * 60 + 30.5),
        ("AcquisitionDateTime", b"20200102102030-0500", 10 * 3600 + 20 * 60 + 30),
        ("AcquisitionDateTime", b"20200102", None),
    ],
)
def test_times_are_seconds_of_the_day(keyword: str, data: bytes, expected: float | None) -> None:
    assert _values(keyword, data).seconds(keyword) == expected


@pytest.mark.parametrize(
    ("data", "expected"), [(b"045Y", 45), (b"018M", 1.5), (b"Y", None), (b"45", None), (b"-1Y ", None), (b"None", None)]
)
def test_ages_are_years(data: bytes, expected: float | None) -> None:
    assert _values("PatientAge", data, "AS").years("PatientAge") == expected


@pytest.mark.parametrize(
    ("named", "data", "expected"),
    [
        (b"ISO_IR 192", "Würzburg".encode(), "Würzburg"),
        (b"ISO_IR 100", "Würzburg".encode("latin-1"), "Würzburg"),
        (b"\\ISO 2022 IR 87", "心臓".encode("iso2022_jp"), "心臓"),
        (b"", "Würzburg".encode("latin-1"), "Würzburg"),
        (b"a patient's name", "Würzburg".encode("latin-1"), "Würzburg"),
    ],
)
def test_texts_are_read_in_the_character_set_that_the_file_names(named: bytes, data: bytes, expected: str) -> None:
    elements = {CHARACTER_SET_TAG: ("CS", named), tag_of("InstitutionName"): ("LO", data)}
    assert Values(elements, encoding=character_set(elements)).text("InstitutionName") == expected


def test_texts_lose_padding_and_empty_values_at_their_end() -> None:
    assert _values("ImageType", b"ORIGINAL\\ PRIMARY \\\\M\\\\\0").texts("ImageType") == (
        "ORIGINAL",
        "PRIMARY",
        "",
        "M",
    )


def test_a_misspelt_keyword_is_refused() -> None:
    with pytest.raises(ValueError, match="TriggerTimes"):
        tag_of("TriggerTimes")
