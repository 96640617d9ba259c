"""The preprocessing bundle over a small cohort in the M&Ms manner: complete, resumable, honest about what failed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from pipeline.bundles import bundle_folders
from pipeline.cohort.case import Case, Datalist, DatalistError, read_datalist, write_datalist
from transforms.dictionary import LoadPreparedd
from transforms.files import read_prepared, read_volume
from transforms.recipe import StudentInput, prepare_study

CONFIG = bundle_folders()["cardiac_cine_preprocessing"] / "configs" / "preprocess.yaml"
AFFINE = np.eye(4)
AFFINE[:3, :3] = np.array([[-0.74, -0.28, -0.62], [-0.60, -0.12, 0.79], [0.30, -0.95, -0.07]]) * (2.5, 2.5, 10.0)
SIZES = {"rows": 32, "cols": 32, "slices": 4, "spacing_mm": 5.0, "num_workers": 0}
RECIPE = StudentInput(rows=32, cols=32, slices=4, spacing_mm=5.0)


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nib.save(nib.Nifti1Image(array.T, affine), path)
    return path


def hearts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cine and mask of four phases, (phases, slices, rows, cols): a beating disc off the middle of the image."""
    rng = np.random.default_rng(seed)
    rows, cols = np.meshgrid(np.arange(60) * 2.5, np.arange(64) * 2.5, indexing="ij")
    distance = np.hypot(rows - rng.uniform(60, 90), cols - rng.uniform(60, 90))
    radii = np.array([38.0, 32.0, 25.0, 32.0])[:, None, None, None] + np.zeros((1, 5, 1, 1))
    cine = rng.integers(0, 100, (1, 5, 60, 64)) + 500 * (distance < radii)
    mask = (distance < radii) * np.array([1, 0, 1, 0])[:, None, None, None]
    return cine.astype(np.int16), mask.astype(np.uint8)


def a_case(folder: Path, name: str, seed: int, **known: Any) -> Case:
    cine, mask = hearts(seed)
    known = {"vendor": "GE", "scanner": "GE 1.5 T", "field_strength_t": 1.5, **known}
    files = {"image": write(folder / f"{name}.nii.gz", cine), "mask": write(folder / f"{name}_gt.nii.gz", mask)}
    return Case(name, f"P-{name}", "NOR", "Lyon", ed=0, es=2, **files, **known)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Datalist of four raw studies: two cines, one cine to be simulated, one pair of volumes without masks."""
    folder = tmp_path / "raw"
    folder.mkdir()
    cine, _ = hearts(4)
    pair = {f"image_{k}": write(folder / f"D_{k}.nii.gz", cine[i]) for k, i in (("ed", 0), ("es", 2))}
    cases = {
        "training": (a_case(folder, "A", 1), a_case(folder, "B", 2)),
        "validation": (
            a_case(folder, "C", 3, vendor="Canon", scanner="Canon", simulated={"vendor": "Canon", "seed": 7}),
        ),
        "test": (Case("D", "P-D", "HCM", "Nice", "Philips", "Philips", **pair),),
    }
    path = tmp_path / "datalist.json"
    write_datalist(Datalist(("NOR", "HCM"), "discs", ("vendor",), cases, "a test"), path)
    return path


Prepare = Callable[..., Datalist]


@pytest.fixture
def prepare(cohort: Path, tmp_path: Path) -> Prepare:
    """Run the bundle in this process and read the datalist that it wrote."""

    def run(**overrides: Any) -> Datalist:
        options = {"datalist": str(cohort), "output_dir": str(tmp_path / "prepared"), **SIZES, **overrides}
        workflow = ConfigWorkflow(str(CONFIG), workflow_type="infer", logging_file=False, **options)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return read_datalist(Path(options["output_dir"]) / "datalist.json")

    return run


def change(cohort: Path, section: str, *cases: Case) -> None:
    known = read_datalist(cohort)
    write_datalist(replace(known, sections={**known.sections, section: cases}), cohort)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.npz")}


def test_every_study_is_prepared_and_listed_with_its_group_and_recipe(prepare: Prepare, cohort: Path) -> None:
    """What tells the groups apart travels with the study; masks do not."""
    raw, prepared = read_datalist(cohort), prepare()
    assert (prepared.recipe, prepared.recipe_digest) == (RECIPE.to_dict(), RECIPE.digest)
    for (section, before), (at, after) in zip(raw.cases(), prepared.cases(), strict=True):
        assert (section, before.case_id, before.label, before.site) == (at, after.case_id, after.label, after.site)
        assert (before.vendor, before.scanner, before.field_strength_t) == (
            after.vendor,
            after.scanner,
            after.field_strength_t,
        )
        assert after.mask is after.mask_ed is after.image_ed is None
        assert (after.ed, after.es) == (0, 1)
        assert after.heart is not None
        image = LoadPreparedd("image", RECIPE.digest)({"image": after.image})["image"]
        assert image.shape == RECIPE.shape


def test_the_bundle_writes_what_the_hospitals_function_gives(prepare: Prepare, cohort: Path) -> None:
    case = read_datalist(cohort).sections["training"][0]
    assert case.image is not None
    expected = prepare_study(*read_volume(case.image), ed=0, es=2, recipe=RECIPE)
    written = prepare().sections["training"][0]
    np.testing.assert_allclose(read_prepared(str(written.image))[0], expected.image, atol=1e-5)


def test_two_processes_write_what_one_writes(prepare: Prepare, tmp_path: Path) -> None:
    one, two = prepare(), prepare(num_workers=2, output_dir=str(tmp_path / "two"))
    for (_, a), (_, b) in zip(one.cases(), two.cases(), strict=True):
        np.testing.assert_array_equal(read_prepared(str(a.image))[0], read_prepared(str(b.image))[0])


def test_a_second_run_writes_no_study(prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepare()
    before = stamps(tmp_path / "prepared" / "studies")
    capsys.readouterr()
    assert prepare() == first
    assert stamps(tmp_path / "prepared" / "studies") == before
    assert len(before) == 4
    assert "Prepared 0 studies, 4 were there already." in capsys.readouterr().out


def test_a_changed_source_is_prepared_again_and_no_other(prepare: Prepare, cohort: Path, tmp_path: Path) -> None:
    prepare()
    before = stamps(tmp_path / "prepared" / "studies")
    write(cohort.parent / "raw" / "B.nii.gz", hearts(9)[0])
    prepare()
    after = stamps(tmp_path / "prepared" / "studies")
    assert {name for name in before if before[name] != after[name]} == {"B.npz"}


def test_a_corrected_phase_and_another_simulated_scanner_prepare_their_study_again_and_no_other(
    prepare: Prepare, cohort: Path, tmp_path: Path
) -> None:
    prepare()
    before = stamps(tmp_path / "prepared" / "studies")
    known = read_datalist(cohort).sections
    one, other = known["training"]
    change(cohort, "training", one, replace(other, ed=1, es=3))
    change(cohort, "validation", replace(known["validation"][0], simulated={"vendor": "Canon", "seed": 8}))
    prepare()
    after = stamps(tmp_path / "prepared" / "studies")
    assert {name for name in before if before[name] != after[name]} == {"B.npz", "C.npz"}


def test_another_strength_prepares_the_simulated_study_again_and_no_other(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    before = stamps(tmp_path / "prepared" / "studies")
    prepare(simulation_strength=0.5)
    after = stamps(tmp_path / "prepared" / "studies")
    assert {name for name in before if before[name] != after[name]} == {"C.npz"}


def test_another_recipe_prepares_all_again_under_another_digest(prepare: Prepare, tmp_path: Path) -> None:
    first = prepare()
    before = stamps(tmp_path / "prepared" / "studies")
    second = prepare(upper_percentile=99.0)
    after = stamps(tmp_path / "prepared" / "studies")
    assert first.recipe_digest != second.recipe_digest
    assert all(before[name] != after[name] for name in before)


def test_what_a_killed_run_left_behind_does_no_harm(prepare: Prepare, tmp_path: Path) -> None:
    """Half a file under a temporary name, and half a file under the right one from a disk that was full."""
    studies = tmp_path / "prepared" / "studies"
    studies.mkdir(parents=True)
    (studies / ".1234-abcd-A.npz").write_bytes(b"PK half")
    (studies / "B.npz").write_bytes(b"PK half")
    prepared = prepare()
    assert [case.case_id for _, case in prepared.cases()] == ["A", "B", "C", "D"]
    assert read_prepared(studies / "B.npz", recipe_digest=RECIPE.digest)[0].shape == RECIPE.shape


def test_studies_that_fail_are_set_aside_and_named_and_the_others_go_on(
    prepare: Prepare, cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = cohort.parent / "raw"
    (raw / "A.nii.gz").write_bytes((raw / "A.nii.gz").read_bytes()[:3000])
    write(raw / "C.nii.gz", np.zeros((4, 5, 60, 64), np.int16))
    prepared = prepare()
    assert [case.case_id for _, case in prepared.cases()] == ["B", "D"]
    reasons = {item["case_id"]: item["reason"] for item in prepared.set_aside}
    assert reasons.keys() == {"A", "C"}
    assert "image must be readable: A.nii.gz" in reasons["A"]
    shown = capsys.readouterr().out
    assert "Set aside 2:" in shown
    assert all(f"  {case}: {reason}" in shown for case, reason in reasons.items())


def test_if_no_study_can_be_prepared_the_run_fails_with_the_first_reason(prepare: Prepare, cohort: Path) -> None:
    for path in (cohort.parent / "raw").glob("*.nii.gz"):
        path.write_bytes(b"nothing")
    with pytest.raises(RuntimeError) as failed:
        prepare()
    assert "none of 4 was; first: case 'A': image must be readable" in str(failed.value.__cause__)
    assert not (cohort.parent / "prepared" / "datalist.json").exists()


def test_heart_centres_are_measured_where_masks_are(
    prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Discs lie off the middle of the image by up to 20 mm; they are found to within the fixed step of 6 mm."""
    prepare()
    rows = list(csv.DictReader((tmp_path / "prepared" / "heart_centre.csv").open()))
    assert [row["case_id"] for row in rows] == ["A", "B", "C"]
    assert all(float(row["error_mm"]) < 8 and row["contained"] == "True" for row in rows)
    assert "Heart centre against 3 masks: median" in capsys.readouterr().out


def test_phases_that_a_case_lacks_are_found_and_told(
    prepare: Prepare, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disc is largest at phase 0, smallest at 2: without its phases, the study that it gives with them."""
    given = prepare()
    change(cohort, "training", *(replace(c, ed=None, es=None) for c in read_datalist(cohort).sections["training"]))
    found = prepare(output_dir=str(tmp_path / "found"))
    for (_, a), (_, b) in zip(given.cases(), found.cases(), strict=True):
        np.testing.assert_array_equal(read_prepared(str(a.image))[0], read_prepared(str(b.image))[0])
    assert all((case.ed, case.es) == (0, 1) for _, case in found.cases())
    assert found.recipe_digest == given.recipe_digest
    rows = {row["case_id"]: row for row in csv.DictReader((tmp_path / "found" / "phases.csv").open())}
    assert [(rows[c]["source"], rows[c]["ed"], rows[c]["es"], rows[c]["error_ed"]) for c in "AB"] == [
        ("found", "0", "2", ""),
        ("found", "0", "2", ""),
    ]
    assert found.notes[-1] == "ED and ES of 2 studies were found in their cines, see phases.csv"
    assert "Phases found in 2 studies that came without." in capsys.readouterr().out


def test_found_phases_are_held_against_given_ones(
    prepare: Prepare, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four phases: given rightly as 0 and 2, and, in another case, one phase late; the pair has none to find."""
    first, second = read_datalist(cohort).sections["training"]
    change(cohort, "training", first, replace(second, ed=1, es=3))
    prepared = prepare()
    rows = {row["case_id"]: row for row in csv.DictReader((tmp_path / "prepared" / "phases.csv").open())}
    assert {case: (row["error_ed"], row["error_es"]) for case, row in rows.items()} == {
        "A": ("0", "0"),
        "B": ("1", "1"),
        "C": ("0", "0"),
    }
    line = "ED median 0, within 1 in 100.0 %, within 2 in 100.0 %, worst 1; ES median 0, within 1 in 100.0 %"
    assert f"Phases found, against those given in 3 studies, in phases: {line}" in capsys.readouterr().out
    record = read_prepared(str(prepared.sections["training"][1].image))[1]["phases"]
    assert (record["ed"], record["es"], record["found_ed"], record["found_es"]) == (1, 3, 0, 2)
    assert read_prepared(str(prepared.sections["test"][0].image))[1]["phases"] == {
        "ed": 0,
        "es": 1,
        "n_phases": 2,
        "source": "pair",
    }


def test_a_second_run_tells_the_same_of_phases(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    before = (tmp_path / "prepared" / "phases.csv").read_text()
    prepare()
    assert (tmp_path / "prepared" / "phases.csv").read_text() == before


def test_the_recipe_of_given_phases_has_the_digest_that_it_always_had(prepare: Prepare) -> None:
    """Studies and models made before phases could be found stay usable."""
    assert StudentInput().digest == "51b69fc6102ab5696f705dbf2354b4e8a3740079e1551aca610013fb5c7ad1db"
    assert prepare().recipe_digest == RECIPE.digest


def test_masks_change_nothing_but_the_measure(prepare: Prepare, cohort: Path, tmp_path: Path) -> None:
    """Without masks, and with a broken one, the same input."""
    with_masks = prepare()
    case, other = read_datalist(cohort).sections["training"]
    assert other.mask is not None
    other.mask.write_bytes(b"nothing")
    change(cohort, "training", replace(case, mask=None), other)
    without = prepare(output_dir=str(tmp_path / "without"))
    for (_, a), (_, b) in zip(with_masks.cases(), without.cases(), strict=True):
        np.testing.assert_array_equal(read_prepared(str(a.image))[0], read_prepared(str(b.image))[0])
    hearts_ = [case.heart or {} for case in without.sections["training"]]
    assert ["error_mm" in heart for heart in hearts_] == [False, False]
    assert "mask" not in hearts_[0]
    assert "image must be readable: B_gt.nii.gz" in hearts_[1]["not_measured"]


def test_bias_correction_says_that_it_cannot_be_exported(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = prepare(bias_correction="n4")
    assert "This recipe (n4) cannot be exported" in capsys.readouterr().out
    assert not StudentInput.from_dict(prepared.recipe or {}).exportable


def test_an_exchanged_step_has_its_part_in_the_recipe(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    """Else studies prepared in two ways would pass for one."""
    step = {"_target_": "ScaleIntensityd", "keys": "image"}
    prepared = prepare(**{"transforms#transforms#9": step})
    recipe = StudentInput.from_dict(prepared.recipe or {})
    assert recipe.extra_steps[-1] == "monai.transforms.intensity.dictionary.ScaleIntensityd"
    assert prepared.recipe_digest == recipe.digest != RECIPE.digest
    assert "ScaleIntensityd) cannot be exported" in capsys.readouterr().out


def test_a_chain_that_would_forget_a_simulation_is_refused(prepare: Prepare) -> None:
    """A case that says GE and was never made to look so would be counted in the wrong group."""
    with pytest.raises(RuntimeError) as failed:
        prepare(**{"transforms#transforms#1#_disabled_": True})
    assert "case 'C' has one to simulate" in str(failed.value.__cause__)


def test_prepared_studies_are_not_prepared_again(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    with pytest.raises(RuntimeError) as failed:
        prepare(datalist=str(tmp_path / "prepared" / "datalist.json"), output_dir=str(tmp_path / "twice"))
    assert isinstance(failed.value.__cause__, DatalistError)
    assert "it lists prepared ones" in str(failed.value.__cause__)


def test_the_same_study_stored_in_another_sense_gives_the_same_file(
    prepare: Prepare, cohort: Path, tmp_path: Path
) -> None:
    """Columns reversed, slices from apex to base, the affine to match."""
    other = read_datalist(cohort).sections["training"][1]
    cine, mask = hearts(1)
    mirror = np.diag([-1.0, 1.0, -1.0, 1.0])
    mirror[0, 3], mirror[2, 3] = cine.shape[3] - 1, cine.shape[1] - 1
    for path, array in ((other.image, cine), (other.mask, mask)):
        assert path is not None
        write(path, array[:, ::-1, :, ::-1], AFFINE @ mirror)
    first, second = prepare().sections["training"]
    np.testing.assert_allclose(read_prepared(str(second.image))[0], read_prepared(str(first.image))[0], atol=1e-4)
    assert first.heart is not None
    assert second.heart is not None
    assert second.heart["error_mm"] == pytest.approx(first.heart["error_mm"], abs=1e-3)


def test_paths_in_the_datalist_survive_a_move_of_the_folder(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    (tmp_path / "prepared").rename(tmp_path / "elsewhere")
    moved = read_datalist(tmp_path / "elsewhere" / "datalist.json")
    assert all(case.image is not None and case.image.is_file() for _, case in moved.cases())
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "elsewhere" / "datalist.json").read_text()))


@pytest.mark.slow
def test_a_misspelt_override_ends_the_command_before_anything_is_written(cohort: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG), "--datalist", str(cohort)]
    command += ["--output_dir", str(tmp_path / "out"), "--slises", "9"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "'--slises'" in ended.stderr
    assert "'--slices'" in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_runs_from_any_folder(cohort: Path, tmp_path: Path) -> None:
    sizes = [text for key, value in SIZES.items() for text in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG), "--datalist", str(cohort)]
    subprocess.run([*command, "--output_dir", "out", *sizes], cwd=tmp_path, capture_output=True, check=True)
    assert len(list(read_datalist(tmp_path / "out" / "datalist.json").cases())) == 4
