"""A disk that fails while a study is read: no word on the study, and the next attempt reads it."""

from __future__ import annotations

import errno
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.deployment.job import PackageReader
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
