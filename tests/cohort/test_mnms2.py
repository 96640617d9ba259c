"""The M&Ms-2 importer: each quirk of the real set in a tiny tree; no subject is lost without its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.cohort.case import SECTIONS, Case, read_datalist, write_datalist
from pipeline.cohort.mnms2 import import_mnms2
from pipeline.cohort.summary import set_aside_counts, summary_lines
from tests.cohort.mnms2_tree import (
    AFFINE,
    COLUMNS,
    ED,
    ES,
    VENDORS,
    Tree,
    notes_on,
    reason,
    save,
    the_case,
)
from transforms.scanner import Scanner


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "MnM2")


def test_a_subject_comes_in_as_its_cine_with_the_phases_found_in_it(tree: Tree, tmp_path: Path) -> None:
    """The table tells neither phases nor hospital; the datalist is valid on disk."""
    tree.subject(7, "HCM", "C", SCANNER="Signa Explorer", FIELD="1.5")
    datalist = tree.imported()
    assert the_case(datalist) == Case(
        case_id="mnms2-007",
        patient_id="mnms2-007",
        label="HCM",
        site="unknown",
        vendor="GE",
        scanner="GE SIGNA Explorer 1.5 T",
        field_strength_t=1.5,
        vendor_raw="GE MEDICAL SYSTEMS",
        image=tree.path(7, "CINE"),
        mask_ed=tree.path(7, "ED_gt"),
        mask_es=tree.path(7, "ES_gt"),
        ed=ED,
        es=ES,
    )
    assert datalist.source == "M&Ms-2"
    write_datalist(datalist, tmp_path / "datalist.json")
    assert read_datalist(tmp_path / "datalist.json") == datalist


@pytest.mark.parametrize(
    ("vendor", "model", "strength", "name"),
    [
        ("A", "SymphonyTim", "1.5", "Siemens SymphonyTim 1.5 T"),
        ("A", "Symphony", "1.5", "Siemens Symphony 1.5 T"),
        ("A", "Avanto Fit", "1.5", "Siemens Avanto Fit 1.5 T"),
        ("A", "TrioTim", "3.0", "Siemens TrioTim 3 T"),
        ("B", "Achieva", "3", "Philips Achieva 3 T"),
        ("C", "SIGNA EXCITE", "1.5", "GE SIGNA EXCITE 1.5 T"),
        ("C", "Signa HDxt", "1.5", "GE SIGNA HDxt 1.5 T"),
        ("A", "", "", "Siemens"),
    ],
)
def test_scanners_are_spelt_as_those_of_dicom_headers(
    tree: Tree, vendor: str, model: str, strength: str, name: str
) -> None:
    """The literals of the real table; both ways go through one function, so groups meet."""
    tree.subject(1, vendor=vendor, SCANNER=model, FIELD=strength)
    case = the_case(tree.imported())
    dicom = Scanner.from_raw(manufacturer=VENDORS[vendor].lower(), model=model.upper(), field_strength=strength)
    assert (case.scanner, case.vendor, case.field_strength_t) == (name, dicom.vendor, dicom.field_strength_t)
    assert dicom.name == name


def test_a_vendor_that_is_not_known_is_said(tree: Tree) -> None:
    """It makes a group of its own, which must not pass unseen."""
    tree.subject(1, VENDOR="Acme")
    datalist = tree.imported()
    assert (the_case(datalist).vendor, the_case(datalist).vendor_raw) == ("unknown", "Acme")
    assert notes_on(datalist, "mnms2-001") == ["vendor is not known: 'Acme'"]


@pytest.mark.parametrize("code", ["7", "7.0", "007", " 7 "])
def test_codes_are_found_with_and_without_zeros(tree: Tree, code: str) -> None:
    """Numbers lose their zeros in a table, and become 7.0 where rows are empty."""
    tree.subject(7)
    tree.rows[0]["SUBJECT_CODE"] = code
    assert the_case(tree.imported()).case_id == "mnms2-007"


def test_a_million_empty_rows_are_dropped_while_reading(tree: Tree) -> None:
    """The published table is padded so; each row is neither a subject nor set aside."""
    tree.subject(1)
    tree.write(padding=1_000_000)
    datalist = tree.imported()
    assert [case.case_id for _, case in datalist.cases()] == ["mnms2-001"]
    assert datalist.set_aside == ()


def test_columns_are_read_by_name_and_a_missing_one_is_an_error(tree: Tree) -> None:
    """Their order is not relied on."""
    tree.subject(1)
    tree.write(columns=COLUMNS[::-1])
    assert the_case(tree.imported()).scanner == "Siemens SymphonyTim 1.5 T"
    tree.write(columns=COLUMNS[:4])
    with pytest.raises(ValueError, match=r"must have the columns \['FIELD'\]; it has \['SUBJECT_CODE', 'DISEASE'"):
        tree.imported()


def test_the_folder_above_is_accepted_too(tree: Tree) -> None:
    """Archives unpack to a folder that contains MnM2."""
    tree.subject(1)
    tree.write()
    assert the_case(import_mnms2(tree.root.parent, classes=("NOR",), progress=False)).case_id == "mnms2-001"


def test_missing_table_and_missing_folders_are_named(tree: Tree) -> None:
    """Each with what it should hold."""
    with pytest.raises(FileNotFoundError, match=r"no folder at .*; give the folder MnM2"):
        import_mnms2(tree.root, classes=("NOR",))
    tree.root.mkdir()
    with pytest.raises(FileNotFoundError, match="no table"):
        import_mnms2(tree.root, classes=("NOR",))
    tree.row(1)
    with pytest.raises(FileNotFoundError, match=r"no subjects in .*dataset; it must hold the folders 001"):
        tree.imported()


def test_table_and_folders_that_do_not_match_are_named(tree: Tree) -> None:
    """Row without folder, without code, with a code that is none; folder without row, twice; code twice."""
    tree.subject(1)
    tree.row(2)
    tree.row("")
    tree.row("x7")
    tree.row(361)
    tree.subject(3)
    tree.row("3.0")
    tree.subject(5)
    for name in ("004", "5"):
        (tree.root / "dataset" / name).mkdir()
    datalist = tree.imported()
    assert the_case(datalist).case_id == "mnms2-001"
    assert [(item["case_id"], item["reason"]) for item in datalist.set_aside] == [
        ("mnms2-002", "row has no folder"),
        ("mnms2-003", "code stands in several rows of the table"),
        ("mnms2-003", "code stands in several rows of the table"),
        ("mnms2-004", "folder has no row in the table"),
        ("mnms2-005", "code has several folders"),
        ("mnms2-361", "subject code is no number from 1 to 360: 361"),
        ("mnms2-x7", "subject code is no number from 1 to 360: x7"),
        ("row without code", "row has no code"),
    ]


def test_odd_headers_are_noted(tree: Tree) -> None:
    """Directions that SimpleITK refuses: the subject stays, and whoever resamples is told."""
    cine = tree.subject(1)
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.15
    for kind, array in {"CINE": cine, "ED": cine[..., ED], "ES": cine[..., ES]}.items():
        save(tree.path(1, kind), array, sheared)
    datalist = tree.imported()
    assert the_case(datalist).ed == ED
    assert notes_on(datalist, "mnms2-001") == [
        "directions are not orthonormal (off by 0.100); the nearest axes are used"
    ]


def test_diseases_are_picked_mapped_and_counted(tree: Tree) -> None:
    """LV counts as HCM by request; what is left out is counted by disease; one that is not known is set aside."""
    for number, disease in enumerate(["NOR", "hcm", "LV", "TRI", "FALL", "FALL", "DCM", ""], start=1):
        tree.subject(number, disease)
    datalist = tree.imported(classes=("HCM", "NOR"), class_map={"LV": "HCM"})
    assert Counter(case.label for _, case in datalist.cases()) == {"HCM": 2, "NOR": 1}
    assert set_aside_counts(datalist) == {
        "pathology FALL is not among the classes": 2,
        "pathology TRI is not among the classes": 1,
        "pathology DCM is not among the classes": 1,
        "pathology (none) is not among the classes": 1,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("NOR", "HMC")}, "no pathology becomes the class 'HMC'; did you mean 'HCM'"),
        ({"classes": ("DCM",)}, "no pathology becomes the class 'DCM'"),
        ({"class_map": {"FAL": "HCM"}}, "class_map names the pathology 'FAL'; did you mean 'FALL'"),
        ({"class_map": {"LV": "ill"}}, r"class_map makes the class 'ill', which is not one of .*; add it"),
        ({"split": "folder"}, "split must be one of"),
        ({"group_by": ("vender",)}, "cannot be grouped by 'vender'; did you mean 'vendor'"),
    ],
)
def test_a_setting_that_is_not_known_is_refused(tree: Tree, settings: dict[str, Any], message: str) -> None:
    """Before a file is read."""
    tree.subject(1)
    with pytest.raises(ValueError, match=message):
        tree.imported(**settings)


def test_patients_that_may_be_in_mnms_are_noted_or_left_out(tree: Tree) -> None:
    """NOR, LV and HCM come from the hospitals of M&Ms: training on one and testing on the other could leak."""
    for number, disease in enumerate(["NOR", "lv", "HCM", "ARR"], start=1):
        tree.subject(number, disease)
    settings: dict[str, Any] = {"classes": ("NOR", "ill"), "class_map": {"LV": "ill", "HCM": "ill", "ARR": "ill"}}
    both = tree.imported(**settings)
    assert both.notes[0] == (
        "3 cases of NOR, LV, HCM may be patients of M&Ms too; leave them out where both sets are used "
        "(without_mnms_overlap)"
    )
    clean = tree.imported(**settings, without_mnms_overlap=True)
    assert the_case(clean).case_id == "mnms2-004"
    assert set_aside_counts(clean) == {"patient may be in M&Ms too": 3}
    assert reason(clean, "mnms2-002") == "patient may be in M&Ms too: LV"
    assert [note for note in clean.notes if "M&Ms" in note] == []


def test_the_challenges_sections_can_be_the_split(tree: Tree) -> None:
    """By subject: 1-160, 161-200, 201-360; RV and TRI, which training lacks, are in the last two."""
    for number, disease in ((1, "NOR"), (160, "NOR"), (161, "RV"), (200, "NOR"), (201, "NOR"), (360, "RV")):
        tree.subject(number, disease)
    datalist = tree.imported(split="folders", classes=("NOR", "RV"))
    names = {section: [case.case_id[-3:] for case in datalist.sections[section]] for section in SECTIONS}
    assert names == {"training": ["001", "160"], "validation": ["161", "200"], "test": ["201", "360"]}


def test_the_stratified_split_brings_every_vendor_into_every_section(tree: Tree) -> None:
    """5 of each: 3, 1 and 1; the same for the same seed."""
    for number in range(1, 11):
        tree.subject(number, vendor="A" if number <= 5 else "C")
    datalist = tree.imported()
    for section, n in (("training", 3), ("validation", 1), ("test", 1)):
        assert Counter(case.vendor for case in datalist.sections[section]) == {"Siemens": n, "GE": n}
    assert tree.imported() == datalist


def test_nothing_usable_leaves_an_empty_datalist_with_the_reasons(tree: Tree) -> None:
    """The caller prints them."""
    tree.subject(1, "TRI")
    tree.row(2)
    datalist = tree.imported()
    assert list(datalist.cases()) == []
    assert set_aside_counts(datalist) == {"pathology TRI is not among the classes": 1, "row has no folder": 1}
    assert summary_lines(datalist)[0] == "M&Ms-2: 0 cases of 0 patients"
