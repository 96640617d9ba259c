"""The M&Ms importer: each quirk of the real set in a tiny tree; no study is lost without its reason."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.cohort.case import SECTIONS, Case, Datalist, read_datalist, write_datalist
from pipeline.cohort.mnms import import_mnms
from pipeline.cohort.summary import set_aside_counts, summary_lines

TABLE = "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
COLUMNS = ("External code", "VendorName", "Vendor", "Centre", "ED", "ES", "Age", "Pathology", "Sex", "Height", "Weight")
NAMES = {"A": "Siemens", "B": "Philips", "C": "GE", "D": "Canon"}
SHAPE = (8, 6, 3, 5)
AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def mask_of(cavities: dict[int, int]) -> np.ndarray:
    """Mask with so many cavity voxels (label 1) at each phase, and a myocardium (label 2) of 9 voxels."""
    mask = np.zeros(SHAPE, np.uint8)
    for phase, n in cavities.items():
        flat = np.zeros(SHAPE[0] * SHAPE[1] * SHAPE[2], np.uint8)
        flat[:n], flat[n : n + 9] = 1, 2
        mask[..., phase] = flat.reshape(SHAPE[:3])
    return mask


@dataclass
class Tree:
    """An M&Ms folder in the making."""

    root: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def row(self, code: str, **changes: Any) -> None:
        row = {"External code": code, "Vendor": "A", "Centre": 1, "ED": 4, "ES": 1, "Pathology": "NOR"}
        row |= {"Age": 50, "Sex": "F", "Height": 170.0, "Weight": 70.0} | changes
        self.rows.append({"VendorName": NAMES.get(row["Vendor"], "?")} | row)

    def study(self, code: str, part: str = "Training/Labeled", **changes: Any) -> Path:
        """A row of the table with its folder, image and mask."""
        self.row(code, **changes)
        folder = self.root / part / code
        save(folder / f"{code}_sa.nii.gz", np.zeros(SHAPE, np.int16))
        save(folder / f"{code}_sa_gt.nii.gz", mask_of({4: 30, 1: 20}))
        return folder

    def write(self, name: str = TABLE, *, columns: tuple[str, ...] = COLUMNS, index: bool = True) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / name).open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(["", *columns] if index else columns)
            for number, row in enumerate(self.rows):
                cells = [row.get(column, "") for column in columns]
                out.writerow([number, *cells] if index else cells)

    def imported(self, **settings: Any) -> Datalist:
        if not any(self.root.glob("*.csv")):
            self.write()
        settings = {"classes": ("NOR", "HCM", "DCM")} | settings
        return import_mnms(self.root, progress=False, **settings)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "OpenDataset")


def the_case(datalist: Datalist) -> Case:
    [(_, case)] = datalist.cases()
    return case


def reason(datalist: Datalist, code: str) -> str:
    [found] = [item["reason"] for item in datalist.set_aside if item["case_id"] == code]
    return found


def test_a_study_comes_in_with_all_that_the_table_says(tree: Tree, tmp_path: Path) -> None:
    """ED is the last frame, as in most Philips studies; frames count from 0; the datalist is valid on disk."""
    folder = tree.study("A0S9V9", Vendor="B", Centre=2, Pathology="HCM", Sex="M")
    datalist = tree.imported()
    assert the_case(datalist) == Case(
        case_id="A0S9V9",
        patient_id="A0S9V9",
        label="HCM",
        site="mnms-centre-2",
        vendor="Philips",
        scanner="Philips",
        vendor_raw="Philips",
        image=folder / "A0S9V9_sa.nii.gz",
        mask=folder / "A0S9V9_sa_gt.nii.gz",
        ed=4,
        es=1,
        sex="M",
        age=50.0,
        height_cm=170.0,
        weight_kg=70.0,
    )
    write_datalist(datalist, tmp_path / "datalist.json")
    assert read_datalist(tmp_path / "datalist.json") == datalist


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("columns", [COLUMNS, COLUMNS[::-1]])
def test_columns_are_read_by_name(tree: Tree, index: bool, columns: tuple[str, ...]) -> None:
    """Releases differ: an unnamed index column first, or none; the order is not relied on."""
    tree.study("A0S9V9", Vendor="D", Centre=5)
    tree.write(columns=columns, index=index)
    case = the_case(tree.imported())
    assert (case.case_id, case.vendor, case.site, case.ed, case.es) == ("A0S9V9", "Canon", "mnms-centre-5", 4, 1)


def test_the_folder_above_is_accepted_too(tree: Tree) -> None:
    """Archives unpack to a folder that contains OpenDataset."""
    tree.study("A0S9V9")
    tree.write()
    datalist = import_mnms(tree.root.parent, classes=("NOR",), progress=False)
    assert the_case(datalist).case_id == "A0S9V9"


def test_a_missing_column_is_an_error_that_names_those_found(tree: Tree) -> None:
    """The table of 2020 has no pathology; a loader that guesses would invent labels."""
    tree.study("A0S9V9")
    tree.write(columns=tuple(column for column in COLUMNS if column != "Pathology"))
    with pytest.raises(ValueError, match=r"must have the columns \['Pathology'\]; it has \['External code', 'Vend"):
        tree.imported()


def test_of_several_tables_the_newest_is_read_and_said(tree: Tree) -> None:
    """Names begin with YYMMDD; a name without a date is older than all."""
    tree.study("A0S9V9")
    tree.write("M&Ms_Dataset_Information.csv", columns=("External code",))
    tree.write("201014_M&Ms_Dataset_Information_-_opendataset.csv", columns=("External code",))
    tree.write()
    assert tree.imported().notes[0] == f"table {TABLE}, the newest of 3 that has all columns"


def test_a_newer_table_without_pathologies_gives_way_to_one_that_has_them(tree: Tree) -> None:
    """The releases of 2020 and 2021 came with and without them."""
    tree.study("A0S9V9")
    older = "201014_M&Ms_Dataset_Information_-_opendataset.csv"
    tree.write(older, index=False)
    tree.write("211006_M&Ms_Dataset_Information_-_opendataset.csv", columns=COLUMNS[:6], index=False)
    datalist = tree.imported()
    assert the_case(datalist).case_id == "A0S9V9"
    assert datalist.notes[0] == f"table {older}, the newest of 2 that has all columns"


def test_missing_table_and_missing_folders_are_named(tree: Tree) -> None:
    """Each with the folder and what it should hold."""
    with pytest.raises(FileNotFoundError, match="no folder at"):
        import_mnms(tree.root, classes=("NOR",))
    tree.root.mkdir()
    with pytest.raises(FileNotFoundError, match="no table"):
        import_mnms(tree.root, classes=("NOR",))
    tree.row("A0S9V9")
    with pytest.raises(FileNotFoundError, match="must hold one of the folders"):
        tree.imported()


def test_missing_and_odd_measurements_become_unknown(tree: Tree) -> None:
    """Heights are missing in the real table; 0 cm is no height."""
    tree.study("A0S9V9", Height="", Weight="N/A", Age="nan", Sex="")
    tree.study("B0S9V9", Height=0)
    cases = {case.case_id: case for _, case in tree.imported().cases()}
    missing = cases["A0S9V9"]
    assert (missing.height_cm, missing.weight_kg, missing.age, missing.sex) == (None, None, None, None)
    assert (cases["B0S9V9"].height_cm, cases["B0S9V9"].weight_kg) == (None, 70.0)


def test_a_row_that_ends_early_has_empty_cells(tree: Tree) -> None:
    """Spreadsheets drop trailing empty cells and add empty rows."""
    tree.study("A0S9V9")
    tree.write(index=False)
    path = tree.root / TABLE
    path.write_text(path.read_text().replace(",F,170.0,70.0", "") + ",,,,\n\n", encoding="utf-8")
    case = the_case(tree.imported())
    assert (case.sex, case.height_cm) == (None, None)


@pytest.mark.parametrize(("cavities", "expected"), [({1: 20, 3: 35}, (3, 1)), ({0: 35, 2: 20}, (0, 2))])
def test_ed_and_es_of_zero_are_taken_from_the_mask(
    tree: Tree, cavities: dict[int, int], expected: tuple[int, int]
) -> None:
    """25 GE studies have ED = ES = 0 in the table though their masks are annotated: larger cavity = ED."""
    folder = tree.study("E0S9V9", "Training/Unlabeled", Vendor="C", Centre=4, ED=0, ES=0)
    save(folder / "E0S9V9_sa_gt.nii.gz", mask_of(cavities))
    datalist = tree.imported()
    case = the_case(datalist)
    assert (case.ed, case.es) == expected
    assert datalist.notes == (
        f"E0S9V9: ED {expected[0]} and ES {expected[1]} are taken from the mask; the table says 0 and 0",
        "GE x NOR: fewer than 3 patients, all stay in training",
    )


def test_ed_that_is_no_number_is_taken_from_the_mask(tree: Tree) -> None:
    """Not half of it from the table: both, or the pair could be one phase twice."""
    tree.study("E0S9V9", ED="?", ES=4)
    case = the_case(tree.imported())
    assert (case.ed, case.es) == (4, 1)


@pytest.mark.parametrize(
    ("cavities", "said"),
    [
        (None, "there is no mask"),
        ({}, "mask has 0 of 5 phases"),
        ({2: 9}, "mask has 1 of 5 phases"),
        ({0: 3, 1: 4, 2: 5}, "mask has 3 of 5 phases"),
        ({0: 9, 1: 9}, "cavities of the two annotated phases are equal"),
    ],
)
def test_a_study_whose_phases_nobody_names_comes_in_without_them(
    tree: Tree, tmp_path: Path, cavities: dict[int, int] | None, said: str
) -> None:
    """No default: a loader that falls back to ED = 0 measures another heart. Preprocessing finds them in the cine."""
    folder = tree.study("E0S9V9", ED=0, ES=0)
    mask = folder / "E0S9V9_sa_gt.nii.gz"
    mask.unlink()
    if cavities is not None:
        save(mask, mask_of(cavities))
    datalist = tree.imported()
    case = the_case(datalist)
    assert (case.ed, case.es) == (None, None)
    assert datalist.notes[0] == (
        f"E0S9V9: ED and ES are found from the cine while preprocessing: the table says 0 and 0, and {said}"
    )
    write_datalist(datalist, tmp_path / "datalist.json")
    assert read_datalist(tmp_path / "datalist.json") == datalist


def test_a_mask_that_does_not_fit_names_no_phases(tree: Tree) -> None:
    """Its frames would be counted in another cine."""
    folder = tree.study("E0S9V9", ED=0, ES=0)
    save(folder / "E0S9V9_sa_gt.nii.gz", mask_of({1: 20, 3: 35})[..., :4])
    datalist = tree.imported()
    assert (the_case(datalist).ed, the_case(datalist).mask) == (None, None)
    assert [note.split(",")[0] for note in datalist.notes[:2]] == [
        "E0S9V9: mask left out",
        "E0S9V9: ED and ES are found from the cine while preprocessing: the table says 0 and 0",
    ]


def test_phases_beyond_the_cine_are_set_aside(tree: Tree) -> None:
    """5 phases: index 5 is the first that is not there."""
    tree.study("A0S9V9", ED=4)
    tree.study("E0S9V9", ED=5)
    datalist = tree.imported()
    assert reason(datalist, "E0S9V9") == "ED or ES lies beyond the cine: ED 5, ES 1, 5 phases"
    assert the_case(datalist).case_id == "A0S9V9"


@pytest.mark.parametrize("name", ["GE", "General Electric", "GE MEDICAL SYSTEMS", ""])
def test_vendors_go_by_their_letter(tree: Tree, name: str) -> None:
    """The name's spelling differs by release."""
    tree.study("A0S9V9", Vendor="C", VendorName=name)
    case = the_case(tree.imported())
    assert (case.vendor, case.vendor_raw) == ("GE", name or "C")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Vendor": "C", "VendorName": "Philips"}, "vendor letter and name contradict each other: C is GE, not 'Phil"),
        ({"Vendor": "E", "VendorName": "Philips"}, "vendor letter is not known: 'E'"),
        ({"Pathology": "LVNC"}, "pathology LVNC is not among the classes"),
        ({"Pathology": ""}, "pathology (none) is not among the classes"),
    ],
)
def test_a_row_that_cannot_be_placed_is_set_aside(tree: Tree, changes: dict[str, Any], said: str) -> None:
    """A wrong vendor would be a wrong group, in every table after."""
    tree.study("A0S9V9")
    tree.study("E0S9V9", **changes)
    assert reason(tree.imported(), "E0S9V9").startswith(said)


def test_an_unreadable_centre_leaves_the_site_unknown(tree: Tree) -> None:
    """The study is good; only its hospital is not known."""
    tree.study("A0S9V9", Centre="?")
    assert the_case(tree.imported()).site == "unknown"


def test_pathologies_are_picked_mapped_and_counted(tree: Tree) -> None:
    """HHD counts as HCM by request; what is left out is counted by pathology."""
    for number, pathology in enumerate(["NOR", "HCM", "HHD", "HHD", "DCM", "LVNC", "LVNC", "other"]):
        tree.study(f"A{number}", Pathology=pathology)
    datalist = tree.imported(classes=("HCM", "NOR"), class_map={"HHD": "HCM"})
    assert Counter(case.label for _, case in datalist.cases()) == {"HCM": 3, "NOR": 1}
    assert datalist.classes == ("HCM", "NOR")
    assert set_aside_counts(datalist) == {
        "pathology LVNC is not among the classes": 2,
        "pathology DCM is not among the classes": 1,
        "pathology Other is not among the classes": 1,
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("NOR", "HMC")}, "no pathology becomes the class 'HMC'; did you mean 'HCM'"),
        ({"class_map": {"HHDD": "HCM"}}, "class_map names the pathology 'HHDD'; did you mean 'HHD'"),
        ({"class_map": {"HHD": "ill"}}, r"class_map makes the class 'ill', which is not one of .*; add it"),
        ({"split": "folder"}, "split must be one of"),
        ({"group_by": ("vender",)}, "cannot be grouped by 'vender'; did you mean 'vendor'"),
    ],
)
def test_a_setting_that_is_not_known_is_refused(tree: Tree, settings: dict[str, Any], message: str) -> None:
    """Before a file is read."""
    tree.study("A0S9V9")
    with pytest.raises(ValueError, match=message):
        tree.imported(**settings)


def test_table_and_folders_that_do_not_match_are_named(tree: Tree) -> None:
    """Row without folder, without code, folder without row, without image, code twice in the table and in folders."""
    tree.study("A0S9V9")
    tree.row("ROW")
    tree.row("")
    tree.study("EMPTY")
    (tree.root / "Training/Labeled/EMPTY/EMPTY_sa.nii.gz").unlink()
    tree.study("TWICE")
    tree.row("TWICE")
    tree.study("MOVED", "Testing")
    (tree.root / "Validation" / "MOVED").mkdir(parents=True)
    (tree.root / "Testing" / "FOLDER").mkdir()
    datalist = tree.imported()
    assert the_case(datalist).case_id == "A0S9V9"
    assert [(item["case_id"], item["reason"]) for item in datalist.set_aside] == [
        ("EMPTY", "folder has no image: EMPTY_sa.nii.gz"),
        ("FOLDER", "folder has no row in the table"),
        ("MOVED", "code has several folders"),
        ("ROW", "row has no folder"),
        ("TWICE", "code stands in several rows of the table"),
        ("TWICE", "code stands in several rows of the table"),
        ("row without code", "row has no code"),
    ]


def test_images_that_cannot_be_used_are_set_aside(tree: Tree) -> None:
    """Text instead of NIfTI, a volume instead of a cine, an affine without volume."""
    tree.study("A0S9V9")
    (tree.study("TEXT") / "TEXT_sa.nii.gz").write_text("not an image")
    save(tree.study("FLAT") / "FLAT_sa.nii.gz", np.zeros(SHAPE[:3], np.int16))
    header = nibabel.Nifti1Header()
    header.set_sform(np.diag([1.5, 1.5, 0.0, 1.0]), code=1)
    singular = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), None, header)
    nibabel.save(singular, tree.study("SINGULAR") / "SINGULAR_sa.nii.gz")
    datalist = tree.imported()
    assert the_case(datalist).case_id == "A0S9V9"
    assert reason(datalist, "TEXT").startswith("image cannot be read: TEXT_sa.nii.gz")
    assert reason(datalist, "FLAT") == "image must have 4 dimensions: FLAT_sa.nii.gz has shape (8, 6, 3)"
    assert reason(datalist, "SINGULAR") == "affine cannot be inverted: SINGULAR_sa.nii.gz"


def test_directions_that_are_not_orthonormal_are_kept_with_a_note(tree: Tree) -> None:
    """SimpleITK refuses such files, so other loaders lose them; a shear of 0.1 puts 0.0995 between the axes."""
    sheared = AFFINE.copy()
    sheared[0, 1] = 0.15
    save(tree.study("A0S9V9") / "A0S9V9_sa.nii.gz", np.zeros(SHAPE, np.int16), sheared)
    datalist = tree.imported()
    assert the_case(datalist).case_id == "A0S9V9"
    assert datalist.notes[0] == ("A0S9V9: directions are not orthonormal (off by 0.100); the nearest axes are used")


def test_a_header_spacing_that_differs_from_the_affine_is_noted(tree: Tree) -> None:
    """Seen in the real set; whoever resamples must know."""
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE)
    image.header.set_zooms((1.0, 1.5, 10.0, 1.0))
    nibabel.save(image, tree.study("A0S9V9") / "A0S9V9_sa.nii.gz")
    assert tree.imported().notes[0] == (
        "A0S9V9: spacing in the header 1 x 1.5 x 10 mm differs from that of the affine 1.5 x 1.5 x 10 mm"
    )


def test_a_mask_that_does_not_fit_is_left_out_and_the_study_kept(tree: Tree) -> None:
    """Masks only measure how well the heart is found."""
    save(tree.study("SHAPE") / "SHAPE_sa_gt.nii.gz", np.zeros((8, 6, 3, 4), np.uint8))
    (tree.study("TEXT") / "TEXT_sa_gt.nii.gz").write_text("not a mask")
    (tree.study("NONE") / "NONE_sa_gt.nii.gz").unlink()
    datalist = tree.imported()
    assert {case.case_id: case.mask for _, case in datalist.cases()} == {"SHAPE": None, "TEXT": None, "NONE": None}
    assert datalist.notes[:2] == (
        "SHAPE: mask left out, its shape is (8, 6, 3, 4) and the image's (8, 6, 3, 5)",
        "TEXT: mask left out, image cannot be read: TEXT_sa_gt.nii.gz, ImageFileError",
    )


def test_folders_can_be_the_split(tree: Tree) -> None:
    """The challenge's own: labelled and unlabelled training, validation, testing."""
    parts = ("Training/Labeled", "Training/Unlabeled", "Validation", "Testing")
    for number, part in enumerate(parts):
        tree.study(f"A{number}", part)
    datalist = tree.imported(split="folders")
    names = {section: [case.case_id for case in datalist.sections[section]] for section in SECTIONS}
    assert names == {"training": ["A0", "A1"], "validation": ["A2"], "test": ["A3"]}


def test_without_a_validation_folder_validation_is_carved_out_of_training(tree: Tree) -> None:
    """Of 4 training patients 1 goes to validation (0.6 to 0.2); of 2 Canon patients none, and that is said."""
    for number in range(4):
        tree.study(f"A{number}")
    for number in range(2):
        tree.study(f"D{number}", Vendor="D")
        tree.study(f"T{number}", "Testing", Vendor="D")
    datalist = tree.imported(split="folders")
    assert [len(datalist.sections[section]) for section in SECTIONS] == [5, 1, 2]
    assert {case.case_id for case in datalist.sections["test"]} == {"T0", "T1"}
    assert {"D0", "D1"} <= {case.case_id for case in datalist.sections["training"]}
    assert datalist.notes == ("Canon x NOR: fewer than 3 patients, all stay in training",)


def test_the_stratified_split_brings_every_vendor_into_every_section(tree: Tree) -> None:
    """Canon is only in the challenge's testing part, so the challenge's split cannot train on it."""
    for number in range(5):
        tree.study(f"A{number}")
        tree.study(f"D{number}", "Testing", Vendor="D", Centre=5)
    datalist = tree.imported()
    for section, n in (("training", 3), ("validation", 1), ("test", 1)):
        assert Counter(case.vendor for case in datalist.sections[section]) == {"Siemens": n, "Canon": n}


def test_nothing_usable_leaves_an_empty_datalist_with_the_reasons(tree: Tree) -> None:
    """The caller prints them; a bare error would hide which studies were refused, and why."""
    tree.study("A0", Pathology="LVNC")
    tree.row("A1")
    datalist = tree.imported()
    assert list(datalist.cases()) == []
    assert set_aside_counts(datalist) == {"pathology LVNC is not among the classes": 1, "row has no folder": 1}
    assert summary_lines(datalist)[0] == "M&Ms: 0 cases of 0 patients"


def test_the_summary_shows_empty_groups_reasons_and_notes(tree: Tree) -> None:
    """Canon has no training case: a row of zeros, not a missing row."""
    for number in range(3):
        tree.study(f"A{number}")
    tree.study("D0", "Testing", Vendor="D", Pathology="HCM")
    tree.study("L0", Pathology="LVNC")
    tree.row("ROW")
    lines = summary_lines(tree.imported(split="folders", classes=("NOR", "HCM")))
    assert lines == [
        "M&Ms: 4 cases of 4 patients",
        "",
        "training: 2 cases of 2 patients",
        "           NOR  HCM  all",
        "  Canon      0    0    0",
        "  Siemens    2    0    2",
        "",
        "validation: 1 case of 1 patient",
        "           NOR  HCM  all",
        "  Canon      0    0    0",
        "  Siemens    1    0    1",
        "",
        "test: 1 case of 1 patient",
        "           NOR  HCM  all",
        "  Canon      0    1    1",
        "  Siemens    0    0    0",
        "",
        "set aside: 2 (each with its reason in the datalist)",
        "     1  pathology LVNC is not among the classes",
        "     1  row has no folder",
    ]
