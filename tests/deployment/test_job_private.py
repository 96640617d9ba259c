"""Nothing that tells who the patient is leaves a job, but in the DICOM objects that belong to the study."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import DicomDictionary, tag_for_keyword
from pydicom.dataset import Dataset

from pipeline.cli import main
from pipeline.deployment import study_input
from pipeline.deployment.package import Package
from pipeline.dicom.refusal import Code
from tests.cohort.test_dicom_private import BIRTH, CANARY, CONTENT_TIME, SECRETS, STUDY_DATE, TEXTS
from tests.deployment.hospital_studies import beating_study, write_dicom
from tests.deployment.tiny_package import tiny_package

TEXT_KINDS = frozenset({"LO", "SH", "PN", "ST", "LT", "UT", "UC", "AE"})


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return tiny_package(tmp_path_factory.mktemp("package") / "p")


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def _predict(package: Package, study: Path, out: Path) -> int:
    return main(["predict", "--package", str(package.folder), "--in", str(study), "--out", str(out)])


@cache
def _texts(word: str) -> Dataset:
    """A word in every text that the standard knows."""
    data = Dataset()
    for tag, (kind, multiplicity, _, retired, keyword) in DicomDictionary.items():
        if kind in TEXT_KINDS and multiplicity[:1] == "1" and not retired and 0x00080000 < tag < 0x50000000:
            setattr(data, keyword, f"{word}{'^JANE' if kind == 'PN' else ''}")
    return data


def _fill(data: Dataset, word: str) -> None:
    """Write a word into all texts of some images, into the usual ones of all, and what identifies by numbers."""
    every = _texts(word)
    data.update(every if int(data.InstanceNumber) % 10 == 1 else {each: every[each] for each in map(_tag, TEXTS)})
    data.PatientBirthDate, data.ContentTime, data.PatientAge = BIRTH, CONTENT_TIME, "097Y"
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = STUDY_DATE
    data.Manufacturer = word
    data.private_block(0x0019, f"{word} 1.0", create=True).add_new(0x01, "LO", f"{word}^Private")


def _tag(keyword: str) -> int:
    return tag_for_keyword(keyword) or 0


def test_no_text_of_a_header_or_file_name_gets_out(
    package: Package, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """Canaries in every text; another word there gives the same picture, and the same JSON but for DICOM's names."""
    written = {}
    for word in (CANARY, "OTHERWORD"):
        folder = write_dicom(tmp_path / f"{word}^JANE {BIRTH}", beating_study(), partial(_fill, word=word))
        for path in list(folder.iterdir()):
            path.rename(folder / f"{word}^{path.name}.dcm")
        assert _predict(package, folder, tmp_path / f"out-{word[0]}") == 0
        written[word] = {path.name: path for path in (tmp_path / f"out-{word[0]}").iterdir()}
    said = capfd.readouterr()
    results = [_result(tmp_path / f"out-{word[0]}") for word in written]
    assert results[0]["status"] == "read"
    assert results[0]["scanner"] == {"vendor": "unknown", "field_strength_t": 1.5, "model": None}
    found = [("console", said.out), ("errors", said.err), *((name, name) for name in written[CANARY])]
    found += [("result", written[CANARY]["result.json"].read_text())]
    found += [("warnings", str(warning.message)) for warning in recwarn]
    for place, content in found:
        for secret in SECRETS:
            assert secret not in content, (place, secret)
    assert written[CANARY]["summary.png"].read_bytes() == written["OTHERWORD"]["summary.png"].read_bytes()
    for result in results:
        for entry in result["outputs"]:
            if entry["kind"] != "summary-picture":
                del entry["name"], entry["sha256"], entry["bytes"]
    assert results[0] == results[1]


def test_a_refused_or_failed_study_with_canaries_says_none_of_them(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study = beating_study()
    folder = write_dicom(tmp_path / f"{CANARY}", study, partial(_fill, word=CANARY))
    (folder / f"{CANARY}^letter.txt").write_text(CANARY)
    (folder / "image-0007").write_bytes((folder / "image-0007").read_bytes()[:900])
    assert _predict(package, folder, tmp_path / "refused") == 0
    monkeypatch.setattr(study_input, "MOST_BYTES", "no number")
    (folder / "image-0007").unlink()
    assert _predict(package, write_dicom(folder, study), tmp_path / "failed") == 1
    said = capfd.readouterr()
    assert _result(tmp_path / "refused")["refusal"]["code"] == Code.MISSING_PHASE
    for text in (said.out, said.err, *((tmp_path / n / "result.json").read_text() for n in ("refused", "failed"))):
        assert not any(secret in text for secret in SECRETS)
