"""`evenbeat serve` with a package and a study as they are in a hospital: report and picture come back to the PACS."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import takewhile
from pathlib import Path

import pytest
from pydicom import dcmread

from benchmarks.hospital_crash import free_port
from tests.deployment.hospital_studies import beating_study
from tests.deployment.service.support import Pacs, results, send, wait_for
from tests.deployment.tiny_package import tiny_package
from tests.dicom.dicom_writer import to_bytes

CONFIG = """
state = "{state}"
[dicom]
port = {port}
calling_ae_titles = ["SENDER"]
[limits]
free_disk_mb = 0
[reading]
quiet_s = 0.5
[http]
port = 0
[[destination]]
name = "pacs"
host = "127.0.0.1"
port = {pacs}
ae_title = "PACS"
"""


@contextmanager
def serving(folder: Path, pacs_port: int, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, and the port on which it listens."""
    port, config = free_port(), folder / "evenbeat.toml"
    config.write_text(CONFIG.format(state=folder / "state", port=port, pacs=pacs_port))
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--config", str(config), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_study_is_answered_by_a_report_and_a_picture_and_these_are_not_read_in_turn(tmp_path: Path) -> None:
    """The PACS sends what it got back to us, as one does that forwards everything of a study."""
    package = tiny_package(tmp_path / "package")
    study = [dcmread(BytesIO(to_bytes(data))) for data in beating_study().files.values()]
    options = ["--package", str(package.folder), "--expect-digest", package.digest]
    with Pacs().listening() as pacs, serving(tmp_path, pacs.port, *options) as (process, port):
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["digest"] == package.digest
        assert set(send(port, study)) == {0}
        wait_for(lambda: len(pacs.received) == 2, 60)
        (name,) = results(tmp_path / "state")
        found = [dcmread(path) for path in (tmp_path / "state" / "results" / name).glob("*.dcm")]
        assert sorted(str(data.SOPClassUID.name) for data in found) == [
            "Comprehensive 3D SR Storage", "Secondary Capture Image Storage",
        ]  # fmt: skip
        assert sorted(pacs.received) == sorted(str(data.SOPInstanceUID) for data in found)
        assert send(port, found) == [0, 0]
        time.sleep(1.5)
        assert list(results(tmp_path / "state")) == [name]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        told = [json.loads(line)["event"] for line in process.stdout]
        assert told.count("read") == 1


@pytest.mark.slow
def test_a_study_half_of_which_came_again_under_another_patient_is_refused_until_all_of_it_has(tmp_path: Path) -> None:
    """Never a report that mixes two: nothing goes out in between, and then one under the new name."""
    package = tiny_package(tmp_path / "package")
    study = [dcmread(BytesIO(to_bytes(data))) for data in beating_study().files.values()]
    half = len(study) // 2
    with Pacs().listening() as pacs, serving(tmp_path, pacs.port, "--package", str(package.folder)) as (process, port):
        assert process.stdout is not None
        assert "started" in process.stdout.readline()
        assert set(send(port, study)) == {0}
        wait_for(lambda: len(pacs.received) == 2, 60)
        for data in study:
            data.PatientName = "Corrected^Name"
        send(port, study[:half])
        wait_for(lambda: len(results(tmp_path / "state")) == 2, 60)
        send(port, study[half:])
        wait_for(lambda: len(pacs.received) == 4, 60)
        found = results(tmp_path / "state")
    key = next(iter(found)).partition("/")[0]
    assert [found[f"{key}/{revision}"]["status"] for revision in (1, 2, 3)] == ["read", "refused", "read"]
    assert found[f"{key}/2"]["refusal"]["code"] == "SEVERAL_PATIENTS"
    assert not list((tmp_path / "state" / "results" / key / "2").glob("*.dcm"))
    names = {str(dcmread(path).PatientName) for path in (tmp_path / "state" / "results" / key / "3").glob("*.dcm")}
    assert names == {"Corrected^Name"}


@pytest.mark.parametrize("told", [True, False])
def test_a_node_that_would_take_any_package_says_so_when_it_starts(
    told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EVENBEAT_PACKAGE_DIGEST", raising=False)
    package = tiny_package(tmp_path / "package")
    options = ["--package", str(package.folder), *(["--expect-digest", package.digest] if told else [])]
    with serving(tmp_path, 104, *options) as (process, _):
        assert process.stdout is not None
        events = (json.loads(line)["event"] for line in process.stdout)
        said = set(takewhile(lambda event: event != "http", events))  # the last of those of its start
    assert ("no_digest_expected" in said) is not told
    assert "started" in said


def test_a_package_of_another_digest_does_not_start(tmp_path: Path) -> None:
    package = tiny_package(tmp_path / "package")
    options = ["--package", str(package.folder), "--expect-digest", "0" * 64]
    with serving(tmp_path, 104, *options) as (process, _):
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "0" * 64 in said
        assert said.count("\n") == 1
    assert not (tmp_path / "state").exists()
