"""What a hospital's folder holds becomes the very input that the training made of it, or a code."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, MediaStorageDirectoryStorage

from pipeline.bundles import bundle_folders
from pipeline.cli import main
from pipeline.cohort.case import read_datalist
from pipeline.deployment import study_input
from pipeline.deployment.study_input import find_study, study_key, used_headers
from pipeline.deployment.uids import MANUFACTURER
from pipeline.dicom.refusal import Code, Refusal
from tests.deployment.hospital_studies import beating_study, write_dicom, write_nifti
from tests.dicom.dicom_writer import base, new_uid, to_bytes
from transforms.files import read_prepared
from transforms.recipe import StudentInput, prepare_study


def _refusal(folder: Path) -> Refusal:
    with pytest.raises(Refusal) as refusal:
        find_study(folder).cine()
    return refusal.value


def _other(number: int, sop_class: str, manufacturer: str) -> Dataset:
    data = base(3, 900, number, sop_class=sop_class)
    data.Modality, data.Manufacturer = "SR", manufacturer
    return data


@pytest.mark.parametrize("layout", ["A: series per slice", "C: enhanced, slice-major", "C: enhanced, file per slice"])
def test_a_study_is_found_in_any_layout_with_its_scanner_and_sources(layout: str, tmp_path: Path) -> None:
    study = beating_study(layout=layout)
    found = find_study(write_dicom(tmp_path, study))
    cine = found.cine()
    assert found.key == study_key(new_uid(3, 0)) == hashlib.sha256(new_uid(3, 0).encode()).hexdigest()[:16]
    assert found.scanner is not None
    assert found.scanner.name == "Siemens Avanto 1.5 T"
    assert cine.values.shape[:2] == (study.plan.phases, study.plan.slices)
    headers = used_headers(cine.files, {uid for phase in cine.sources for uid, _ in phase})
    assert {header.SOPInstanceUID for header in headers} == {data.SOPInstanceUID for data in study.files.values()}
    assert not any("PixelData" in header for header in headers)


def test_sidecars_directories_and_our_own_results_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    """A result that came back with its study must not change the next one."""
    folder = write_dicom(tmp_path / "in", beating_study())
    before = find_study(folder).cine()
    (folder / "image-0000.tags").write_text("{}")
    (folder / "task.json").write_text("{}")
    (folder / "catalog.XML").write_text("<a/>")
    (folder / "DICOMDIR").write_bytes(to_bytes(_other(1, MediaStorageDirectoryStorage, "SIEMENS")))
    (folder / "result").write_bytes(to_bytes(_other(2, BasicTextSRStorage, MANUFACTURER)))
    after = find_study(folder).cine()
    assert after.left_out == before.left_out == ()
    assert np.array_equal(after.values, before.values)
    (folder / "another report").write_bytes(to_bytes(_other(3, BasicTextSRStorage, "SIEMENS")))
    (folder / "letter").write_text("dear colleague")
    assert {entry.code for entry in find_study(folder).cine().left_out} == {Code.NOT_AN_IMAGE, Code.NOT_DICOM}


def test_dicom_under_a_sidecars_name_is_read(tmp_path: Path) -> None:
    folder = write_dicom(tmp_path, beating_study())
    for path in list(folder.iterdir()):
        path.rename(path.with_name(f"{path.name}.nii.gz" if int(path.name[-4:]) % 2 else f"{path.name}.json"))
    assert find_study(folder).cine().values.shape[0] >= 10


def test_a_nifti_image_is_read_with_the_scanner_that_its_facts_tell(tmp_path: Path) -> None:
    facts = {"manufacturer": "Philips", "model": "Achieva", "field_strength": 3}
    folder = write_nifti(tmp_path / "in", facts)
    found = find_study(folder)
    assert found.scanner is not None
    assert found.scanner.name == "Philips Achieva 3 T"
    assert found.key == hashlib.sha256((folder / "cine.nii.gz").read_bytes()).hexdigest()[:16]
    assert found.cine().values.shape == (20, 10, 128, 128)
    assert used_headers(found.cine().files, ()) == []


def test_two_kinds_or_two_images_in_one_folder_are_refused(tmp_path: Path) -> None:
    both = write_nifti(write_dicom(tmp_path / "both", beating_study()))
    two = write_nifti(write_nifti(tmp_path / "two"), name="other.nii")
    assert _refusal(both).code is _refusal(two).code is Code.SEVERAL_STUDIES
    assert "NIfTI image among DICOM" in _refusal(both).detail


def test_a_folder_without_a_study_is_refused_under_a_key_of_what_its_files_name(tmp_path: Path) -> None:
    assert _refusal(tmp_path).code is Code.NOT_DICOM
    assert find_study(tmp_path).key == study_key() == hashlib.sha256(b"").hexdigest()[:16]
    (tmp_path / "report").write_bytes(to_bytes(_other(3, BasicTextSRStorage, "SIEMENS")))
    assert _refusal(tmp_path).code is Code.NOT_AN_IMAGE
    assert find_study(tmp_path).key == study_key(new_uid(3, 0))
    assert find_study(tmp_path).scanner is None
    several = write_dicom(write_dicom(tmp_path / "n", beating_study(3)) / "m", beating_study(4)).parent
    assert _refusal(several).code is Code.SEVERAL_STUDIES
    assert find_study(several).key == study_key(new_uid(4, 0), new_uid(3, 0)) == study_key(new_uid(3, 0), new_uid(4, 0))


def test_a_study_too_large_for_memory_is_refused_before_a_pixel_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_dicom(tmp_path, beating_study())
    monkeypatch.setattr(study_input, "MOST_BYTES", 1000)
    monkeypatch.setattr("pipeline.dicom.cine.read_pixels", lambda _: pytest.fail("a pixel was read"))
    refusal = _refusal(folder)
    assert refusal.code is Code.TOO_LARGE
    assert refusal.left_out[0].code is Code.TOO_LARGE
    assert study_key(new_uid(3, 0)) == find_study(folder).key


def _rescaled(data: Dataset) -> None:
    data.RescaleSlope, data.RescaleIntercept = "2.5", "0"


def test_rescaled_pixels_count_by_what_they_take_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 bits in the file, 32 in memory."""
    study = beating_study()
    size = study.plan.phases * study.plan.slices * 64 * 64 * 2
    monkeypatch.setattr(study_input, "MOST_BYTES", size)
    find_study(write_dicom(tmp_path / "a", study)).cine()
    assert _refusal(write_dicom(tmp_path / "b", study, _rescaled)).code is Code.TOO_LARGE


@pytest.mark.parametrize(("keyword", "uid"), [("SOPInstanceUID", "1.2.3"), ("SeriesInstanceUID", "")])
def test_images_without_uids_of_their_own_have_no_headers_to_refer_to(keyword: str, uid: str, tmp_path: Path) -> None:
    study = beating_study()
    for data in study.files.values():
        setattr(data, keyword, uid)
    cine = find_study(write_dicom(tmp_path, study)).cine()
    assert used_headers(cine.files, {uid for phase in cine.sources for uid, _ in phase}) == []


@pytest.mark.parametrize(
    ("keyword", "value", "refused"),
    [
        ("PatientName", "Other^Name", True),
        ("PatientID", "other", True),
        ("PatientID", "", True),
        ("PatientBirthDate", "19700102", True),
        ("PatientName", "Doe^Zo\u00eb ", False),
        ("PatientWeight", "70", False),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_images_of_two_patients_in_one_study_are_never_read_together(
    keyword: str, value: str, refused: bool, named: bool, tmp_path: Path
) -> None:
    """Half of a study came again after a correction. A name that is only written otherwise is the same name."""
    study = beating_study()
    for number, data in enumerate(study.files.values()):
        data.SpecificCharacterSet, data.PatientName = ("ISO_IR 192", "ISO_IR 100")[number % 2], "Doe^Zo\u00eb"
        data.PatientBirthDate = "19700101"
        if number % 2:
            setattr(data, keyword, value)
        if not named:
            data.SOPInstanceUID = "1.2.3"

    def read() -> list[Dataset]:
        cine = find_study(write_dicom(tmp_path, study)).cine()
        return used_headers(cine.files, {uid for phase in cine.sources for uid, _ in phase})

    if not refused:
        assert len(read()) == (len(study.files) if named else 0)
        return
    with pytest.raises(Refusal) as raised:
        read()
    assert raised.value.code is Code.SEVERAL_PATIENTS
    assert not any(word in raised.value.sentence for word in ("Doe", "Other", "other"))


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    cine = find_study(write_dicom(tmp_path / "in", beating_study())).cine()
    shutil.rmtree(tmp_path / "in")
    with pytest.raises(Refusal, match="UNREADABLE_FILE"):
        used_headers(cine.files, {uid for phase in cine.sources for uid, _ in phase})


@pytest.mark.real_data
@pytest.mark.slow
def test_real_studies_become_the_input_that_the_training_import_makes_of_them(real_data: Path, tmp_path: Path) -> None:
    """Sunnybrook, three patients: through files, datalist and bundle on the one side, straight on the other."""
    studies = real_data / "sunnybrook" / "dicoms"
    listed, out = tmp_path / "datalist.json", tmp_path / "prepared"
    assert main(["datalist", "dicom", str(studies), "-o", str(listed), "--salt-file", str(tmp_path / "salt")]) == 0
    config = bundle_folders()["cardiac_cine_preprocessing"] / "configs" / "preprocess.yaml"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config)]
    options = ["--datalist", str(listed), "--output_dir", str(out), "--num_workers", "0"]
    subprocess.run([*command, *options], check=True, capture_output=True, cwd=tmp_path)
    trained = [read_prepared(case.image)[0] for _, case in read_datalist(out / "datalist.json").cases() if case.image]
    ours = []
    for folder in sorted(studies.iterdir()):
        cine = find_study(folder).cine()
        ours.append(prepare_study(cine.values, cine.affine, recipe=StudentInput()).image)
    assert len(ours) == len(trained) == 3
    differences = np.array([[float(np.abs(one - other).max()) for other in trained] for one in ours])
    assert sorted(differences.argmin(axis=1).tolist()) == [0, 1, 2]
    assert differences.min(axis=1).max() < 1e-6
