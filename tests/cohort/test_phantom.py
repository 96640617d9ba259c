"""Phantom cohorts: the layout, the quirks, the volumes, the truth, the same bytes again."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.cohort.phantom import PhantomSummary, best_possible_accuracy, write_phantom
from pipeline.cohort.phantom_anatomy import PATHOLOGIES
from pipeline.cohort.phantom_heart import contraction_curve, heart_states
from pipeline.cohort.phantom_paint import LV, MYO, RV, heart_grid, heart_labels
from pipeline.cohort.phantom_plan import VENDORS, Settings, Study, draw_studies

HEADER = ",External code,VendorName,Vendor,Centre,ED,ES,Age,Pathology,Sex,Height,Weight"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> PhantomSummary:
    return write_phantom(
        tmp_path_factory.mktemp("phantom"), seed=2, studies=12, test_per_cell=1, workers=1, progress=False
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def digests(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(root)}


def load(cohort: PhantomSummary, code: str, suffix: str) -> nib.Nifti1Image:
    (path,) = cohort.root.rglob(f"{code}_{suffix}.nii.gz")
    return nib.load(path)


def labels_at(study: Study, frame: int) -> np.ndarray:
    states = heart_states(study.anatomy, study.pose)
    return heart_labels(states[frame], study.pose, heart_grid(states, study.pose))


def studies_of(n_each: int, *, full_size: bool = False) -> list[Study]:
    return [s for s in draw_studies(Settings(test_per_cell=n_each, full_size=full_size)) if s.part == "Testing"]


@pytest.mark.parametrize(
    "wrong", [{"confounding": 1.5}, {"minority_share": -1.0}, {"strength": float("nan")}, {"test_per_cell": -1}]
)
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, float], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        write_phantom(tmp_path, **wrong, progress=False)
    assert not files_of(tmp_path)


def test_the_layout_is_that_of_the_real_studies(cohort: PhantomSummary) -> None:
    rows = rows_of(cohort.table)
    assert cohort.table.name == "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv"
    assert cohort.table.read_text(encoding="utf-8").splitlines()[0] == HEADER
    codes = [row["External code"] for row in rows]
    assert len(set(codes)) == len(codes) == 12 + 12
    assert all(re.fullmatch(r"([A-Z]\d){3}", code) for code in codes)
    training = {path.name for path in (cohort.root / "Training" / "Labeled").iterdir()}
    testing = {path.name for path in (cohort.root / "Testing").iterdir()}
    assert (len(training), len(testing)) == (12, 12)
    assert training | testing == set(codes)
    for path in (cohort.root / "Testing").iterdir():
        assert {p.name for p in path.iterdir()} == {f"{path.name}_sa.nii.gz", f"{path.name}_sa_gt.nii.gz"}


def test_the_test_part_has_every_vendor_with_every_pathology(cohort: PhantomSummary) -> None:
    testing = {path.name for path in (cohort.root / "Testing").iterdir()}
    cells = [(r["VendorName"], r["Pathology"]) for r in rows_of(cohort.table) if r["External code"] in testing]
    assert sorted(cells) == sorted((v, p) for v in VENDORS for p in PATHOLOGIES)
    assert cohort.test == {vendor: dict.fromkeys(PATHOLOGIES, 1) for vendor in VENDORS}


def test_masks_stand_at_the_frames_that_the_table_names_and_only_there(cohort: PhantomSummary) -> None:
    for row in rows_of(cohort.table):
        image, mask = (load(cohort, row["External code"], suffix) for suffix in ("sa", "sa_gt"))
        labels = np.asarray(mask.dataobj)
        assert image.shape == mask.shape
        np.testing.assert_array_equal(image.affine, mask.affine)
        frames = np.flatnonzero(labels.any(axis=(0, 1, 2)))
        assert set(frames) == {int(row["ED"]), int(row["ES"])}
        assert set(np.unique(labels)) == {0, LV, MYO, RV}
        volumes = (labels == LV).sum(axis=(0, 1, 2))
        assert volumes[int(row["ED"])] > volumes[int(row["ES"])] > 0


def test_stored_masks_hold_the_true_volumes(cohort: PhantomSummary) -> None:
    """Voxels times spacing [mL] against the side table: what a reader of the files would measure."""
    for row in rows_of(cohort.truth):
        mask = load(cohort, row["code"], "sa_gt")
        voxel_ml = float(np.prod(mask.header.get_zooms()[:3])) / 1000
        labels = np.asarray(mask.dataobj)
        for label, frame, column in ((LV, "ed", "lv_edv_ml"), (LV, "es", "lv_esv_ml"), (RV, "ed", "rv_edv_ml")):
            measured = voxel_ml * (labels[..., int(row[frame])] == label).sum()
            assert measured == pytest.approx(float(row[column]), rel=0.03), (row["code"], column)


@pytest.mark.parametrize("full_size", [False, True])
def test_drawn_volumes_come_out_on_both_matrix_sizes(full_size: bool) -> None:
    """Pixels are what is left of the error: at most 3 % of a small cavity at 2.5 mm, less at 1.3 mm."""
    tolerance = 0.012 if full_size else 0.03
    for study in studies_of(2, full_size=full_size):
        pose, anatomy = study.pose, study.anatomy
        voxel_ml = pose.spacing_mm**2 * pose.slice_spacing_mm / 1000
        for frame, lv_ml, rv_ml in (
            (0, anatomy.lv_edv_ml, anatomy.rv_edv_ml),
            (pose.es, anatomy.lv_esv_ml, anatomy.rv_esv_ml),
        ):
            labels = labels_at(study, frame)
            assert voxel_ml * (labels == LV).sum() == pytest.approx(lv_ml, rel=tolerance)
            assert voxel_ml * (labels == RV).sum() == pytest.approx(rv_ml, rel=tolerance)


def test_walls_are_as_thick_as_drawn_and_thicken_in_systole() -> None:
    """At end-diastole the widest section has the drawn septum; muscle keeps its volume when the cavity shrinks."""
    for study in studies_of(2):
        states = heart_states(study.anatomy, study.pose)
        assert states[0].septal_mm == pytest.approx(study.anatomy.septal_wall_mm)
        assert states[0].lateral_mm == pytest.approx(study.anatomy.lateral_wall_mm)
        assert states[study.pose.es].septal_mm > 1.05 * states[0].septal_mm
        muscle = [((s.radius_mm + s.septal_mm) ** 2 - s.radius_mm**2) * s.length_mm for s in states]
        assert np.ptp(muscle) < 1e-6 * np.mean(muscle)


@pytest.mark.parametrize(("phases", "es"), [(10, 4), (25, 9)])
def test_the_beat_starts_full_empties_once_and_fills_again(phases: int, es: int) -> None:
    curve = contraction_curve(phases, es)
    assert curve[0] == 0
    assert curve[es] == 1 == curve.max()
    assert (np.diff(curve[: es + 1]) > 0).all()
    assert (np.diff(curve[es:]) <= 0).all()
    assert curve[-1] < 0.2


def test_blood_is_brighter_than_the_wall_in_every_study(cohort: PhantomSummary) -> None:
    for row in rows_of(cohort.table):
        image, mask = (np.asarray(load(cohort, row["External code"], s).dataobj) for s in ("sa", "sa_gt"))
        assert image.dtype == np.int16
        blood, wall = (image[mask == label].mean() for label in (LV, MYO))
        assert blood > 1.3 * wall, row["External code"]


def test_the_affine_puts_the_heart_where_the_truth_says_however_it_is_stored(
    cohort: PhantomSummary,
) -> None:
    """Blood of the left ventricle, through the affine, lies around the true middle; apex left, anterior, inferior."""
    rows = rows_of(cohort.truth)
    assert {row["storage"] for row in rows} == {"plain", "reversed slices", "flipped columns", "flipped rows"}
    for row in rows:
        mask = load(cohort, row["code"], "sa_gt")
        labels = np.asarray(mask.dataobj)[..., int(row["ed"])]
        lv, rv = (nib.affines.apply_affine(mask.affine, np.argwhere(labels == label)) for label in (LV, RV))
        truth = np.array([float(row[f"heart_{axis}_mm"]) for axis in "xyz"])
        assert np.linalg.norm(lv.mean(axis=0) - truth) < 15
        towards_apex = np.array([-0.6, 0.6, -0.5])
        wide = nib.affines.apply_affine(mask.affine, np.argwhere(labels == MYO)) @ towards_apex
        assert wide.max() > (lv @ towards_apex).max()
        assert (rv.mean(axis=0) - lv.mean(axis=0))[0] > 5  # the right ventricle lies to the patient's right
        np.testing.assert_allclose(mask.header.get_zooms()[:3], np.linalg.norm(mask.affine[:3, :3], axis=0), rtol=1e-5)


def test_bytes_do_not_depend_on_the_number_of_workers(cohort: PhantomSummary, tmp_path: Path) -> None:
    write_phantom(tmp_path / "two", seed=2, studies=12, test_per_cell=1, workers=2, progress=False)
    assert digests(tmp_path / "two") == digests(cohort.root)


def test_a_second_call_writes_only_what_is_missing(tmp_path: Path) -> None:
    settings = {"seed": 5, "studies": 11, "test_per_cell": 0, "workers": 1, "progress": False}
    first = write_phantom(tmp_path, **settings)
    before, made = digests(tmp_path), first.truth.stat().st_mtime_ns
    lost = next(tmp_path.rglob("*_sa.nii.gz"))
    lost.unlink()
    again = write_phantom(tmp_path, **settings)
    assert (first.written, first.kept, again.written, again.kept) == (11, 0, 1, 10)
    assert digests(tmp_path) == before
    assert first.truth.stat().st_mtime_ns == made  # what depends on it by time stays up to date


def test_a_folder_with_a_cohort_of_other_settings_is_refused(cohort: PhantomSummary) -> None:
    before = digests(cohort.root)
    with pytest.raises(FileExistsError, match=r"strength 1.0, asked 0.5.*choose another folder"):
        write_phantom(cohort.root, seed=2, studies=12, test_per_cell=1, strength=0.5, progress=False)
    assert digests(cohort.root) == before


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="must be empty"):
        write_phantom(tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_best_possible_accuracy_counts_the_test_part_by_vendor(tmp_path: Path) -> None:
    """Two GE test studies, one named rightly; one Canon, rightly; the training study does not count."""
    rows = [
        ("Testing", "GE", "NOR", 0.6, 0.3, 0.1),
        ("Testing", "GE", "DCM", 0.2, 0.7, 0.1),
        ("Testing", "Canon", "HCM", 0.0, 0.8, 0.2),
        ("Training", "GE", "HCM", 1.0, 0.0, 0.0),
    ]
    path = tmp_path / "truth.csv"
    lines = ["part,vendor,pathology,prob_NOR,prob_HCM,prob_DCM", *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines))
    best = best_possible_accuracy(path)
    assert best["overall"] == pytest.approx(2 / 3)
    assert best["expected"] == pytest.approx((0.6 + 0.7 + 0.8) / 3)
    assert best["by_vendor"] == {"GE": 0.5, "Canon": 1.0}
    assert best["n"] == 3


def test_a_cohort_without_test_part_has_no_best_possible_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("part,vendor,pathology,prob_NOR,prob_HCM,prob_DCM\nTraining,GE,NOR,1,0,0\n")
    with pytest.raises(ValueError, match="test_per_cell > 0"):
        best_possible_accuracy(path)


def test_the_settings_are_recorded(cohort: PhantomSummary) -> None:
    record = json.loads((cohort.root / "phantom.json").read_text(encoding="utf-8"))
    assert record["seed"] == 2
    assert record["studies"] == 12
    assert set(record) == {"format", *Settings.__dataclass_fields__}
