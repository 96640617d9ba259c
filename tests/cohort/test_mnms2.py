"""The M&Ms-2 importer: each quirk of the real set in a tiny tree; no subject is lost without its reason."""

from __future__ import annotations

import csv
import gzip
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from pipeline.cohort.case import SECTIONS, Case, Datalist, read_datalist, write_datalist
from pipeline.cohort.frame_match import matching_phase, residuals, signature
from pipeline.cohort.mnms2 import import_mnms2
from pipeline.cohort.summary import set_aside_counts, summary_lines
from transforms.scanner import Scanner

TABLE = "dataset_information.csv"
COLUMNS = ("SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD")
VENDORS = {"A": "SIEMENS", "B": "Philips Medical Systems", "C": "GE MEDICAL SYSTEMS"}
MODELS = {"A": "SymphonyTim", "B": "Achieva", "C": "SIGNA EXCITE"}
SHAPE = (12, 10, 3, 6)
AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])
KINDS = ("CINE", "ED", "ED_gt", "ES", "ES_gt")
ED, ES = 4, 1


def cine_of(seed: int = 0) -> np.ndarray:
    """A chest that stays and a heart that changes, with noise: neighbouring phases are alike, none is another."""
    generator = np.random.default_rng(seed)
    chest = generator.uniform(0, 300, SHAPE[:3])
    beat = 60 * np.sin(2 * np.pi * np.arange(SHAPE[3]) / SHAPE[3])
    cine = chest[..., None] + generator.uniform(0, 1, (*SHAPE[:3], 1)) * beat + generator.normal(0, 15, SHAPE)
    return np.clip(cine, 0, None).astype(np.int16)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


@dataclass
class Tree:
    """An MnM2 folder in the making."""

    root: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def row(self, code: object, disease: str = "NOR", vendor: str = "A", **changes: Any) -> None:
        row = {"SUBJECT_CODE": code, "DISEASE": disease, "VENDOR": VENDORS[vendor], "SCANNER": MODELS[vendor]}
        self.rows.append(row | {"FIELD": 1.5} | changes)

    def path(self, code: int, kind: str) -> Path:
        return self.root / "dataset" / f"{code:03d}" / f"{code:03d}_SA_{kind}.nii.gz"

    def subject(self, code: int, disease: str = "NOR", vendor: str = "A", **changes: Any) -> np.ndarray:
        """A row with its folder: cine, ED = phase 4 and ES = phase 1, their masks, and a long axis to be ignored."""
        self.row(code, disease, vendor, **changes)
        cine = cine_of(code)
        masks = {"ED_gt": np.ones(SHAPE[:3], np.uint8), "ES_gt": np.ones(SHAPE[:3], np.uint8)}
        for kind, array in {"CINE": cine, "ED": cine[..., ED], "ES": cine[..., ES], **masks}.items():
            save(self.path(code, kind), array)
        save(self.root / "dataset" / f"{code:03d}" / f"{code:03d}_LA_CINE.nii.gz", cine[:, :, :1])
        return cine

    def write(self, *, columns: tuple[str, ...] = COLUMNS, padding: int = 3) -> Path:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / TABLE).open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(columns)
            out.writerows([row.get(column, "") for column in columns] for row in self.rows)
            file.write((",,,,\n") * padding)
        return self.root / TABLE

    def imported(self, **settings: Any) -> Datalist:
        if not (self.root / TABLE).exists():
            self.write()
        settings = {"classes": ("NOR", "HCM", "ARR")} | settings
        return import_mnms2(self.root, progress=False, **settings)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "MnM2")


def the_case(datalist: Datalist) -> Case:
    [(_, case)] = datalist.cases()
    return case


def reason(datalist: Datalist, code: str) -> str:
    [found] = [item["reason"] for item in datalist.set_aside if item["case_id"] == code]
    return found


def notes_on(datalist: Datalist, code: str) -> list[str]:
    return [note.removeprefix(f"{code}: ") for note in datalist.notes if note.startswith(f"{code}: ")]


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
    """The published table is padded so; each row is neither a subject nor set aside, and it takes no minutes."""
    tree.subject(1)
    tree.write(padding=1_000_000)
    start = time.perf_counter()
    datalist = tree.imported()
    assert time.perf_counter() - start < 5
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


def test_a_cine_stored_on_another_scale_is_matched(tree: Tree) -> None:
    """Intensities may be scaled on the way to one of the files; the anatomy is what must agree."""
    cine = tree.subject(1).astype(np.float32)
    save(tree.path(1, "CINE"), cine * np.float32(0.37) + 5)
    case = the_case(tree.imported())
    assert (case.image, case.ed, case.es) == (tree.path(1, "CINE"), ED, ES)


def test_the_nearest_phase_is_taken_where_none_is_exactly_the_volume(tree: Tree) -> None:
    """Rounded on its way: one grey value of 300, far less than between phases."""
    cine = tree.subject(1)
    save(tree.path(1, "ES"), cine[..., ES] + np.random.default_rng(1).integers(0, 2, SHAPE[:3]).astype(np.int16))
    case = the_case(tree.imported())
    assert (case.ed, case.es) == (ED, ES)


def pair_is_taken(tree: Tree, said: str) -> None:
    """The case is the pair of volumes, with a note that ends so."""
    datalist = tree.imported()
    case = the_case(datalist)
    assert (case.image, case.ed, case.es) == (None, None, None)
    assert (case.image_ed, case.image_es) == (tree.path(1, "ED"), tree.path(1, "ES"))
    assert (case.mask_ed, case.mask_es) == (tree.path(1, "ED_gt"), tree.path(1, "ES_gt"))
    assert notes_on(datalist, "mnms2-001")[-1].endswith(said)


def test_a_volume_that_several_phases_are_makes_the_pair_the_case(tree: Tree) -> None:
    """A frame that was copied: which of the two it is cannot be told."""
    cine = tree.subject(1)
    cine[..., 5] = cine[..., ED]
    save(tree.path(1, "CINE"), cine)
    pair_is_taken(tree, "instead of the cine, in which ED cannot be told: no phase fits, or several do")


def test_volumes_that_no_phase_is_make_the_pair_the_case(tree: Tree) -> None:
    """The cine of another subject, with the same chest size: it must not lend its phases."""
    tree.subject(1)
    save(tree.path(1, "CINE"), cine_of(99))
    pair_is_taken(tree, "in which ED and ES cannot be told: no phase fits, or several do")


def test_an_inverted_volume_does_not_match(tree: Tree) -> None:
    """Correlation -1 is no fit."""
    cine = tree.subject(1)
    save(tree.path(1, "ED"), (1000 - cine[..., ED]).astype(np.int16))
    pair_is_taken(tree, "in which ED cannot be told: no phase fits, or several do")


def test_two_volumes_of_one_phase_make_the_pair_the_case(tree: Tree) -> None:
    """ED = ES is no cycle, and no record of a datalist."""
    cine = tree.subject(1)
    save(tree.path(1, "ES"), cine[..., ED])
    pair_is_taken(tree, f"instead of the cine, in which both are phase {ED}")


def test_a_cine_of_another_shape_makes_the_pair_the_case(tree: Tree) -> None:
    """A slice more in the cine."""
    cine = tree.subject(1)
    save(tree.path(1, "CINE"), np.concatenate([cine, cine[:, :, :1]], axis=2))
    pair_is_taken(tree, "instead of the cine, whose shape is (12, 10, 4, 6) and theirs (12, 10, 3)")


@pytest.mark.parametrize("axes", [(1.0, 1.0, 10.0), (-1.5, 1.5, 10.0)])
def test_a_cine_that_lies_otherwise_makes_the_pair_the_case(tree: Tree, axes: tuple[float, float, float]) -> None:
    """Same voxels, other spacing or direction: one of the headers is wrong, and it is not known which."""
    cine = tree.subject(1)
    save(tree.path(1, "CINE"), cine, np.diag([*axes, 1.0]))
    pair_is_taken(tree, "instead of the cine, whose spacing or directions differ from theirs")


def test_another_origin_does_not_matter(tree: Tree) -> None:
    """The heart is found in the volume, not in the room."""
    cine = tree.subject(1)
    moved = AFFINE.copy()
    moved[:3, 3] = 40.0
    save(tree.path(1, "CINE"), cine, moved)
    assert the_case(tree.imported()).ed == ED


def test_a_cine_that_is_no_cine_makes_the_pair_the_case(tree: Tree) -> None:
    """Missing, text, a volume, two phases: each with its reason."""
    cine = tree.subject(1)
    path = tree.path(1, "CINE")
    path.unlink()
    pair_is_taken(tree, "there is no CINE")
    path.write_text("not an image")
    pair_is_taken(tree, "CINE left out, image cannot be read: 001_SA_CINE.nii.gz, ImageFileError")
    save(path, cine[..., 0])
    pair_is_taken(tree, "CINE left out, image must have 4 dimensions: 001_SA_CINE.nii.gz has shape (12, 10, 3)")
    save(path, cine[..., :2])
    pair_is_taken(tree, "CINE left out, it has 2 phases")


def test_a_cine_whose_pixels_cannot_be_read_makes_the_pair_the_case(tree: Tree) -> None:
    """Cut off in the middle: the header is good. One such file is known in the public set."""
    tree.subject(1)
    path = tree.path(1, "CINE")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pair_is_taken(tree, "instead of the cine, pixels cannot be read: 001_SA_CINE.nii.gz, EOFError")


def test_without_both_volumes_the_phases_are_found_later(tree: Tree) -> None:
    """One missing, unlike shapes, pixels that cannot be read; masks that fit stay."""
    cine = tree.subject(1)
    path = tree.path(1, "ES")

    def the_cine_is_taken(said: list[str]) -> None:
        datalist = tree.imported()
        case = the_case(datalist)
        assert (case.image, case.ed, case.es) == (tree.path(1, "CINE"), None, None)
        assert (case.image_ed, case.mask_ed) == (None, tree.path(1, "ED_gt"))
        assert notes_on(datalist, "mnms2-001") == [*said, "ED and ES are found from the cine while preprocessing"]

    path.unlink()
    the_cine_is_taken(["there is no ES"])
    save(path, cine[:, :, :2, 0])
    the_cine_is_taken(["ED and ES have unlike shapes: (12, 10, 3) and (12, 10, 2)"])
    raw = gzip.compress(nibabel.Nifti1Image(cine[..., ES], AFFINE).to_bytes()[:-40])
    path.write_bytes(raw)
    the_cine_is_taken(["pixels cannot be read: 001_SA_ES.nii.gz, OSError"])


def test_a_subject_without_cine_and_pair_is_set_aside(tree: Tree) -> None:
    """With all that was missing."""
    tree.subject(1)
    tree.subject(2)
    for kind in ("CINE", "ED"):
        tree.path(2, kind).unlink()
    datalist = tree.imported()
    assert the_case(datalist).case_id == "mnms2-001"
    assert reason(datalist, "mnms2-002") == "folder has neither a cine nor a pair: there is no CINE; there is no ED"


def test_masks_that_do_not_fit_are_left_out_and_the_subject_kept(tree: Tree) -> None:
    """Masks only measure how well the heart is found; one alone measures nothing."""
    tree.subject(1)
    tree.subject(2)
    save(tree.path(1, "ED_gt"), np.zeros((12, 10, 4), np.uint8))
    tree.path(2, "ES_gt").unlink()
    datalist = tree.imported()
    assert {case.case_id: (case.mask_ed, case.mask_es) for _, case in datalist.cases()} == {
        "mnms2-001": (None, None),
        "mnms2-002": (None, None),
    }
    assert notes_on(datalist, "mnms2-001") == ["mask left out, its shape is (12, 10, 4) and the image's (12, 10, 3)"]


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


def test_residuals_are_what_the_best_line_leaves(tmp_path: Path) -> None:
    """By least squares, phase by phase: the square root of the unexplained share of the volume's variance."""
    cine = cine_of(3)
    save(tmp_path / "cine.nii.gz", cine)
    save(tmp_path / "volume.nii.gz", cine[..., 2])
    found = residuals(tmp_path / "cine.nii.gz", [signature(tmp_path / "volume.nii.gz")])
    volume = cine[..., 2].ravel().astype(float)
    for phase in range(SHAPE[3]):
        design = np.stack([cine[..., phase].ravel().astype(float), np.ones(volume.size)], axis=1)
        left = volume - design @ np.linalg.lstsq(design, volume, rcond=None)[0]
        assert found[0, phase] == pytest.approx(left.std() / volume.std(), abs=1e-6)


def test_a_constant_volume_is_no_phase(tmp_path: Path) -> None:
    """It has no correlation with anything, itself included."""
    save(tmp_path / "cine.nii.gz", np.full(SHAPE, 7, np.int16))
    save(tmp_path / "volume.nii.gz", np.full(SHAPE[:3], 7, np.int16))
    found = residuals(tmp_path / "cine.nii.gz", [signature(tmp_path / "volume.nii.gz")])
    assert found.tolist() == [[1.0] * SHAPE[3]]
    assert matching_phase(found[0]) is None


@pytest.mark.parametrize(
    ("residual", "phase"),
    [
        ([0.9, 0.0, 0.9], 1),
        ([0.9, 0.04, 0.13], 1),
        ([0.9, 0.04, 0.10], None),
        ([0.9, 0.06, 0.9], None),
        ([0.0, 0.0005, 0.9], None),
        ([0.0, 0.01, 0.9], 0),
        ([0.0], 0),
        ([1.0, 1.0], None),
    ],
)
def test_a_phase_is_taken_only_if_it_fits_far_better_than_the_others(residual: list[float], phase: int | None) -> None:
    """At most 0.05, and every other at least three times as far; below 0.001 it is rounding."""
    assert matching_phase(np.array(residual)) == phase


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_in_a_real_cine_each_phase_finds_itself_and_none_stands_for_another(real_data: Path, tmp_path: Path) -> None:
    """A phase that was taken out of the cine must not be found in its neighbours."""
    study = min((real_data / "sunnybrook" / "dicoms").iterdir())
    images = sorted(map(pydicom.dcmread, study.rglob("*.dcm")), key=lambda image: int(image.InstanceNumber))
    pixels = np.stack([image.pixel_array for image in images]).astype(np.int16)
    cine = pixels.reshape(-1, 20, *pixels.shape[1:]).transpose(3, 2, 0, 1)
    save(tmp_path / "cine.nii.gz", cine)
    for phase in range(20):
        save(tmp_path / f"{phase}.nii", cine[..., phase])
    found = residuals(tmp_path / "cine.nii.gz", [signature(tmp_path / f"{phase}.nii") for phase in range(20)])
    assert [matching_phase(row) for row in found] == list(range(20))
    assert {matching_phase(np.delete(row, phase)) for phase, row in enumerate(found)} == {None}
