"""From files to datalist, cines, report and console: nobody can be recognised in a byte of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from pipeline.cli import main
from tests.dicom.dicom_writer import ROOT, Study, cine_study, pixels, to_bytes

CANARY = "CANARY"
BIRTH, STUDY_DATE, CONTENT_TIME = "19510203", "20031122", "101112.131415"
SECRETS = (CANARY, CANARY.lower(), BIRTH, STUDY_DATE, "2003-11-22", CONTENT_TIME, ROOT, "Anywhere")
TEXTS = (
    "PatientName", "PatientID", "OtherPatientNames", "PatientAddress", "PatientBirthName", "PatientTelephoneNumbers",
    "PatientComments", "AdditionalPatientHistory", "EthnicGroup", "Occupation", "AccessionNumber", "StudyID",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy",
    "StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments", "RequestedProcedureDescription",
    "PerformedProcedureStepDescription", "SoftwareVersions", "SequenceName",
)  # fmt: skip


def beat(study: Study) -> Study:
    """A beating disc in place of the writer's noise: a heart can be found in it."""
    row, col = np.mgrid[:64, :64]
    for name, [(_, _, phase)] in study.contents.items():
        radius = 12 + 4 * np.cos(2 * np.pi * phase / study.plan.phases)
        disc = np.clip(radius - np.hypot(row - 30, col - 33), 0, 1)
        pixels(study.files[name], np.asarray(100 + 400 * disc).astype(np.int16))
    return study


def identify(data: Dataset, number: int) -> None:
    """Write everything into a header that can tell who and where."""
    for name in TEXTS:
        setattr(data, name, f"{CANARY}{number}" if name != "PatientID" else f"{CANARY}{number:02d}")
    data.PatientBirthDate, data.StudyDate, data.SeriesDate, data.AcquisitionDate = BIRTH, *(3 * [STUDY_DATE])
    data.StudyTime = data.ContentTime = CONTENT_TIME
    data.PatientAge, data.PatientSex = "097Y", "F"
    data.RequestAttributesSequence = [Dataset()]
    data.RequestAttributesSequence[0].ScheduledProcedureStepDescription = CANARY
    data.DeviceUID = f"{ROOT}.{number}"
    block = data.private_block(0x0019, f"{CANARY} 1.0", create=True)
    block.add_new(0x01, "LO", f"{CANARY}^Private")


def spoil(study: Study, name: str) -> None:
    """Values that break their own representation: libraries quote them in warnings."""
    data = study.files[name]
    for keyword, value in (("PatientBirthDate", CANARY), ("PatientAge", CANARY), ("PatientSex", CANARY)):
        element = data[keyword]
        element._value = value  # past the check on assignment


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four studies: two of one patient, one with broken values, one without half of its images."""
    root = tmp_path_factory.mktemp("hospital") / f"{CANARY}^Jane"
    for number, seed in ((1, 11), (1, 12), (2, 13), (3, 14)):
        study = beat(cine_study(seed))
        for name, data in study.files.items():
            identify(data, number)
            if seed == 13:
                spoil(study, name)
            if seed == 14 and int(name[-4:]) % 3 == 0:
                continue
            path = root / f"{CANARY}_{seed}" / f"{CANARY}^{name} {BIRTH}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_bytes(data))
    (root / f"letter to {CANARY}.txt").write_text(CANARY)
    return root


def _bytes(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder by its path, compressed ones unpacked."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        yield str(path.relative_to(folder)), content
        if path.suffix == ".gz":
            yield str(path.relative_to(folder)), gzip.decompress(content)


def _run(root: Path, out: Path, *options: str) -> int:
    salt = root.parent / "salt"
    salt.write_bytes(bytes(range(32)))
    arguments = ["datalist", "dicom", str(root), "-o", str(out / "list.json"), "--salt-file", str(salt)]
    return main([*arguments, "--report", str(out / "sheet"), *options])


def test_nothing_that_is_written_or_printed_tells_who_it_was(
    hospital: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Names, numbers, dates, places, UIDs and folder names, planted wherever a header has room for them."""
    table = tmp_path / "labels.csv"
    table.write_text(f"patient_id,label\n{CANARY}01,NOR\n{CANARY}02,HCM\n{CANARY}99,HCM\n")
    out = tmp_path / "out"
    assert _run(hospital, out, "--labels", str(table)) == 0
    listed = json.loads((out / "list.json").read_text())
    cases = [*listed["training"], *listed["validation"], *listed["test"]]
    assert len(cases) == 3
    assert len(listed["set_aside"]) == 1
    assert len({case["patient_id"] for case in cases}) == 2
    found = list(_bytes(out))
    assert sum(name.endswith(".nii.gz") for name, _ in found) == 6
    said = capfd.readouterr()
    found += [("console", said.out.encode()), ("errors", said.err.encode())]
    found += [("warnings", str(warning.message).encode()) for warning in recwarn]
    for name, content in found:
        for secret in SECRETS:
            assert secret not in name, name
            assert secret.encode() not in content, (name, secret)
            assert secret.encode("utf-16-le") not in content, (name, secret)


def test_the_report_of_a_second_run_is_that_of_the_first(hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _run(hospital, out) == 0
    first = dict(_bytes(out))
    assert _run(hospital, out) == 0
    assert dict(_bytes(out)) == first


def test_identifiers_that_are_kept_stand_in_one_field_only(hospital: Path, tmp_path: Path) -> None:
    """File names and case ids stay pseudonyms: a PatientID may hold what no file name can."""
    out = tmp_path / "out"
    assert _run(hospital, out, "--keep-ids") == 0
    listed = json.loads((out / "list.json").read_text())
    assert {case["patient_id"] for case in listed["test"]} == {f"{CANARY}01", f"{CANARY}02"}
    rest = [{key: value for key, value in case.items() if key != "patient_id"} for case in listed["test"]]
    assert CANARY not in json.dumps(rest)
    assert not any(CANARY in name for name, _ in _bytes(out))


def test_another_salt_gives_other_names(hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _run(hospital, out / "a") == 0
    other = tmp_path / "other"
    assert main(["datalist", "dicom", str(hospital), "-o", str(out / "b.json"), "--salt-file", str(other)]) == 0
    one, two = (json.loads((out / name).read_text())["test"] for name in ("a/list.json", "b.json"))
    for key in ("case_id", "patient_id", "site"):
        assert not {case[key] for case in one} & {case[key] for case in two}
    assert other.stat().st_mode & 0o077 == 0


def test_a_sheet_made_later_knows_what_the_import_knew(hospital: Path, tmp_path: Path) -> None:
    """Cycle, software and series left out stand beside each cine, not in the datalist."""
    out = tmp_path / "out"
    assert _run(hospital, out) == 0
    assert main(["sheet", str(out / "list.json"), "-o", str(out / "later")]) == 0
    first, later = ((out / name / "index.html").read_text() for name in ("sheet", "later"))
    assert later.count("beats a minute") == 3
    studies = [html.partition('id="refused"')[0] for html in (first, later)]
    assert studies[0].partition('id="studies"')[2] == studies[1].partition('id="studies"')[2]
