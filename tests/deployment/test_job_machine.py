"""A disk that fails while a study is read: no word on the study, and the next attempt reads it."""

from __future__ import annotations

import errno
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.deployment.job import JobFailedError, PackageReader
from pipeline.deployment.result_json import Failure
from pipeline.deployment.service.reading import serve
from tests.deployment.hospital_studies import beating_study, write_dicom, write_nifti
from tests.deployment.tiny_package import tiny_package
from tests.dicom.failing_disk import CANARY, failing_disk

FACTS = {"manufacturer": "SIEMENS", "field_strength": 1.5}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> PackageReader:
    return PackageReader(tiny_package(tmp_path_factory.mktemp("package") / "p"))


def _answer(reader: PackageReader, study: Path, out: Path) -> dict[str, Any]:
    """What the service is told by its reading process."""
    said = BytesIO()
    serve(reader, BytesIO(json.dumps({"study": str(study), "out": str(out)}).encode()), said)
    answer: dict[str, Any] = json.loads(said.getvalue())
    return answer


def test_a_dicom_study_is_failed_by_its_machine_and_not_refused(reader: PackageReader, tmp_path: Path) -> None:
    """Each file is opened for its header, for its pixels, and for what results take over from it."""
    folder, out = write_dicom(tmp_path / "in", beating_study()), tmp_path / "out"
    count = len(list(folder.iterdir()))
    for files in (count // 2, count + count // 2, 2 * count + count // 2):
        with failing_disk(errno.EIO, files=files, after=200):
            answer = _answer(reader, folder, out)
        assert (answer["error"], answer["errno"]) == ("OSError", errno.EIO)
        assert answer["place"].startswith("pipeline.dicom.")
        result = (out / "result.json").read_text()
        assert json.loads(result)["status"] == "failed"
        assert CANARY not in result
    assert _answer(reader, folder, out)["summary"]["status"] == "read"


def test_a_nifti_study_is_failed_by_its_machine_and_not_refused(reader: PackageReader, tmp_path: Path) -> None:
    """Opened to be told from DICOM, image and facts; then facts, header and values are read."""
    folder, out = write_nifti(tmp_path / "in", FACTS), tmp_path / "out"
    for files in range(5):
        with failing_disk(errno.ESTALE, files=files):
            answer = _answer(reader, folder, out)
        assert (answer["error"], answer["errno"]) == ("OSError", errno.ESTALE)
    assert _answer(reader, folder, out)["summary"]["status"] == "read"


def test_a_study_of_which_a_part_may_not_be_read_is_read_in_no_part(reader: PackageReader, tmp_path: Path) -> None:
    """One file or folder without the right to it would be one slice less, and nothing would say so."""
    folder, out = write_dicom(tmp_path / "in", beating_study()), tmp_path / "out"
    with failing_disk(errno.EACCES, files=5), pytest.raises(JobFailedError) as failed:
        reader.read(folder, out)
    assert failed.value.reason == "Permission denied"
    assert {path.name for path in out.iterdir()} == {"result.json"}
    assert json.loads((out / "result.json").read_text())["failure"]["error"] == "PermissionError"
    assert reader.read(folder, out).status == "read"


def test_a_missing_right_is_no_error_to_be_reported(
    reader: PackageReader, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise JobFailedError(Failure("PermissionError", "pipeline.dicom.folder:38"), "Permission denied")

    monkeypatch.setattr("pipeline.deployment.job.run_job", failing)
    folder = write_nifti(tmp_path / "in")
    package = str(reader.package.folder)
    assert main(["predict", "--package", package, "--in", str(folder), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "folder:38; Permission denied: see to it that user " in said
    assert "report this" not in said
