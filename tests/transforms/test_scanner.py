"""Vendors and field strengths, as real headers and tables spell them."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pydicom
import pytest

from transforms.scanner import (
    VENDORS,
    Scanner,
    field_text,
    normalise_model,
    normalise_vendor,
    round_field_strength,
    software_major,
)


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
        ("Siemens Healthcare", "Siemens"),
        ("SIEMENS\0", "Siemens"),
        ("Philips Healthcare", "Philips"),
        ("Philips Medizin Systeme", "Philips"),
        ("GE Healthcare", "GE"),
        ("GE  MEDICAL  SYSTEMS", "GE"),
        ("GEHC", "GE"),
        ("GEMS", "GE"),
        ("GEMS_IT", "GE"),
        ("Canon Medical Systems", "Canon"),
        ("Toshiba Medical Systems Corporation", "Canon"),
        ("Shanghai United Imaging Healthcare Co., Ltd.", "UIH"),
        ("HITACHI", "Hitachi"),
        ("FUJIFILM Corporation", "Fujifilm"),
    ],
)
def test_every_spelling_of_a_vendor_gives_one_name(raw: str, vendor: str) -> None:
    """Spellings seen in public DICOM files and tables."""
    assert normalise_vendor(raw) == vendor


@pytest.mark.parametrize(
    "raw", [None, "", "None", "n.a.", "Generic Imaging", "Gerätebau", "Acme", "not Siemens", "1177879318455840"]
)
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
        ("5500", 0.55),
        (10000, 1.0),
        ("70000", 7.0),
        ("15000 G", 1.5),
        ("1500 mT", 1.5),
        ("1.5 Tesla", 1.5),
        ("0,55", 0.55),
        ("1,5", 1.5),
        ("15,000", None),
        (0.96, 1.0),
        (1.0, 1.0),
        ("1", 1.0),
        ("0.549999", 0.55),
        ("7", 7.0),
        ("  3.0\0", 3.0),
        (1.2, 1.2),
        (0.5, 0.5),
        (5.0, 5.0),
        (0.35, 0.35),
        (None, None),
        ("", None),
        ("n.a.", None),
        (0, None),
        (-1.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (150, None),
        ("1.5.2", None),
        ("3 kG", None),
        ("[3]", None),
    ],
)
def test_field_strength_is_read_as_headers_write_it(value: float | str | None, tesla: float | None) -> None:
    """Gauss: 15000 G = 1.5 T. 150 would be 0.015 T, which no cardiac scanner has, and "15,000" is 15 or 15000."""
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


@pytest.mark.parametrize(
    ("vendor", "raw", "model"),
    [
        ("Siemens", "MAGNETOM Vida", "Vida"),
        ("Siemens", "Vida", "Vida"),
        ("Siemens", "SIEMENS MAGNETOM  Sola", "Sola"),
        ("Siemens", "Siemens Healthineers MAGNETOM Sola", "Sola"),
        ("Siemens", "AVANTO", "Avanto"),
        ("Siemens", "Avanto_fit", "Avanto Fit"),
        ("Siemens", "Avanto Fit", "Avanto Fit"),
        ("Siemens", "SymphonyTim", "SymphonyTim"),
        ("Siemens", "Symphony", "Symphony"),
        ("Siemens", "TrioTim", "TrioTim"),
        ("Siemens", "MAGNETOM Free.Max", "Free.Max"),
        ("Siemens", "Cima.X", "Cima.X"),
        ("Siemens", "MAGNETOM", ""),
        ("Siemens", "magnetomania", "magnetomania"),
        ("Philips", "Achieva", "Achieva"),
        ("Philips", "Achieva dStream", "Achieva dStream"),
        ("Philips", "Philips Medical Systems ACHIEVA", "Achieva"),
        ("GE", "Signa HDxt", "SIGNA HDxt"),
        ("GE", "SIGNA HDxt", "SIGNA HDxt"),
        ("GE", "GE SIGNA EXCITE", "SIGNA EXCITE"),
        ("GE", "Signa Excite", "SIGNA EXCITE"),
        ("GE", "DISCOVERY_MR750", "DISCOVERY MR750"),
        ("GE", "Discovery MR750", "DISCOVERY MR750"),
        ("GE", "GENESIS_SIGNA", "GENESIS SIGNA"),
        ("GE", "Gemini", "Gemini"),
        ("Canon", "Galan 3T", "Galan 3T"),
        ("Canon", "Vantage Galan 3T", "Galan 3T"),
        ("Canon", "TOSHIBA_MEC Titan", "Titan"),
        ("Canon", "Vantage", "Vantage"),
        ("Canon", "MRT50H1", "MRT50H1"),
        ("UIH", "uMR 770", "uMR 770"),
        ("UIH", "UIH uMR 770 ", "uMR 770"),
        ("unknown", "MAGNETOM Vida", "MAGNETOM Vida"),
        ("GE", "None", ""),
        ("GE", "", ""),
        ("GE", "3282424594434339", ""),
        ("GE", None, ""),
    ],
)
def test_a_model_is_spelt_in_one_way(vendor: str, raw: str | None, model: str) -> None:
    """Spellings of real headers, of M&Ms-2's table, and of what de-identification leaves."""
    assert normalise_model(raw, vendor) == model
    assert normalise_model(model, vendor) == model


@pytest.mark.parametrize(
    ("versions", "major"),
    [
        (["27", "LX", "MR Software release:DV26.0_R01_1725.a"], "DV26"),
        (["27", "LX", "MR Software release:DV25.1_R01_1617.b"], "DV25"),
        (["28", "LX", "MR29.1_EA_2039.g"], "MR29"),
        (["24", "LX", "MR Software release:HD16.0_V02_1131.a"], "HD16"),
        (["14", "MX", "MR Software release:14.0_M4_0629.a"], "14"),
        (["21", "LX", "MR Software release:20.1_IB2_1020.a"], "20"),
        ("14 / LX / MR Software release:14.0_M4_0629.a", "14"),
        ("28\\LX\\MR Software release:DV28.0_R05_2034.a", "DV28"),
        ("['28', 'LX', 'MR29.1_EA_2039.g']", "MR29"),
        ("09", "9"),
        ("syngo MR B17", "B17"),
        ("syngo MR XA20", "XA20"),
        ("syngo MR E11", "E11"),
        ("syngo MR B13 4VB13A", "B13"),
        ("syngo MR XA11A", "XA11"),
        ("syngo MR 2004V", "2004"),
        ("VE11C", "E11"),
        (["syngo MR XA30", "VA30A-0D4X"], "XA30"),
        ("NUMARIS/4 syngo MR D13", "D13"),
        (["5.3.0", "5.3.0.3"], "5"),
        (["2.5.3", "2.5.3.3", "PMS1.1 MIMIT EVIIMDictionary"], "2"),
        ("5.3.1", "5"),
        (["11.1.0"], "11"),
        (["NT 10.4.1", "PIIM V2.1.4.1 MIMIT MCS"], "NT10"),
        ("V5.0SP6000*", "V5"),
        ("V2.35*R553", "V2"),
        ("R002", "R2"),
        (None, ""),
        ("", ""),
        ([], ""),
        ("None", ""),
        ("unknown", ""),
        ("LX", ""),
        ("NUMARIS/4", ""),
        ("3282424594434339", ""),
        ("a1b2c3d4", ""),
        ("20190101", ""),
    ],
)
def test_a_major_release_is_read_from_every_vendors_text(versions: str | list[str] | None, major: str) -> None:
    """Texts of real headers. GE's first number is not the release: 27 stands before DV25 and before DV26."""
    assert software_major(versions) == major


def test_a_name_does_not_say_the_field_twice() -> None:
    """Canon writes it into the model; a table that leaves it out means the same scanner."""
    assert Scanner("Canon", "Galan 3T", 3.0).name == Scanner("Canon", "Galan", 3.0).name == "Canon Galan 3 T"
    assert Scanner("Canon", "Titan3T", 3.0).name == "Canon Titan 3 T"
    assert Scanner("Canon", "Galan 3T").name == "Canon Galan 3T"
    assert Scanner("Siemens", "Device 7T", 3.0).name == "Siemens Device 7T 3 T"


def test_software_is_kept_but_not_in_the_name() -> None:
    """An upgrade must not make another group of every table."""
    old, new = (
        Scanner.from_raw(manufacturer="SIEMENS", model="Avanto", field_strength=1.5, software=software)
        for software in ("syngo MR B15", "syngo MR B17")
    )
    assert (old.software, new.software) == ("B15", "B17")
    assert old.name == new.name == "Siemens Avanto 1.5 T"
    assert old != new


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        ("None", "unknown"),
        ("REMOVED", "unknown"),
        ("1177879318455840", "unknown"),
        (" St  Elsewhere ", "St Elsewhere"),
        ("3", "3"),
        ("mnms-centre-3", "mnms-centre-3"),
    ],
)
def test_a_site_that_is_no_name_is_unknown(site: str, expected: str) -> None:
    """A long number is what de-identification left; a short one is a table's own key."""
    assert Scanner.from_raw(site=site).site == expected


def header(**tags: Any) -> pydicom.Dataset:
    """A header with these tags, as it would be read from a file."""
    dataset = pydicom.Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset)
    stream.seek(0)
    return pydicom.dcmread(stream, force=True)


def from_header(dataset: pydicom.Dataset) -> Scanner:
    return Scanner.from_raw(
        manufacturer=dataset.get("Manufacturer"),
        model=dataset.get("ManufacturerModelName"),
        field_strength=dataset.get("MagneticFieldStrength"),
        software=dataset.get("SoftwareVersions"),
    )


@pytest.mark.parametrize(
    ("tags", "row", "name"),
    [
        (("SIEMENS", "SymphonyTim", "1.5"), ("SIEMENS", "SymphonyTim", "1.5"), "Siemens SymphonyTim 1.5 T"),
        (("SIEMENS", "Avanto_fit", "1.4939999580383"), ("SIEMENS", "Avanto Fit", "1.5"), "Siemens Avanto Fit 1.5 T"),
        (("Siemens Healthineers", "MAGNETOM Vida", "3"), ("SIEMENS", "Vida", "3.0"), "Siemens Vida 3 T"),
        (("Philips", "Achieva", "1.500000"), ("Philips Medical Systems", "ACHIEVA", "1.5"), "Philips Achieva 1.5 T"),
        (
            ("GE MEDICAL SYSTEMS", "SIGNA EXCITE", "15000"),
            ("GE MEDICAL SYSTEMS", "Signa Excite", "1.5"),
            "GE SIGNA EXCITE 1.5 T",
        ),
        (("CANON_MEC", "Galan 3T", "3"), ("TOSHIBA", "Vantage Galan", "3.0"), "Canon Galan 3 T"),
        (("SIEMENS", "Aera", "0.55"), ("Siemens", "AERA", "0,55"), "Siemens Aera 0.55 T"),
        (("Philips", "Intera", "1"), ("Philips", "Intera", "1.0 T"), "Philips Intera 1 T"),
        (("Siemens Healthineers", "Terra.X", "7"), ("SIEMENS", "MAGNETOM Terra.X", "6.98"), "Siemens Terra.X 7 T"),
        (("SIEMENS", None, None), ("SIEMENS", "None", ""), "Siemens"),
    ],
)
def test_a_scanner_from_dicom_and_one_from_a_table_meet(
    tags: tuple[str | None, ...], row: tuple[str, str, str], name: str
) -> None:
    """Else a group of a cohort made of both would fall in two."""
    keywords = ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength")
    dicom = from_header(header(**{key: value for key, value in zip(keywords, tags, strict=True) if value is not None}))
    table = Scanner.from_raw(manufacturer=row[0], model=row[1], field_strength=row[2])
    assert dicom.name == table.name == name
    assert (dicom.vendor, dicom.field_strength_t) == (table.vendor, table.field_strength_t)


# What the public set's authors say of their scanners, by folder and the model in its headers; written by hand.
REAL_SCANNERS = {
    ("dcm_qa_agfa", "MAGNETOM Vida"): ("Siemens", "Vida", "XA20", 6),
    ("dcm_qa_deident", "Signa HDxt"): ("GE", "SIGNA HDxt", "HD16", 3),
    ("dcm_qa_enh", "Achieva dStream"): ("Philips", "Achieva dStream", "5", 1),
    ("dcm_qa_enh", "MAGNETOM Vida"): ("Siemens", "Vida", "XA10", 3),
    ("dcm_qa_ge", "SIGNA Architect"): ("GE", "SIGNA Architect", "DV28", 72),
    ("dcm_qa_ge", "SIGNA Pioneer"): ("GE", "SIGNA Pioneer", "MR29", 15),
    ("dcm_qa_nih", "DISCOVERY MR750"): ("GE", "DISCOVERY MR750", "DV26", 12),
    ("dcm_qa_nih", "Skyra"): ("Siemens", "Skyra", "E11", 8),
    ("dcm_qa_philips", "Achieva"): ("Philips", "Achieva", "2", 3),
    ("dcm_qa_philips", "Achieva dStream"): ("Philips", "Achieva dStream", "5", 6),
    ("dcm_qa_toshiba", "Galan 3T"): ("Canon", "Galan 3T", "V5", 15),
    ("dcm_qa_ts", "TrioTim"): ("Siemens", "TrioTim", "B17", 9),
    ("dcm_qa_uih", "uMR 770"): ("UIH", "uMR 770", "R2", 16),
}


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_real_header_gives_the_scanner_that_made_it(real_data: Path) -> None:
    """169 headers of five vendors, read from the files and from the manifest: vendor, model, field and software."""
    folder = real_data / "mr_headers"
    with (folder / "manifest.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        vendor, model, software, _ = REAL_SCANNERS[row["source"], row["model"]]
        dicom = from_header(pydicom.dcmread(folder / row["file"], stop_before_pixels=True))
        table = Scanner.from_raw(
            manufacturer=row["manufacturer"],
            model=row["model"],
            field_strength=row["field"],
            software=row["software"],
        )
        assert dicom == table == Scanner(vendor, model, 3.0, "unknown", row["manufacturer"], software)
        found[row["source"], row["model"]] += 1
    assert found == {key: n for key, (*_, n) in REAL_SCANNERS.items()}
    assert sum(found.values()) == 169


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_the_real_cine_studies_are_of_one_scanner(real_data: Path) -> None:
    """GE SIGNA HDx at 1.5 T, as their authors say; LX in one header and MX in others is no release."""
    files = [sorted(study.rglob("*.dcm"))[0] for study in sorted((real_data / "sunnybrook" / "dicoms").iterdir())]
    scanners = {from_header(pydicom.dcmread(file, stop_before_pixels=True)) for file in files}
    assert scanners == {Scanner("GE", "SIGNA HDx", 1.5, "unknown", "GE MEDICAL SYSTEMS", "14")}
