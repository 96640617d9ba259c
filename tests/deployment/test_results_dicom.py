"""The report and the picture as DICOM: what they hold, how they are named, who can read them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.sr.codedict import codes

from pipeline.deployment.outcome import Outcome, Verdict
from pipeline.deployment.publish import write_results
from pipeline.deployment.source_headers import KEYWORDS
from pipeline.deployment.structured_report import SCHEME, class_code, probability_code
from pipeline.dicom.cine import read_cine
from tests.deployment.readings import (
    PACKAGE,
    PICTURE,
    READ,
    REFUSED,
    Source,
    items,
    read_header,
    source,
    stripped,
    written_to,
)
from tests.dicom.dicom_writer import LAYOUTS, cine_study, to_bytes


@pytest.fixture(scope="module")
def report(written: Path) -> highdicom.sr.Comprehensive3DSR:
    (path,) = (path for path in written.glob("*.dcm") if dcmread(path, specific_tags=["Modality"]).Modality == "SR")
    read = highdicom.sr.srread(path)
    assert isinstance(read, highdicom.sr.Comprehensive3DSR)
    return read


def test_the_report_holds_each_class_with_its_probability(report: highdicom.sr.Comprehensive3DSR) -> None:
    (group, *_) = report.content.get_image_measurement_groups()  # type: ignore[attr-defined]
    found = {measurement.name.value: (measurement.value, measurement.unit.value) for measurement in
             group.get_measurements()}  # fmt: skip
    assert found == {"P_NOR": (0.06, "1"), "P_HCM": (0.87, "1"), "P_DCM": (0.07, "1")}
    (predicted,) = (item for item in group.get_qualitative_evaluations() if item.name.value == "CLASS")
    assert (predicted.value.value, predicted.value.scheme_designator, predicted.value.meaning) == (
        "C_HCM",
        SCHEME,
        "HCM",
    )


def test_the_report_says_what_the_audit_knows_of_the_scanner(report: highdicom.sr.Comprehensive3DSR) -> None:
    verdicts = [item.ConceptCodeSequence[0].CodeValue for item in items(report, None, "CODE")]
    assert "AUDITED_TOO_FEW" in verdicts
    texts = [item.TextValue for item in items(report, None, "TEXT")]
    assert "vendor Siemens: accuracy 0.84, 95 % interval 0.76 to 0.90, 95 patients" in texts
    assert "Research use only. Not for diagnosis." in texts


@pytest.mark.parametrize(
    ("verdict", "code"),
    [(Verdict.AUDITED, "AUDITED"), (Verdict.TOO_FEW, "AUDITED_TOO_FEW"), (Verdict.UNSEEN, "UNSEEN")],
)
def test_each_verdict_is_coded_as_what_it_is(verdict: Verdict, code: str, tmp_path: Path) -> None:
    given = source()
    assert given.outcome.envelope is not None
    outcome = replace(given.outcome, envelope=replace(given.outcome.envelope, verdict=verdict))
    report, _ = written_to(replace(given, outcome=outcome), tmp_path)
    found = {item.ConceptCodeSequence[0].CodeValue for item in items(report, None, "CODE")}
    assert found & {"AUDITED", "AUDITED_TOO_FEW", "UNSEEN"} == {code}


def test_the_report_asserts_no_finding(report: highdicom.sr.Comprehensive3DSR) -> None:
    assert items(report, codes.DCM.Finding, "CODE") == []
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert "VerifyingObserverSequence" not in report


def test_the_report_names_the_algorithm_and_the_device(report: highdicom.sr.Comprehensive3DSR) -> None:
    (version,) = items(report, codes.DCM.AlgorithmVersion, "TEXT")
    assert version.TextValue == f"0.5.0, package sha256:{PACKAGE.digest}"
    (name,) = items(report, codes.DCM.AlgorithmName, "TEXT")
    assert name.TextValue == "cardiac_cine_student"
    (device,) = items(report, codes.DCM.DeviceObserverUID, "UIDREF")
    assert device.UID.startswith("2.25.")
    (procedure,) = items(report, codes.DCM.ProcedureReported, "CODE")
    assert procedure.ConceptCodeSequence[0].CodeValue == "241620005"
    schemes = {item.CodingSchemeDesignator: item.CodingSchemeName for item in report.CodingSchemeIdentificationSequence}
    assert "Evenbeat" in schemes[SCHEME]


def test_the_evidence_is_every_used_instance_of_every_series(
    given: Source, report: highdicom.sr.Comprehensive3DSR
) -> None:
    used = {(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID) for header in given.headers}
    assert len({series for _, series, _ in used}) > 1
    assert {entry[:3] for entry in report.get_evidence()} == used


def _pointed_at(report: highdicom.sr.Comprehensive3DSR, phase: str) -> list[tuple[str, list[int]]]:
    """SOP instances and frames of the group of one phase."""
    for group in report.content.get_image_measurement_groups():  # type: ignore[attr-defined]
        if any(item.value.value == phase for item in group.get_qualitative_evaluations()):
            references = [item.ReferencedSOPSequence[0] for item in items(group[0], None, "IMAGE")]
            return [
                (ref.ReferencedSOPInstanceUID, np.atleast_1d(ref.get("ReferencedFrameNumber", [])).tolist())
                for ref in references
            ]
    raise AssertionError(phase)


def test_the_report_points_at_the_images_of_both_phases(given: Source, report: highdicom.sr.Comprehensive3DSR) -> None:
    for phase, index in ((codes.SCT.EndDiastole, 1), (codes.SCT.EndSystole, 5)):
        assert _pointed_at(report, phase.value) == [(uid, []) for uid, _ in given.sources[index]]


@pytest.mark.parametrize("layout", ["C: enhanced, slice-major", "C: enhanced, file per slice"])
def test_frames_of_enhanced_objects_are_pointed_at_from_1(layout: str, tmp_path: Path) -> None:
    enhanced = source(layout)
    written_to(enhanced, tmp_path)
    (path,) = (path for path in tmp_path.glob("*.dcm") if dcmread(path, specific_tags=["Modality"]).Modality == "SR")
    wanted: dict[str, list[int]] = {}
    for uid, number in enhanced.sources[5]:
        wanted.setdefault(uid, []).append(number + 1)
    found = _pointed_at(highdicom.sr.srread(path), codes.SCT.EndSystole.value)  # type: ignore[arg-type]
    assert found == [(uid, sorted(numbers)) for uid, numbers in wanted.items()]


def test_a_cine_and_its_headers_are_all_that_is_needed(tmp_path: Path) -> None:
    """Files in, the chain's own sources and only the headers' keywords that are asked for."""
    study = cine_study(5, LAYOUTS["B: one series, phase-major"])
    paths = []
    for name, data in study.files.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(to_bytes(data))
    cine = read_cine(paths)
    headers = [dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS)) for path in paths]
    made = Source(headers, [list(phase) for phase in cine.sources], source(seed=5).outcome)
    report, _ = written_to(made, tmp_path / "out")
    truth = {str(study.files[name].SOPInstanceUID) for name, ((_, _, phase),) in study.contents.items() if phase == 5}
    found = _pointed_at(highdicom.sr.Comprehensive3DSR.from_dataset(report), codes.SCT.EndSystole.value)  # type: ignore[arg-type]
    assert {uid for uid, _ in found} == truth


def test_without_sources_no_image_is_pointed_at(given: Source, tmp_path: Path) -> None:
    report, _ = written_to(given, tmp_path, sources=())
    assert items(report, None, "IMAGE") == []


def test_sources_that_do_not_fit_are_refused(given: Source, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="headers must have every instance"):
        written_to(given, tmp_path, headers=given.headers[:5])
    with pytest.raises(ValueError, match="sources must have the phase 5"):
        written_to(given, tmp_path, sources=given.sources[:3])
    assert list(tmp_path.iterdir()) == []


def test_headers_of_two_studies_or_without_a_uid_are_refused(given: Source, tmp_path: Path) -> None:
    other = source(seed=4).headers[0]
    with pytest.raises(ValueError, match="one study, got 2"):
        written_to(given, tmp_path, headers=[*given.headers, other])
    bare = read_header(cine_study(3).files["image-0000"])
    del bare.StudyInstanceUID
    with pytest.raises(ValueError, match="StudyInstanceUID, got none"):
        written_to(given, tmp_path, headers=[bare], sources=())


def test_the_picture_is_an_rgb_image_of_its_own_series_of_the_same_study(
    given: Source, written: Path, report: highdicom.sr.Comprehensive3DSR
) -> None:
    (image,) = (data for data in map(dcmread, written.glob("*.dcm")) if data.Modality == "OT")
    np.testing.assert_array_equal(image.pixel_array, PICTURE)
    assert image.StudyInstanceUID == given.headers[0].StudyInstanceUID == report.StudyInstanceUID
    series = {image.SeriesInstanceUID, report.SeriesInstanceUID, *(h.SeriesInstanceUID for h in given.headers)}
    assert len(series) == 2 + len({header.SeriesInstanceUID for header in given.headers})
    assert (image.ConversionType, image.BurnedInAnnotation) == ("SYN", "NO")


def test_both_objects_say_who_made_them(written: Path) -> None:
    for data in map(dcmread, written.glob("*.dcm")):
        assert (data.Manufacturer, data.ManufacturerModelName) == ("Evenbeat", "cardiac_cine_student")
        assert data.SoftwareVersions == json.loads((written / "result.json").read_text())["software"]["version"]
        assert data.SeriesDescription == "Evenbeat: research use only"


def test_names_of_files_are_their_uids_and_are_listed_with_their_digests(written: Path) -> None:
    listed = json.loads((written / "result.json").read_text())["outputs"]
    assert {entry["name"] for entry in listed} | {"result.json"} == {path.name for path in written.iterdir()}
    for entry in listed:
        content = (written / entry["name"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        if entry["kind"] != "summary-picture":
            data = dcmread(BytesIO(content))
            assert entry["name"] == f"{data.SeriesInstanceUID}#{data.SOPInstanceUID}.dcm"
            assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


@pytest.mark.parametrize(
    ("outcome", "headers", "names"),
    [
        (REFUSED, True, {"result.json"}),
        (READ, False, {"result.json", "summary.png"}),
    ],
    ids=["refused", "without headers"],
)
def test_no_dicom_is_written_without_a_reading_or_without_headers(
    outcome: Outcome, headers: bool, names: set[str], given: Source, tmp_path: Path
) -> None:
    paths = write_results(outcome, tmp_path, headers=given.headers if headers else (), picture=PICTURE)
    assert {path.name for path in tmp_path.iterdir()} == names
    assert paths[-1] == tmp_path / "result.json"


@pytest.mark.parametrize(
    ("name", "value", "scheme"),
    [
        ("NOR", "17621005", "SCT"),
        ("DCM", "399020009", "SCT"),
        ("HCM", "C_HCM", SCHEME),
        ("Fabry's disease", None, SCHEME),
        ("x" * 80, None, SCHEME),
    ],
)
def test_codes_of_classes_fit_their_fields(name: str, value: str | None, scheme: str) -> None:
    code = class_code(name)
    assert code.scheme_designator == scheme
    assert value is None or code.value == value
    for one in (code, probability_code(name)):
        assert len(one.value) <= 16
        assert len(one.meaning) <= 64


def test_long_and_foreign_class_names_give_a_report_that_can_be_read(given: Source, tmp_path: Path) -> None:
    assert given.outcome.reading is not None
    names = ["Arrhythmogène, ventricule droit: " + "x" * 90, "心筋症", "肥大型"]
    reading = replace(given.outcome.reading, probabilities=dict(zip(names, (0.5, 0.3, 0.2), strict=True)))
    report, _ = written_to(Source(given.headers, given.sources, replace(given.outcome, reading=reading)), tmp_path)
    values = {item.MeasuredValueSequence[0].NumericValue for item in items(report, None, "NUM")}
    assert {0.5, 0.3, 0.2} <= {float(value) for value in values}
    assert json.loads((tmp_path / "result.json").read_text())["prediction"]["class"] == names[0]


def test_a_png_holds_pixels_and_nothing_else(written: Path) -> None:
    content, at, kinds = (written / "summary.png").read_bytes(), 8, set()
    while at < len(content):
        kinds.add(content[at + 4 : at + 8])
        at += 12 + int.from_bytes(content[at : at + 4])
    assert kinds == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="needs dsrdump, of dcmtk")
@pytest.mark.parametrize("layout", ["A: series per slice", "C: enhanced, slice-major"])
def test_dcmtk_reads_the_report(layout: str, tmp_path: Path) -> None:
    given = source(layout, StudyDate="20260102")
    written_to(given, tmp_path)
    (path,) = (path for path in tmp_path.glob("*.dcm") if dcmread(path, specific_tags=["Modality"]).Modality == "SR")
    done = subprocess.run(["dsrdump", "+Pl", str(path)], capture_output=True, text=True, check=True)
    assert "Research use only. Not for diagnosis." in done.stdout
    assert '"Probability of HCM")="0.87"' in done.stdout
    assert not re.search(r"^[EF]:", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy, of dicom3tools")
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "stripped"])
def test_dciodvfy_finds_no_error(whole: bool, given: Source, tmp_path: Path) -> None:
    if not whole:
        given = Source([stripped(header) for header in given.headers], given.sources, given.outcome)
    written_to(given, tmp_path)
    paths = list(tmp_path.glob("*.dcm"))
    assert len(paths) == 2
    for path in paths:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr
