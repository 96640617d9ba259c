"""Vendors and field strengths, as real headers and tables spell them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from transforms.scanner import VENDORS, Scanner, field_text, normalise_vendor, round_field_strength


@pytest.mark.parametrize(
    ("raw", "vendor"),
    [
        ("SIEMENS", "Siemens"),
        ("Siemens HealthCare GmbH", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("Philips Medical Systems", "Philips"),
        ("Philips", "Philips"),
        ("GE", "GE"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("ge_healthcare", "GE"),
        ("General Electric", "GE"),
        ("TOSHIBA", "Canon"),
        ("TOSHIBA_MEC", "Canon"),
        ("CANON_MEC", "Canon"),
        ("UIH", "UIH"),
        ("United Imaging Healthcare", "UIH"),
        ("Hitachi Medical Corporation", "Hitachi"),
        ("FUJIFILM Healthcare", "Fujifilm"),
        ("  siemens ", "Siemens"),
    ],
)
def test_every_spelling_of_a_vendor_gives_one_name(raw: str, vendor: str) -> None:
    """Spellings seen in public DICOM files and tables."""
    assert normalise_vendor(raw) == vendor


@pytest.mark.parametrize("raw", [None, "", "None", "n.a.", "Generic Imaging", "Acme", "not Siemens"])
def test_what_is_no_vendor_stays_unknown(raw: str | None) -> None:
    """GE begins the word "Generic" too, and a name inside a text proves nothing."""
    assert normalise_vendor(raw) == "unknown"


@pytest.mark.parametrize("vendor", VENDORS)
def test_our_own_spelling_is_kept(vendor: str) -> None:
    """Normalising twice is normalising once."""
    assert normalise_vendor(vendor) == vendor


@pytest.mark.parametrize(
    ("value", "tesla"),
    [
        (1.4939999580383, 1.5),
        ("1.500000", 1.5),
        ("3", 3.0),
        ("3.0 T", 3.0),
        (2.893620, 3.0),
        (6.98, 7.0),
        (0.55, 0.55),
        ("2000", 0.2),
        ("15000", 1.5),
        (30000, 3.0),
        (0.35, 0.35),
        (None, None),
        ("", None),
        ("n.a.", None),
        (0, None),
        (-1.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (150, None),
    ],
)
def test_field_strength_is_read_as_headers_write_it(value: float | str | None, tesla: float | None) -> None:
    """Gauss: 15000 G = 1.5 T. 150 would be 0.015 T, which no cardiac scanner has: not guessed."""
    assert round_field_strength(value) == tesla


def test_name_leaves_out_what_is_not_known() -> None:
    """A group's name must not depend on empty parts."""
    assert Scanner("Siemens", "Avanto", 1.5).name == "Siemens Avanto 1.5 T"
    assert Scanner("GE").name == "GE"
    assert Scanner("unknown", "", 3.0).name == "3 T"
    assert Scanner().name == "unknown"


def test_scanner_from_tags_keeps_the_raw_vendor_and_drops_the_word_none() -> None:
    """De-identified files hold the literal text "None" as institution."""
    scanner = Scanner.from_raw(manufacturer="TOSHIBA_MEC", model="None", field_strength="15000", site="None")
    assert scanner == Scanner("Canon", "", 1.5, "unknown", "TOSHIBA_MEC")


def test_field_text_tells_nominal_fields_apart() -> None:
    """0.55 T must not become 0.6 T, nor 3 T "3.0 T"."""
    assert [field_text(value) for value in (0.55, 1.5, 3.0, None)] == ["0.55 T", "1.5 T", "3 T", "unknown"]


@pytest.mark.real_data
def test_every_real_header_has_a_known_vendor_and_field(real_data: Path) -> None:
    """The public multi-vendor set holds no header that we cannot place."""
    with (real_data / "mr_headers" / "manifest.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    vendors = {normalise_vendor(row["manufacturer"]) for row in rows}
    assert vendors == {"Siemens", "Philips", "GE", "Canon", "UIH"}
    assert {round_field_strength(row["field"]) for row in rows} == {3.0}
