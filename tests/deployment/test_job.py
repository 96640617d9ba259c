"""A whole job: a folder with a study in, results or a coded refusal out, and no word of the patient on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from benchmarks.cine_assembly import write_study
from pipeline.cli import main
from pipeline.deployment import job as jobs
from pipeline.deployment.job import Job, JobFailedError, open_reader, run_job
from pipeline.deployment.outcome import Verdict
from pipeline.deployment.package import Package
from pipeline.deployment.result_json import SCHEMA
from pipeline.deployment.selftest import beating_heart
from pipeline.deployment.student import Student
from pipeline.deployment.study_input import find_study
from pipeline.dicom.cine import read_cine
from pipeline.dicom.refusal import Code
from tests.cohort.test_dicom_private import CANARY
from tests.deployment.hospital_studies import beating_study, write_dicom, write_nifti
from tests.deployment.tiny_package import tiny_package
from transforms.recipe import prepare_study

ROOT = Path(__file__).parents[2]
KIBIBYTES = 1 << 10
# A process counts as its own what it held before it became another program: pytest must not be the one that starts it.
MEASURE = (
    "import resource, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return tiny_package(tmp_path_factory.mktemp("package") / "p")


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    return result


def _predict(package: Package, study: Path, out: Path, *options: str) -> int:
    return main(["predict", "--package", str(package.folder), "--in", str(study), "--out", str(out), *options])


def test_a_dicom_study_becomes_a_report_a_picture_and_json(package: Package, tmp_path: Path) -> None:
    folder, out = write_dicom(tmp_path / "in", beating_study()), tmp_path / "out"
    outcome = run_job(Job(folder, out), package, Student(package))
    result = _result(out)
    assert (outcome.status, result["status"], result["study_key"]) == ("read", "read", outcome.study_key)
    assert result["scanner"] == {"vendor": "Siemens", "field_strength_t": 1.5, "model": None}
    assert result["verdict"] == Verdict.AUDITED == outcome.envelope.verdict  # type: ignore[union-attr]
    kinds = {entry["kind"]: out / entry["name"] for entry in result["outputs"]}
    assert set(kinds) == {"structured-report", "secondary-capture", "summary-picture"}
    assert {path.name for path in out.iterdir()} == {"result.json", *(path.name for path in kinds.values())}
    assert dcmread(kinds["structured-report"]).Modality == "SR"


def test_the_answer_is_that_of_the_network_to_the_study_as_it_was_prepared(package: Package, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_job(Job(write_nifti(tmp_path / "in"), out), package, Student(package))
    prepared = prepare_study(*beating_heart(), recipe=package.recipe)
    expected, result = Student(package).probabilities(prepared.image), _result(out)
    assert result["prediction"]["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert result["cine"]["phases"] == 20
    assert (result["cine"]["ed"], result["cine"]["es"]) == (prepared.ed, prepared.es)
    assert result["verdict"] == "unseen"
    assert [entry["kind"] for entry in result["outputs"]] == ["summary-picture"]


def test_a_dicom_study_is_read_as_the_cine_that_its_headers_describe(package: Package, tmp_path: Path) -> None:
    """Base and apex, places and sources as assembled; the answer is the network's to that."""
    folder, out = write_dicom(tmp_path / "in", beating_study()), tmp_path / "out"
    found, cine = find_study(folder).cine(), read_cine(folder.iterdir())
    np.testing.assert_array_equal(found.values, cine.values)
    np.testing.assert_allclose(found.affine, cine.affine, rtol=1e-6, atol=1e-4)
    assert found.sources == cine.sources
    upside_down = prepare_study(cine.values[:, ::-1], cine.affine, recipe=package.recipe).image
    expected = Student(package).probabilities(prepare_study(cine.values, cine.affine, recipe=package.recipe).image)
    assert Student(package).probabilities(upside_down) != pytest.approx(expected, abs=1e-4)
    run_job(Job(folder, out), package, Student(package))
    assert _result(out)["prediction"]["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_a_second_run_over_study_and_results_gives_the_same_bytes(package: Package, tmp_path: Path) -> None:
    """Results that a router sends back with the study change nothing."""
    folder, out, again = write_dicom(tmp_path / "in", beating_study()), tmp_path / "out", tmp_path / "again"
    assert _predict(package, folder, out) == 0
    for path in out.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert _predict(package, folder, again) == 0
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}


def _renamed(data: Dataset) -> None:
    data.PatientName, data.AccessionNumber = "Roe^Jane", "2"


def _reconstructed(data: Dataset) -> None:
    values = np.frombuffer(data.PixelData, np.int16)
    noise = np.random.default_rng(int(data.InstanceNumber)).integers(0, 9, values.size, dtype=np.int16)
    data.PixelData = (values + noise).tobytes()


def test_a_corrected_study_gives_other_objects_in_place_of_the_first(package: Package, tmp_path: Path) -> None:
    """Its images keep their UIDs: what a PACS has under those of the first reading, it would keep."""
    out, named = tmp_path / "out", set[str]()
    for corrected in (None, _renamed, _reconstructed):
        folder = write_dicom(tmp_path / "in", beating_study(), corrected)
        assert _predict(package, folder, out) == 0
        made = [dcmread(path) for path in out.glob("*.dcm")]
        assert len(made) == 2
        assert {str(each.PatientName) == "Roe^Jane" for each in made} == {corrected is _renamed}
        named |= {str(uid) for each in made for uid in (each.SOPInstanceUID, each.SeriesInstanceUID)}
    assert len(named) == 12


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--fail-on-refusal",), 3)])
def test_a_refusal_has_its_code_and_a_status_that_a_router_takes_for_done(
    options: tuple[str, ...], status: int, package: Package, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    study = beating_study()
    for name in list(study.files)[::3]:
        del study.files[name]
    out = tmp_path / "out"
    assert _predict(package, write_dicom(tmp_path / "in", study), out, *options) == status
    result = _result(out)
    assert (result["status"], result["refusal"]["code"]) == ("refused", Code.TOO_FEW_PHASES)
    assert result["scanner"]["vendor"] == "Siemens"
    assert [path.name for path in out.iterdir()] == ["result.json"]
    said = capfd.readouterr()
    assert f"refused {result['study_key']}: TOO_FEW_PHASES" in said.out
    assert said.err == ""


def _write_cine(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    import nibabel

    cine, affine = beating_heart()
    folder.mkdir()
    values = change(cine.astype(np.int16)).transpose(3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(values, affine), folder / "cine.nii")
    return folder


def _spark(cine: np.ndarray) -> np.ndarray:
    """Black, but for one pixel that beats."""
    black = np.zeros_like(cine)
    black[:, :, 60, 60] = cine[:, :, 48, 63]
    return black


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda cine: np.broadcast_to(cine[:1], cine.shape), Code.NOTHING_MOVES),
        (np.zeros_like, Code.NOTHING_MOVES),
        (_spark, Code.NO_CONTRAST),
    ],
)
def test_images_that_show_no_beating_heart_are_refused(
    change: Callable[[np.ndarray], np.ndarray], code: Code, package: Package, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert _predict(package, _write_cine(tmp_path / "in", change), out) == 0
    assert _result(out)["refusal"]["code"] == code


def test_doubts_about_heart_and_phases_stand_among_the_warnings(package: Package, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 500, beating_heart()[0].shape).astype(np.int16)
    out = tmp_path / "out"
    assert _predict(package, _write_cine(tmp_path / "in", lambda _: noise), out) == 0
    assert {text.partition(":")[0] for text in _result(out)["warnings"]} >= {"UNSURE_PHASES"}


def test_images_that_cannot_be_referred_to_give_json_and_picture_only(package: Package, tmp_path: Path) -> None:
    study, out = beating_study(), tmp_path / "out"
    for data in study.files.values():
        data.SOPInstanceUID = "1.2.3"
    assert _predict(package, write_dicom(tmp_path / "in", study), out) == 0
    result = _result(out)
    assert "UNREFERENCED" in result["warnings"][-1]
    assert {path.name for path in out.iterdir()} == {"result.json", "summary.png"}


def test_an_error_of_ours_ends_with_status_1_and_tells_class_and_place_alone(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LookupError(f"{CANARY} was not found")

    monkeypatch.setattr(jobs, "prepare_study", fail)
    out = tmp_path / "out"
    assert _predict(package, write_dicom(tmp_path / "in", beating_study()), out) == 1
    said, result = capfd.readouterr(), _result(out)
    assert result["status"] == "failed"
    assert result["study_key"]
    assert result["failure"]["error"] == "LookupError"
    assert result["failure"]["place"].startswith("pipeline.deployment.job:")
    assert f"failed, LookupError at {result['failure']['place']}" in said.err
    for text in (said.out, said.err, (out / "result.json").read_text()):
        assert CANARY not in text
        assert "Traceback" not in text
    with pytest.raises(JobFailedError) as error:
        open_reader(str(package.folder), package.digest).read(tmp_path / "in", tmp_path / "other")
    assert error.value.__suppress_context__


@pytest.mark.parametrize("usage", ["no input", "no package", "another digest", "same folders", "a file"])
def test_wrong_usage_ends_with_status_2_and_writes_nothing(
    usage: str, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("EVENBEAT_PACKAGE", "EVENBEAT_PACKAGE_DIGEST"):
        monkeypatch.delenv(name, raising=False)
    folder, out = write_nifti(tmp_path / "in"), tmp_path / "out"
    arguments = {
        "no input": ["--package", str(package.folder), "--in", str(tmp_path / "nowhere"), "--out", str(out)],
        "no package": ["--in", str(folder), "--out", str(out)],
        "another digest": ["--package", str(package.folder), "--in", str(folder), "--out", str(out),
                           "--expect-digest", "ab" * 32],
        "same folders": ["--package", str(package.folder), "--in", str(folder), "--out", str(folder)],
        "a file": ["--package", str(package.folder), "--in", str(folder / "cine.nii.gz"), "--out", str(out)],
    }  # fmt: skip
    assert main(["predict", *arguments[usage]]) == 2
    assert capsys.readouterr().err.startswith("evenbeat: ")
    assert not out.exists()


def test_an_output_with_another_programs_result_is_refused_before_the_study_is_read(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "find_study", lambda _: pytest.fail("the study is read"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_bytes(b'{"findings": 3}')
    assert _predict(package, write_nifti(tmp_path / "in"), out) == 2
    said = capsys.readouterr().err
    assert said == (
        f"evenbeat: the output must hold no result.json but ours; {out / 'result.json'} is another program's; "
        "name another folder\n"
    )
    assert [path.read_bytes() for path in out.iterdir()] == [b'{"findings": 3}']


def test_a_rule_and_the_environment_must_expect_one_digest(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = write_nifti(tmp_path / "in"), tmp_path / "out"
    (folder / "task.json").write_text(json.dumps({"process": {"settings": {"expect_digest": package.digest}}}))
    monkeypatch.setenv("EVENBEAT_PACKAGE", str(package.folder))
    monkeypatch.setenv("MERCURE_IN_DIR", str(folder))
    monkeypatch.setenv("MERCURE_OUT_DIR", str(out))
    monkeypatch.setenv("EVENBEAT_PACKAGE_DIGEST", "ab" * 32)
    assert main(["predict"]) == 2
    monkeypatch.setenv("EVENBEAT_PACKAGE_DIGEST", "latest")
    assert main(["predict"]) == 2
    monkeypatch.setenv("EVENBEAT_PACKAGE_DIGEST", f" sha256:{package.digest.upper()}\n")  # the same one
    assert main(["predict"]) == 0
    assert _result(out)["status"] == "read"


@pytest.mark.slow
def test_a_large_study_fits_into_400_mib(package: Package, tmp_path: Path) -> None:
    """30 phases of 16 slices of 512 x 512 pixels: 240 MiB of them."""
    (tmp_path / "in").mkdir()
    write_study(tmp_path / "in", (30, 16, 512, 512))
    out = tmp_path / "out"
    command = ["-m", "pipeline.cli", "predict", "--package", package.folder, "--in", tmp_path / "in", "--out", out]
    done = subprocess.check_output([sys.executable, "-c", MEASURE, *command], cwd=ROOT, text=True)
    assert _result(out)["status"] == "read"
    assert int(done.split()[-1]) / KIBIBYTES < 400


@pytest.mark.slow
def test_the_hospital_extra_alone_reads_a_study_without_any_training_library(package: Package, tmp_path: Path) -> None:
    """Installed into an empty environment, as the image does it."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{ROOT}[hospital]"]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        pytest.skip(f"pip cannot install here: {installed.stderr.strip().splitlines()[-1]}")
    folder, out = write_dicom(tmp_path / "in", beating_study()), tmp_path / "out"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [tmp_path / "venv/bin/evenbeat", "predict", "--package", package.folder, "--in", folder, "--out", out]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    assert {entry["kind"] for entry in _result(out)["outputs"]} >= {"structured-report", "secondary-capture"}
    names = ("torch", "monai", "SimpleITK", "pandas", "mlflow", "scipy")
    code = f"import importlib.util as u; print([name for name in {names!r} if u.find_spec(name)])"
    assert subprocess.check_output([python, "-c", code], cwd=tmp_path, env=environment, text=True).strip() == "[]"
