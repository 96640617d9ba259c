"""The ACDC importer, and the scanners that are assigned to its hearts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from pipeline.cohort.acdc import CLASSES, MNMS_VENDOR_COUNTS, import_acdc, simulate_like_mnms
from pipeline.cohort.case import SECTIONS, Case, Datalist, read_datalist, write_datalist

SHAPE = (8, 6, 3)
AFFINE = np.diag([1.5, 1.5, 10.0, 1.0])
VENDORS = ("Siemens", "Philips", "GE", "Canon")


def save(path: Path, shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), affine), path)


def patient(root: Path, number: int, part: str = "training", *, es: str = "12", **info: Any) -> Path:
    """A patient's folder; ``None`` for a key of Info.cfg leaves it out."""
    folder = root / part / f"patient{number:03d}"
    folder.mkdir(parents=True)
    lines = {"ED": "1", "ES": es, "Group": "NOR", "Height": "184.0", "NbFrame": "30", "Weight": "95.0"} | info
    text = "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None)
    (folder / "Info.cfg").write_text(text)
    for frame in (1, 12):
        save(folder / f"{folder.name}_frame{frame:02d}.nii.gz")
        save(folder / f"{folder.name}_frame{frame:02d}_gt.nii.gz")
    return folder


def imported(root: Path, **settings: Any) -> Datalist:
    return import_acdc(root, progress=False, **settings)


def counts(datalist: Datalist) -> list[int]:
    return [len(datalist.sections[section]) for section in SECTIONS]


def test_a_patient_comes_in_with_frames_and_masks(tmp_path: Path) -> None:
    """Frame numbers of Info.cfg count from 1 and are those of the file names."""
    folder = patient(tmp_path, 7, Group="DCM")
    [(section, case)] = imported(tmp_path).cases()
    assert section == "training"
    assert case == Case(
        case_id="patient007",
        patient_id="patient007",
        label="DCM",
        site="Dijon",
        vendor="Siemens",
        scanner="Siemens",
        image_ed=folder / "patient007_frame01.nii.gz",
        image_es=folder / "patient007_frame12.nii.gz",
        mask_ed=folder / "patient007_frame01_gt.nii.gz",
        mask_es=folder / "patient007_frame12_gt.nii.gz",
        height_cm=184.0,
        weight_kg=95.0,
    )


def test_the_official_database_keeps_its_testing_part(tmp_path: Path) -> None:
    """Of 8 training patients 2 become validation (0.6 to 0.2); the 2 testing patients are the test section."""
    for number in range(1, 9):
        patient(tmp_path / "database", number)
    for number in (101, 102):
        patient(tmp_path / "database", number, "testing")
    datalist = imported(tmp_path)
    assert counts(datalist) == [6, 2, 2]
    assert [case.case_id for case in datalist.sections["test"]] == ["patient101", "patient102"]


def test_without_a_testing_part_everybody_is_split(tmp_path: Path) -> None:
    """5 patients of one class: 3, 1, 1; of 2 patients none leaves training, and that is said."""
    for number in range(1, 8):
        patient(tmp_path, number, Group="NOR" if number <= 5 else "RV")
    datalist = imported(tmp_path)
    assert counts(datalist) == [5, 1, 1]
    assert datalist.notes == ("Siemens x RV: fewer than 3 patients, all stay in training",)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ({"ED": None}, "Info.cfg lacks ED"),
        ({"ED": None, "Group": None}, "Info.cfg lacks ED, Group"),
        ({"ED": "0"}, "ED in Info.cfg is no frame number from 1: '0'"),
        ({"ED": "one"}, "ED in Info.cfg is no frame number from 1: 'one'"),
        ({"ED": "12"}, "ED and ES are the same frame: 12"),
        ({"ED": "2"}, "frame has no image: patient002_frame02.nii.gz"),
        ({"Group": "ARV"}, "group ARV is not among the classes"),
    ],
)
def test_a_patient_whose_info_cannot_be_used_is_set_aside(tmp_path: Path, info: dict[str, Any], said: str) -> None:
    """Named with its reason; the others come in."""
    patient(tmp_path, 1)
    patient(tmp_path, 2, **info)
    datalist = imported(tmp_path)
    assert [case.case_id for _, case in datalist.cases()] == ["patient001"]
    assert datalist.set_aside == ({"case_id": "patient002", "reason": said},)


def test_a_folder_without_info_is_set_aside(tmp_path: Path) -> None:
    """Nothing is guessed from the patient's number, though the ranges are known."""
    patient(tmp_path, 1)
    (patient(tmp_path, 2) / "Info.cfg").unlink()
    assert imported(tmp_path).set_aside == ({"case_id": "patient002", "reason": "folder has no Info.cfg"},)


def test_images_that_cannot_be_used_are_set_aside(tmp_path: Path) -> None:
    """Text instead of NIfTI, a cine instead of a frame, phases of unlike shapes."""
    patient(tmp_path, 1)
    (patient(tmp_path, 2) / "patient002_frame12.nii.gz").write_text("not an image")
    save(patient(tmp_path, 3) / "patient003_frame01.nii.gz", (*SHAPE, 2))
    save(patient(tmp_path, 4) / "patient004_frame01.nii.gz", (8, 6, 4))
    reasons = {item["case_id"]: item["reason"] for item in imported(tmp_path).set_aside}
    assert set(reasons) == {"patient002", "patient003", "patient004"}
    assert reasons["patient002"].startswith("image cannot be read: patient002_frame12.nii.gz")
    assert reasons["patient003"].startswith("image must have 3 dimensions: ")
    assert reasons["patient004"] == "ED and ES have unlike shapes: (8, 6, 4) and (8, 6, 3)"


def test_one_mask_that_does_not_fit_leaves_out_both(tmp_path: Path) -> None:
    """A pair or nothing; the patient stays."""
    save(patient(tmp_path, 1) / "patient001_frame12_gt.nii.gz", (8, 6, 4))
    (patient(tmp_path, 2) / "patient002_frame01_gt.nii.gz").unlink()
    datalist = imported(tmp_path)
    assert {(case.mask_ed, case.mask_es) for _, case in datalist.cases()} == {(None, None)}
    assert datalist.notes[0].startswith("patient001: mask left out, its shape is (8, 6, 4)")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("NOR", "ARV")}, "ACDC has no class 'ARV'; did you mean 'RV'"),
        ({"simulate_scanners": "mms"}, "simulate_scanners must be 'mnms' or None; got 'mms'"),
        ({"group_by": ("vender",)}, "did you mean 'vendor'"),
    ],
)
def test_a_setting_that_is_not_known_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    """Before a file is read."""
    patient(tmp_path, 1)
    with pytest.raises(ValueError, match=message):
        imported(tmp_path, **settings)


def test_no_patients_are_an_error_and_no_usable_patients_an_empty_datalist(tmp_path: Path) -> None:
    """The first names the layout; in the second the reasons stand."""
    with pytest.raises(FileNotFoundError, match="it must hold training/patientNNN"):
        imported(tmp_path)
    patient(tmp_path, 1)
    datalist = imported(tmp_path, classes=("HCM",), simulate_scanners="mnms")
    assert counts(datalist) == [0, 0, 0]
    assert datalist.set_aside == ({"case_id": "patient001", "reason": "group NOR is not among the classes"},)


def hearts(label: str, n: int) -> list[Case]:
    frames = {"image_ed": Path("/ed.nii"), "image_es": Path("/es.nii")}
    return [
        Case(f"{label}{i:03d}", f"{label}{i:03d}", label, "Dijon", "Siemens", "Siemens", **frames) for i in range(n)
    ]


@pytest.mark.parametrize(
    ("label", "n", "expected"),
    [
        ("NOR", 122, (22, 65, 21, 14)),
        ("HCM", 99, (25, 51, 8, 15)),
        ("DCM", 51, (37, 5, 0, 9)),
        ("DCM", 7, (5, 1, 0, 1)),
        ("MINF", 345, (95, 125, 75, 50)),
        ("MINF", 7, (2, 3, 1, 1)),
    ],
)
def test_training_vendors_follow_the_shares_of_mnms(label: str, n: int, expected: tuple[int, int, int, int]) -> None:
    """As many patients as M&Ms has give its own counts. 7 x (95, 125, 75, 50) / 345 = 1.93, 2.54, 1.52, 1.01."""
    sections = simulate_like_mnms({"training": hearts(label, n), "validation": (), "test": ()}, seed=5)
    found = Counter(case.vendor for case in sections["training"])
    assert tuple(found[vendor] for vendor in VENDORS) == expected
    assert len({case.patient_id for case in sections["training"]}) == n


def test_every_validation_and_test_patient_appears_once_under_each_vendor() -> None:
    """The same hearts under every scanner: a difference between groups is then no difference of patients."""
    given = {"training": hearts("NOR", 4), "validation": hearts("HCM", 2), "test": hearts("DCM", 3)}
    sections = simulate_like_mnms(given, seed=0)
    assert [len(sections[section]) for section in SECTIONS] == [4, 8, 12]
    for case in (*sections["validation"], *sections["test"]):
        assert case.case_id == f"{case.patient_id}-{case.vendor}"
    seen = {(case.patient_id, case.vendor) for case in sections["test"]}
    assert seen == {(f"DCM{i:03d}", vendor) for i in range(3) for vendor in MNMS_VENDOR_COUNTS}


def test_a_simulated_case_says_so_everywhere() -> None:
    """Vendor, scanner, site and the order to the preprocessing agree; each simulation has a seed of its own."""
    [case] = simulate_like_mnms({"training": hearts("DCM", 1), "validation": (), "test": ()}, seed=0)["training"]
    assert (case.case_id, case.vendor, case.scanner, case.site) == (
        "DCM000-Siemens",
        "Siemens",
        "Siemens",
        "simulated-Siemens",
    )
    assert case.simulated is not None
    assert case.simulated["vendor"] == "Siemens"

    sections = simulate_like_mnms({"training": (), "validation": (), "test": hearts("NOR", 10)}, seed=0)
    assert len({case.simulated["seed"] for case in sections["test"] if case.simulated}) == 40


def test_the_seed_decides_who_gets_which_scanner() -> None:
    """Same seed, same datalist; another seed gives other patients and other simulations."""
    given = {"training": hearts("NOR", 40), "validation": (), "test": hearts("HCM", 1)}
    one, again, other = (simulate_like_mnms(given, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert [case.case_id for case in one["training"]] != [case.case_id for case in other["training"]]
    assert [case.simulated for case in one["test"]] != [case.simulated for case in other["test"]]


def test_the_source_says_that_scanners_are_simulated(tmp_path: Path) -> None:
    """Every table after this must be able to say it; the datalist is valid on disk."""
    for number in range(1, 6):
        patient(tmp_path, number)
    datalist = imported(tmp_path, simulate_scanners="mnms")
    assert datalist.source == "ACDC with simulated scanners"
    assert counts(datalist) == [3, 4, 4]
    write_datalist(datalist, tmp_path / "datalist.json")
    assert read_datalist(tmp_path / "datalist.json") == datalist


@pytest.mark.real_data
def test_all_sixty_real_patients_come_in(real_data: Path) -> None:
    """12 of each class, none set aside, each with both masks."""
    datalist = imported(real_data / "acdc")
    cases = [case for _, case in datalist.cases()]
    assert Counter(case.label for case in cases) == dict.fromkeys(CLASSES, 12)
    assert counts(datalist) == [35, 15, 10]
    assert datalist.set_aside == ()
    assert all(case.mask_ed and case.mask_es for case in cases)
