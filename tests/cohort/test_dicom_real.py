"""The importer on real files: hearts come in, brains and phantoms stay out, each with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.cohort.case import read_datalist
from pipeline.dicom.refusal import Code
from transforms.files import read_volume
from transforms.geometry import spacing_mm

pytestmark = pytest.mark.real_data


def _run(root: Path, out: Path) -> tuple[int, list[dict[str, Any]]]:
    salt = ["--salt-file", str(out / "salt")]
    status = main(["datalist", "dicom", str(root), "-o", str(out / "list.json"), "--report", str(out / "sheet"), *salt])
    return status, json.loads((out / "sheet" / "cases.json").read_text())


@pytest.mark.slow
def test_real_hearts_come_in_with_their_geometry(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sunnybrook: 700 files, three patients, one scanner."""
    status, reports = _run(real_data / "sunnybrook" / "dicoms", tmp_path)
    assert status == 0
    assert sum(report["files"] for report in reports) == 700
    cases = [case for _, case in read_datalist(tmp_path / "list.json").cases()]
    assert {case.scanner for case in cases} == {"GE SIGNA HDx 1.5 T"}
    assert len({case.site for case in cases}) == 1
    assert len({case.patient_id for case in cases}) == 3
    shapes = {}
    for case in cases:
        assert case.image is not None
        cine, affine = read_volume(case.image)
        shapes[cine.shape] = tuple(round(step, 3) for step in spacing_mm(affine))
    assert shapes == {
        (20, 12, 256, 256): (10.0, 1.367, 1.367),
        (20, 13, 256, 256): (10.0, 1.367, 1.367),
        (20, 10, 256, 256): (8.0, 1.289, 1.289),
    }
    assert "test: 3 cases of 3 patients" in capsys.readouterr().out
    assert "No pictures" not in (tmp_path / "sheet" / "index.html").read_text()


def test_no_brain_or_phantom_comes_in_and_each_has_its_reason(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """169 files of eight collections; a licence and the manifest are no DICOM."""
    status, reports = _run(real_data / "mr_headers", tmp_path)
    assert status == 3
    assert not (tmp_path / "list.json").exists()
    assert sum(report["files"] for report in reports) == 169
    codes = {report["code"] for report in reports}
    assert codes <= {code.value for code in Code}
    assert all(report["remedy"] for report in reports)
    assert all(report["left_out"] for report in reports)
    said = capsys.readouterr().out
    for code in codes:
        assert re.search(rf"^ +\d+  {code} +{re.escape(Code[code].sentence)}$", said, flags=re.MULTILINE)
    assert f"studies refused: {len(reports)} of {len(reports)}" in said
